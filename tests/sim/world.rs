// SPDX-License-Identifier: Apache-2.0
//! One simulation from its seed to its verdict.
//!
//! [`perform`] makes the steps of the schedule happen, [`runs`] what belongs to runs.

mod perform;
mod runs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::sync::{mpsc, watch};
use turmoil::Sim;
use windlass_controller::store::memory::MemoryStore;

use crate::bastion::{BASTION, Bastion};
use crate::check::Checker;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::operator::{Operator, Wish, follow_events};
use crate::runs::book::Dealings;
use crate::runs::check::RunChecker;
use crate::runs::model;
use crate::runs::power::Power;
use crate::runs::reaction::Reactions;
use crate::schedule::{Schedule, Step};
use crate::trace;

/// The operators' machine.
const DESK: &str = "desk";
/// The machine of other operators, where there are runs.
const OTHER_DESK: &str = "other-desk";
/// The machine of whoever follows the events.
const SCREEN: &str = "screen";

/// How finely time passes. Every hop of a message costs at least this.
const TICK: Duration = Duration::from_millis(25);

const MOST_LATENCY: Duration = Duration::from_millis(80);

/// How long after the healing all must be well: an agent whose clock was wrong waits up to five minutes.
const WELL_WITHIN: Duration = Duration::from_secs(400);

/// Longer where there are runs: what was begun is brought to its end, and then all is done that is left.
const SETTLED_WITHIN: Duration = Duration::from_secs(1500);

/// How long after the healing, or after it went, every node must be back, if no clock was wrong.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How long a restored controller runs before somebody confirms it.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct World<'a> {
    sim: Sim<'a>,
    nodes: Vec<Arc<Node>>,
    bastion: Arc<Bastion>,
    ledger: Arc<Ledger>,
    checker: Checker,
    power: Power,
    reactions: Reactions,
    run_checker: RunChecker,
    dealings: Arc<Dealings>,
    wishes: mpsc::UnboundedSender<Wish>,
    /// Wishes of the other operators.
    other_wishes: Option<mpsc::UnboundedSender<Wish>>,
    watching: watch::Sender<bool>,
    /// Nodes with something wrong.
    faulty: BTreeSet<usize>,
    backup: Option<Arc<MemoryStore>>,
    original: Option<Arc<MemoryStore>>,
    restored: Option<Arc<MemoryStore>>,
    confirm_at: Option<Duration>,
    clock_was_wrong: bool,
    settles_by_spec: bool,
}

/// A directory in memory where there is one: the simulation kills processes, not the kernel, and need not wait for disks.
fn disk() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// Runs the simulation; what went wrong.
pub(crate) fn run(schedule: &Schedule) -> Result<(), String> {
    let directory = disk().map_err(|error| error.to_string())?;
    let mut world = World::new(schedule, directory.path());
    for (at, step) in &schedule.steps {
        world.run_until(*at)?;
        trace::line(|| format!("at {at:?}: {step:?}"));
        world.perform(step);
    }
    world.run_until(schedule.heal_at)?;
    world.heal();
    world.run_until_well()
}

