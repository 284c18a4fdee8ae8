// SPDX-License-Identifier: Apache-2.0
//! What holds for every plan, whatever the world is like.

mod leases;
mod on_node;

use std::collections::BTreeSet;

use proptest::prelude::*;
use windlass_types::cloud::{SharedReport, SharedSpec};
use windlass_types::machine::{MachineReport, PowerState, ProviderKind};
use windlass_types::name::{CloudName, ClusterName};
use windlass_types::time::UnixMillis;

use crate::example::{self, NOW, carried_out, joined, machine, name, report, token};
use crate::step::Disruption;
use crate::{ClusterSpec, Plan, Policy, Snapshot, Step, plan, plan_destroy};

const NODES: [&str; 5] = ["node1", "node2", "node3", "node4", "node5"];

/// How one node may stand in the world.
#[derive(Debug, Clone)]
struct Standing {
    is_wished: bool,
    machine: Option<Made>,
    has_joined: bool,
    is_member: bool,
    is_healthy: bool,
    token: Option<bool>,
    cpus: u32,
    has_disk: bool,
    is_labelled: bool,
}

#[derive(Debug, Clone)]
struct Made {
    is_ours: bool,
    is_complete: bool,
    is_on: bool,
    tells_its_spec: bool,
}

fn standing() -> impl Strategy<Value = Standing> {
    let made = any::<[bool; 4]>().prop_map(|[is_ours, is_complete, is_on, tells_its_spec]| Made {
        is_ours,
        is_complete,
        is_on,
        tells_its_spec,
    });
    let flags = any::<[bool; 6]>();
    (proptest::option::of(made), flags, proptest::option::of(any::<bool>()), 1_u32..3).prop_map(
        |(machine, [is_wished, has_joined, is_member, is_healthy, has_disk, is_labelled], token, cpus)| Standing {
            is_wished,
            machine,
            has_joined,
            is_member,
            is_healthy,
            token,
            cpus,
            has_disk,
            is_labelled,
        },
    )
}

fn world(standings: &[Standing], provider: ProviderKind) -> (Snapshot, ClusterSpec) {
    let mut world = example::empty();
    let mut spec = ClusterSpec { provider, ..example::spec(&[]) };
    for (node, standing) in NODES.iter().zip(standings) {
        let wished = machine(node);
        if let Some(made) = &standing.machine {
            world.machines.push(reported(node, standing, made));
        }
        if standing.has_joined {
            let mut status = joined(&wished);
            status.is_healthy = standing.is_healthy;
            if !standing.is_labelled {
                status.labels.clear();
            }
            world.nodes.push(status);
        }
        if standing.is_member {
            world.members.push(wished.name.clone());
        }
        world.tokens.extend(standing.token.map(|lives| token(node, if lives { UnixMillis(NOW.0 + 1) } else { NOW })));
        if standing.is_wished {
            spec.machines.push(wished);
        }
    }
    (world, spec)
}

fn reported(node: &str, standing: &Standing, made: &Made) -> MachineReport {
    let mut base = machine(node);
    base.cpus = standing.cpus;
    let mut report = report(&base);
    if !made.is_ours {
        report.cluster = if made.tells_its_spec { None } else { ClusterName::new("other").ok() };
    }
    report.complete = made.is_complete;
    report.power = if made.is_on { PowerState::On } else { PowerState::Off };
    if !made.tells_its_spec {
        report.spec = None;
    }
    if !standing.has_disk {
        report.disks.clear();
    }
    report
}

/// Ids of machines a plan would do something to.
fn touched(plan: &Plan) -> Vec<String> {
    let id = |step: &Step| match step {
        Step::AwaitMachine { id, .. }
        | Step::StartMachine { id, .. }
        | Step::AttachDisk { id, .. }
        | Step::DeleteMachine { id, .. } => Some(id.to_string()),
        Step::CreateMachine { .. }
        | Step::AdoptMachine { .. }
        | Step::LabelNode { .. }
        | Step::ForgetNode { .. }
        | Step::PrepareCloud { .. }
        | Step::ClearCloud { .. }
        | Step::OnNode { .. } => None,
    };
    plan.steps.iter().filter_map(|planned| id(&planned.step)).collect()
}

fn provider() -> impl Strategy<Value = ProviderKind> {
    let cloud = ProviderKind::Openstack(CloudName::new("cybera").expect("a name"));
    prop_oneof![Just(ProviderKind::Qemu), Just(ProviderKind::Existing), Just(cloud)]
}

