// SPDX-License-Identifier: Apache-2.0
//! What Windlass is for, as a new user would try it: packages, kernel and hooks are raised in the spec of three machines,
//! `windlass plan` shows what that comes to, and `windlass apply` does it node by node. Meanwhile the controller is killed,
//! and then the machine that is trying its new kernel. Nobody does anything about it but start the controller again, as
//! systemd would.

use nix::sys::signal::{Signal, kill};
use serde_json::Value;
use windlass_tests::process::{Answer, run_within};

use crate::kills::transactions;
use crate::site::{COMMAND, Site, Spec, with_site};
use crate::upkeep::nobody_holds_anything;

/// In the order of their turns: the control plane comes last.
const NODES: [&str; 3] = ["node1", "node2", "master1"];

/// Packages of the lab in two versions; the one has a service.
const OLD: &str = "lab-words-1-1 lab-web-1-1";

/// What somebody once installed on the first node and never ran. With `keep: 1` it goes, and does not come back.
const LEFT_OVER: &str =
    "sed -i 's/^UPDATEDEFAULT=.*/UPDATEDEFAULT=no/' /etc/sysconfig/kernel && dnf -q -y install kernel-ml";

/// What is added to the spec, beside `packages.update`. What the hooks write outlasts the kill of a machine.
const RAISED: &str = r#"  kernel: {channel: elrepo-lt, keep: 1}
  hooks:
    before: {run: [/bin/sh, -c, "echo before $(uname -r) >>/var/log/hooks && sync"]}
    after: {run: [/bin/sh, -c, "echo after $(uname -r) >>/var/log/hooks && sync"]}
"#;

#[tokio::test]
async fn what_is_raised_in_the_spec_rolls_over_three_nodes_though_the_controller_and_a_machine_are_killed() {
    with_site(async |site| {
        let spec = site.spec(&[
            "{name: master1, address: 10.77.0.10, cpus: 1, memory: 768MiB, roles: [control-plane, etcd, gluster]}",
            "{name: node1, address: 10.77.0.11, cpus: 1, memory: 768MiB, roles: [worker, etcd, gluster]}",
            "{name: node2, address: 10.77.0.12, cpus: 1, memory: 768MiB, roles: [worker, etcd, gluster]}",
        ]);
        site.apply(&spec).await.done();
        let old = outdated(site).await;
        let path = raised(site, &spec);
        let new = is_shown(site, &path, &old).await;
        let applied = rolled(site, &path, &new).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        is_one_after_the_other(&site.controller.events().await);
        for node in NODES {
            is_as_it_was_shown(site, node, &old, &new).await;
        }
        let left_over = site.shell(NODES[0], "rpm -q kernel-ml").await;
        assert_ne!(left_over.code, 0, "it was shown that it goes: {left_over:?}");
        let again = site.windlass(&["plan", "-f", &path, "--detailed-exitcode"]).await;
        assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");
        nobody_holds_anything(site).await;
    })
    .await;
}

/// Brings the nodes to where an update is due; the kernel they have.
async fn outdated(site: &Site) -> String {
    site.on_all(&format!("dnf -q -y install {OLD}")).await;
    site.shell(NODES[0], LEFT_OVER).await.done();
    site.shell(NODES[0], "uname -r").await.ok().trim().to_owned()
}

/// The spec with what the nodes shall become; its path.
fn raised(site: &Site, spec: &Spec) -> String {
    let path = site.write(spec);
    let text = std::fs::read_to_string(&path).expect("written");
    let text = text.replace("  packages:\n", "  packages:\n    update: all\n") + RAISED;
    std::fs::write(&path, text).expect("written");
    path
}

/// What a person has to know before they say yes, in the order in which the plan says it.
const SHOWN: &str = "on node1:
hook /bin/sh
1-1 -> 2-1
1-1 -> 2-1
install kernel NEW
the default stays OLD
boot once into kernel NEW
the next boot is into OLD again
default OLD -> NEW
remove 1 old kernel
kernel-ml-
cannot be undone
hook /bin/sh
on node2, master1:
hook /bin/sh
1-1 -> 2-1
1-1 -> 2-1
install kernel NEW
boot once into kernel NEW
default OLD -> NEW
hook /bin/sh
never more than 1 node down at once
Rebooted, in this order: node1, node2, master1.
Cannot be undone: the removal of old kernels on node1.
Expected to take about";

