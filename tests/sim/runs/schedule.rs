// SPDX-License-Identifier: Apache-2.0
//! What happens in one simulation of runs, made from a seed.

use std::time::Duration;

use fastrand::Rng;

use super::reaction::{Fault, Moment, Reaction};
use super::{Rules, RunStep, RunWish, SpecWish, Tell, What};
use crate::schedule::{Maker, Schedule, Step};

/// Everything that goes wrong does so before this moment; then all is healed.
const HEAL_AT: Duration = Duration::from_secs(120);

/// Later in one of this many seeds, in which a node does not come back until the controller gives it up.
const HEAL_LATE_AT: Duration = Duration::from_secs(1_680);
const GIVEN_UP_ONE_IN: u64 = 50;

/// One in this many seeds restores a backup and meets the older controller again.
const RESTORE_ONE_IN: u64 = 6;

/// The number of the wish that comes first where there is a spec before everything else, and what that says.
const FIRST_SPEC: usize = 100;
const FIRST_VALUE: u32 = 100;

/// Sets these seeds apart from those without runs.
const OTHER: u64 = 1 << 40;

impl Schedule {
    /// The simulation of runs of a seed.
    pub(crate) fn of_runs(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed + OTHER);
        let nodes = rng.usize(3..=6);
        let restores = seed % RESTORE_ONE_IN == 4;
        let is_given_up = seed % GIVEN_UP_ONE_IN == 11;
        let (kernels_become_default, settles_by_spec) = (rng.bool(), rng.u8(0..4) > 0);
        let mut maker = Maker::new(rng, restores, nodes);
        for node in 0..nodes {
            let at = maker.at(0..3_000);
            maker.add(at, Step::Enrol(node));
        }
        if maker.rng.u8(0..3) == 0 {
            maker.spec_with_hooks();
        }
        let runs = maker.rng.usize(2..=5);
        for number in 0..runs {
            maker.run(number);
        }
        maker.troubles();
        let mut reactions: Vec<_> = (0..maker.rng.usize(1..=6)).map(|_| maker.reaction()).collect();
        reactions.extend((0..maker.rng.usize(0..=2)).map(|_| maker.late_word()).collect::<Vec<_>>());
        if restores {
            maker.restore();
            maker.dies_once_confirmed();
        }
        if is_given_up {
            maker.add(Duration::from_secs(5), Step::Run(RunStep::HangsAtBoot(0)));
            let wish = RunWish { what: What::Reboot, nodes: vec![0], ..maker.wish(runs) };
            maker.add(Duration::from_secs(7), Step::Run(RunStep::Begin(wish)));
        }
        let mut steps = maker.steps;
        steps.sort_by_key(|(at, _)| *at);
        Self {
            seed,
            nodes,
            steps,
            heal_at: if is_given_up { HEAL_LATE_AT } else { HEAL_AT },
            certificate_life: None,
            runs: Some(RunSchedule { reactions, kernels_become_default, settles_by_spec }),
        }
    }
}

/// What belongs to runs alone.
#[derive(Debug, Clone)]
pub(crate) struct RunSchedule {
    /// What goes wrong when something else happens.
    pub(crate) reactions: Vec<Reaction>,
    /// The distribution's scripts make a new kernel the default.
    pub(crate) kernels_become_default: bool,
    /// In the end nodes become as one spec says, and not by one command after the other.
    pub(crate) settles_by_spec: bool,
}

impl Maker {
    fn wish(&mut self, number: usize) -> RunWish {
        let mut nodes: Vec<_> = (0..self.nodes).collect();
        if self.rng.u8(0..3) == 0 {
            self.rng.shuffle(&mut nodes);
            nodes.truncate(self.rng.usize(1..=self.nodes));
        }
        RunWish {
            number,
            desk: self.rng.usize(0..2),
            what: match self.rng.u8(0..13) {
                0..=2 => What::Reboot,
                3 => What::RebootIfNeeded,
                4 | 5 => What::Packages,
                6 | 7 => What::PackagesAndReboot,
                8 | 9 => What::Kernel,
                10 => What::Undo,
                _ => self.spec(number),
            },
            nodes,
            rules: Rules {
                max_unavailable: if self.rng.bool() { 1 } else { self.rng.u32(1..=3) },
                on_failure: ["", "pause", "continue:1", "continue:5"][self.rng.usize(0..4)],
                unreachable: ["", "wait", "skip", "fail"][self.rng.usize(0..4)],
            },
        }
    }

    fn spec(&mut self, number: usize) -> What {
        let value = u32::try_from(number).expect("few");
        What::Spec(SpecWish { value, has_hooks: self.rng.bool(), is_whole: self.rng.u8(0..3) == 0 })
    }

    /// A spec before everything else, so that what follows is done between hooks.
    fn spec_with_hooks(&mut self) {
        let at = self.at(4_500..6_000);
        let what = What::Spec(SpecWish { value: FIRST_VALUE, has_hooks: true, is_whole: false });
        let wish = RunWish { what, ..self.wish(FIRST_SPEC) };
        self.add(at, Step::Run(RunStep::Begin(wish)));
    }

