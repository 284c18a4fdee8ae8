// SPDX-License-Identifier: Apache-2.0
//! What holds for every plan for nodes, whatever they say of themselves.

use std::collections::BTreeMap;

use proptest::prelude::*;
use windlass_types::name::NodeName;
use windlass_types::node_step::NodeStep;
use windlass_types::survey::{Found, Survey};

use super::NODES;
use crate::example::{self, NOW, carried_out, joined, machine, name};
use crate::scenes::{self, NEW, change, due, file, kernel_due, release, sysctl, transaction, unit};
use crate::step::Disruption;
use crate::{ClusterSpec, NodeWish, Policy, RebootWish, Snapshot, Step, Unreachable, plan, plan_nodes};

fn found<T: Clone + std::fmt::Debug + 'static>(due: T) -> impl Strategy<Value = Found<T>> {
    let blocked = Found::Blocked { reason: "it cannot be".into(), advice: "nothing".into() };
    prop_oneof![Just(Found::AsWished), Just(Found::Due { due }), Just(blocked)]
}

/// What a node shall become and what it says of itself, fitting each other.
fn node() -> impl Strategy<Value = (NodeWish, Survey)> {
    let flags = any::<[bool; 6]>();
    let reboot = prop_oneof![Just(RebootWish::Never), Just(RebootWish::IfNeeded), Just(RebootWish::AfterChanges)];
    let mut core = transaction();
    core.changes.push(change("glibc", Some("2.34-1"), Some("2.34-2")));
    let packages = proptest::option::of(prop_oneof![found(transaction()), found(core)]);
    let mut there = kernel_due();
    there.install = None;
    let mut kept = there.clone();
    kept.prune.clear();
    let kernel = proptest::option::of(prop_oneof![found(kernel_due()), found(there), found(kept)]);
    let Found::Due { due: setting } = due(&["a"]) else { unreachable!("it is due") };
    let settings = proptest::collection::vec(found(setting), 2);
    (flags, reboot, packages, kernel, settings).prop_map(|(flags, reboot, packages, kernel, settings)| {
        let [has_hooks, reasons, outdated, interrupted, runs_new, default_new] = flags;
        let mut survey = scenes::survey();
        if kernel.is_some() && runs_new {
            survey.kernels.running = release(NEW);
        }
        if kernel.is_some() && default_new {
            survey.kernels.default = Some(release(NEW));
        }
        survey.reboot_reasons = reasons.then(|| "glibc was replaced".to_owned()).into_iter().collect();
        survey.outdated_services = outdated.then(|| unit("sshd.service")).into_iter().collect();
        survey.interrupted = interrupted.then(|| "transaction 3 has not ended".to_owned());
        let wish = NodeWish {
            settings: vec![file("a\n"), sysctl("1")],
            packages: packages.as_ref().and_then(|_| scenes::packages_wish()),
            kernel: kernel.as_ref().and_then(|_| scenes::kernel_wish()),
            reboot,
            hooks: if has_hooks { scenes::hooks() } else { crate::Hooks::default() },
        };
        (wish, Survey { settings, packages, kernel, ..survey })
    })
}

type World = (Snapshot, BTreeMap<NodeName, NodeWish>);

