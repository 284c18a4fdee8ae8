// SPDX-License-Identifier: Apache-2.0
//! The agent under its unit.

use windlass_tests::agent::holds;
use windlass_tests::container::Machine;
use windlass_tests::wait::{LONG, wait_until};

use super::{AGENT, EXECUTOR, NODE, bastion, bastion_with_node, cli, job, node, quick_watchdog, wait_connected};

async fn wait_healthy(machine: &Machine, healthy: bool) {
    let what = format!("healthy is {healthy}");
    wait_until(&what, LONG, || async { holds(&node(machine).await, "healthy") == healthy }).await;
}

/// What the kernel says of a unit's process.
async fn of_process(machine: &Machine, unit: &str, file: &str) -> String {
    let pid = machine.property(unit, "MainPID").await;
    machine.words(&format!("cat /proc/{pid}/{file}")).await.ok()
}

#[tokio::test]
async fn the_half_with_the_network_has_no_rights_and_the_half_with_the_rights_has_no_network() {
    let machine = bastion_with_node().await;
    let uid = machine.words("id -u windlass-agent").await.ok();
    let front = of_process(&machine, AGENT, "status").await;
    for held in [&format!("Uid:\t{}\t", uid.trim()), "CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(front.contains(held), "no {held:?} in {front}");
    }
    let executor = of_process(&machine, EXECUTOR, "status").await;
    // CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID.
    for held in ["Uid:\t0\t", "CapEff:\t000000000000001f", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(executor.contains(held), "no {held:?} in {executor}");
    }
    let network = async |unit| {
        let pid = machine.property(unit, "MainPID").await;
        machine.words(&format!("readlink /proc/{pid}/ns/net")).await.ok()
    };
    assert_ne!(network(EXECUTOR).await, machine.words("readlink /proc/1/ns/net").await.ok());
    assert_eq!(network(AGENT).await, machine.words("readlink /proc/1/ns/net").await.ok());
    wait_until("the status line is there", LONG, || async {
        let text = machine.words("systemctl status --no-pager windlass-agent").await.stdout;
        text.contains("Status: \"connected\"")
    })
    .await;
    // The sockets of systemd take both families; people see the address that was dialled.
    assert_eq!(node(&machine).await["address"], "127.0.0.1");
}

#[tokio::test]
async fn each_half_keeps_what_is_its_own_from_everybody_else() {
    let machine = bastion_with_node().await;
    for (path, owner) in [
        ("/var/lib/windlass-agent", "windlass-agent:windlass-agent:700"),
        ("/var/lib/windlass-agent/identity.json", "windlass-agent:windlass-agent:600"),
        ("/var/lib/windlass-executor", "root:root:700"),
        ("/var/lib/windlass-executor/mandate.json", "root:root:600"),
        ("/run/windlass-agent/executor.sock", "windlass-agent:windlass-agent:600"),
    ] {
        let found = machine.words(&format!("stat -c %U:%G:%a {path}")).await.ok();
        assert_eq!(found.trim(), owner, "{path}");
    }
    machine.words("useradd bob").await.done();
    let connect =
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect(\"/run/windlass-agent/executor.sock\")'";
    let refused = machine.shell(&format!("cp $(command -v bash) /tmp/sh; runuser -u bob -- {connect}")).await;
    assert_ne!(refused.code, 0, "{refused:?}");
    // As the front's own user nothing of the executor's can be read or changed, nor anything else of root's.
    for words in ["cat /var/lib/windlass-executor/mandate.json", "touch /var/lib/windlass-executor/x", "touch /etc/x"] {
        assert_ne!(machine.run_as("windlass-agent", words).await.code, 0, "{words}");
    }
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
async fn a_stuck_half_is_replaced_by_the_watchdog() {
    let machine = bastion_with_node().await;
    for unit in [AGENT, EXECUTOR] {
        quick_watchdog(&machine, unit).await;
        super::a_stuck_process_is_replaced(&machine, unit).await;
        wait_connected(&machine).await;
    }
    assert_eq!(job(&machine, &[], "exit 3").await["exit_code"], 3);
}

#[tokio::test]
async fn stopping_and_restarting_the_agent_takes_both_halves_along() {
    let machine = bastion_with_node().await;
    let before = machine.property(EXECUTOR, "MainPID").await;
    machine.words("systemctl restart windlass-agent").await.done();
    super::wait_replaced(&machine, EXECUTOR, &before).await;
    wait_connected(&machine).await;
    machine.words("systemctl stop windlass-agent").await.done();
    wait_until("the executor is stopped too", LONG, || async {
        machine.property(EXECUTOR, "ActiveState").await == "inactive"
    })
    .await;
    assert_eq!(machine.property(EXECUTOR, "Result").await, "success");
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
