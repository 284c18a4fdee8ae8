// SPDX-License-Identifier: Apache-2.0
//! What holds whenever a node is let go down, whatever the world is like.

use std::collections::BTreeSet;

use proptest::prelude::*;
use windlass_types::name::{NodeName, RunId};
use windlass_types::node_step::Lease;
use windlass_types::time::UnixMillis;

use super::NODES;
use crate::example::{self, NOW, joined, machine, name};
use crate::{LeaseStatus, Overview, Policy, Scene, Snapshot, objections};

const OURS: &str = "r7";

/// How one node may stand when somebody wants to take nodes down.
#[derive(Debug, Clone)]
struct Standing {
    is_connected: bool,
    is_healthy: bool,
    is_revoked: bool,
    is_quarantined: bool,
    is_member: bool,
    is_leaving: bool,
    holder: Option<&'static str>,
}

fn standing() -> impl Strategy<Value = Standing> {
    let often = || prop::bool::weighted(0.8);
    let seldom = || prop::bool::weighted(0.15);
    let holder = prop_oneof![6 => Just(None), 1 => Just(Some(OURS)), 1 => Just(Some("r3"))];
    (often(), often(), seldom(), seldom(), often(), prop::bool::weighted(0.3), holder).prop_map(
        |(is_connected, is_healthy, is_revoked, is_quarantined, is_member, is_leaving, holder)| Standing {
            is_connected,
            is_healthy: is_healthy && is_connected,
            is_revoked,
            is_quarantined,
            is_member,
            is_leaving,
            holder,
        },
    )
}

/// Nodes that the run removes.
fn leaving(standings: &[Standing]) -> BTreeSet<NodeName> {
    let leaving = NODES.iter().zip(standings).filter(|(_, standing)| standing.is_leaving);
    leaving.map(|(node, _)| name(node)).collect()
}

fn lease(node: &str, run: &str) -> LeaseStatus {
    let lease = Lease { number: 1, node: name(node), run: RunId::new(run).expect("an id") };
    LeaseStatus { lease, since: NOW, by: "somebody".into() }
}

fn world(standings: &[Standing], has_members: bool) -> Snapshot {
    let mut world = example::empty();
    for (node, standing) in NODES.iter().zip(standings) {
        let mut status = joined(&machine(node));
        status.is_connected = standing.is_connected;
        status.is_healthy = standing.is_healthy;
        status.is_revoked = standing.is_revoked;
        world.nodes.push(status);
        world.leases.extend(standing.holder.map(|run| lease(node, run)));
        if standing.is_quarantined {
            world.quarantined.insert(name(node), "a person said so".into());
        }
        if has_members && standing.is_member {
            world.members.push(name(node));
        }
    }
    world
}

/// Nodes that are not there for their users, counted in another way than the predicate does.
fn missing(world: &Snapshot) -> BTreeSet<NodeName> {
    let mut missing = BTreeSet::new();
    for status in &world.nodes {
        let is_counted = world.members.is_empty() || world.members.contains(&status.name);
        let is_down = if status.is_revoked { !world.members.is_empty() } else { !status.is_healthy };
        let run = world.lease(&status.name).map(|status| status.lease.run.as_str());
        if (is_counted && (is_down || run.is_some())) || run == Some(OURS) {
            missing.insert(status.name.clone());
        }
    }
    missing
}

