// SPDX-License-Identifier: Apache-2.0
//! What happens in one simulation, as plain data made from a seed: printed when an invariant breaks.

use std::time::Duration;

use fastrand::Rng;

use crate::copies::CopyWish;

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

/// Certificates begin five minutes before they are made, so a clock may be off by less than that.
const MOST_CLOCK_SECONDS: i64 = 240;

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
        let mut maker = Maker { rng, restores, nodes, steps: Vec::new() };
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
        Self { seed, nodes, steps, heal_at: if is_given_up { HEAL_LATE_AT } else { HEAL_AT }, certificate_life }
    }
}

struct Maker {
    rng: Rng,
    restores: bool,
    nodes: usize,
    steps: Vec<(Duration, Step)>,
}

impl Maker {
    fn at(&mut self, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(millis))
    }

    fn node(&mut self) -> usize {
        self.rng.usize(0..self.nodes)
    }

    fn add(&mut self, at: Duration, step: Step) {
        self.steps.push((at, step));
    }

    /// Most join at the beginning, some in the middle of everything.
    fn enrolments(&mut self) {
        for node in 0..self.nodes {
            let at = if self.rng.u8(0..5) == 0 { self.at(0..60_000) } else { self.at(0..4_000) };
            self.add(at, Step::Enrol(node));
        }
    }

    fn jobs(&mut self) {
        for number in 0..self.rng.usize(4..=10) {
            let at = self.at(5_000..100_000);
            let job = self.job(number);
            self.add(at, Step::Job(job.clone()));
            if self.rng.u8(0..3) == 0 {
                self.dies_at_work(&job, at);
            }
            if self.rng.u8(0..4) == 0 {
                let after = self.at(0..8_000);
                self.add(at + after, Step::Stop { job: number });
            }
        }
    }

    fn copies(&mut self) {
        for number in 0..self.rng.usize(0..=3) {
            let (at, node) = (self.at(8_000..90_000), self.node());
            let bytes = if self.rng.bool() { self.rng.usize(0..3_000) } else { self.rng.usize(60_000..250_000) };
            self.add(at, Step::Copy(CopyWish { number, node, bytes }));
            if self.rng.bool() {
                let at = at + self.at(100..1_500);
                let back = at + self.at(50..9_000);
                let (dies, lives) = match self.rng.bool() {
                    true => (Step::CrashAgent(node), Step::StartAgent(node)),
                    false => (Step::CrashController, Step::StartController),
                };
                self.pair(at, dies, back, lives);
            }
        }
    }

    /// Whoever takes part in a job dies just when it begins.
    fn dies_at_work(&mut self, job: &JobWish, at: Duration) {
        let at = at + self.at(100..700);
        let back = at + self.at(50..9_000);
        match self.rng.u8(0..4) {
            0 => self.pair(at, Step::CrashController, back, Step::StartController),
            _ => {
                for _ in 0..2 {
                    let node = job.nodes[self.rng.usize(0..job.nodes.len())];
                    self.pair(at, Step::CrashAgent(node), back, Step::StartAgent(node));
                }
            }
        }
    }

    /// A node stays away until it is given up, and reports how it ended when it is back and the job still goes on.
    fn stays_away(&mut self) {
        let (begin, takes) = (Duration::from_secs(12), Duration::from_secs(10));
        let nodes = (0..self.nodes).collect();
        let timeout = Duration::from_secs(12);
        let job =
            JobWish { number: 200, nodes, batch: 1, max_failures: None, timeout, takes, prints: 0, fails_percent: 0 };
        self.add(begin, Step::Job(job));
        self.pair(begin + Duration::from_secs(2), Step::Partition(0), begin + Duration::from_secs(125), Step::Mend(0));
    }

    fn job(&mut self, number: usize) -> JobWish {
        let mut nodes: Vec<_> = (0..self.nodes).collect();
        if self.rng.bool() {
            self.rng.shuffle(&mut nodes);
            nodes.truncate(self.rng.usize(1..=self.nodes));
        }
        let takes = match self.rng.u8(0..4) {
            0 => Duration::ZERO,
            1 => self.at(0..400),
            _ => self.at(400..12_000),
        };
        let timeout = if self.rng.u8(0..6) == 0 {
            takes / 2 + Duration::from_millis(1)
        } else {
            takes * 2 + Duration::from_secs(5)
        };
        JobWish {
            number,
            nodes,
            batch: if self.rng.bool() { 0 } else { self.rng.u32(1..=4) },
            max_failures: if self.rng.bool() { None } else { Some(self.rng.u32(0..=3)) },
            timeout,
            takes,
            prints: if self.rng.u8(0..3) == 0 { self.rng.usize(1..20_000) } else { 0 },
            fails_percent: if self.rng.bool() { 0 } else { self.rng.u8(0..40) },
        }
    }

    fn fault(&mut self) {
        let at = self.at(3_000..95_000);
        let until = at + self.at(50..40_000);
        let node = self.node();
        match self.rng.u8(0..22) {
            0..=2 => self.pair(at, Step::CrashAgent(node), until, Step::StartAgent(node)),
            3 => self.pair(at, Step::PowerCut(node), until, Step::StartAgent(node)),
            4..=6 => self.pair(at, Step::CrashController, at + (until - at) / 4, Step::StartController),
            7 | 8 => self.pair(at, Step::Partition(node), until, Step::Mend(node)),
            9 => self.pair(at, Step::Deafen(node), until, Step::Mend(node)),
            10 => self.pair(at, Step::Mute(node), until, Step::Mend(node)),
            11 | 12 => self.pair(at, Step::Hold(node), until, Step::Mend(node)),
            13 => self.pair(at, Step::LoseOperator, until, Step::MendOperator),
            14 => {
                let hours = if self.rng.bool() { 24 } else { -24 };
                self.pair(at, Step::Clock { node, hours }, until, Step::Clock { node, hours: 0 });
            }
            15 | 16 => {
                for _ in 0..self.rng.usize(1..6) {
                    let (later, back) = (self.at(0..5_000), self.rng.usize(0..4));
                    self.add(at + later, Step::Replay { node, back });
                }
            }
            17 => self.pair(at, Step::WatcherLeaves, until, Step::WatcherReturns),
            20 | 21 => {
                let seconds = self.rng.i64(-MOST_CLOCK_SECONDS..=MOST_CLOCK_SECONDS);
                self.pair(at, Step::ControllerClock { seconds }, until, Step::ControllerClock { seconds: 0 });
            }
            // A restore forgets revocations; the manual says so, and this checks something else.
            18 if !self.restores => self.add(at, Step::Revoke(node)),
            _ => self.flaps(node, at),
        }
    }

    fn pair(&mut self, at: Duration, step: Step, until: Duration, healed: Step) {
        self.add(at, step);
        self.add(until, healed);
    }

    fn flaps(&mut self, node: usize, at: Duration) {
        for flap in 0..4 {
            let from = at + Duration::from_secs(flap * 4);
            let length = self.at(100..3_500);
            self.pair(from, Step::Partition(node), from + length, Step::Mend(node));
        }
    }

    /// All links are clogged one by one and opened in another order.
    fn swizzle(&mut self) {
        let begin = self.at(10_000..60_000);
        let mut nodes: Vec<_> = (0..self.nodes).collect();
        for mend in [false, true] {
            self.rng.shuffle(&mut nodes);
            for (place, node) in nodes.iter().enumerate() {
                let after = u64::try_from(place).expect("few") * 700 + if mend { 15_000 } else { 0 };
                let step = if mend { Step::Mend(*node) } else { Step::Hold(*node) };
                self.add(begin + Duration::from_millis(after), step);
            }
        }
    }

    fn restore(&mut self) {
        let backup = self.at(10_000..40_000);
        let restore = backup + self.at(5_000..20_000);
        let old = restore + self.at(10_000..20_000);
        // Longer than any agent waits before it tries again.
        let end = old + self.at(20_000..28_000);
        let everywhere = |number| JobWish {
            number,
            nodes: (0..30).collect(),
            batch: 0,
            max_failures: None,
            timeout: Duration::from_secs(20),
            takes: Duration::from_millis(300),
            prints: 0,
            fails_percent: 0,
        };
        self.add(backup, Step::Backup);
        self.add(restore, Step::Restore);
        self.add(restore + Duration::from_secs(6), Step::Job(everywhere(100)));
        self.add(old, Step::StartOldController);
        self.add(old + Duration::from_secs(3), Step::Job(everywhere(101)));
        self.add(end, Step::StartRestoredController);
    }
}
