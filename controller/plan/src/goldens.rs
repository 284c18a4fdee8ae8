// SPDX-License-Identifier: Apache-2.0
//! One case for each thing a plan can say, as the operator reads it and as it is stored. `WINDLASS_BLESS=1` writes the
//! files anew; the change is then reviewed as text.

use std::path::PathBuf;

use windlass_types::machine::{MachineReport, PowerState, ProviderKind};
use windlass_types::name::{ClusterName, LabelKey, LabelValue};
use windlass_types::time::UnixMillis;

use crate::example::{self, NOW, add, empty, machine, plan_of, report, token};
use crate::{ClusterSpec, Plan, Policy, Snapshot, plan, plan_destroy};

mod on_node;

fn compare(case: &str, plan: &Plan) {
    let text = plan.to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json = serde_json::to_string_pretty(plan).expect("a plan is always JSON") + "\n";
    for (extension, found) in [("txt", &text), ("json", &json)] {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("goldens").join(format!("{case}.{extension}"));
        if std::env::var_os("WINDLASS_BLESS").is_some() {
            std::fs::write(&path, found).expect("written");
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(*found, expected, "{}", path.display());
    }
}

fn three() -> Snapshot {
    let mut world = empty();
    ["node1", "node2", "node3"].iter().for_each(|node| add(&mut world, node));
    world
}

#[test]
fn creates_what_is_missing_and_leaves_foreign_machines_alone() {
    let mut world = empty();
    let mut foreign = report(&machine("node1"));
    foreign.cluster = ClusterName::new("other").ok();
    world.machines.push(foreign);
    compare("create", &plan_of(&world, &["node2", "node1"]));
}

#[test]
fn nothing_to_do_is_said_with_what_is_not_well() {
    let mut world = three();
    world.nodes[0].is_healthy = false;
    world.nodes[0].reason = "docker.service is failed\u{1b}[2J".into();
    compare("nothing", &plan_of(&world, &["node1", "node2", "node3"]));
}

#[test]
fn starts_awaits_attaches_and_labels_in_place() {
    let mut world = three();
    world.machines[0].power = PowerState::Off;
    world.machines[1].disks.clear();
    world.nodes[1].labels.insert(LabelKey::new("role/etcd").expect("a key"), LabelValue::new("yes").expect("a value"));
    world.nodes.remove(2);
    world.tokens.push(token("node3", UnixMillis(NOW.0 + 1)));
    compare("change", &plan_of(&world, &["node1", "node2", "node3"]));
}

#[test]
fn what_left_the_spec_is_deleted_and_its_address_is_free_only_then() {
    let mut spec = example::spec(&["node1", "node4"]);
    spec.machines[1].address = machine("node2").address;
    compare("replace", &plan(&three(), &spec, &Policy { parallel: 2, ..Policy::default() }, NOW));
}

#[test]
fn what_would_have_to_be_made_anew_is_blocked_with_every_reason() {
    let mut world = three();
    world.nodes.remove(2);
    world.machines.remove(1);
    let mut spec: ClusterSpec = example::spec(&["node1", "node2", "node3", "node5"]);
    spec.machines[0].cpus = 4;
    spec.machines[0].data_disks.clear();
    world.nodes.push(example::joined(&machine("node5")));
    compare("blocked", &plan(&world, &spec, &Policy::default(), NOW));
}

#[test]
fn destroys_what_is_named_or_everything() {
    let mut world = three();
    world.machines.remove(2);
    let destroy =
        |names: &[_]| plan_destroy(&world, &example::cluster(), &ProviderKind::Qemu, names, &Policy::default());
    compare("destroy-one", &destroy(&[example::name("node1")]));
    compare("destroy", &destroy(&[]));
}

#[test]
fn adopts_machines_that_exist() {
    let spec = ClusterSpec { provider: ProviderKind::Existing, ..example::spec(&["node1"]) };
    compare("adopt", &plan(&empty(), &spec, &Policy::default(), NOW));
}

#[test]
fn waits_for_the_agent_of_a_machine_that_was_taken_over_and_never_makes_it_anew() {
    let mut world = empty();
    let taken_over = |name| MachineReport { adopted: true, ..report(&machine(name)) };
    world.machines.push(taken_over("node1"));
    world.machines.push(MachineReport { power: PowerState::Off, ..taken_over("node2") });
    world.machines.push(MachineReport { disks: Vec::new(), ..taken_over("node3") });
    compare("taken-over", &plan_of(&world, &["node1", "node2", "node3"]));
}