impl World<'_> {
    fn new(schedule: &Schedule, directory: &Path) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(schedule.seed)
            .epoch(UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(3600))
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(MOST_LATENCY)
            .tcp_capacity(4096)
            .enable_random_order()
            .build();
        let slow_disk = schedule.runs.as_ref().map(|_| schedule.seed);
        let bastion = Bastion::new(directory.join(BASTION), schedule.certificate_life, slow_disk);
        let nodes: Vec<_> = (0..schedule.nodes).map(|index| Node::new(index, schedule.seed, directory)).collect();
        let ledger = Ledger::new(bastion.disk());
        if let Some(runs) = &schedule.runs {
            nodes.iter().for_each(|node| model::prepare(&node.machine.host, runs.kernels_become_default));
        }
        let dealings = Dealings::new();
        let (wishes, granted) = mpsc::unbounded_channel();
        let (watching, present) = watch::channel(true);
        let software = Arc::clone(&bastion);
        sim.host(BASTION, move || Arc::clone(&software).live());
        for node in &nodes {
            let software = Arc::clone(node);
            sim.host(node.name.as_str(), move || Arc::clone(&software).live());
        }
        let operator =
            || Operator { nodes: nodes.clone(), ledger: Arc::clone(&ledger), dealings: Arc::clone(&dealings) };
        sim.client(DESK, operator().live(granted));
        let other_wishes = schedule.runs.is_some().then(|| {
            let (wishes, granted) = mpsc::unbounded_channel();
            sim.client(OTHER_DESK, operator().live(granted));
            wishes
        });
        sim.client(SCREEN, follow_events(Arc::clone(&ledger), present));
        Self {
            checker: Checker::new(nodes.clone(), Arc::clone(&ledger), schedule.certificate_life.is_some()),
            power: Power::new(nodes.clone(), schedule.seed),
            reactions: Reactions::new(schedule.runs.iter().flat_map(|runs| runs.reactions.clone()).collect()),
            run_checker: RunChecker::new(nodes.clone(), Arc::clone(&ledger), Arc::clone(&dealings)),
            dealings,
            other_wishes,
            sim,
            nodes,
            bastion,
            ledger,
            wishes,
            watching,
            faulty: BTreeSet::new(),
            backup: None,
            original: None,
            restored: None,
            confirm_at: None,
            clock_was_wrong: false,
            settles_by_spec: schedule.runs.as_ref().is_some_and(|runs| runs.settles_by_spec),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        trace::time(self.sim.elapsed());
        if self.confirm_at.is_some_and(|at| at <= self.sim.elapsed()) {
            self.confirm_at = None;
            self.wish(Wish::Confirm);
        }
        let happened = self.machines();
        self.checker.after_step(self.sim.elapsed())?;
        self.after_step_of_runs(&happened)
    }

    fn run_until(&mut self, at: Duration) -> Result<(), String> {
        while self.sim.elapsed() < at {
            self.step()?;
        }
        Ok(())
    }

    fn wish(&self, wish: Wish) {
        self.wishes.send(wish).expect("the operator never leaves");
    }

    fn heal(&mut self) {
        trace::line(|| "healing".to_owned());
        self.bastion.clock.jump(0);
        self.start_controller();
        self.sim.repair(DESK, BASTION);
        self.watching.send_replace(true);
        if self.restored.is_some() {
            // The first time, the other controller may have heard it; the second time, it is refused as not needed.
            self.wish(Wish::Confirm);
        }
        self.heal_runs();
        for node in 0..self.nodes.len() {
            self.nodes[node].clock.jump(0);
            self.link(&Step::Mend(node));
            self.start(node);
        }
    }

    fn run_until_well(&mut self) -> Result<(), String> {
        let healed = self.sim.elapsed();
        let mut gone_since = BTreeMap::new();
        loop {
            let before = self.sim.elapsed();
            self.run_until(before + Duration::from_secs(1))?;
            let since = self.sim.elapsed() - healed;
            let missing = self.checker.missing(self.bastion.controller().as_deref());
            // Whoever renews its certificate is gone for a moment.
            gone_since.retain(|name, _| missing.contains(name));
            for name in &missing {
                gone_since.entry(name.clone()).or_insert(before);
            }
            let mut late = self.late(&missing);
            late.retain(|name| self.sim.elapsed() - gone_since[name] >= BACK_WITHIN);
            if !self.clock_was_wrong && !late.is_empty() {
                return Err(format!("(4) not back {since:?} after all was healed: {late:?}"));
            }
            let mut unfinished = self.checker.unfinished(self.bastion.controller().as_deref());
            unfinished.extend(self.unsettled());
            if missing.is_empty() && unfinished.is_empty() {
                self.checker.at_the_end(self.restored.is_some())?;
                return self.runs_at_the_end();
            }
            if since >= if self.has_runs() { SETTLED_WITHIN } else { WELL_WITHIN } {
                self.checker.tell_outcomes();
                self.tell_runs();
                return Err(format!("(2, 4) {since:?} after all was healed: {missing:?} not back, {unfinished:?}"));
            }
        }
    }
}
