// SPDX-License-Identifier: Apache-2.0
//! A job as a state machine: which nodes may begin, what each report changes, when it is over. Pure, no I/O, no clock.
//!
//! Moments here are time since the controller started, which goes on evenly when somebody sets the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use windlass_proto::v1::OutputStream;
use windlass_types::action::Action;
use windlass_types::job::JobState;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::{Ending, Outcome};
use windlass_types::time::UnixMillis;

/// What is stored of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Chosen by the caller; a repeated call finds the job by it.
    pub request_id: String,
    /// What is done.
    pub action: Action,
    /// Where.
    pub nodes: Vec<NodeName>,
    /// Nodes at once; 0 for all.
    pub batch: u32,
    /// Begin no further node after more failures than this.
    pub max_failures: Option<u32>,
    /// What a node may take.
    pub timeout: Duration,
    /// Who asked.
    pub created_by: String,
    /// When.
    pub created_at: UnixMillis,
    /// Somebody asked it to stop.
    pub stop_requested: bool,
    /// It was under way in a backup: what came of it after that is not known here, so nothing of it is ordered again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restored: bool,
    /// Whoever asked has given it up: a node that does not know of it is not told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub withdrawn: bool,
    /// Where it stands.
    pub state: JobState,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Once it has ended: nodes that ended well, and nodes that did not. A list need not read every node for it.
    #[serde(default)]
    pub tally: Option<(usize, usize)>,
}

/// Where one node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeRun {
    /// Its turn has not come.
    Waiting,
    /// It was given the order, or may have been before a restart.
    Active {
        /// After this moment, without a session, it is given up.
        give_up_at: Duration,
        /// The order left, or may have before a restart; otherwise it waits for the agent to come back.
        ordered: bool,
    },
    /// Its end is being stored.
    Recording,
    /// It ended.
    Ended(Outcome),
}

/// Something to show, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A node began.
    Started {
        /// Which.
        node: NodeName,
        /// Its first process.
        pid: u32,
    },
    /// Output that came with the report.
    Inline {
        /// Of which node.
        node: NodeName,
        /// Which output.
        stream: OutputStream,
        /// The whole of it.
        data: Bytes,
    },
    /// Output that lies in a file.
    Spooled {
        /// Of which node.
        node: NodeName,
        /// Which output.
        stream: OutputStream,
        /// From here.
        offset: u64,
        /// To here.
        end: u64,
    },
    /// A node ended.
    Ended {
        /// Which.
        node: NodeName,
        /// How.
        outcome: Outcome,
    },
}

/// A job under way.
#[derive(Debug, Clone)]
pub struct Run {
    /// What is stored.
    pub record: JobRecord,
    nodes: BTreeMap<NodeName, NodeRun>,
    counts: Counts,
    history: Vec<Happening>,
}

/// How many nodes stand where. Kept with every step, because each of thousands of reports asks for it.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    waiting: usize,
    busy: usize,
    well: usize,
    otherwise: usize,
    /// Of `otherwise`: those that count against the limit of failures.
    failures: usize,
}

impl Counts {
    /// The counter of a state, and whether it is a failure.
    fn of(&mut self, run: &NodeRun) -> (&mut usize, Option<&mut usize>) {
        match run {
            NodeRun::Waiting => (&mut self.waiting, None),
            NodeRun::Active { .. } | NodeRun::Recording => (&mut self.busy, None),
            NodeRun::Ended(outcome) if outcome.ending.is_success() => (&mut self.well, None),
            NodeRun::Ended(outcome) => {
                let failures = counts_as_failure(&outcome.ending).then_some(&mut self.failures);
                (&mut self.otherwise, failures)
            }
        }
    }

    fn enter(&mut self, run: &NodeRun) {
        let (count, failures) = self.of(run);
        *count += 1;
        failures.into_iter().for_each(|failures| *failures += 1);
    }

    fn leave(&mut self, run: &NodeRun) {
        let (count, failures) = self.of(run);
        *count -= 1;
        failures.into_iter().for_each(|failures| *failures -= 1);
    }
}

impl Run {
    /// A job whose nodes all wait.
    #[must_use]
    pub fn new(record: JobRecord) -> Self {
        let nodes: BTreeMap<_, _> = record.nodes.iter().map(|name| (name.clone(), NodeRun::Waiting)).collect();
        let counts = Counts { waiting: nodes.len(), ..Counts::default() };
        Self { record, nodes, counts, history: Vec::new() }
    }

    /// The one way from one state to another. A node that is not in this job stays out.
    fn set(&mut self, name: &NodeName, to: NodeRun) {
        if let Some(run) = self.nodes.get_mut(name) {
            self.counts.leave(run);
            self.counts.enter(&to);
            *run = to;
        }
    }

