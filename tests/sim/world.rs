// SPDX-License-Identifier: Apache-2.0
//! One simulation from its seed to its verdict.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt as _;
use tokio::sync::{mpsc, watch};
use turmoil::Sim;
use windlass_controller::orders::RESTORED;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Store as _, Transaction};

use crate::bastion::{BASTION, Bastion};
use crate::check::Checker;
use crate::ledger::{Ledger, all};
use crate::node::Node;
use crate::operator::{Operator, Wish, follow_events};
use crate::schedule::{Schedule, Step};
use crate::trace;

/// The operators' machine.
const DESK: &str = "desk";
/// The machine of whoever follows the events.
const SCREEN: &str = "screen";

/// How finely time passes. Every hop of a message costs at least this.
const TICK: Duration = Duration::from_millis(25);

const MOST_LATENCY: Duration = Duration::from_millis(80);

/// How long after the healing all must be well: an agent whose clock was wrong waits up to five minutes.
const WELL_WITHIN: Duration = Duration::from_secs(400);

/// How long after the healing every node must be back, if no clock was wrong.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How long a restored controller runs before somebody confirms it.
const CONFIRM_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct World<'a> {
    sim: Sim<'a>,
    nodes: Vec<Arc<Node>>,
    bastion: Arc<Bastion>,
    ledger: Arc<Ledger>,
    checker: Checker,
    wishes: mpsc::UnboundedSender<Wish>,
    watching: watch::Sender<bool>,
    /// Nodes with something wrong.
    faulty: BTreeSet<usize>,
    backup: Option<Arc<MemoryStore>>,
    original: Option<Arc<MemoryStore>>,
    restored: Option<Arc<MemoryStore>>,
    confirm_at: Option<Duration>,
    clock_was_wrong: bool,
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
        let bastion = Bastion::new(directory.join(BASTION), schedule.certificate_life);
        let nodes: Vec<_> = (0..schedule.nodes).map(|index| Node::new(index, schedule.seed, directory)).collect();
        let ledger = Ledger::new(bastion.disk());
        let (wishes, granted) = mpsc::unbounded_channel();
        let (watching, present) = watch::channel(true);
        let software = Arc::clone(&bastion);
        sim.host(BASTION, move || Arc::clone(&software).live());
        for node in &nodes {
            let software = Arc::clone(node);
            sim.host(node.name.as_str(), move || Arc::clone(&software).live());
        }
        let operator = Operator { nodes: nodes.clone(), ledger: Arc::clone(&ledger) };
        sim.client(DESK, operator.live(granted));
        sim.client(SCREEN, follow_events(Arc::clone(&ledger), present));
        Self {
            checker: Checker::new(nodes.clone(), Arc::clone(&ledger), schedule.certificate_life.is_some()),
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
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        if self.confirm_at.is_some_and(|at| at <= self.sim.elapsed()) {
            self.confirm_at = None;
            self.wish(Wish::Confirm);
        }
        self.checker.after_step(self.sim.elapsed())
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

    fn perform(&mut self, step: &Step) {
        let era = self.ledger.era();
        match step {
            Step::Enrol(node) => self.wish(Wish::Enrol(*node)),
            Step::Job(wish) => self.wish(Wish::Job { wish: wish.clone(), era }),
            Step::Stop { job } => self.wish(Wish::Stop { job: *job, era }),
            Step::Revoke(node) => self.wish(Wish::Revoke(*node)),
            Step::CrashAgent(node) => self.crash(*node),
            Step::PowerCut(node) => {
                self.crash(*node);
                self.nodes[*node].machine.lose_power();
            }
            Step::StartAgent(node) => self.start(*node),
            Step::CrashController => self.crash_controller(),
            Step::StartController => self.start_controller(),
            Step::Partition(_) | Step::Deafen(_) | Step::Mute(_) | Step::Hold(_) | Step::Mend(_) => self.link(step),
            Step::LoseOperator => self.sim.partition(DESK, BASTION),
            Step::MendOperator => self.sim.repair(DESK, BASTION),
            Step::Clock { node, hours } => {
                self.clock_was_wrong = true;
                self.faulty.insert(*node);
                self.nodes[*node].clock.jump(hours * 3_600_000);
            }
            Step::ControllerClock { seconds } => {
                self.clock_was_wrong = true;
                self.bastion.clock.jump(seconds * 1000);
            }
            Step::Copy(wish) => self.wish(Wish::Copy { wish: wish.clone(), era }),
            Step::Replay { node, back } => self.bastion.replays.again(&self.nodes[*node].name, *back),
            Step::WatcherLeaves => drop(self.watching.send_replace(false)),
            Step::WatcherReturns => drop(self.watching.send_replace(true)),
            Step::Backup => self.backup = Some(copy(&self.bastion.disk())),
            Step::Restore => self.restore(),
            Step::StartOldController => {
                self.change_disk(self.original.clone());
                self.checker.old_controller_begins();
            }
            Step::StartRestoredController => {
                self.checker.old_controller_ends(&self.faulty);
                self.change_disk(self.restored.clone());
            }
        }
    }

    fn link(&mut self, step: &Step) {
        let node = match step {
            Step::Partition(node) | Step::Deafen(node) | Step::Mute(node) | Step::Hold(node) | Step::Mend(node) => {
                *node
            }
            _ => return,
        };
        let name = self.nodes[node].name.as_str();
        self.faulty.insert(node);
        match step {
            Step::Partition(_) => self.sim.partition(name, BASTION),
            Step::Deafen(_) => self.sim.partition_oneway(BASTION, name),
            Step::Mute(_) => self.sim.partition_oneway(name, BASTION),
            Step::Hold(_) => self.sim.hold(name, BASTION),
            _ => {
                self.sim.release(name, BASTION);
                self.sim.repair(name, BASTION);
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.faulty.insert(node);
        self.sim.crash(self.nodes[node].name.as_str());
        self.checker.position_of(node);
    }

    fn start(&mut self, node: usize) {
        if !self.sim.is_host_running(self.nodes[node].name.as_str()) {
            self.sim.bounce(self.nodes[node].name.as_str());
        }
    }

    fn crash_controller(&mut self) {
        self.sim.crash(BASTION);
        self.bastion.died();
    }

    fn start_controller(&mut self) {
        if !self.sim.is_host_running(BASTION) {
            self.sim.bounce(BASTION);
        }
    }

    fn change_disk(&mut self, disk: Option<Arc<MemoryStore>>) {
        let disk = disk.expect("a backup is taken before it is restored");
        self.crash_controller();
        self.bastion.insert(Arc::clone(&disk));
        self.ledger.begin_era(&disk);
        self.start_controller();
    }

    fn restore(&mut self) {
        let disk = self.backup.clone().expect("a backup is taken before it is restored");
        put(&disk, Transaction::new().put(RESTORED, "{}"));
        self.original = Some(self.bastion.disk());
        self.restored = Some(disk);
        self.change_disk(self.restored.clone());
        self.confirm_at = Some(self.sim.elapsed() + CONFIRM_AFTER);
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
        for node in 0..self.nodes.len() {
            self.nodes[node].clock.jump(0);
            self.link(&Step::Mend(node));
            self.start(node);
        }
    }

    fn run_until_well(&mut self) -> Result<(), String> {
        let healed = self.sim.elapsed();
        loop {
            let until = self.sim.elapsed() + Duration::from_secs(1);
            self.run_until(until)?;
            let since = self.sim.elapsed() - healed;
            let missing = self.checker.missing(self.bastion.controller().as_deref());
            if since >= BACK_WITHIN && !self.clock_was_wrong && !missing.is_empty() {
                return Err(format!("(4) not back {since:?} after all was healed: {missing:?}"));
            }
            let unfinished = self.checker.unfinished(self.bastion.controller().as_deref());
            if missing.is_empty() && unfinished.is_empty() {
                return self.checker.at_the_end(self.restored.is_some());
            }
            if since >= WELL_WITHIN {
                self.checker.tell_outcomes();
                return Err(format!("(2, 4) {since:?} after all was healed: {missing:?} not back, {unfinished:?}"));
            }
        }
    }
}

fn put(disk: &MemoryStore, transaction: Transaction) {
    let committed = disk.commit(transaction).now_or_never().expect("memory never waits");
    let _revision = committed.expect("memory has room");
}

/// A copy, as a backup is one.
fn copy(disk: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::new();
    put(
        &copy,
        all(disk).into_iter().fold(Transaction::new(), |transaction, entry| transaction.put(entry.key, entry.value)),
    );
    copy
}