proptest! {
    #[test]
    fn never_more_nodes_down_or_leased_than_the_policy_allows(
        standings in proptest::collection::vec(standing(), 5),
        has_members in any::<bool>(),
        max_unavailable in 0_u32..4,
    ) {
        let mut world = world(&standings, has_members);
        let policy = Policy { max_unavailable, ..Policy::default() };
        let (run, leaving) = (RunId::new(OURS).expect("an id"), leaving(&standings));
        let before = missing(&world).len();
        for node in NODES {
            let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now: NOW };
            let is_free = objections(&scene, &name(node)).is_empty();
            if is_free && world.lease(&name(node)).is_none() {
                let is_lost = leaving.contains(&name(node)) && missing(&world).contains(&name(node));
                world.leases.push(lease(node, OURS));
                let mut missing = missing(&world);
                if is_lost {
                    // What is down already and is to go, too, has its turn after this one.
                    missing.retain(|other| !leaving.contains(other) || world.lease(other).is_some());
                }
                prop_assert!(missing.len() <= max_unavailable as usize, "{node} of {world:?}");
            }
        }
        prop_assert!(missing(&world).len() <= before.max(max_unavailable as usize));
    }

    #[test]
    fn who_is_asked_for_with_others_is_judged_as_if_alone(
        standings in proptest::collection::vec(standing(), 5),
        has_members in any::<bool>(),
        max_unavailable in 0_u32..4,
    ) {
        let world = world(&standings, has_members);
        let policy = Policy { max_unavailable, ..Policy::default() };
        let (run, leaving) = (RunId::new(OURS).expect("an id"), leaving(&standings));
        let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now: NOW };
        let overview = Overview::of(scene);
        for node in NODES.into_iter().chain(["unknown"]).map(name) {
            let (with_others, alone) = (overview.objections(&node), objections(&scene, &node));
            prop_assert_eq!(&with_others, &alone);
            let is_lost = leaving.contains(&node) && missing(&world).contains(&node);
            let counts = |other: &NodeName| !is_lost || !leaving.contains(other) || world.lease(other).is_some();
            let others = missing(&world).into_iter().filter(|other| *other != node && counts(other)).count();
            let counted = format!("{others} down or in hand");
            let told = alone.iter().find(|objection| objection.predicate == "max-unavailable");
            prop_assert!(told.is_none_or(|objection| objection.reason.starts_with(&counted)), "{:?}", told);
        }
    }

    #[test]
    fn a_free_slot_is_given_to_whoever_may_have_it(
        standings in proptest::collection::vec(standing(), 5),
        index in 0_usize..5,
    ) {
        let world = world(&standings, false);
        let node = name(NODES[index]);
        let others = missing(&world).iter().filter(|other| **other != node).count();
        let policy = Policy { max_unavailable: u32::try_from(others).expect("few") + 1, ..Policy::default() };
        let (run, leaving) = (RunId::new(OURS).expect("an id"), leaving(&standings));
        let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now: NOW };
        let Standing { is_healthy, is_revoked, is_quarantined, is_leaving, holder, .. } = standings[index];
        let is_free = holder == Some(OURS) || (holder.is_none() && (is_healthy || is_leaving));
        let may = !is_quarantined && (is_leaving || !is_revoked) && is_free;
        let objections = objections(&scene, &node);
        prop_assert_eq!(objections.is_empty(), may, "{:?}", objections);
        prop_assert!(objections.iter().all(|objection| !objection.reason.is_empty() && !objection.advice.is_empty()));
    }

    #[test]
    fn outside_the_window_only_what_is_in_hand_goes_on(
        standings in proptest::collection::vec(standing(), 5),
        minutes in 0_i64..530_000,
    ) {
        let world = world(&standings, true);
        let policy = Policy {
            max_unavailable: 9,
            window: "Sun 01:30-03:30 Europe/Berlin".parse().ok(),
            ..Policy::default()
        };
        let now = UnixMillis((1_767_225_600 + minutes * 60) * 1000);
        let (run, leaving) = (RunId::new(OURS).expect("an id"), leaving(&standings));
        let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now };
        let is_open = policy.window.as_ref().expect("a window").is_open(now);
        for node in NODES {
            let is_ours = world.lease(&name(node)).is_some_and(|status| status.lease.run == run);
            let objects = objections(&scene, &name(node)).iter().any(|objection| objection.predicate == "window");
            prop_assert_eq!(objects, !is_open && !is_ours);
        }
    }
    #[test]
    fn beside_nodes_that_are_well_whoever_leaves_gets_away_one_after_the_other(
        mut standings in proptest::collection::vec(standing(), 5),
    ) {
        for standing in &mut standings {
            (standing.is_quarantined, standing.holder) = (false, None);
            standing.is_connected |= !standing.is_leaving;
            standing.is_healthy |= !standing.is_leaving;
        }
        let (mut world, mut leaving) = (world(&standings, false), leaving(&standings));
        let (policy, run) = (Policy::default(), RunId::new(OURS).expect("an id"));
        while !leaving.is_empty() {
            let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now: NOW };
            let free = leaving.iter().find(|node| objections(&scene, node).is_empty()).cloned();
            prop_assert!(free.is_some(), "{leaving:?} of {world:?}");
            let gone = free.expect("one may go");
            world.leases.push(lease(gone.as_str(), OURS));
            let scene = Scene { snapshot: &world, run: &run, policy: &policy, leaving: &leaving, now: NOW };
            let beside = leaving.iter().filter(|node| **node != gone && objections(&scene, node).is_empty()).count();
            prop_assert_eq!(beside, 0, "at once, of {:?}", &world);
            world.leases.clear();
            world.nodes.retain(|status| status.name != gone);
            leaving.remove(&gone);
        }
    }
}
