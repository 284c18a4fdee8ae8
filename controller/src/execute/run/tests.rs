// SPDX-License-Identifier: Apache-2.0
//! The state machine of a run: cases, and whatever may happen.

use proptest::prelude::*;
use windlass_plan::plan::Turn;
use windlass_plan::{OnFailure, Policy, Step};
use windlass_types::machine::ProviderKind;
use windlass_types::name::ClusterName;
use windlass_types::node_step::NodeStep;

use super::*;

/// A chain of machine steps per letter: `a1` waits for `a0`.
fn machines(parallel: u32, chains: &[usize]) -> Plan {
    let mut steps = Vec::new();
    for (chain, length) in chains.iter().enumerate() {
        let mut before = None;
        for link in 0..*length {
            let name = NodeName::new(format!("c{chain}l{link}")).expect("a name");
            let mut step = PlannedStep::new(Step::ForgetNode { name }, "a test");
            step.after.extend(before.replace(step.id.clone()));
            steps.push(step);
        }
    }
    let cluster = ClusterName::new("c").expect("a name");
    let policy = Policy { parallel, ..Policy::default() };
    Plan { provider: Some(ProviderKind::Qemu), steps, ..Plan::empty(Some(cluster), policy) }
}

/// Per node one step without a lease and two with.
fn nodes(count: usize, policy: Policy) -> Plan {
    let mut plan = Plan::empty(None, policy);
    for nth in 0..count {
        let node = NodeName::new(format!("n{nth}")).expect("a name");
        plan.turns.push(Turn { node: node.clone(), why: "a test".into() });
        let mut before: Option<StepId> = None;
        let prune = NodeStep::PruneKernels { remove: vec![] };
        let restart = NodeStep::RestartServices { units: vec![] };
        for (step, lease) in [(prune, false), (NodeStep::RepairPackages, true), (restart, true)] {
            let mut step = PlannedStep::new(Step::OnNode { node: node.clone(), step: Box::new(step) }, "a test");
            step.lease = lease;
            step.after.extend(before.replace(step.id.clone()));
            plan.steps.push(step);
        }
    }
    plan
}