fn world() -> impl Strategy<Value = World> {
    let standing = (node(), prop::bool::weighted(0.2), prop::bool::weighted(0.1), any::<bool>());
    proptest::collection::vec(standing, 5).prop_map(|standings| {
        let (mut world, mut wishes) = (example::empty(), BTreeMap::new());
        for (node, ((wish, survey), is_silent, is_aside, is_healthy)) in NODES.iter().zip(standings) {
            let mut status = joined(&machine(node));
            status.is_healthy = is_healthy;
            world.nodes.push(status);
            if is_silent {
                world.unsurveyed.insert(name(node), "it does not answer".into());
            } else {
                world.surveys.insert(name(node), survey);
            }
            if is_aside {
                world.quarantined.insert(name(node), "a person said so".into());
            }
            wishes.insert(name(node), wish);
        }
        (world, wishes)
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let unreachable = prop_oneof![Just(Unreachable::Wait), Just(Unreachable::Skip), Just(Unreachable::Fail)];
    unreachable.prop_map(|unreachable| Policy { unreachable, ..Policy::default() })
}

proptest! {
    #[test]
    fn after_a_plan_nothing_is_left_to_do((before, wishes) in world(), policy in policy()) {
        let spec = ClusterSpec { wishes: wishes.clone(), ..example::spec(&[]) };
        let first = plan_nodes(&before, &wishes, &policy, NOW);
        let after = carried_out(&first, &spec, before);
        let second = plan_nodes(&after, &wishes, &policy, NOW);
        prop_assert!(second.steps.is_empty(), "{first}\nand then\n{second}");
        prop_assert_eq!(&second.queued, &first.queued);
    }

    #[test]
    fn every_node_of_which_something_is_wished_is_done_or_named((before, wishes) in world(), policy in policy()) {
        let plan = plan_nodes(&before, &wishes, &policy, NOW);
        for (node, reason) in before.unsurveyed.iter().filter(|(node, _)| !before.quarantined.contains_key(*node)) {
            let is_queued = plan.queued.iter().any(|queued| queued.node == *node && queued.reason == *reason);
            let is_blocked = plan.blocked.iter().any(|block| block.node == *node && block.reason.contains(reason));
            prop_assert!(is_queued != is_blocked && is_queued == (policy.unreachable == Unreachable::Wait));
            prop_assert!(policy.unreachable != Unreachable::Fail || plan.steps.is_empty());
        }
        for node in before.quarantined.keys() {
            prop_assert!(plan.blocked.iter().any(|block| block.node == *node && block.part.is_empty()));
            prop_assert!(plan.steps.iter().all(|planned| planned.step.node() != Some(node)));
        }
    }

    #[test]
    fn nodes_that_come_back_later_make_the_plan_that_would_have_been(
        (world, wishes) in world(), away in any::<[bool; NODES.len()]>(), begins_at in 0..NODES.len(),
    ) {
        let policy = Policy::default();
        let whole = plan_nodes(&world, &wishes, &policy, NOW);
        let mut before = world.clone();
        for node in NODES.iter().zip(away).filter(|(_, away)| *away).map(|(node, _)| name(node)) {
            if before.surveys.remove(&node).is_some() {
                before.unsurveyed.insert(node, "it is not connected".into());
            }
        }
        let mut grown = plan_nodes(&before, &wishes, &policy, NOW);
        let (mut came, stay): (Vec<_>, Vec<_>) =
            grown.queued.clone().into_iter().partition(|queued| world.surveys.contains_key(&queued.node));
        let begins_at = begins_at % came.len().max(1);
        came.rotate_left(begins_at);
        let order: Vec<_> =
            crate::order_of_nodes(&world, &NODES.map(name)).into_iter().map(|(node, _)| node).collect();
        for node in came.iter().map(|queued| &queued.node) {
            let later = plan_nodes(&world, &BTreeMap::from([(node.clone(), wishes[node].clone())]), &policy, NOW);
            grown.take_in(node, later, &order);
        }
        prop_assert_eq!(&grown.turns, &whole.turns);
        prop_assert_eq!(&grown.queued, &stay);
        let sorted = |plan: &crate::Plan| {
            let mut steps = plan.steps.clone();
            steps.sort_by(|one, other| one.id.cmp(&other.id));
            steps
        };
        prop_assert_eq!(sorted(&grown), sorted(&whole));
        prop_assert_eq!(grown.blocked.len(), whole.blocked.len());
    }

    #[test]
    fn a_node_is_one_chain_whose_disruptions_are_under_one_lease((before, wishes) in world()) {
        let plan = plan_nodes(&before, &wishes, &Policy::default(), NOW);
        let order: Vec<_> = plan.turns.iter().map(|turn| Some(turn.node.clone())).collect();
        let chains: Vec<_> = plan.steps.chunk_by(|one, next| one.step.node() == next.step.node()).collect();
        let shown: Vec<_> = chains.iter().map(|chain| chain[0].step.node().cloned()).collect();
        prop_assert_eq!(order, shown);
        for chain in chains {
            let step = |planned: &crate::PlannedStep| match &planned.step {
                Step::OnNode { step, .. } => NodeStep::clone(step),
                other => unreachable!("{other:?} is not for a node"),
            };
            let kinds: Vec<_> = chain.iter().map(step).collect();
            for (index, planned) in chain.iter().enumerate() {
                let previous: Vec<_> = index.checked_sub(1).map(|index| chain[index].id.clone()).into_iter().collect();
                prop_assert_eq!(&planned.after, &previous, "{}", plan);
                prop_assert!(planned.lease || !kinds[index].needs_lease(), "{}", plan);
                prop_assert!(planned.lease || planned.disruption == Disruption::None, "{}", plan);
            }
            let leased: Vec<_> = chain.iter().map(|planned| planned.lease).collect();
            prop_assert!(leased.is_sorted(), "a lease is given once: {}", plan);
            let place = |fits: fn(&NodeStep) -> bool| kinds.iter().position(fits);
            let boots = place(|step| matches!(step, NodeStep::Boot { .. }));
            let repairs = place(|step| matches!(step, NodeStep::RepairPackages));
            let confirms = place(|step| matches!(step, NodeStep::ConfirmKernel { .. }));
            let node = chain[0].step.node().expect("a step of a node");
            if boots.is_some() && before.surveys[node].interrupted.is_some() {
                prop_assert!(repairs < boots && repairs.is_some(), "nothing boots on a half-done transaction: {}", plan);
            }
            prop_assert!(boots.is_none() || confirms.is_none() || boots < confirms, "{}", plan);
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer((mut world, wishes) in world()) {
        let mut spec = ClusterSpec { wishes: wishes.clone(), ..example::spec(&["node1", "node2"]) };
        spec.machines.iter().for_each(|wished| world.machines.push(example::report(wished)));
        let (nodes, all) =
            (plan_nodes(&world, &wishes, &Policy::default(), NOW), plan(&world, &spec, &Policy::default(), NOW));
        world.nodes.reverse();
        world.machines.reverse();
        spec.machines.reverse();
        prop_assert_eq!(nodes.hash(), plan_nodes(&world, &wishes, &Policy::default(), NOW).hash());
        let again = plan(&world, &spec, &Policy::default(), NOW);
        prop_assert_eq!(all.hash(), again.hash());
        let back: crate::Plan = serde_json::from_slice(&serde_json::to_vec(&all).expect("JSON")).expect("a plan");
        prop_assert_eq!(back, again);
    }

    #[test]
    fn is_read_on_eighty_columns((world, wishes) in world(), policy in policy()) {
        let text = plan_nodes(&world, &wishes, &policy, NOW).to_string();
        prop_assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
}