    /// Where a node stands; `None` if the job is not for it.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<&NodeRun> {
        self.nodes.get(name)
    }

    /// Nodes that were given the order and have not ended.
    #[must_use]
    pub fn active(&self) -> Vec<NodeName> {
        self.names(|run| matches!(run, NodeRun::Active { .. }))
    }

    /// Takes the nodes whose turn it is; each is active from now on.
    pub fn take_turn(&mut self, give_up_at: Duration) -> Vec<NodeName> {
        if self.counts.waiting == 0 || self.record.stop_requested || self.has_failed_too_often() {
            return Vec::new();
        }
        let free = match self.record.batch {
            0 => usize::MAX,
            batch => (batch as usize).saturating_sub(self.counts.busy),
        };
        let waiting = self.nodes.iter().filter(|(_, run)| **run == NodeRun::Waiting);
        let turn: Vec<_> = waiting.map(|(name, _)| name.clone()).take(free).collect();
        for name in &turn {
            self.set(name, NodeRun::Active { give_up_at, ordered: true });
        }
        turn
    }

    /// Nodes whose turn has not come.
    #[must_use]
    pub fn waiting(&self) -> Vec<NodeName> {
        self.names(|run| *run == NodeRun::Waiting)
    }

    /// Nodes that wait although no further one may begin: they are to be recorded as skipped.
    #[must_use]
    pub fn left_over(&self) -> Vec<NodeName> {
        if self.counts.waiting > 0 && (self.record.stop_requested || self.has_failed_too_often()) {
            return self.names(|run| *run == NodeRun::Waiting);
        }
        Vec::new()
    }

    /// A node's order could not leave; it may until `give_up_at`.
    pub fn await_agent(&mut self, name: &NodeName, give_up_at: Duration) {
        if let Some(run @ NodeRun::Active { .. }) = self.nodes.get_mut(name) {
            *run = NodeRun::Active { give_up_at, ordered: false };
        }
    }

    /// The order of a node that was waited for has left.
    pub fn ordered(&mut self, name: &NodeName, until: Duration) {
        if let Some(NodeRun::Active { give_up_at, ordered: ordered @ false }) = self.nodes.get_mut(name) {
            (*give_up_at, *ordered) = (until, true);
        }
    }

    /// Nodes that should have been heard of by `now`, and how each ended for all that is known.
    #[must_use]
    pub fn overdue(&self, now: Duration) -> Vec<(NodeName, Ending)> {
        let overdue = self.nodes.iter().filter_map(|(name, run)| match run {
            NodeRun::Active { give_up_at, ordered } if *give_up_at <= now => Some((name.clone(), given_up(*ordered))),
            _ => None,
        });
        overdue.collect()
    }

    /// When the next node is overdue.
    #[must_use]
    pub fn next_overdue(&self) -> Option<Duration> {
        let moments = self.nodes.values().filter_map(|run| match run {
            NodeRun::Active { give_up_at, .. } => Some(*give_up_at),
            NodeRun::Waiting | NodeRun::Recording | NodeRun::Ended(_) => None,
        });
        moments.min()
    }

    /// Marks a node as begun earlier, after a restart.
    pub fn resume(&mut self, name: &NodeName, give_up_at: Duration) {
        if let Some(NodeRun::Waiting) = self.nodes.get(name) {
            self.set(name, NodeRun::Active { give_up_at, ordered: true });
        }
    }

    /// Takes on the recording of a node's end; `false` if it has ended, is being recorded, or is not in this job.
    pub fn begin_recording(&mut self, name: &NodeName) -> bool {
        match self.nodes.get(name) {
            Some(NodeRun::Waiting | NodeRun::Active { .. }) => {
                self.set(name, NodeRun::Recording);
                true
            }
            Some(NodeRun::Recording | NodeRun::Ended(_)) | None => false,
        }
    }

    /// The recording failed: the node is active again, and will report again.
    pub fn abandon_recording(&mut self, name: &NodeName, give_up_at: Duration) {
        self.set(name, NodeRun::Active { give_up_at, ordered: true });
    }

    /// A node's end is stored.
    pub fn recorded(&mut self, name: &NodeName, outcome: Outcome) {
        self.history.push(Happening::Ended { node: name.clone(), outcome: outcome.clone() });
        self.set(name, NodeRun::Ended(outcome));
    }

    /// Adds something to show.
    pub fn happened(&mut self, happening: Happening) {
        self.history.push(happening);
    }

    /// What happened from this point on.
    #[must_use]
    pub fn since(&self, index: usize) -> &[Happening] {
        self.history.get(index..).unwrap_or_default()
    }

    /// The final state, once every node has ended.
    #[must_use]
    pub fn verdict(&self) -> Option<JobState> {
        if self.counts.waiting > 0 || self.counts.busy > 0 {
            return None;
        }
        Some(if self.counts.otherwise == 0 {
            JobState::Succeeded
        } else if self.record.stop_requested {
            JobState::Stopped
        } else {
            JobState::Failed
        })
    }

    /// Nodes that ended well, and nodes that did not.
    #[must_use]
    pub const fn tally(&self) -> (usize, usize) {
        (self.counts.well, self.counts.otherwise)
    }

    fn has_failed_too_often(&self) -> bool {
        self.record.max_failures.is_some_and(|most| self.counts.failures > most as usize)
    }

    fn names(&self, wanted: impl Fn(&NodeRun) -> bool) -> Vec<NodeName> {
        self.nodes.iter().filter(|(_, run)| wanted(run)).map(|(name, _)| name.clone()).collect()
    }
}

