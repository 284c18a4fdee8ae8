// SPDX-License-Identifier: Apache-2.0
//! What goes wrong just when something else happens: nobody can foresee when a node's turn comes, so the schedule says at
//! the how-manieth reboot or change, and not when.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_types::name::RunId;

use super::power::Happened;
use super::{RunStep, Tell};
use crate::schedule::Step;

/// To what something reacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Moment {
    /// A tool that changes something is started.
    Acts,
    /// A machine reboots.
    GoesDown,
    /// A machine is back.
    ComesUp,
    /// That a run has ended is stored.
    Ends,
}

/// What goes wrong, where it happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    CrashAgent,
    PowerCut,
    CrashController,
    Partition,
    Deafen,
    Mute,
    Hold,
    /// Orders that the node had before come again.
    Replay,
    /// Somebody tells the run something.
    Tells(Tell),
}

/// Something that goes wrong when something happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reaction {
    pub(crate) to: Moment,
    /// To the how-manieth, in the whole simulation.
    pub(crate) nth: usize,
    /// So much later.
    pub(crate) after: Duration,
    pub(crate) fault: Fault,
    /// Until it is mended.
    pub(crate) lasts: Duration,
}

/// All reactions of a simulation.
#[derive(Debug, Default)]
pub(crate) struct Reactions {
    waiting: Vec<Reaction>,
    seen: BTreeMap<Moment, usize>,
    later: BTreeMap<(Duration, usize), Step>,
    count: usize,
}

impl Reactions {
    pub(crate) fn new(waiting: Vec<Reaction>) -> Self {
        Self { waiting, ..Self::default() }
    }

    /// All that was to come does not.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.later.clear();
    }

    /// Something happened.
    pub(crate) fn react(&mut self, happened: &Happened, now: Duration) {
        let moment = match happened {
            Happened::Acts { .. } => Moment::Acts,
            Happened::GoesDown { .. } => Moment::GoesDown,
            Happened::ComesUp { .. } => Moment::ComesUp,
            Happened::Did { .. } | Happened::LostPower { .. } => return,
        };
        for Reaction { after, fault, lasts, .. } in self.due_at(moment) {
            let Some((breaks, mends)) = steps(fault, happened.node()) else { continue };
            self.add(now + after, breaks);
            if let Some(mends) = mends {
                self.add(now + after + lasts, mends);
            }
        }
    }

    /// A run ended.
    pub(crate) fn ended(&mut self, run: &RunId, now: Duration) {
        for Reaction { after, fault, .. } in self.due_at(Moment::Ends) {
            if let Fault::Tells(what) = fault {
                self.add(now + after, Step::Run(RunStep::TellLate { run: run.clone(), what }));
            }
        }
    }

    /// Counts one more such moment; what goes wrong at this one.
    fn due_at(&mut self, moment: Moment) -> Vec<Reaction> {
        let seen = self.seen.entry(moment).or_default();
        *seen += 1;
        let nth = *seen;
        let (due, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|one| one.to == moment && one.nth == nth);
        self.waiting = waiting;
        due
    }

    fn add(&mut self, at: Duration, step: Step) {
        self.count += 1;
        self.later.insert((at, self.count), step);
    }

    /// What goes wrong by now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Step> {
        let later = self.later.split_off(&(now + Duration::from_nanos(1), 0));
        std::mem::replace(&mut self.later, later).into_values().collect()
    }
}

/// What a fault does to a node, and what mends it.
fn steps(fault: Fault, node: usize) -> Option<(Step, Option<Step>)> {
    Some(match fault {
        Fault::CrashAgent => (Step::CrashAgent(node), Some(Step::StartAgent(node))),
        Fault::PowerCut => (Step::PowerCut(node), Some(Step::StartAgent(node))),
        Fault::CrashController => (Step::CrashController, Some(Step::StartController)),
        Fault::Partition => (Step::Partition(node), Some(Step::Mend(node))),
        Fault::Deafen => (Step::Deafen(node), Some(Step::Mend(node))),
        Fault::Mute => (Step::Mute(node), Some(Step::Mend(node))),
        Fault::Hold => (Step::Hold(node), Some(Step::Mend(node))),
        Fault::Replay => (Step::Replay { node, back: 0 }, Some(Step::Replay { node, back: 1 })),
        Fault::Tells(_) => return None,
    })
}