proptest! {
    #[test]
    fn after_a_plan_there_is_nothing_left_to_do(
        standings in proptest::collection::vec(standing(), 5),
        provider in provider(),
    ) {
        let (mut before, mut spec) = world(&standings, provider);
        if matches!(spec.provider, ProviderKind::Openstack(_)) {
            spec.shared = vec![SharedSpec::Network, SharedSpec::SecurityGroup { rules: BTreeSet::new() }];
            before.shared = vec![SharedReport { id: "net".into(), is: SharedSpec::Network, complete: true }];
        }
        let first = plan(&before, &spec, &Policy::default(), NOW);
        let after = carried_out(&first, &spec, before);
        let second = plan(&after, &spec, &Policy::default(), NOW);
        // A machine that had to be finished or awaited may still lack a disk or a label, which the next plan sees.
        let third = plan(&carried_out(&second, &spec, after), &spec, &Policy::default(), NOW);
        prop_assert!(third.steps.is_empty(), "{third}");
        prop_assert_eq!(&third.blocked, &second.blocked);
    }

    #[test]
    fn never_touches_a_machine_without_our_tag(
        standings in proptest::collection::vec(standing(), 5),
        provider in provider(),
    ) {
        let (mut before, spec) = world(&standings, provider);
        for (index, machine) in before.machines.iter_mut().enumerate() {
            if machine.cluster.as_ref() != Some(&spec.name) {
                machine.id = windlass_types::name::MachineId::new(format!("foreign{index}")).expect("an id");
            }
        }
        let all = [
            plan(&before, &spec, &Policy::default(), NOW),
            plan_destroy(&before, &spec.name, &spec.provider, &[], &Policy::default()),
        ];
        for plan in all {
            prop_assert!(touched(&plan).iter().all(|id| !id.starts_with("foreign")), "{plan}");
        }
    }

    #[test]
    fn the_order_of_what_is_known_does_not_matter(
        standings in proptest::collection::vec(standing(), 5),
    ) {
        let (mut world, mut spec) = world(&standings, ProviderKind::Qemu);
        let one = plan(&world, &spec, &Policy::default(), NOW);
        world.machines.reverse();
        world.nodes.reverse();
        world.members.reverse();
        world.tokens.reverse();
        spec.machines.reverse();
        let other = plan(&world, &spec, &Policy::default(), NOW);
        prop_assert_eq!(one.hash(), other.hash());
        prop_assert_eq!(one, other);
    }

    #[test]
    fn a_step_waits_only_for_steps_before_it_and_a_machine_with_data_is_only_deleted_when_it_left_the_spec(
        standings in proptest::collection::vec(standing(), 5),
    ) {
        let (world, spec) = world(&standings, ProviderKind::Qemu);
        let plan = plan(&world, &spec, &Policy::default(), NOW);
        for (index, step) in plan.steps.iter().enumerate() {
            let earlier = |id: &crate::StepId| plan.steps[..index].iter().any(|other| other.id == *id);
            prop_assert!(step.after.iter().all(earlier), "{plan}");
        }
        let wished = |name: &&windlass_types::name::NodeName| spec.machines.iter().any(|m| m.name == **name);
        prop_assert_eq!(plan.destroyed().iter().filter(|name| wished(name)).count(), 0);
        let back: Plan = serde_json::from_slice(&serde_json::to_vec(&plan).expect("JSON")).expect("a plan");
        prop_assert_eq!(back.hash(), plan.hash());
    }
    #[test]
    fn whatever_takes_a_node_down_has_a_turn_under_a_lease_unless_its_whole_cluster_goes(
        standings in proptest::collection::vec(standing(), 5),
        aside in any::<[bool; NODES.len()]>(),
        named in any::<[bool; NODES.len()]>(),
        provider in provider(),
    ) {
        let (mut world, spec) = world(&standings, provider);
        let those = |flags: [bool; NODES.len()]| NODES.iter().zip(flags).filter(|(_, is_so)| *is_so).map(|(node, _)| name(node));
        world.quarantined = those(aside).map(|node| (node, "a person said so".to_owned())).collect();
        let destroy = |names: &[_]| plan_destroy(&world, &spec.name, &spec.provider, names, &Policy::default());
        let named: Vec<_> = those(named).collect();
        let in_part = (!named.is_empty()).then(|| destroy(&named));
        for plan in [plan(&world, &spec, &Policy::default(), NOW)].into_iter().chain(in_part) {
            for planned in plan.steps.iter().filter(|planned| planned.disruption != Disruption::None) {
                let node = planned.step.node().expect("only nodes go down");
                prop_assert_eq!(planned.lease, world.node(node).is_some(), "{}", plan);
                prop_assert!(!world.quarantined.contains_key(node), "{}", plan);
            }
            let leased = plan.steps.iter().filter(|planned| planned.lease).filter_map(|planned| planned.step.node());
            let leased: BTreeSet<_> = leased.collect();
            prop_assert!(plan.turns.len() == leased.len() && plan.turns.iter().all(|turn| leased.contains(&turn.node)));
            let well = |turn: &crate::Turn| world.node(&turn.node).is_some_and(|status| status.is_healthy);
            prop_assert!(plan.turns.iter().map(well).is_sorted(), "one that is not well holds up the others: {}", plan);
        }
        let whole = destroy(&[]);
        prop_assert!(whole.turns.is_empty() && whole.steps.iter().all(|planned| !planned.lease), "{whole}");
        prop_assert!(whole.blocked.is_empty());
    }
}