fn progress(plan: Plan) -> Progress {
    Progress::new(plan, Told::default(), BTreeMap::new())
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

fn end(progress: &mut Progress, id: &StepId, state: StepState) {
    if state == StepState::Done {
        progress.change(id, |record| record.state = StepState::Running);
    }
    progress.change(id, |record| record.state = state);
}

fn begin(progress: &mut Progress) -> Vec<StepId> {
    let ready: Vec<_> = progress.ready(|_| false).into_iter().map(|planned| planned.id).collect();
    for id in &ready {
        progress.change(id, |record| {
            record.state = StepState::Running;
            record.attempt = record.attempt.max(1);
        });
    }
    ready
}

fn sweep(progress: &mut Progress) {
    loop {
        let left = progress.left_over();
        if left.is_empty() {
            return;
        }
        for (id, state) in left {
            end(progress, &id, state);
        }
    }
}

/// Does all that is ready until nothing is; the node of a failing step is named.
fn go_on(progress: &mut Progress, failing: &str) {
    loop {
        sweep(progress);
        let begun = begin(progress);
        if begun.is_empty() {
            return;
        }
        for id in begun {
            let fails = !failing.is_empty() && id.as_str().contains(failing);
            end(progress, &id, if fails { StepState::Failed } else { StepState::Done });
        }
    }
}

fn asking(progress: &Progress) -> Vec<String> {
    progress.asking(|_| false).now.iter().map(|planned| planned.step.subject().to_owned()).collect()
}

#[test]
fn a_failed_machine_holds_up_only_those_that_wait_for_it() {
    let mut progress = progress(machines(9, &[2, 1]));
    let begun = begin(&mut progress);
    assert_eq!(begun.len(), 2);
    end(&mut progress, &begun[0], StepState::Failed);
    end(&mut progress, &begun[1], StepState::Done);
    assert!(progress.ready(|_| false).is_empty() && progress.verdict().is_none());
    let left = progress.left_over();
    assert_eq!(left.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [StepState::Skipped]);
    end(&mut progress, &left[0].0, StepState::Skipped);
    assert_eq!(progress.verdict(), Some(RunState::Failed));
}

#[test]
fn who_is_ready_first_does_not_overtake_those_whose_turn_is_before_unless_they_are_away() {
    let mut progress = progress(nodes(3, Policy::default()));
    let begun = begin(&mut progress);
    end(&mut progress, &begun[2], StepState::Done);
    let ask = |progress: &Progress, away: &str| {
        let asking = progress.asking(|node| away.contains(node.as_str()));
        let names =
            |steps: Vec<&PlannedStep>| steps.iter().map(|step| step.step.subject().to_owned()).collect::<Vec<_>>();
        (names(asking.now), names(asking.later))
    };
    let n2 = || vec!["n2".to_owned()];
    assert_eq!(ask(&progress, ""), (vec![], n2()), "n0 and n1 are at work");
    assert_eq!(ask(&progress, "n0"), (vec![], n2()), "n1 is at work");
    assert_eq!(ask(&progress, "n0 n1"), (n2(), vec![]));
    end(&mut progress, &begun[0], StepState::Done);
    assert_eq!(ask(&progress, ""), (vec!["n0".to_owned()], n2()));
    progress.set_in_hand(&name("n0"), true);
    assert_eq!(ask(&progress, ""), (vec![], n2()));
    end(&mut progress, &begun[1], StepState::Failed);
    sweep(&mut progress);
    assert!(progress.has_failed_too_often(), "and nobody asks any more");
}

#[test]
fn a_step_that_was_under_way_begins_anew_and_one_that_is_done_does_not() {
    let mut before = progress(machines(9, &[1, 1]));
    let begun = begin(&mut before);
    end(&mut before, &begun[1], StepState::Done);
    let known = begun.iter().map(|id| (id.clone(), before.step(id))).collect();
    let again = Progress::new(before.plan.clone(), Told::default(), known);
    assert_eq!(again.ready(|_| false).iter().map(|planned| &planned.id).collect::<Vec<_>>(), [&begun[0]]);
    assert_eq!(again.step(&begun[0]).attempt, 1, "and the order it was given is found again");
}

#[test]
fn a_run_waits_for_nodes_that_were_away_and_brings_them_in_at_their_turn() {
    let mut whole = nodes(3, Policy::default());
    let queued = |name: &str| windlass_plan::Queued {
        node: NodeName::new(name).expect("a name"),
        reason: "away".into(),
        after: None,
    };
    let later = Plan { steps: whole.steps.split_off(6), turns: whole.turns.split_off(2), ..whole.clone() };
    whole.queued = vec![queued("n2"), queued("n3")];
    let mut progress = progress(whole);
    for node in ["n0", "n1"] {
        progress.set_in_hand(&name(node), true);
    }
    go_on(&mut progress, "");
    assert_eq!((progress.verdict(), progress.awaited()), (None, vec![name("n2"), name("n3")]));
    let mut grown = progress.plan.clone();
    grown.take_in(&name("n2"), later, &[name("n2"), name("n0"), name("n1")]);
    progress.extend(grown);
    assert_eq!(begin(&mut progress).iter().map(StepId::as_str).collect::<Vec<_>>(), ["prune-kernels/n2"]);
    let pruned = progress.plan.steps[6].id.clone();
    end(&mut progress, &pruned, StepState::Done);
    assert_eq!(asking(&progress), ["n2"]);
    progress.set_in_hand(&name("n2"), true);
    go_on(&mut progress, "");
    assert_eq!((progress.verdict(), progress.awaited()), (None, vec![name("n3")]));
    progress.tell(Told { stop: true, pause: None });
    assert_eq!((progress.verdict(), progress.awaited()), (Some(RunState::Stopped), vec![]));
}

#[test]
fn what_waits_for_a_step_is_planned_when_that_is_done_and_never_if_it_failed() {
    let plan = |policy| {
        let mut plan = nodes(1, policy);
        let after = Some(plan.steps[0].id.clone());
        plan.steps.truncate(1);
        plan.queued = vec![windlass_plan::Queued { node: name("n0"), reason: "repositories first".into(), after }];
        plan
    };
    let mut well = progress(plan(Policy::default()));
    assert_eq!((well.awaited(), well.verdict()), (vec![], None));
    go_on(&mut well, "");
    assert_eq!((well.awaited(), well.verdict()), (vec![name("n0")], None));
    let mut ill = progress(plan(Policy { on_failure: OnFailure::Continue { most: 9 }, ..Policy::default() }));
    go_on(&mut ill, "prune");
    assert_eq!((ill.awaited(), ill.verdict()), (vec![], Some(RunState::Failed)));
}

#[test]
fn nobody_is_brought_in_while_no_further_node_may_begin() {
    let mut plan = nodes(1, Policy::default());
    plan.queued = vec![windlass_plan::Queued { node: name("n1"), reason: "away".into(), after: None }];
    let mut paused = Progress::new(plan.clone(), Told { stop: false, pause: Some("a test".into()) }, BTreeMap::new());
    assert!(paused.awaited().is_empty() && paused.verdict().is_none());
    paused.tell(Told::default());
    assert_eq!(paused.awaited(), [name("n1")]);
    let mut failing = progress(plan);
    failing.set_in_hand(&name("n0"), true);
    go_on(&mut failing, "repair");
    assert!(failing.awaited().is_empty());
    assert_eq!(failing.verdict(), Some(RunState::Failed));
}

#[test]
fn a_node_that_could_not_be_planned_for_fails_the_run_if_it_counts_as_failed() {
    for (on_failure, begun) in [(OnFailure::Stop, 0), (OnFailure::Continue { most: 1 }, 1)] {
        let mut plan = nodes(1, Policy { on_failure, ..Policy::default() });
        plan.queued = vec![windlass_plan::Queued { node: name("n1"), reason: "away".into(), after: None }];
        let mut progress = progress(plan.clone());
        progress.count_as_failed(&name("n1"));
        plan.leave_out(&name("n1"), "a test", "nothing");
        progress.extend(plan);
        sweep(&mut progress);
        assert_eq!(begin(&mut progress).len(), begun);
        progress.tell(Told { stop: true, pause: None });
        progress.records().map(|(planned, _)| planned.id.clone()).collect::<Vec<_>>().iter().for_each(|id| {
            end(&mut progress, id, StepState::Done);
        });
        assert_eq!(progress.verdict(), Some(RunState::Failed));
    }
}

#[test]
fn nothing_is_done_under_a_lease_that_nobody_gave() {
    let mut progress = progress(nodes(3, Policy::default()));
    go_on(&mut progress, "");
    assert_eq!(asking(&progress), ["n0", "n1", "n2"], "by their turns");
    assert!(progress.ready(|_| false).is_empty());
    progress.set_in_hand(&name("n1"), true);
    go_on(&mut progress, "");
    assert_eq!(asking(&progress), ["n0", "n2"]);
    assert_eq!(progress.finished_with(), [name("n1")]);
}

#[test]
fn after_a_failure_nodes_in_hand_are_brought_to_their_end_and_no_other_begins() {
    let mut progress = progress(nodes(3, Policy::default()));
    go_on(&mut progress, "");
    progress.set_in_hand(&name("n0"), true);
    progress.set_in_hand(&name("n1"), true);
    go_on(&mut progress, "repair-packages/n0");
    assert_eq!(progress.state(&progress.plan.steps[5].id), StepState::Done, "n1 is not left half done");
    assert_eq!(progress.finished_with(), [name("n1")], "nobody knows how n0 is");
    assert!(asking(&progress).is_empty());
    assert_eq!(progress.verdict(), Some(RunState::Failed));
}

#[test]
fn a_node_on_which_nothing_could_be_begun_is_not_kept() {
    let mut progress = progress(nodes(2, Policy::default()));
    go_on(&mut progress, "");
    progress.set_in_hand(&name("n0"), true);
    let id = begin(&mut progress)[0].clone();
    let fails = |progress: &mut Progress, blocked: bool, begun: bool| {
        progress.change(&id, |record| (record.attempt, record.blocked, record.begun) = (1, blocked, begun));
        end(progress, &id, StepState::Failed);
        sweep(progress);
        progress.finished_with()
    };
    assert_eq!(fails(&mut progress, true, false), [name("n0")]);
    assert!(fails(&mut progress, true, true).is_empty(), "it had begun before");
    assert!(fails(&mut progress, false, false).is_empty(), "nobody knows how it is");
    progress.change(&id, StepRecord::note_untold);
    assert_eq!(progress.finished_with(), [name("n0")], "its node was told nothing");
}

#[test]
fn a_paused_run_begins_no_further_node_and_goes_on_when_it_may() {
    let policy = Policy { on_failure: OnFailure::Pause, ..Policy::default() };
    let mut progress = progress(nodes(2, policy));
    go_on(&mut progress, "");
    progress.set_in_hand(&name("n0"), true);
    go_on(&mut progress, "repair-packages/n0");
    progress.tell(Told { stop: false, pause: Some("n0 failed".into()) });
    assert!(asking(&progress).is_empty() && progress.verdict().is_none());
    progress.tell(Told::default());
    assert_eq!(asking(&progress), ["n1"]);
}

#[test]
fn so_many_failures_may_happen_and_no_more() {
    let policy = Policy { on_failure: OnFailure::Continue { most: 1 }, ..Policy::default() };
    let mut progress = progress(nodes(4, policy));
    go_on(&mut progress, "prune-kernels/n0");
    assert_eq!(asking(&progress), ["n1", "n2", "n3"]);
    progress.set_in_hand(&name("n1"), true);
    go_on(&mut progress, "repair-packages/n1");
    assert!(asking(&progress).is_empty());
    assert_eq!(progress.verdict(), Some(RunState::Failed));
}

#[test]
fn a_retry_does_again_what_did_not_end_well_and_nothing_else() {
    let mut progress = progress(nodes(2, Policy::default()));
    go_on(&mut progress, "");
    progress.set_in_hand(&name("n0"), true);
    go_on(&mut progress, "repair-packages/n0");
    assert_eq!(progress.verdict(), Some(RunState::Failed));
    let again: Vec<_> = progress.retry().into_iter().map(|(id, record)| (id.to_string(), record.attempt)).collect();
    let expected =
        [("repair-packages/n0", 2), ("restart-services/n0", 0), ("repair-packages/n1", 0), ("restart-services/n1", 0)];
    assert_eq!(again, expected.map(|(id, attempt)| (id.to_owned(), attempt)));
    go_on(&mut progress, "");
    assert_eq!(progress.finished_with(), [name("n0")]);
    progress.set_in_hand(&name("n1"), true);
    go_on(&mut progress, "");
    assert_eq!(progress.verdict(), Some(RunState::Succeeded));
}

#[test]
fn a_node_that_was_given_and_never_touched_is_given_back() {
    let mut progress = progress(nodes(1, Policy::default()));
    go_on(&mut progress, "");
    progress.set_in_hand(&name("n0"), true);
    progress.tell(Told { stop: true, pause: None });
    sweep(&mut progress);
    assert_eq!(progress.finished_with(), [name("n0")]);
    assert_eq!(progress.verdict(), Some(RunState::Stopped));
}

#[test]
fn nodes_that_are_away_take_nobodys_place() {
    let mut progress = progress(nodes(3, Policy { parallel: 1, ..Policy::default() }));
    let ready: Vec<_> = progress.ready(|node| *node == name("n0")).into_iter().map(|planned| planned.id).collect();
    assert_eq!(ready.iter().map(StepId::as_str).collect::<Vec<_>>(), ["prune-kernels/n1"]);
    end(&mut progress, &ready[0], StepState::Running);
    assert!(progress.ready(|_| false).is_empty());
}

#[test]
fn no_more_nodes_are_asked_for_than_can_begin_at_once() {
    let policy = Policy { parallel: 2, on_failure: OnFailure::Continue { most: 9 }, ..Policy::default() };
    let mut progress = progress(nodes(4, policy));
    go_on(&mut progress, "");
    assert_eq!(progress.places(), 2);
    progress.set_in_hand(&name("n0"), true);
    assert_eq!(progress.places(), 1, "n0 is about to begin");
    let begun = begin(&mut progress);
    assert_eq!((begun.len(), progress.places()), (1, 1), "n0 is at work");
    progress.set_in_hand(&name("n1"), true);
    assert_eq!(progress.places(), 0);
    end(&mut progress, &begun[0], StepState::Done);
    assert_eq!(progress.places(), 0, "n0 goes on at once");
    go_on(&mut progress, "n0");
    assert_eq!((progress.finished_with(), progress.places()), (vec![name("n1")], 2), "n0 failed and takes no place");
}

#[test]
fn what_a_step_waits_for_is_told_once_and_again_when_it_is_something_else_or_waits_anew() {
    let mut progress = progress(nodes(1, Policy::default()));
    let id = progress.plan.steps[1].id.clone();
    assert!(progress.waits_for(&id, vec!["max-unavailable"]));
    progress.change(&id, |record| record.message = "waits: n2 is down".into());
    assert!(!progress.waits_for(&id, vec!["max-unavailable"]));
    assert!(progress.waits_for(&id, vec!["max-unavailable", "window"]));
    end(&mut progress, &id, StepState::Skipped);
    progress.retry();
    assert!(progress.waits_for(&id, vec!["max-unavailable", "window"]));
}

#[test]
fn who_is_in_hand_goes_before_those_who_need_not_be() {
    let mut progress = progress(nodes(2, Policy { parallel: 1, ..Policy::default() }));
    let pruned = progress.plan.steps[3].id.clone();
    end(&mut progress, &pruned, StepState::Done);
    progress.set_in_hand(&name("n1"), true);
    assert_eq!(begin(&mut progress).iter().map(StepId::as_str).collect::<Vec<_>>(), ["repair-packages/n1"]);
}

proptest! {
    #[test]
    fn never_more_at_once_than_allowed_and_always_an_end(
        parallel in 1_u32..4,
        chains in proptest::collection::vec(1_usize..4, 0..5),
        fates in proptest::collection::vec(any::<bool>(), 1..20),
        stop_after in proptest::option::of(0_usize..10),
    ) {
        let mut progress = progress(machines(parallel, &chains));
        let mut under_way = Vec::new();
        for round in 0..100 {
            if stop_after == Some(round) {
                progress.tell(Told { stop: true, pause: None });
            }
            under_way.extend(begin(&mut progress));
            prop_assert!(under_way.len() <= parallel as usize);
            if let Some(id) = under_way.pop() {
                let is_well = fates[round % fates.len()];
                end(&mut progress, &id, if is_well { StepState::Done } else { StepState::Failed });
            }
            sweep(&mut progress);
        }
        prop_assert!(under_way.is_empty() && progress.verdict().is_some());
    }

    /// Nodes come into hand one or two at a time, steps fail, somebody pauses, resumes, stops and retries, and the
    /// controller dies: a leased step runs only in hand, a step that is done is never begun again, and there is an end.
    #[test]
    fn whatever_happens_no_step_is_done_twice_and_there_is_an_end(
        count in 1_usize..5,
        most in 1_usize..3,
        rule in 0_u32..4,
        deeds in proptest::collection::vec((0_u8..10, any::<proptest::sample::Index>(), any::<bool>()), 0..60),
    ) {
        let on_failure = match rule {
            0 => OnFailure::Stop,
            1 => OnFailure::Pause,
            more => OnFailure::Continue { most: more - 2 },
        };
        let mut progress = progress(nodes(count, Policy { on_failure, ..Policy::default() }));
        let mut done = BTreeMap::new();
        let calm = (0..200).map(|_| (0_u8, None, true));
        let deeds = deeds.into_iter().map(|(deed, which, is_well)| (deed, Some(which), is_well)).chain(calm);
        for (deed, which, is_well) in deeds {
            match deed {
                9 => {
                    let known = progress.records().map(|(planned, record)| (planned.id.clone(), record.clone())).collect();
                    let (hand, told) = (progress.in_hand().clone(), progress.told().clone());
                    progress = Progress::new(progress.plan.clone(), told, known);
                    hand.iter().for_each(|node| progress.set_in_hand(node, true));
                }
                8 => drop(progress.retry()),
                7 if which.is_some() => progress.tell(Told { stop: false, pause: is_well.then(|| "a test".to_owned()) }),
                _ => {}
            }
            if which.is_none() && progress.told().pause.is_some() {
                progress.tell(Told::default());
            }
            sweep(&mut progress);
            for node in progress.finished_with() {
                progress.set_in_hand(&node, false);
            }
            let next = progress.asking(|_| false).now.first().and_then(|planned| planned.step.node().cloned());
            if let Some(next) = next.filter(|_| progress.in_hand().len() < most) {
                progress.set_in_hand(&next, true);
            }
            for id in begin(&mut progress) {
                let planned = progress.plan.step(&id).expect("planned").clone();
                prop_assert!(!planned.lease || planned.step.node().is_some_and(|node| progress.in_hand().contains(node)));
                prop_assert!(!done.contains_key(&id), "{id} again");
            }
            let running: Vec<_> = progress
                .records()
                .filter(|(_, record)| record.state == StepState::Running)
                .map(|(planned, _)| planned.id.clone())
                .collect();
            if let Some(id) = which.map_or_else(|| running.first(), |which| (!running.is_empty()).then(|| which.get(&running))) {
                end(&mut progress, id, if is_well { StepState::Done } else { StepState::Failed });
                if is_well {
                    done.insert(id.clone(), ());
                }
            }
            prop_assert!(progress.in_hand().len() <= most);
        }
        sweep(&mut progress);
        // A node whose chain failed is kept, and may keep others waiting: that is an end that somebody must decide about.
        let waits_for_a_person = progress.in_hand().len() == most && !progress.asking(|_| false).now.is_empty();
        prop_assert!(progress.verdict().is_some() || waits_for_a_person, "{:?}", progress.records().collect::<Vec<_>>());
    }
}
