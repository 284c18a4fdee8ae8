// SPDX-License-Identifier: Apache-2.0
//! What is done on nodes.

use std::collections::BTreeMap;

use windlass_types::name::NodeName;
use windlass_types::survey::{Found, Survey};

use super::compare;
use crate::example::{self, NOW, add, empty, machine, name, token};
use crate::scenes::{
    NEW, change, due, file, hooks, kernel_due, kernel_wish, packages_wish, release, survey, sysctl, transaction, unit,
    world,
};
use crate::{NodeWish, OnFailure, Plan, Policy, RebootWish, Snapshot, Unreachable, plan, plan_nodes};
use windlass_types::time::UnixMillis;

fn of(nodes: &[(&str, NodeWish, Survey)], policy: &Policy) -> Plan {
    let (snapshot, wishes) = world(nodes);
    plan_nodes(&snapshot, &wishes, policy, NOW)
}

fn updated() -> (NodeWish, Survey) {
    let wish = NodeWish { packages: packages_wish(), ..NodeWish::default() };
    (wish, Survey { packages: Some(Found::Due { due: transaction() }), ..survey() })
}

#[test]
fn packages_with_old_and_new_versions_and_nodes_with_the_same_once() {
    let (wish, surveyed) = updated();
    let mut long = transaction();
    long.changes = (0..400).map(|n| change(&format!("package{n:03}"), Some("1.0-1"), Some("1.0-2"))).collect();
    long.changes.push(change("gone", Some("1.0-1"), None));
    let long = Survey { packages: Some(Found::Due { due: long }), ..survey() };
    let nodes = [("node1", wish.clone(), surveyed.clone()), ("node2", wish.clone(), surveyed), ("node3", wish, long)];
    compare("node-packages", &of(&nodes, &Policy::default()));
}

#[test]
fn a_kernel_is_installed_booted_once_and_only_then_the_default() {
    let wish = NodeWish { packages: packages_wish(), kernel: kernel_wish(), hooks: hooks(), ..NodeWish::default() };
    let surveyed = Survey {
        packages: Some(Found::Due { due: transaction() }),
        kernel: Some(Found::Due { due: kernel_due() }),
        outdated_services: vec![unit("sshd.service")],
        ..survey()
    };
    compare("node-kernel", &of(&[("node1", wish, surveyed)], &Policy::default()));
}

#[test]
fn others_wait_beside_nodes_that_failed_while_they_were_down() {
    let (wish, surveyed) = updated();
    let nodes = ["node1", "node2", "node3"].map(|node| (node, wish.clone(), surveyed.clone()));
    let policy = Policy { on_failure: OnFailure::Continue { most: 2 }, ..Policy::default() };
    compare("node-continue", &of(&nodes, &policy));
}

#[test]
fn settings_show_what_changes() {
    let settings = vec![file("welcome\n"), sysctl("1"), sysctl("1")];
    let wish = NodeWish { settings, ..NodeWish::default() };
    let diff = ["--- /etc/motd", "+++ /etc/motd", "@@ -1 +1 @@", "-hello   there\u{1b}[2J", "+welcome"];
    let surveyed = Survey { settings: vec![due(&diff), due(&["0 -> 1"]), Found::AsWished], ..survey() };
    compare("node-settings", &of(&[("node1", wish, surveyed)], &Policy::default()));
}

#[test]
fn what_cannot_be_done_is_named_and_the_rest_is_done() {
    let blocked = |reason: &str, advice: &str| Found::Blocked { reason: reason.into(), advice: advice.into() };
    let wish = NodeWish { settings: vec![sysctl("1")], packages: packages_wish(), ..NodeWish::default() };
    let stuck = Survey {
        settings: vec![blocked("no such kernel parameter", "load the module that has it")],
        packages: Some(Found::Blocked {
            reason: "two repositories have unresolved dependencies".into(),
            advice: "dnf check".into(),
        }),
        interrupted: Some("transaction 17 has not ended; 2 packages are there twice".into()),
        ..survey()
    };
    let (mut snapshot, mut wishes) = world(&[("node1", wish.clone(), stuck)]);
    for node in ["node2", "node3", "node4", "node5"] {
        snapshot.nodes.push(example::joined(&machine(node)));
        wishes.insert(name(node), wish.clone());
    }
    snapshot.unsurveyed.insert(name("node2"), "it is not connected since 2 h".into());
    snapshot.quarantined.insert(name("node3"), "disk is being replaced".into());
    snapshot.nodes[3].is_revoked = true;
    snapshot.surveys.insert(name("node5"), survey());
    wishes.insert(name("node6"), wish);
    for (case, unreachable) in
        [("queued", Unreachable::Wait), ("skipped", Unreachable::Skip), ("refused", Unreachable::Fail)]
    {
        let policy = Policy { unreachable, ..Policy::default() };
        compare(&format!("node-blocked-{case}"), &plan_nodes(&snapshot, &wishes, &policy, NOW));
    }
}

