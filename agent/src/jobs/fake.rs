// SPDX-License-Identifier: Apache-2.0
//! A model of a machine that runs programs, for tests and simulations. It outlives the agents that use it, and counts
//! what really happened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::Notify;
use tokio::time::Instant;
use windlass_types::action::Argv;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;
use windlass_types::time::UnixMillis;

use super::runner::{End, NotStarted, Runner, Running};
use crate::journal::Mark;
use crate::output::{Spool, Stream};

/// What a program does.
#[derive(Debug, Clone, Default)]
pub struct Script {
    /// How long it takes.
    pub takes: Duration,
    /// What it prints at its end.
    pub stdout: Vec<u8>,
    /// What it complains at its end.
    pub stderr: Vec<u8>,
    /// Its exit code.
    pub code: i32,
    /// It does not start.
    pub does_not_start: bool,
}

type Play = dyn Fn(&Argv) -> Script + Send + Sync;

/// Runs programs of a model.
#[derive(Clone)]
pub struct FakeRunner {
    play: Arc<Play>,
    machine: Arc<Mutex<Machine>>,
}

#[derive(Debug, Default)]
struct Machine {
    effects: Vec<(JobId, Argv)>,
    running: BTreeMap<JobId, Program>,
}

#[derive(Debug, Clone)]
struct Program {
    script: Script,
    ends_at: Instant,
    killed: Option<i32>,
    printed: bool,
    changed: Arc<Notify>,
}

impl std::fmt::Debug for FakeRunner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeRunner").field("machine", &self.machine).finish_non_exhaustive()
    }
}

impl FakeRunner {
    /// A machine whose programs do what `play` says.
    pub fn new(play: impl Fn(&Argv) -> Script + Send + Sync + 'static) -> Self {
        Self { play: Arc::new(play), machine: Arc::default() }
    }

    /// A machine on which programs end at once, as the model of a node says; the model counts their effects too.
    #[must_use]
    pub fn of(host: &crate::host::fake::FakeHost) -> Self {
        let host = host.clone();
        Self::new(move |argv| {
            let scripted = host.run(argv);
            Script { stdout: scripted.stdout.into_bytes(), code: scripted.exit_code, ..Script::default() }
        })
    }

    /// Every program that was started, in order. Each is there as often as it was started.
    #[must_use]
    pub fn effects(&self) -> Vec<(JobId, Argv)> {
        self.machine().effects.clone()
    }

    /// The machine loses power: nothing runs any more, and nobody knows how it ended.
    pub fn lose_power(&self) {
        self.machine().running.clear();
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self, job: &JobId, spool: &Arc<Spool>) -> Box<dyn Running> {
        Box::new(FakeRunning { runner: self.clone(), job: job.clone(), spool: Arc::clone(spool) })
    }
}

#[async_trait]
impl Runner for FakeRunner {
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        let script = (self.play)(argv);
        if script.does_not_start {
            return Err(NotStarted { message: "no such program".to_owned(), class: ErrorClass::Operator });
        }
        let ends_at = Instant::now() + script.takes;
        let program = Program { script, ends_at, killed: None, printed: false, changed: Arc::default() };
        let mut machine = self.machine();
        machine.effects.push((job.clone(), argv.clone()));
        machine.running.insert(job.clone(), program);
        drop(machine);
        Ok(self.running(job, spool))
    }

    async fn adopt(&self, job: &JobId, _mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        let is_there = self.machine().running.contains_key(job);
        is_there.then(|| self.running(job, spool))
    }
}

struct FakeRunning {
    runner: FakeRunner,
    job: JobId,
    spool: Arc<Spool>,
}

impl FakeRunning {
    fn program(&self) -> Option<Program> {
        self.runner.machine().running.get(&self.job).cloned()
    }

    /// Prints once, however many agents watched.
    fn print(&self) {
        let mut machine = self.runner.machine();
        let Some(program) = machine.running.get_mut(&self.job).filter(|program| !program.printed) else { return };
        program.printed = true;
        for (stream, text) in [(Stream::Stdout, &program.script.stdout), (Stream::Stderr, &program.script.stderr)] {
            if let Err(error) = self.spool.append(stream, text) {
                tracing::warn!(%error, "the model's output cannot be kept");
            }
        }
    }
}

#[async_trait]
impl Running for FakeRunning {
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
            if Instant::now() >= program.ends_at {
                self.print();
                return End::Exited(program.script.code);
            }
            tokio::select! {
                () = tokio::time::sleep_until(program.ends_at) => {}
                () = changed => {}
            }
        }
    }

    async fn signal(&mut self, signal: Signal) {
        if let Some(program) = self.runner.machine().running.get_mut(&self.job) {
            program.killed = Some(signal as i32);
            program.changed.notify_waiters();
        }
    }

    async fn release(&mut self) {
        self.runner.machine().running.remove(&self.job);
    }
}