/// The plan says it all; the kernel that it names.
async fn is_shown(site: &Site, path: &str, old: &str) -> String {
    let shown = site.windlass(&["plan", "-f", path]).await.ok();
    let named = shown.split("install kernel ").nth(1).and_then(|rest| rest.split_whitespace().next());
    let new = named.unwrap_or_else(|| panic!("no kernel is installed: {shown}")).to_owned();
    // Its lines are broken where the screen ends.
    let text = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut rest = &text[..];
    for words in SHOWN.replace("NEW", &new).replace("OLD", old).lines() {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words:?} is not there in its place: {shown}"));
        rest = &rest[at + words.len()..];
    }
    for package in ["lab-words.noarch 1-1", "lab-web.noarch 1-1"] {
        assert!(text.contains(package), "{shown}");
    }
    new
}

/// Has it done, with both kills. Nothing may end it before them.
async fn rolled(site: &mut Site, path: &str, new: &str) -> Answer {
    let mut apply = site.command(&["apply", "-f", path, "--yes"]);
    let mut applying = tokio::spawn(async move { run_within(COMMAND, &mut apply).await });
    tokio::select! {
        ended = &mut applying => panic!("it has ended without the kills: {ended:?}"),
        () = both_are_killed(site, new) => {}
    }
    let applied = applying.await.expect("it is waited for");
    let told = site.event("machine.power", &format!("switches the machine of {} on", NODES[1])).await;
    assert!(told.is_some(), "nobody else switched it on: {applied:?}");
    applied
}

/// The controller while the first node reboots; the machine of the second when its new kernel, to be started once, comes up.
async fn both_are_killed(site: &mut Site, new: &str) {
    let [first, second, _] = NODES;
    site.wait_event("step.started", &format!("boot/{first} began")).await;
    site.controller.kill9().await;
    site.controller.restart().await;
    site.wait_event("lease.granted", second).await;
    site.wait_event("step.started", &format!("boot/{second} began")).await;
    site.wait_console(second, &format!("Linux version {new} ")).await;
    kill(site.process_of(second), Signal::SIGKILL).expect("it runs");
}

/// Never more than one node is in hand, and nothing is done on another or takes another down.
fn is_one_after_the_other(events: &[Value]) {
    let (mut held, mut turns) = (Vec::new(), Vec::new());
    for event in events.iter().skip_while(|event| event["type"] != "lease.granted") {
        let Some(node) = event["node"].as_str() else { continue };
        match event["type"].as_str().unwrap_or_default() {
            "lease.granted" => {
                assert!(held.is_empty(), "{held:?} beside {event}");
                held.push(node);
                turns.push(node);
            }
            "lease.released" => held.retain(|other| *other != node),
            "step.started" | "step.retried" | "step.done" | "node.rebooted" | "machine.power" => {
                assert_eq!(held, [node], "{event}");
            }
            _ => {}
        }
    }
    assert!(held.is_empty() && turns == NODES, "{turns:?}, and {held:?} held");
}

async fn is_as_it_was_shown(site: &Site, node: &str, old: &str, new: &str) {
    let look = "uname -r && rpm -q kernel-lt | wc -l && rpm -q lab-words lab-web && uniq /var/log/hooks";
    let found = site.shell(node, look).await.ok();
    // A hook may have been run twice.
    let wished = format!("{new}\n1\nlab-words-2-1.noarch\nlab-web-2-1.noarch\nbefore {old}\nafter {new}\n");
    assert_eq!(found, wished, "{node}");
    let kernel = site.node(node).await["facts"]["kernel"]["value"].clone();
    assert_eq!((&kernel["running"], &kernel["default_release"]), (&Value::from(new), &Value::from(new)), "{node}");
    for (package, count) in [("kernel-lt", 1), ("lab-web", 2)] {
        assert_eq!(transactions(site, node, package).await, count, "{package} on {node}: nothing happens twice");
    }
}