/// Skipped nodes are a consequence of failures, not failures.
const fn counts_as_failure(ending: &Ending) -> bool {
    !ending.is_success() && !matches!(ending, Ending::Skipped)
}

/// How a node ended that nobody hears of.
fn given_up(ordered: bool) -> Ending {
    if ordered {
        return Ending::Unknown { message: "the node did not report in time; it may still be at work".to_owned() };
    }
    Ending::Unreachable
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use windlass_types::action::Argv;

    const LATER: Duration = Duration::from_secs(1);

    fn run(nodes: usize, batch: u32, max_failures: Option<u32>) -> Run {
        Run::new(JobRecord {
            id: JobId::new("1").expect("an id"),
            request_id: "r".into(),
            action: Action::Exec(Argv::new(vec!["true".into()]).expect("a program")),
            nodes: (0..nodes).map(|n| NodeName::new(format!("n{n}")).expect("a name")).collect(),
            batch,
            max_failures,
            timeout: Duration::from_secs(1),
            created_by: "root".into(),
            created_at: UnixMillis(0),
            stop_requested: false,
            restored: false,
            withdrawn: false,
            state: JobState::Running,
            ended_at: None,
            tally: None,
        })
    }

    fn end(run: &mut Run, name: &NodeName, code: i32) {
        assert!(run.begin_recording(name));
        run.recorded(name, Outcome::bare(Ending::Exited { code }));
    }

    #[test]
    fn without_a_batch_all_begin_at_once() {
        let mut run = run(5, 0, None);
        assert_eq!(run.take_turn(LATER).len(), 5);
        assert!(run.take_turn(LATER).is_empty(), "nobody begins twice");
    }

    #[test]
    fn a_batch_slides() {
        let mut run = run(5, 2, None);
        let first = run.take_turn(LATER);
        assert_eq!(first.len(), 2);
        end(&mut run, &first[0], 0);
        assert_eq!(run.take_turn(LATER).len(), 1);
    }

    #[test]
    fn too_many_failures_skip_the_rest() {
        let mut run = run(4, 1, Some(0));
        let first = run.take_turn(LATER);
        end(&mut run, &first[0], 1);
        assert!(run.take_turn(LATER).is_empty());
        assert_eq!(run.left_over().len(), 3);
        for name in run.left_over() {
            assert!(run.begin_recording(&name));
            run.recorded(&name, Outcome::bare(Ending::Skipped));
        }
        assert_eq!(run.verdict(), Some(JobState::Failed));
        assert_eq!(run.tally(), (0, 4));
    }

    #[test]
    fn an_end_is_recorded_once() {
        let mut run = run(1, 0, None);
        let name = run.take_turn(LATER).remove(0);
        assert!(run.begin_recording(&name));
        assert!(!run.begin_recording(&name), "the same report again, while it is being stored");
        run.recorded(&name, Outcome::bare(Ending::Exited { code: 0 }));
        assert!(!run.begin_recording(&name), "and afterwards");
        assert!(!run.begin_recording(&NodeName::new("other").expect("a name")), "and from a node that was not asked");
        assert_eq!(run.verdict(), Some(JobState::Succeeded));
    }

    proptest! {
        #[test]
        fn never_more_than_the_batch_at_once_and_always_an_end(
            nodes in 0_usize..20,
            batch in 0_u32..5,
            max_failures in proptest::option::of(0_u32..4),
            codes in proptest::collection::vec(0_i32..2, 20),
            stop_after in proptest::option::of(0_usize..20),
        ) {
            let mut run = run(nodes, batch, max_failures);
            let mut begun = 0;
            let mut failures_when_begun = Vec::new();
            for step in 0..100 {
                if stop_after == Some(step) {
                    run.record.stop_requested = true;
                }
                let turn = run.take_turn(LATER);
                begun += turn.len();
                if !turn.is_empty() {
                    failures_when_begun.push(run.tally().1);
                }
                prop_assert!(batch == 0 || run.active().len() <= batch as usize);
                if let Some(name) = run.active().first().cloned() {
                    end(&mut run, &name, codes[step % codes.len()]);
                }
                for name in run.left_over() {
                    prop_assert!(run.begin_recording(&name));
                    run.recorded(&name, Outcome::bare(Ending::Skipped));
                }
            }
            prop_assert!(begun <= nodes);
            prop_assert!(run.verdict().is_some());
            if let Some(most) = max_failures {
                prop_assert!(failures_when_begun.iter().all(|failed| *failed <= most as usize));
            }
        }
    }
}
