// SPDX-License-Identifier: Apache-2.0
//! The agent under its unit.

use windlass_tests::agent::holds;
use windlass_tests::container::Machine;
use windlass_tests::wait::{LONG, wait_until};

use super::{AGENT, NODE, bastion, bastion_with_node, cli, job, node, quick_watchdog, wait_connected};

async fn wait_healthy(machine: &Machine, healthy: bool) {
    let what = format!("healthy is {healthy}");
    wait_until(&what, LONG, || async { holds(&node(machine).await, "healthy") == healthy }).await;
}

#[tokio::test]
async fn is_root_in_its_sandbox_and_tells_systemd_how_it_is() {
    let machine = bastion_with_node().await;
    let pid = machine.property(AGENT, "MainPID").await;
    let status = machine.words(&format!("cat /proc/{pid}/status")).await.ok();
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID.
    for held in ["Uid:\t0\t", "CapEff:\t000000000000001f", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(held), "no {held:?} in {status}");
    }
    wait_until("the status line is there", LONG, || async {
        let text = machine.words("systemctl status --no-pager windlass-agent").await.stdout;
        text.contains("Status: \"connected\"")
    })
    .await;
    let state = machine.words("stat -c %U:%G:%a /var/lib/windlass-agent").await.ok();
    assert_eq!(state.trim(), "root:root:700");
    // The sockets of systemd take both families; people see the address that was dialled.
    assert_eq!(node(&machine).await["address"], "127.0.0.1");
}

#[tokio::test]
async fn a_machine_that_has_not_joined_is_not_started_again_and_again() {
    let machine = bastion().await;
    assert_ne!(machine.words("systemctl start windlass-agent").await.code, 0);
    assert_eq!(machine.property(AGENT, "ExecMainStatus").await, "78");
    assert_eq!(machine.property(AGENT, "NRestarts").await, "0");
    let journal = machine.words("journalctl --no-pager -u windlass-agent").await.ok();
    assert!(journal.contains("run `windlass-agent join` first"), "{journal}");
}

#[tokio::test]
async fn a_stuck_agent_is_replaced_by_the_watchdog() {
    let machine = bastion_with_node().await;
    quick_watchdog(&machine, AGENT).await;
    super::a_stuck_process_is_replaced(&machine, AGENT).await;
    wait_connected(&machine).await;
}

#[tokio::test]
async fn sees_the_machine_and_the_units_it_watches() {
    let machine = bastion_with_node().await;
    wait_healthy(&machine, true).await;
    machine.write("/etc/systemd/system/shop.service", "[Service]\nExecStart=/bin/sleep 100000\n");
    machine.write("/etc/windlass/agent.toml", "services = [\"dbus.service\", \"shop.service\"]\n");
    machine.words("systemctl daemon-reload").await.done();
    machine.words("systemctl restart windlass-agent").await.done();
    wait_connected(&machine).await;
    wait_healthy(&machine, false).await;
    assert_eq!(job(&machine, &[], "systemctl start shop").await["exit_code"], 0);
    wait_healthy(&machine, true).await;
    assert_eq!(job(&machine, &[], "systemctl kill -s KILL shop").await["exit_code"], 0);
    wait_healthy(&machine, false).await;

    let node = node(&machine).await;
    let healthy = node["conditions"].as_array().expect("conditions").iter().find(|c| c["kind"] == "healthy");
    assert!(healthy.expect("healthy")["reason"].as_str().expect("text").contains("shop.service is failed"), "{node}");
    let facts = &node["facts"];
    assert_eq!(facts["os"]["value"]["id"], "debian");
    assert_eq!(facts["os"]["value"]["hostname"], windlass_tests::container::HOST);
    for fact in ["kernel", "boot", "cpu", "memory", "load", "disks", "services"] {
        assert!(facts[fact]["value"].is_object() || facts[fact]["value"].is_array(), "no {fact} in {facts}");
        assert!(facts[fact]["error"].is_null(), "{fact}: {facts}");
    }
}

#[tokio::test]
async fn files_are_placed_as_roots_from_within_the_sandbox() {
    let machine = bastion_with_node().await;
    machine.shell("head -c 3000000 /dev/urandom > /root/tool && chmod 0754 /root/tool").await.done();
    let targets = ["/usr/local/bin/tool", "/etc/tool", "/root/place", "/home/tool", "/var/tmp/tool", "/tmp/tool"];
    for target in targets {
        let answer = cli(&machine, &["cp", "/root/tool", &format!("{NODE}:{target}")]).await;
        assert_eq!(answer.code, 0, "{target}: {answer:?}");
        machine.words(&format!("cmp /root/tool {target}")).await.done();
        assert_eq!(machine.words(&format!("stat -c %U:%G:%a {target}")).await.ok().trim(), "root:root:754");
    }
    cli(&machine, &["cp", &format!("{NODE}:/etc/tool"), "/root/back"]).await.done();
    machine.words("cmp /root/tool /root/back").await.done();
}