    /// A run, perhaps one that somebody else wants at the same time, and what it is told.
    fn run(&mut self, number: usize) {
        let at = self.at(6_000..75_000);
        let wish = self.wish(2 * number);
        self.add(at, Step::Run(RunStep::Begin(wish.clone())));
        if self.rng.u8(0..3) == 0 {
            let other = RunWish { desk: 1 - wish.desk, ..self.wish(2 * number + 1) };
            let after = self.at(0..2_000);
            self.add(at + after, Step::Run(RunStep::Begin(other)));
        } else if matches!(wish.what, What::Packages | What::PackagesAndReboot) && self.rng.bool() {
            let other = RunWish { what: What::Undo, ..self.wish(2 * number + 1) };
            let after = self.at(10_000..40_000);
            self.add(at + after, Step::Run(RunStep::Begin(other)));
        }
        for _ in 0..self.rng.usize(0..=2) {
            let at = at + self.at(500..40_000);
            let (run, desk) = (2 * number, self.rng.usize(0..2));
            let tell = |what| Step::Run(RunStep::Tell { run, what, desk });
            match self.rng.u8(0..4) {
                0 | 1 => {
                    let until = at + self.at(200..20_000);
                    self.pair(at, tell(Tell::Pause), until, tell(Tell::Resume));
                }
                2 => {
                    let until = at + self.at(200..20_000);
                    self.pair(at, tell(Tell::Stop), until, tell(Tell::Retry));
                }
                _ => self.add(at, tell(Tell::Retry)),
            }
        }
    }

    /// What goes wrong at its own time, and what people do to nodes.
    fn troubles(&mut self) {
        for _ in 0..self.rng.usize(2..=7) {
            let at = self.at(4_000..105_000);
            let until = at + self.at(100..30_000);
            let node = self.node();
            match self.rng.u8(0..20) {
                0 | 1 => self.pair(at, Step::CrashAgent(node), until, Step::StartAgent(node)),
                2 => self.pair(at, Step::PowerCut(node), until, Step::StartAgent(node)),
                3..=5 => self.pair(at, Step::CrashController, at + (until - at) / 3, Step::StartController),
                6 => self.pair(at, Step::Partition(node), until, Step::Mend(node)),
                7 => self.pair(at, Step::Deafen(node), until, Step::Mend(node)),
                8 => self.pair(at, Step::Mute(node), until, Step::Mend(node)),
                9 => self.pair(at, Step::Hold(node), until, Step::Mend(node)),
                10 => self.pair(at, Step::LoseOperator, until, Step::MendOperator),
                11 => self.flaps(node, at),
                12 => {
                    let (take, back) = (RunStep::Quarantine(node), RunStep::Release(node));
                    self.pair(at, Step::Run(take), until, Step::Run(back));
                }
                13 => self.add(at, Step::Run(RunStep::Release(node))),
                14 | 15 => {
                    let version = self.rng.u32(3..=4);
                    self.add(at, Step::Run(RunStep::NewPackages(version)));
                }
                16 => self.add(at, Step::Run(RunStep::HangsAtBoot(node))),
                17 => self.add(at, Step::Run(RunStep::FailsInTransaction(node))),
                18 => self.add(at, Step::Run(RunStep::BreakKernel(node))),
                _ => {
                    let job = self.job(usize::try_from(at.as_millis()).expect("short"));
                    self.add(at, Step::Job(job));
                }
            }
        }
    }

    fn reaction(&mut self) -> Reaction {
        Reaction {
            to: [Moment::Acts, Moment::Acts, Moment::GoesDown, Moment::ComesUp][self.rng.usize(0..4)],
            nth: self.rng.usize(1..=20),
            after: self.at(0..4_000),
            fault: [
                Fault::CrashAgent,
                Fault::PowerCut,
                Fault::CrashController,
                Fault::CrashController,
                Fault::Partition,
                Fault::Deafen,
                Fault::Mute,
                Fault::Hold,
                Fault::Replay,
            ][self.rng.usize(0..9)],
            lasts: self.at(50..25_000),
        }
    }

    /// Somebody tells a run something when it has just ended.
    fn late_word(&mut self) -> Reaction {
        Reaction {
            to: Moment::Ends,
            nth: self.rng.usize(1..=3),
            after: self.at(0..300),
            fault: Fault::Tells([Tell::Stop, Tell::Pause, Tell::Retry][self.rng.usize(0..3)]),
            lasts: Duration::ZERO,
        }
    }

    /// The restored controller is killed just when somebody has confirmed it.
    fn dies_once_confirmed(&mut self) {
        let restored = self.steps.iter().find(|(_, step)| *step == Step::Restore);
        let Some(at) = restored.map(|(at, _)| *at) else { return };
        if self.rng.bool() {
            let at = at + self.at(1_900..2_600);
            self.pair(at, Step::CrashController, at + Duration::from_millis(700), Step::StartController);
        }
    }
}