#[test]
fn nothing_to_do_on_nodes_is_said_with_what_should_be_rebooted() {
    let wish = NodeWish { packages: packages_wish(), reboot: RebootWish::Never, ..NodeWish::default() };
    let surveyed = Survey {
        packages: Some(Found::AsWished),
        reboot_reasons: vec!["glibc was replaced after the boot".into()],
        ..survey()
    };
    compare("node-nothing", &of(&[("node1", wish, surveyed)], &Policy::default()));
}

#[test]
fn three_nodes_with_roles_go_one_after_the_other_in_the_window() {
    let (mut snapshot, spec) = cluster();
    let policy = Policy {
        window: "Tue 02:00-06:00 America/Vancouver".parse().ok(),
        on_failure: OnFailure::Pause,
        ..Policy::default()
    };
    compare("node-roll", &plan(&snapshot, &spec, &policy, NOW));
    // One that is still to come up is looked at later, and one that is not well comes last.
    snapshot.nodes.retain(|node| node.name != name("node2"));
    snapshot.tokens.push(token("node2", UnixMillis(NOW.0 + 1)));
    snapshot.nodes[1].is_healthy = false;
    snapshot.nodes[1].reason = "gluster.service is failed".into();
    compare("node-roll-later", &plan(&snapshot, &spec, &policy, NOW));
}

#[test]
fn nodes_that_leave_go_before_all_others_each_in_its_turn_and_not_while_they_are_put_aside() {
    let (mut snapshot, spec) = cluster();
    ["node4", "node5", "node6", "node7"].iter().for_each(|node| add(&mut snapshot, node));
    let status = &mut snapshot.nodes[4];
    (status.is_healthy, status.reason) = (false, "it is not connected".into());
    snapshot.nodes.retain(|node| node.name != name("node6"));
    snapshot.quarantined.insert(name("node7"), "disk is being replaced".into());
    let policy = Policy { window: "Tue 02:00-06:00 America/Vancouver".parse().ok(), ..Policy::default() };
    compare("leave", &plan(&snapshot, &spec, &policy, NOW));
}

fn cluster() -> (Snapshot, crate::ClusterSpec) {
    use windlass_types::machine::MachineRole::{ControlPlane, Etcd, Worker};
    let mut snapshot = empty();
    let nodes = ["node1", "node2", "node3"];
    let mut spec = example::spec(&nodes);
    spec.machines[0].roles = vec![ControlPlane, Worker, Etcd];
    nodes.iter().for_each(|node| add(&mut snapshot, node));
    for (machine, node) in spec.machines.iter().zip(&mut snapshot.nodes) {
        node.labels = crate::spec::wished_labels(machine);
    }
    let wish = NodeWish { kernel: kernel_wish(), settings: vec![sysctl("1")], hooks: hooks(), ..NodeWish::default() };
    let surveyed =
        Survey { settings: vec![due(&["0 -> 1"])], kernel: Some(Found::Due { due: kernel_due() }), ..survey() };
    for node in nodes.map(name) {
        snapshot.surveys.insert(node.clone(), surveyed.clone());
        spec.wishes.insert(node, wish.clone());
    }
    (snapshot, spec)
}

#[test]
fn packages_and_kernel_wait_for_the_repositories_they_come_from() {
    use windlass_types::name::on_node::RepositoryId;
    use windlass_types::setting::{Repository, Setting};
    let repository = Setting::Repository(Repository {
        id: RepositoryId::new("elrepo").expect("an id"),
        url: "https://mirror.example/elrepo".into(),
        gpg_key: "-----BEGIN PGP PUBLIC KEY BLOCK-----".into(),
        signed_metadata: false,
    });
    let wish = NodeWish {
        settings: vec![repository],
        packages: packages_wish(),
        kernel: kernel_wish(),
        ..NodeWish::default()
    };
    let (reason, advice) = ("no repository has kernel-lt".into(), "add one".into());
    let surveyed = Survey {
        settings: vec![due(&["new"])],
        packages: Some(Found::Due { due: transaction() }),
        kernel: Some(Found::Blocked { reason, advice }),
        ..survey()
    };
    compare("node-repository", &of(&[("node1", wish, surveyed)], &Policy::default()));
}

