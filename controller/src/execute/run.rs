// SPDX-License-Identifier: Apache-2.0
//! A run as a state machine: which steps may begin, which never will, when it is over. Pure, no I/O, no clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windlass_plan::{Plan, PlannedStep, StepId};
use windlass_types::machine::MachineStage;
use windlass_types::run::{RunState, StepState};
use windlass_types::time::UnixMillis;

/// What is known of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    /// Where it stands.
    pub state: StepState,
    /// When its machine reached each stage, as far as that was seen.
    pub reached: BTreeMap<MachineStage, UnixMillis>,
    /// When it began.
    pub started_at: Option<UnixMillis>,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// How long it takes, milliseconds, as learned.
    pub expected_millis: u64,
    /// Until the next stage is reached from the beginning, milliseconds, as learned.
    pub expected_stage_millis: u64,
    /// Why it failed, or what troubles it.
    pub message: String,
    /// What to do about that.
    pub advice: String,
    /// The end of the machine's console, if it failed.
    pub console_tail: String,
}

impl StepRecord {
    /// How far its machine has come.
    #[must_use]
    pub fn stage(&self) -> Option<MachineStage> {
        self.reached.last_key_value().map(|(stage, _)| *stage)
    }
}

/// A plan under way.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The plan.
    pub plan: Plan,
    /// Somebody asked it to stop.
    pub stop_requested: bool,
    steps: BTreeMap<StepId, StepRecord>,
}

impl Progress {
    /// A plan of which so much is known. A step that was under way begins anew: every step may be done twice.
    #[must_use]
    pub fn new(plan: Plan, stop_requested: bool, mut known: BTreeMap<StepId, StepRecord>) -> Self {
        let mut step = |planned: &PlannedStep| {
            let mut record = known.remove(&planned.id).unwrap_or_default();
            if record.state == StepState::Running {
                record.state = StepState::Waiting;
            }
            (planned.id.clone(), record)
        };
        let steps = plan.steps.iter().map(&mut step).collect();
        Self { plan, stop_requested, steps }
    }

    /// What is known of a step.
    #[must_use]
    pub fn step(&self, id: &StepId) -> StepRecord {
        self.steps.get(id).cloned().unwrap_or_default()
    }

    /// Changes what is known of a step; gives what is known now.
    pub fn change(&mut self, id: &StepId, change: impl FnOnce(&mut StepRecord)) -> StepRecord {
        let record = self.steps.entry(id.clone()).or_default();
        change(record);
        record.clone()
    }

    /// Steps that may begin now, in the order of the plan and within its limit.
    #[must_use]
    pub fn ready(&self) -> Vec<PlannedStep> {
        if self.stop_requested {
            return Vec::new();
        }
        let under_way = self.steps.values().filter(|record| record.state == StepState::Running).count();
        let free = (self.plan.policy.parallel as usize).saturating_sub(under_way);
        let is_ready = |planned: &&PlannedStep| {
            self.state(&planned.id) == StepState::Waiting
                && planned.after.iter().all(|before| self.state(before) == StepState::Done)
        };
        self.plan.steps.iter().filter(is_ready).take(free).cloned().collect()
    }

    /// Steps that wait and will never begin, and what becomes of them.
    #[must_use]
    pub fn left_over(&self) -> Vec<(StepId, StepState)> {
        let waiting = self.plan.steps.iter().filter(|planned| self.state(&planned.id) == StepState::Waiting);
        let fate = |planned: &PlannedStep| {
            let is_lost = |before: &StepId| {
                let state = self.state(before);
                state.is_final() && state != StepState::Done
            };
            if planned.after.iter().any(is_lost) {
                Some((planned.id.clone(), StepState::Skipped))
            } else {
                self.stop_requested.then(|| (planned.id.clone(), StepState::Stopped))
            }
        };
        waiting.filter_map(fate).collect()
    }

    /// The final state, once every step has ended.
    #[must_use]
    pub fn verdict(&self) -> Option<RunState> {
        let mut states = self.plan.steps.iter().map(|planned| self.state(&planned.id));
        if !states.clone().all(StepState::is_final) {
            return None;
        }
        Some(if states.clone().all(|state| state == StepState::Done) {
            RunState::Succeeded
        } else if states.any(|state| state == StepState::Failed) {
            RunState::Failed
        } else {
            RunState::Stopped
        })
    }

    fn state(&self, id: &StepId) -> StepState {
        self.steps.get(id).map(|record| record.state).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use windlass_plan::{Policy, Step};
    use windlass_types::machine::ProviderKind;
    use windlass_types::name::{ClusterName, NodeName};

    /// A chain of steps per letter: `a1` waits for `a0`.
    fn plan(parallel: u32, chains: &[usize]) -> Plan {
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

    fn end(progress: &mut Progress, id: &StepId, state: StepState) {
        progress.change(id, |record| record.state = state);
    }

    fn begin(progress: &mut Progress) -> Vec<StepId> {
        let ready: Vec<_> = progress.ready().into_iter().map(|planned| planned.id).collect();
        ready.iter().for_each(|id| end(progress, id, StepState::Running));
        ready
    }

    #[test]
    fn a_failed_step_holds_up_only_those_that_wait_for_it() {
        let mut progress = Progress::new(plan(9, &[2, 1]), false, BTreeMap::new());
        let begun = begin(&mut progress);
        assert_eq!(begun.len(), 2);
        end(&mut progress, &begun[0], StepState::Failed);
        end(&mut progress, &begun[1], StepState::Done);
        assert!(progress.ready().is_empty() && progress.verdict().is_none());
        let left = progress.left_over();
        assert_eq!(left.iter().map(|(_, state)| *state).collect::<Vec<_>>(), [StepState::Skipped]);
        end(&mut progress, &left[0].0, StepState::Skipped);
        assert_eq!(progress.verdict(), Some(RunState::Failed));
    }

    #[test]
    fn a_step_that_was_under_way_begins_anew_and_one_that_is_done_does_not() {
        let mut progress = Progress::new(plan(9, &[1, 1]), false, BTreeMap::new());
        let begun = begin(&mut progress);
        end(&mut progress, &begun[1], StepState::Done);
        let known = begun.iter().map(|id| (id.clone(), progress.step(id))).collect();
        let again = Progress::new(progress.plan.clone(), false, known);
        assert_eq!(again.ready().iter().map(|planned| &planned.id).collect::<Vec<_>>(), [&begun[0]]);
    }

    proptest! {
        #[test]
        fn never_more_at_once_than_allowed_and_always_an_end(
            parallel in 1_u32..4,
            chains in proptest::collection::vec(1_usize..4, 0..5),
            fates in proptest::collection::vec(any::<bool>(), 1..20),
            stop_after in proptest::option::of(0_usize..10),
        ) {
            let mut progress = Progress::new(plan(parallel, &chains), false, BTreeMap::new());
            let mut under_way = Vec::new();
            for round in 0..100 {
                progress.stop_requested |= stop_after == Some(round);
                under_way.extend(begin(&mut progress));
                prop_assert!(under_way.len() <= parallel as usize);
                if let Some(id) = under_way.pop() {
                    let is_well = fates[round % fates.len()];
                    end(&mut progress, &id, if is_well { StepState::Done } else { StepState::Failed });
                }
                for (id, state) in progress.left_over() {
                    end(&mut progress, &id, state);
                }
            }
            prop_assert!(under_way.is_empty() && progress.verdict().is_some());
        }
    }
}
