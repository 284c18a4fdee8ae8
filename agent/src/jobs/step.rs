// SPDX-License-Identifier: Apache-2.0
//! A step of a run as a job: its turn, its lease, its programs, its output.
//!
//! Programs run as those of other jobs do, one after another, and outlive the agent. Each has a number, in the journal
//! before it is started, so that the next agent knows which to look for. How the last one ended is kept until the next is
//! started or the step's own end is on disk: an agent that comes in between learns it and need not start it again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::on_node::BootId;
use windlass_types::name::{BadName, JobId};
use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::outcome::{Ending, ErrorClass, Outcome};

use super::Jobs;
use super::report::{QUICK, Report};
use super::runner::{End, Running};
use super::work::{Beginning, Worked, at, failed, with_output};
use crate::host::tools::{Program, Ran, ToolError, Tools};
use crate::journal::{Ends, Mark, Order, Record, StepProgress};
use crate::output::{Spool, Stream};
use crate::steps::{self, lease};

/// Most that is read of what one program printed: tables of thousands of packages are far smaller.
const MOST_PRINTED: u64 = 8 * 1024 * 1024;

/// The least that is kept of a step's output, whatever the order says: half an answer is none.
const LEAST_KEPT: u64 = 8 * 1024 * 1024;

/// Between SIGTERM and SIGKILL for a program that may be killed.
const GRACE: Duration = Duration::from_secs(10);

/// For an adopted program that nobody may stop: its own time is not recorded, and is a minute at most.
const UNSTOPPABLE: Duration = Duration::from_secs(300);

/// Carries a step out when its turn has come.
pub(super) async fn step(
    jobs: &Arc<Jobs>,
    order: &Order,
    step: &StepOrder,
    beginning: &Beginning,
    stops: &mut mpsc::Receiver<Duration>,
) -> Worked {
    let begun = Instant::now();
    let deadline = order.timeout.map(|limit| begun + limit);
    let turn = tokio::select! {
        turn = jobs.turn.lock() => turn,
        _ = stops.recv() => return Worked::bare(Outcome::bare(Ending::Stopped)),
        () = at(deadline) => return Worked::bare(Outcome::bare(Ending::TimedOut)),
    };
    if let Err(ending) = still_in_time(jobs, order, step).and_then(|()| take_lease(jobs, order, step)) {
        return Worked::bare(Outcome::bare(ending));
    }
    let spool = match output(jobs, order, step, beginning) {
        Ok(spool) => spool,
        Err(error) => return Worked::bare(Outcome::bare(failed(format!("make room for the output: {error}")))),
    };
    let programs = Programs {
        jobs: Arc::clone(jobs),
        order: order.clone(),
        spool: Arc::clone(&spool),
        stop: CancellationToken::new(),
        last: tokio::sync::Mutex::default(),
    };
    let (ending, changed) = until_done(&programs, step, beginning, stops, deadline).await;
    drop(turn);
    let outcome = Outcome { changed, ..with_output(ending, begun.elapsed(), &spool) };
    Worked { running: programs.last.into_inner(), ..Worked::bare(outcome) }
}

/// Where its output is kept.
fn output(jobs: &Jobs, order: &Order, step: &StepOrder, beginning: &Beginning) -> std::io::Result<Arc<Spool>> {
    let (root, limit) = (jobs.spool_root(), order.output_limit.max(LEAST_KEPT));
    if matches!(beginning, Beginning::Fresh) {
        return Spool::begin(&root, &order.job, limit);
    }
    if matches!(step.step, NodeStep::Survey(_)) {
        // It is answered anew, and an answer that was not reported must not stand before that.
        Spool::remove_of(&root, &order.job)?;
    }
    Spool::open(&root, &order.job, limit)
}