/// One node in different states, and which steps that makes.
#[test]
fn the_chain_has_what_is_due_and_no_more() {
    let steps = |wish: &NodeWish, surveyed: Survey| -> Vec<String> {
        let (snapshot, wishes) = world(&[("node1", wish.clone(), surveyed)]);
        let plan = plan_nodes(&snapshot, &wishes, &Policy::default(), NOW);
        let leased = |step: &crate::PlannedStep| if step.lease { "leased " } else { "" };
        plan.steps.iter().map(|step| format!("{}{}", leased(step), step.id)).collect()
    };
    let kernel = NodeWish { kernel: kernel_wish(), hooks: hooks(), ..NodeWish::default() };
    let mut there = kernel_due();
    there.install = None;
    let mut booted = Survey { kernel: Some(Found::Due { due: there.clone() }), ..survey() };
    assert_eq!(
        steps(&kernel, booted.clone()),
        [
            "leased hook/node1/before",
            "leased boot/node1",
            "leased confirm-kernel/node1",
            "leased prune-kernels/node1",
            "leased hook/node1/after"
        ],
    );
    booted.kernels.running = release(NEW);
    assert_eq!(steps(&kernel, booted.clone()), ["confirm-kernel/node1", "prune-kernels/node1"]);
    booted.kernels.default = Some(release(NEW));
    assert_eq!(steps(&kernel, booted), ["prune-kernels/node1"]);
    let reboot = |reboot| NodeWish { packages: packages_wish(), reboot, ..NodeWish::default() };
    let current = Survey { packages: Some(Found::AsWished), ..survey() };
    let outdated = Survey { outdated_services: vec![unit("sshd.service")], ..current.clone() };
    assert_eq!(steps(&reboot(RebootWish::IfNeeded), current.clone()), [] as [&str; 0]);
    assert_eq!(steps(&reboot(RebootWish::AfterChanges), current.clone()), [] as [&str; 0]);
    assert_eq!(steps(&reboot(RebootWish::Always), current), ["leased boot/node1"]);
    assert_eq!(steps(&reboot(RebootWish::IfNeeded), outdated.clone()), ["leased restart-services/node1"]);
    assert_eq!(steps(&reboot(RebootWish::Always), outdated), ["leased boot/node1"]);
    let mut core = transaction();
    core.changes.push(change("glibc", Some("2.34-1"), Some("2.34-2")));
    let core = Survey { packages: Some(Found::Due { due: core }), ..survey() };
    let both = ["leased packages/node1", "leased boot/node1"];
    assert_eq!(steps(&reboot(RebootWish::IfNeeded), core.clone()), both);
    assert_eq!(steps(&reboot(RebootWish::Never), core), both[..1]);
    let plain = Survey { packages: Some(Found::Due { due: transaction() }), ..survey() };
    assert_eq!(steps(&reboot(RebootWish::IfNeeded), plain.clone()), both[..1]);
    assert_eq!(steps(&reboot(RebootWish::AfterChanges), plain), both);
    let interrupted = Survey { interrupted: Some("transaction 3 has not ended".into()), ..survey() };
    let only = NodeWish { reboot: RebootWish::Always, ..NodeWish::default() };
    assert_eq!(steps(&only, interrupted), ["leased repair-packages/node1", "leased boot/node1"]);
}

#[test]
fn what_cannot_be_read_is_mended_before_anything_else_is_planned() {
    let wish = NodeWish { packages: packages_wish(), kernel: kernel_wish(), hooks: hooks(), ..NodeWish::default() };
    let unreadable = Survey {
        packages: Some(Found::AsWished),
        kernel: Some(Found::AsWished),
        interrupted: Some("its package database cannot be read".into()),
        is_unreadable: true,
        ..survey()
    };
    let mut plan = of(&[("node1", wish.clone(), unreadable)], &Policy::default());
    compare("node-unreadable", &plan);
    let readable = Survey {
        packages: Some(Found::Due { due: transaction() }),
        kernel: Some(Found::Due { due: kernel_due() }),
        ..survey()
    };
    plan.take_in(&name("node1"), of(&[("node1", wish, readable)], &Policy::default()), &[name("node1")]);
    assert!(plan.blocked.is_empty() && plan.queued.is_empty(), "{plan}");
    let ids: Vec<_> = plan.steps.iter().map(|planned| planned.id.as_str()).collect();
    let mended = ["hook/node1/before-repair", "repair-packages/node1", "hook/node1/after-repair"];
    let rest = ["hook/node1/before", "packages/node1", "install-kernel/node1", "boot/node1", "confirm-kernel/node1"];
    assert_eq!(ids, [&mended[..], &rest, &["prune-kernels/node1", "hook/node1/after"]].concat());
    let chain: Vec<_> = plan.steps[1..].iter().map(|planned| planned.after[0].as_str()).collect();
    assert_eq!(chain, ids[..ids.len() - 1], "the second part waits for the first");
}

#[test]
fn an_answer_that_does_not_fit_the_question_is_not_planned_with() {
    let (wish, surveyed) = updated();
    for odd in [survey(), Survey { schema: 9, ..surveyed.clone() }, Survey { settings: vec![due(&[])], ..surveyed }] {
        let plan = of(&[("node1", wish.clone(), odd)], &Policy::default());
        assert!(plan.steps.is_empty() && plan.blocked[0].reason.contains("does not fit"), "{plan}");
    }
}

#[test]
fn who_wishes_for_nothing_is_not_asked() {
    let (snapshot, _) = world(&[]);
    let wishes: BTreeMap<NodeName, NodeWish> = BTreeMap::from([(name("node1"), NodeWish::default())]);
    assert!(plan_nodes(&snapshot, &wishes, &Policy::default(), NOW).is_empty());
}
