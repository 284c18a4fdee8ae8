// SPDX-License-Identifier: Apache-2.0
//! Three machines at once, and what happens to them from outside: one is killed, then the whole host loses its power.

use nix::sys::signal::{Signal, kill};
use windlass_tests::agent::holds;
use windlass_tests::wait::wait_until;

use crate::overhead;
use crate::site::{BOOT, Site, Spec, with_site};

const NODES: [&str; 3] = ["master1", "node1", "node2"];

#[tokio::test]
async fn three_machines_become_nodes_and_come_back_after_a_kill_and_a_power_cut_of_the_host() {
    with_site(async |site| {
        let spec = site.spec(&[
            "{name: master1, address: 10.77.0.10, cpus: 1, memory: 768MiB, roles: [control-plane, etcd]}",
            "{name: node1, address: 10.77.0.11, cpus: 1, memory: 768MiB, roles: [worker]}",
            "{name: node2, address: 10.77.0.12, cpus: 1, memory: 768MiB, roles: [worker]}",
        ]);
        let watches = NODES.map(|node| overhead::watch(site, node));
        let applied = site.apply(&spec).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        for watch in watches {
            watch.tell(site).await;
        }
        all_obey_and_see_each_other(site).await;
        let before = identities(site).await;
        one_that_is_killed_is_found_and_started(site, &spec).await;
        the_host_loses_its_power(site, &spec).await;
        assert_eq!(identities(site).await, before, "no node is another than before");
        site.windlass(&["destroy", "-f", &site.write(&spec), "--confirm", "vm1"]).await.done();
        site.assert_no_machines().await;
    })
    .await;
}

async fn identities(site: &Site) -> Vec<String> {
    let mut all = Vec::new();
    for node in NODES {
        let node = site.node(node).await;
        assert!(holds(&node, "healthy"), "{node}");
        all.push(node["certificate_serial"].as_str().expect("a serial").to_owned());
    }
    all
}

async fn all_obey_and_see_each_other(site: &Site) {
    let names = site.windlass(&["exec", "--all", "--", "hostname"]).await.ok();
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["master1: master1", "node1: node1", "node2: node2"]);
    let workers = site.windlass(&["exec", "-l", "role/worker=yes", "--", "uname", "-n"]).await.ok();
    assert!(workers.lines().count() == 2 && !workers.contains("master1"), "{workers}");
    let seen =
        "python3 -c 'import socket; s = socket.create_server((\"10.77.0.10\", 7000)); s.accept()[0].send(b\"hello\")'";
    let serve = site.windlass(&["exec", "master1", "--detach", "--", "sh", "-c", seen]).await;
    assert_eq!(serve.code, 7, "{serve:?}");
    let ask = "for n in $(seq 60); do exec 3<>/dev/tcp/10.77.0.10/7000 && cat <&3 && exit; sleep 1; done; exit 1";
    let heard = site.windlass(&["exec", "node2", "--", "bash", "-c", ask]).await.ok();
    assert!(heard.contains("hello"), "the cluster's network leads nowhere: {heard}");
}

async fn one_that_is_killed_is_found_and_started(site: &Site, spec: &Spec) {
    let process = site.process_of("node1");
    kill(process, Signal::SIGKILL).expect("it runs");
    wait_until("the machine to be seen off", BOOT, async || power(site, "node1").await == "off").await;
    site.wait_event("node.disconnected", "node1 disconnected").await;
    assert!(holds(&site.node("node2").await, "healthy"), "one node's loss is one node");
    let planned = site.windlass(&["plan", "-f", &site.write(spec)]).await.ok();
    assert!(planned.contains("start node1") && planned.contains("it is switched off"), "{planned}");
    let applied = site.apply(spec).await;
    assert!(applied.code == 0 && !applied.stderr.contains("create/"), "{applied:?}");
    assert_ne!(site.process_of("node1"), process);
}

/// Every process is gone at once; their process ids belong to others and their sockets to nobody when the host is back.
async fn the_host_loses_its_power(site: &mut Site, spec: &Spec) {
    let mut boots = Vec::new();
    for node in NODES {
        boots.push(site.boot_id(node).await);
    }
    site.controller.kill9().await;
    for process in site.processes() {
        kill(process, Signal::SIGKILL).expect("it runs");
    }
    wait_until("all processes to be gone", BOOT, async || site.processes().is_empty()).await;
    for node in NODES {
        let directory = site.machine(node);
        assert!(directory.join("qmp.sock").exists(), "a socket that nobody serves");
        std::fs::write(directory.join("pid"), format!("{}\n", std::process::id())).expect("written");
    }
    site.controller.restart().await;
    for node in NODES {
        assert_eq!(power(site, node).await, "off");
        assert!(!holds(&site.node(node).await, "connected"), "{node}");
    }
    let planned = site.windlass(&["plan", "-f", &site.write(spec)]).await.ok();
    assert!(planned.contains("0 to add, 3 to change, 0 to destroy"), "{planned}");
    let applied = site.apply(spec).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    for (node, boot) in NODES.iter().zip(boots) {
        assert_ne!(site.boot_id(node).await, boot, "{node}");
        assert!(site.event("node.rebooted", node).await.is_some(), "{node}");
    }
}

async fn power(site: &Site, node: &str) -> String {
    let machines = site.controller.words("get machines -o json").await.json();
    let machines = machines["items"].as_array().cloned().unwrap_or_default();
    let machine = machines.iter().find(|machine| machine["name"] == node).expect("a machine");
    machine["power"].as_str().expect("a word").to_owned()
}