/// A node that was off for long, or at work for long, does not take up what it had not begun: it may not be its turn any more.
/// The controller orders it anew if it still is.
fn still_in_time(jobs: &Jobs, order: &Order, step: &StepOrder) -> Result<(), Ending> {
    let is_begun = jobs.table().journal.state().step(&order.job).intended;
    let is_late = order.expires.is_some_and(|expires| jobs.parts.clock.now() > expires);
    if !step.step.needs_lease() || is_begun || !is_late {
        return Ok(());
    }
    let message = "the order had expired before anything of it was begun".to_owned();
    Err(Ending::Failed { message, class: ErrorClass::Transient })
}

/// Remembers the lease before anything is done under it.
fn take_lease(jobs: &Jobs, order: &Order, step: &StepOrder) -> Result<(), Ending> {
    let mut table = jobs.table();
    let highest = table.journal.state().lease();
    let rank =
        lease::checked(&jobs.parts.node, order.epoch, step, highest).map_err(|message| Ending::Refused { message })?;
    let Some((epoch, number)) = rank.filter(|rank| *rank > highest) else { return Ok(()) };
    table
        .journal
        .append_durably(Record::Lease { epoch, number })
        .map_err(|error| failed(format!("the lease cannot be recorded: {}", ErrorChain(&error))))
}

async fn until_done(
    programs: &Programs,
    step: &StepOrder,
    beginning: &Beginning,
    stops: &mut mpsc::Receiver<Duration>,
    deadline: Option<Instant>,
) -> (Ending, bool) {
    let Programs { jobs, order, spool, .. } = programs;
    let StepProgress { intended, boot, .. } = jobs.table().journal.state().step(&order.job);
    let how = match beginning {
        Beginning::Fresh => steps::Beginning::Fresh,
        Beginning::Recovered(_) => steps::Beginning::Again { intended, boot },
    };
    let mut work = std::pin::pin!(steps::carry_out(&*jobs.parts.host, programs, &step.step, how));
    let (mut reason, mut announce_at) = (None, Some(Instant::now() + QUICK));
    let done = loop {
        // The step is never dropped half way: it is told to stop and ends where it can.
        tokio::select! {
            biased;
            done = &mut work => break done,
            _ = stops.recv(), if reason.is_none() => reason = Some(Ending::Stopped),
            () = at(deadline), if reason.is_none() => reason = Some(Ending::TimedOut),
            () = at(announce_at), if announce_at.is_some() => {
                announce_at = None;
                jobs.table().running.insert(order.job.clone(), std::process::id());
                jobs.post(Report::Started(order.job.clone()));
            }
        }
        if reason.is_some() {
            programs.stop.cancel();
        }
    };
    match done {
        Ok(done) => match spool.append(Stream::Stdout, done.output.as_bytes()) {
            Ok(()) => (Ending::Exited { code: 0 }, done.changed),
            Err(error) => (failed(format!("the answer cannot be kept: {error}")), done.changed),
        },
        Err(steps::StepError::Tool(ToolError::Stopped)) => (reason.unwrap_or(Ending::Stopped), false),
        Err(error) => (error.ending(), false),
    }
}

/// Where what the programs of steps print is kept while it is needed.
fn programs_root(state_dir: &Path) -> PathBuf {
    state_dir.join("programs")
}

/// What a program is known by: the number of its job with its own before it, after a zero. No job's number begins with one.
fn program_key(job: &JobId, number: u32) -> Result<JobId, BadName> {
    JobId::new(format!("0{number:04}{job}"))
}

/// Removes what the programs of a step that has ended left, up to the `last` one.
///
/// # Errors
/// If something stays.
pub(super) fn forget_programs(state_dir: &Path, job: &JobId, last: u32) -> io::Result<()> {
    let mut keys = (1..=last).filter_map(|number| program_key(job, number).ok());
    keys.try_for_each(|key| Spool::remove_of(&programs_root(state_dir), &key))
}

/// The programs of one step.
struct Programs {
    jobs: Arc<Jobs>,
    order: Order,
    spool: Arc<Spool>,
    stop: CancellationToken,
    /// The one that ended last, with what it printed.
    last: tokio::sync::Mutex<Option<Box<dyn Running>>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Programs").field("order", &self.order).finish_non_exhaustive()
    }
}

