// SPDX-License-Identifier: Apache-2.0
//! What happens in one simulation, as plain data made from a seed: printed when an invariant breaks. [`maker`] makes its
//! parts.

mod maker;

use std::time::Duration;

use fastrand::Rng;

pub(crate) use self::maker::Maker;
use crate::copies::CopyWish;
use crate::runs::RunStep;
use crate::runs::schedule::RunSchedule;

/// Everything that goes wrong does so before this moment; then all is healed.
const HEAL_AT: Duration = Duration::from_secs(110);

/// Later where a node stays away until the controller gives it up.
const HEAL_LATE_AT: Duration = Duration::from_secs(200);

/// In one of this many seeds a node stays away that long.
const GIVEN_UP_ONE_IN: u64 = 20;

/// One in this many seeds restores a backup and meets the older controller again.
const RESTORE_ONE_IN: u64 = 5;

/// One in this many seeds has a larger fleet.
const LARGE_ONE_IN: u64 = 25;

/// In one of this many seeds certificates are short-lived, and renewed a few times.
const RENEWS_ONE_IN: u64 = 3;
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// One simulation.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    /// From which everything is made.
    pub(crate) seed: u64,
    /// Machines.
    pub(crate) nodes: usize,
    /// What happens when.
    pub(crate) steps: Vec<(Duration, Step)>,
    /// When all is healed.
    pub(crate) heal_at: Duration,
    /// How long certificates of nodes are valid, if not as usual.
    pub(crate) certificate_life: Option<Duration>,
    /// What belongs to runs alone, if there are any.
    pub(crate) runs: Option<RunSchedule>,
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// An operator makes a token for a machine, which joins.
    Enrol(usize),
    /// An operator starts a job.
    Job(JobWish),
    /// An operator stops a job.
    Stop { job: usize },
    /// An operator revokes a node.
    Revoke(usize),
    /// The agent is killed; what it started goes on.
    CrashAgent(usize),
    /// The machine loses power.
    PowerCut(usize),
    /// The agent starts.
    StartAgent(usize),
    /// The controller is killed.
    CrashController,
    /// The controller starts.
    StartController,
    /// Nothing gets through.
    Partition(usize),
    /// The node hears nothing.
    Deafen(usize),
    /// The node is not heard.
    Mute(usize),
    /// Everything is held back, to be delivered late.
    Hold(usize),
    /// The link is well again; what was held back is delivered.
    Mend(usize),
    /// The operator's own connection is lost.
    LoseOperator,
    /// It is back.
    MendOperator,
    /// The node's clock is wrong by so many hours.
    Clock { node: usize, hours: i64 },
    /// The controller's clock is wrong by so many seconds, as far as certificates allow for it.
    ControllerClock { seconds: i64 },
    /// An operator copies a file to a node and back.
    Copy(CopyWish),
    /// An order the node was given before comes again.
    Replay { node: usize, back: usize },
    /// Somebody who follows the events goes away.
    WatcherLeaves,
    /// And comes back.
    WatcherReturns,
    /// A backup is taken.
    Backup,
    /// The controller was replaced by what the backup has.
    Restore,
    /// The controller as it was before the restore is started once more.
    StartOldController,
    /// And ended again.
    StartRestoredController,
    /// Something about runs.
    Run(RunStep),
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JobWish {
    /// Its number in this simulation.
    pub(crate) number: usize,
    /// On these, as far as they have joined.
    pub(crate) nodes: Vec<usize>,
    /// At once; 0 for all.
    pub(crate) batch: u32,
    /// Failures after which no further node begins.
    pub(crate) max_failures: Option<u32>,
    /// What it may take.
    pub(crate) timeout: Duration,
    /// What it takes.
    pub(crate) takes: Duration,
    /// Bytes it prints.
    pub(crate) prints: usize,
    /// Of a hundred nodes, on how many it fails.
    pub(crate) fails_percent: u8,
}

impl Schedule {
    /// The simulation of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let nodes = if seed.is_multiple_of(LARGE_ONE_IN) { 30 } else { rng.usize(6..=14) };
        let restores = seed.is_multiple_of(RESTORE_ONE_IN);
        let mut maker = Maker::new(rng, restores, nodes);
        maker.enrolments();
        maker.jobs();
        for _ in 0..maker.rng.usize(4..=12) {
            maker.fault();
        }
        if maker.rng.u8(0..4) == 0 {
            maker.swizzle();
        }
        if restores {
            maker.restore();
        }
        let is_given_up = seed % GIVEN_UP_ONE_IN == 7;
        if !restores {
            maker.copies();
        }
        if is_given_up {
            maker.stays_away();
        }
        let mut steps = maker.steps;
        steps.sort_by_key(|(at, _)| *at);
        // A restored controller does not know certificates that were renewed since its backup.
        let renews = !restores && seed % RENEWS_ONE_IN == 1;
        let certificate_life = renews.then_some(SHORT_LIFE);
        let heal_at = if is_given_up { HEAL_LATE_AT } else { HEAL_AT };
        Self { seed, nodes, steps, heal_at, certificate_life, runs: None }
    }
}
