// SPDX-License-Identifier: Apache-2.0
//! The programs of one simulated machine. They go on when the agent dies and end when the power does, and every start is
//! remembered: that is how something done twice is seen.
//!
//! A program of a job does nothing; [`tools`] are those of the operating system.
//!
//! Time is the simulation's, because every restart of a simulated host has a `tokio` clock of its own.

mod tools;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::Signal;
use tokio::sync::Notify;
use windlass_agent::host::fake::FakeHost;
use windlass_agent::jobs::runner::{End, NotStarted, Runner, Running};
use windlass_agent::journal::Mark;
use windlass_agent::output::{Spool, Stream};
use windlass_types::action::Argv;
use windlass_types::name::JobId;
use windlass_types::time::UnixMillis;

pub(crate) use self::tools::{Act, Deed};
use crate::schedule::JobWish;

/// A machine.
#[derive(Clone)]
pub(crate) struct Machine {
    /// The node.
    pub(crate) host: FakeHost,
    state: Arc<Mutex<State>>,
}

struct State {
    rng: Rng,
    started: Vec<Started>,
    running: BTreeMap<JobId, Program>,
    /// Tools that change something, since somebody asked.
    acts: Vec<Act>,
    /// And what they did when they ended.
    deeds: Vec<Deed>,
    /// What the clock of the node has come to.
    clock: Duration,
    /// When it goes down, and what told it to.
    goes_down: Option<(Duration, JobId)>,
}

/// A program that was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Started {
    /// By this job.
    pub(crate) job: JobId,
    /// Told apart by this, in the whole simulation.
    pub(crate) what: String,
    /// Then.
    pub(crate) at: Duration,
}

#[derive(Clone)]
struct Program {
    what: String,
    ends_at: Duration,
    code: i32,
    prints: usize,
    killed: Option<i32>,
    printed: bool,
    changed: Arc<Notify>,
    /// What it does to the node, until it has.
    tool: Option<Argv>,
    /// What the tool says.
    says: Vec<u8>,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("started", &self.state().started).finish_non_exhaustive()
    }
}

/// What a job runs that is no tool of the operating system.
const WORK: &str = "work";

/// The program a job runs: what it does is in its arguments.
pub(crate) fn program(wish: &JobWish) -> Vec<String> {
    vec![
        WORK.to_owned(),
        format!("job-{}", wish.number),
        wish.takes.as_millis().to_string(),
        wish.prints.to_string(),
        wish.fails_percent.to_string(),
    ]
}

/// What tells one program from another.
pub(crate) fn what(argv: &Argv) -> String {
    argument(argv, 1).to_owned()
}

fn argument(argv: &Argv, index: usize) -> &str {
    argv.as_slice().get(index).map_or("", String::as_str)
}

fn number(argv: &Argv, index: usize) -> u64 {
    argument(argv, index).parse().unwrap_or_default()
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

impl Machine {
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        let rng = Rng::with_seed(seed);
        let (started, running, acts, deeds, clock, goes_down) = Default::default();
        let state = State { rng, started, running, acts, deeds, clock, goes_down };
        Self { host: FakeHost::new(name), state: Arc::new(Mutex::new(state)) }
    }

    /// Every start, in order.
    pub(crate) fn started(&self) -> Vec<Started> {
        self.state().started.clone()
    }

    /// How often it was started.
    pub(crate) fn times(&self, what: &str) -> usize {
        self.state().started.iter().filter(|started| started.what == what).count()
    }

    /// How many starts there were.
    pub(crate) fn starts(&self) -> usize {
        self.state().started.len()
    }

    /// Whether it is at work at this moment.
    pub(crate) fn is_at_work(&self, what: &str, now: Duration) -> bool {
        let state = self.state();
        state.running.values().any(|program| program.what == what && program.killed.is_none() && program.ends_at > now)
    }

    /// Nothing runs any more, and nobody knows how it ended.
    pub(crate) fn lose_power(&self) {
        let mut state = self.state();
        state.running.clear();
        state.goes_down = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some time passes, in which the agent may die.
    async fn dawdle(&self) {
        let pause = {
            let rng = &mut self.state().rng;
            if rng.bool() { 0 } else { rng.u64(1..500) }
        };
        if pause > 0 {
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn begin(&self, job: &JobId, argv: &Argv) {
        let boot = self.boot();
        let mut state = self.state();
        if argv.program() != WORK {
            return tools::begin(&mut state, boot, job, argv);
        }
        let fails = u64::from(state.rng.u8(0..100)) < number(argv, 4);
        let program = Program {
            what: what(argv),
            ends_at: now() + Duration::from_millis(number(argv, 2)),
            code: i32::from(fails),
            prints: usize::try_from(number(argv, 3)).unwrap_or(0),
            killed: None,
            printed: false,
            changed: Arc::default(),
            tool: None,
            says: Vec::new(),
        };
        state.started.push(Started { job: job.clone(), what: program.what.clone(), at: now() });
        state.running.insert(job.clone(), program);
    }

    fn watched(&self, job: &JobId, spool: &Arc<Spool>) -> Box<dyn Running> {
        Box::new(Watched { machine: self.clone(), job: job.clone(), spool: Arc::clone(spool) })
    }
}

#[async_trait::async_trait]
impl Runner for Machine {
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        self.dawdle().await;
        self.begin(job, argv);
        self.dawdle().await;
        Ok(self.watched(job, spool))
    }

    async fn adopt(&self, job: &JobId, _mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        let is_there = self.state().running.contains_key(job);
        is_there.then(|| self.watched(job, spool))
    }
}

struct Watched {
    machine: Machine,
    job: JobId,
    spool: Arc<Spool>,
}

impl Watched {
    fn program(&self) -> Option<Program> {
        self.machine.state().running.get(&self.job).cloned()
    }

    /// Prints once, however many agents watched.
    fn print(&self) {
        let mut state = self.machine.state();
        let Some(program) = state.running.get_mut(&self.job).filter(|program| !program.printed) else { return };
        program.printed = true;
        let printed =
            if program.says.is_empty() { vec![b'x'; program.prints] } else { std::mem::take(&mut program.says) };
        self.spool.append(Stream::Stdout, &printed).expect("the spool takes a little output");
    }
}

#[async_trait::async_trait]
impl Running for Watched {
    fn mark(&self) -> Mark {
        Mark { pid: 4711, start_ticks: 0, boot_id: String::new(), at: UnixMillis::default() }
    }

    async fn wait(&mut self) -> End {
        loop {
            let Some(program) = self.program() else { return End::Unknown("the machine lost power".to_owned()) };
            let changed = program.changed.notified();
            if let Some(signal) = program.killed {
                return End::Signaled(signal);
            }
            if now() >= program.ends_at && program.tool.is_none() {
                self.print();
                return End::Exited(program.code);
            }
            if program.tool.is_some() {
                changed.await;
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep(program.ends_at.saturating_sub(now())) => {}
                () = changed => {}
            }
        }
    }

    async fn signal(&mut self, signal: Signal) {
        if let Some(program) = self.machine.state().running.get_mut(&self.job) {
            program.killed = Some(signal as i32);
            program.changed.notify_waiters();
        }
    }

    async fn release(&mut self) {
        self.machine.state().running.remove(&self.job);
    }
}