/// A program that has ended, known by what it printed too.
struct Ended {
    running: Box<dyn Running>,
    root: PathBuf,
    key: JobId,
}

#[async_trait]
impl Running for Ended {
    fn mark(&self) -> Mark {
        self.running.mark()
    }

    async fn wait(&mut self) -> End {
        self.running.wait().await
    }

    async fn signal(&mut self, signal: Signal) {
        self.running.signal(signal).await;
    }

    async fn release(&mut self) {
        self.running.release().await;
        if let Err(error) = Spool::remove_of(&self.root, &self.key) {
            tracing::warn!(%error, "a program's output could not be removed");
        }
    }
}

impl Programs {
    fn root(&self) -> PathBuf {
        programs_root(&self.jobs.parts.state_dir)
    }

    fn key(&self, number: u32) -> Result<JobId, ToolError> {
        program_key(&self.order.job, number).map_err(|error| not_kept("name a program", &error))
    }

    fn record(&self, record: Record) -> Result<(), ToolError> {
        self.jobs.table().journal.append(record).map_err(|error| not_kept("record a program", &ErrorChain(&error)))
    }

    /// Keeps how a program ended; that of the one before is not needed any more.
    async fn keep(&self, ended: Option<Ended>) {
        let ended = ended.map(|ended| Box::new(ended) as Box<dyn Running>);
        let before = std::mem::replace(&mut *self.last.lock().await, ended);
        if let Some(mut before) = before {
            before.release().await;
        }
    }

    /// Waits for a program, and has it end when it is stopped or its `limit` is over.
    async fn watch(&self, running: &mut dyn Running, limit: Option<Duration>, ends: Ends) -> (End, bool) {
        let mut end_at = limit.map(|limit| Instant::now() + limit);
        let (mut kill_at, mut is_told, mut stopped, mut late) = (None, false, false, false);
        loop {
            tokio::select! {
                biased;
                end = running.wait() => return (end, late),
                () = self.stop.cancelled(), if !stopped && !ends.ignores_stop => stopped = true,
                () = at(end_at), if end_at.is_some() => (late, stopped) = (true, true),
                () = at(kill_at), if kill_at.is_some() => {
                    kill_at = None;
                    running.signal(Signal::SIGKILL).await;
                    continue;
                }
            }
            if stopped && !std::mem::replace(&mut is_told, true) {
                end_at = None;
                running.signal(Signal::SIGTERM).await;
                kill_at = ends.may_be_killed.then(|| Instant::now() + GRACE);
            }
        }
    }

