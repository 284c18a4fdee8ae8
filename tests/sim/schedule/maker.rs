// SPDX-License-Identifier: Apache-2.0
//! Makes the parts of a schedule.

use std::time::Duration;

use fastrand::Rng;

use super::{JobWish, Step};
use crate::copies::CopyWish;

/// Certificates begin five minutes before they are made, so a clock may be off by less than that.
const MOST_CLOCK_SECONDS: i64 = 240;

/// Makes the parts of a schedule, by chance.
pub(crate) struct Maker {
    pub(crate) rng: Rng,
    pub(super) restores: bool,
    pub(crate) nodes: usize,
    pub(crate) steps: Vec<(Duration, Step)>,
}

impl Maker {
    pub(crate) const fn new(rng: Rng, restores: bool, nodes: usize) -> Self {
        Self { rng, restores, nodes, steps: Vec::new() }
    }

    pub(crate) fn at(&mut self, millis: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.u64(millis))
    }

    pub(crate) fn node(&mut self) -> usize {
        self.rng.usize(0..self.nodes)
    }

    pub(crate) fn add(&mut self, at: Duration, step: Step) {
        self.steps.push((at, step));
    }

    /// Most join at the beginning, some in the middle of everything.
    pub(super) fn enrolments(&mut self) {
        for node in 0..self.nodes {
            let at = if self.rng.u8(0..5) == 0 { self.at(0..60_000) } else { self.at(0..4_000) };
            self.add(at, Step::Enrol(node));
        }
    }

    pub(super) fn jobs(&mut self) {
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

    pub(super) fn copies(&mut self) {
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
    pub(super) fn stays_away(&mut self) {
        let (begin, takes) = (Duration::from_secs(12), Duration::from_secs(10));
        let nodes = (0..self.nodes).collect();
        let timeout = Duration::from_secs(12);
        let job =
            JobWish { number: 200, nodes, batch: 1, max_failures: None, timeout, takes, prints: 0, fails_percent: 0 };
        self.add(begin, Step::Job(job));
        self.pair(begin + Duration::from_secs(2), Step::Partition(0), begin + Duration::from_secs(125), Step::Mend(0));
    }

    pub(crate) fn job(&mut self, number: usize) -> JobWish {
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

    pub(super) fn fault(&mut self) {
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

    pub(crate) fn pair(&mut self, at: Duration, step: Step, until: Duration, healed: Step) {
        self.add(at, step);
        self.add(until, healed);
    }

    pub(crate) fn flaps(&mut self, node: usize, at: Duration) {
        for flap in 0..4 {
            let from = at + Duration::from_secs(flap * 4);
            let length = self.at(100..3_500);
            self.pair(from, Step::Partition(node), from + length, Step::Mend(node));
        }
    }

    /// All links are clogged one by one and opened in another order.
    pub(super) fn swizzle(&mut self) {
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

    pub(crate) fn restore(&mut self) {
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