    fn printed(&self, spool: &Spool, stream: Stream) -> Result<String, ToolError> {
        let most = usize::try_from(MOST_PRINTED).unwrap_or(usize::MAX);
        let bytes = if spool.total(stream) == 0 { Ok(bytes::Bytes::new()) } else { spool.read(stream, 0, most) };
        let bytes = bytes.map_err(|error| not_kept("read what a program printed", &error))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn show(&self, stream: Stream, text: &str) {
        if let Err(error) = self.spool.append(stream, text.as_bytes()) {
            tracing::warn!(%error, "what a program printed is not shown");
        }
    }
}

fn not_kept(what: &'static str, error: &dyn std::fmt::Display) -> ToolError {
    ToolError::NotKept { what, reason: error.to_string() }
}

#[async_trait]
impl Tools for Programs {
    async fn run(&self, program: &Program) -> Result<Ran, ToolError> {
        let is_stopped = || self.stop.is_cancelled() && !program.ignores_stop;
        if is_stopped() {
            return Err(ToolError::Stopped);
        }
        let number = self.jobs.table().journal.state().step(&self.order.job).program + 1;
        let ends = Ends { may_be_killed: program.may_be_killed, ignores_stop: program.ignores_stop };
        self.record(Record::Program { job: self.order.job.clone(), number, ends })?;
        self.keep(None).await;
        let (key, shown) = (self.key(number)?, program.argv.to_string());
        // A power cut can forget the number of a program and leave what it printed.
        Spool::remove_of(&self.root(), &key).map_err(|e| not_kept("remove what an earlier program printed", &e))?;
        let spool =
            Spool::begin(&self.root(), &key, MOST_PRINTED).map_err(|e| not_kept("keep what a program prints", &e))?;
        let mut running = self
            .jobs
            .parts
            .runner
            .start(&key, &program.argv, &spool)
            .await
            .map_err(|error| ToolError::NotStarted { program: shown.clone(), reason: error.message })?;
        self.record(Record::Started { job: self.order.job.clone(), mark: running.mark() })?;
        let (end, late) = self.watch(&mut *running, Some(program.limit), ends).await;
        let ran = ended(end, &shown, late, || {
            Ok(Ran {
                code: 0,
                stdout: self.printed(&spool, Stream::Stdout)?,
                stderr: self.printed(&spool, Stream::Stderr)?,
            })
        });
        self.keep(Some(Ended { running, root: self.root(), key })).await;
        if ran.is_err() && is_stopped() {
            return Err(ToolError::Stopped);
        }
        let ran = ran?;
        if program.is_shown {
            self.show(Stream::Stdout, &ran.stdout);
            self.show(Stream::Stderr, &ran.stderr);
        }
        let answered = ran.answered(program);
        if answered.is_err() && is_stopped() { Err(ToolError::Stopped) } else { answered }
    }

    async fn settle(&self) -> Option<Ran> {
        let StepProgress { program: number, ends, .. } = self.jobs.table().journal.state().step(&self.order.job);
        let key = self.key(number).ok().filter(|_| number > 0)?;
        let mark = match self.jobs.table().journal.state().job(&self.order.job) {
            Some((_, crate::journal::JobStage::Started(mark))) => Some(mark.clone()),
            _ => None,
        };
        let spool = Spool::open(&self.root(), &key, MOST_PRINTED).ok()?;
        let mut running = self.jobs.parts.runner.adopt(&key, mark.as_ref(), &spool).await?;
        tracing::info!(job = %self.order.job, "waiting for a program that an earlier agent started");
        // How long it may take is not known any more; its step's time is, unless nobody may stop it.
        let limit = ends.ignores_stop.then_some(UNSTOPPABLE);
        let (end, late) = self.watch(&mut *running, limit, ends).await;
        let read = || {
            Ok(Ran {
                code: 0,
                stdout: self.printed(&spool, Stream::Stdout)?,
                stderr: self.printed(&spool, Stream::Stderr)?,
            })
        };
        let ran = ended(end, "a program", late, read).ok();
        self.keep(Some(Ended { running, root: self.root(), key })).await;
        ran
    }

    async fn intend(&self, boot: Option<BootId>) -> Result<(), ToolError> {
        let intended = Record::Intended { job: self.order.job.clone(), boot };
        let recorded = self.jobs.table().journal.append_durably(intended);
        recorded.map_err(|error| not_kept("record that the step begins", &ErrorChain(&error)))
    }

    async fn reached(&self) {
        self.jobs.reached.cancelled().await;
    }
}

fn ended(end: End, program: &str, late: bool, read: impl FnOnce() -> Result<Ran, ToolError>) -> Result<Ran, ToolError> {
    let lost = |how| Err(ToolError::Lost { program: program.to_owned(), how });
    match end {
        End::Exited(code) if !late || code == 0 => Ok(Ran { code, ..read()? }),
        End::Exited(_) | End::Signaled(_) if late => Err(ToolError::TimedOut { program: program.to_owned() }),
        End::Exited(code) => Ok(Ran { code, ..read()? }),
        End::Signaled(signal) => lost(format!("was ended by signal {signal}")),
        End::Unknown(how) => lost(how),
    }
}

#[cfg(test)]
mod tests;
