// SPDX-License-Identifier: Apache-2.0
//! What happens to one accepted order: it is carried out within its time, its outcome made durable, its output brought to
//! the controller, and then it is reported.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use windlass_types::action::{Action, Argv, NodePath};
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::{Ending, ErrorClass, Outcome};

use super::Jobs;
use super::process_group;
use super::report::{QUICK, Report, is_inline};
use super::runner::{End, Running};
use crate::journal::{Mark, Order, Record};
use crate::output::{Spool, Stream};
use crate::transfer::Put;
use crate::transfer::{FileError, push};

/// Between SIGTERM and SIGKILL when a job's time is over.
const DEADLINE_GRACE: Duration = Duration::from_secs(5);

/// How long an outcome waits for its output to be stored; then it is reported anyway.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(30);

/// How long an end waits for its acknowledgement before it is flushed to disk here.
const FLUSH_AFTER: Duration = Duration::from_millis(250);

/// After the disk could not be written: somebody has to make room, or to mend it.
const FLUSH_AGAIN: Duration = Duration::from_secs(10);

/// How an order comes to be carried out.
#[derive(Debug)]
pub(super) enum Beginning {
    /// It has just been accepted.
    Fresh,
    /// An earlier agent accepted it, and perhaps started a program.
    Recovered(Option<Mark>),
}

/// Sends output while it grows.
#[derive(Debug)]
pub(super) struct Pusher {
    task: JoinHandle<()>,
    finished: CancellationToken,
}

impl Drop for Pusher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pusher {
    fn begin(jobs: &Jobs, order: &Order, spool: &Arc<Spool>) -> Self {
        let finished = CancellationToken::new();
        let (carriers, job) = (Arc::clone(&jobs.parts.carriers), order.job.clone());
        let task = tokio::spawn(push(carriers, job, Arc::clone(spool), finished.clone()));
        Self { task, finished }
    }

    /// Nothing more comes: waits until all is stored, but not for ever.
    async fn finish(mut self) {
        self.finished.cancel();
        if timeout(OUTPUT_PATIENCE, &mut self.task).await.is_err() {
            tracing::warn!("a job's output could not be stored in time; reporting its end without");
        }
    }
}

/// What carrying out an order left.
pub(super) struct Worked {
    pub(super) outcome: Outcome,
    pub(super) pusher: Option<Pusher>,
    /// Released once the outcome is recorded: until then whoever runs programs keeps their end too.
    pub(super) running: Option<Box<dyn Running>>,
}

impl Worked {
    pub(super) const fn bare(outcome: Outcome) -> Self {
        Self { outcome, pusher: None, running: None }
    }
}

/// Carries out an order from beginning to report.
pub(super) async fn carry_out(
    jobs: Arc<Jobs>,
    order: Order,
    beginning: Beginning,
    mut stops: mpsc::Receiver<Duration>,
) {
    let Worked { outcome, pusher, mut running } = match &order.action {
        Action::Exec(argv) => exec(&jobs, &order, argv, beginning, &mut stops).await,
        Action::PutFile { .. } | Action::GetFile { .. } => Worked::bare(move_file(&jobs, &order, &mut stops).await),
        Action::Step(step) => super::step::step(&jobs, &order, step, &beginning, &mut stops).await,
    };
    let recorded = Record::Ended { job: order.job.clone(), outcome: outcome.clone() };
    // If it is not, it is reported all the same: the controller's memory is the better one then.
    if jobs.table().note(recorded) {
        release(&mut running).await;
    }
    tracing::info!(job = %order.job, "job ended: {}", outcome.ending);
    {
        let mut table = jobs.table();
        table.stops.remove(&order.job);
        table.running.remove(&order.job);
    }
    jobs.settled.notify_one();
    let job = order.job.clone();
    let keep = async {
        flush_unless_acknowledged(&jobs, &job).await;
        release(&mut running).await;
    };
    tokio::join!(deliver(Arc::clone(&jobs), order, outcome, pusher), keep);
}

async fn release(running: &mut Option<Box<dyn Running>>) {
    if let Some(mut running) = running.take() {
        running.release().await;
    }
}

/// The controller's store is as good a place for an end as our journal, and it needs no flush of the disk on every node.
/// An end that could not be recorded is another matter: the next agent would do it again.
async fn flush_unless_acknowledged(jobs: &Jobs, job: &JobId) {
    let acknowledged = async {
        loop {
            let changed = jobs.acknowledged.notified();
            if !jobs.table().journal.state().is_open(job) {
                return;
            }
            changed.await;
        }
    };
    if timeout(FLUSH_AFTER, acknowledged).await.is_ok() && !jobs.table().journal.is_behind() {
        return;
    }
    loop {
        let flushed = jobs.table().journal.flush();
        let Err(error) = flushed else { return };
        tracing::error!(job = %job, error = %ErrorChain(&error), "the outcome could not be flushed; that is tried again");
        sleep(FLUSH_AGAIN).await;
    }
}

/// Brings the output to the controller, then reports.
pub(super) async fn deliver(jobs: Arc<Jobs>, order: Order, outcome: Outcome, pusher: Option<Pusher>) {
    let has_output = outcome.stdout_bytes > 0 || outcome.stderr_bytes > 0;
    let pusher = match pusher {
        None if has_output => Spool::open(&jobs.spool_root(), &order.job, order.output_limit)
            .ok()
            .filter(|spool| !is_inline(spool, &outcome))
            .map(|spool| Pusher::begin(&jobs, &order, &spool)),
        pusher => pusher,
    };
    if let Some(pusher) = pusher {
        pusher.finish().await;
    }
    jobs.table().ready.insert(order.job.clone(), outcome);
    jobs.post(Report::Ended(order.job));
}

async fn exec(
    jobs: &Arc<Jobs>,
    order: &Order,
    argv: &Argv,
    beginning: Beginning,
    stops: &mut mpsc::Receiver<Duration>,
) -> Worked {
    let open = if matches!(beginning, Beginning::Fresh) { Spool::begin } else { Spool::open };
    let spool = match open(&jobs.spool_root(), &order.job, order.output_limit) {
        Ok(spool) => spool,
        Err(error) => return Worked::bare(Outcome::bare(failed(format!("make room for the output: {error}")))),
    };
    let (mut running, begun) = match begin(jobs, order, argv, &beginning, &spool).await {
        Ok(running) => running,
        Err(ending) => return Worked::bare(with_output(ending, Duration::ZERO, &spool)),
    };
    let (ending, duration, pusher) = watch(jobs, order, &mut *running, begun, &spool, stops).await;
    let outcome = with_output(ending, duration, &spool);
    Worked { outcome, pusher, running: Some(running) }
}

async fn begin(
    jobs: &Arc<Jobs>,
    order: &Order,
    argv: &Argv,
    beginning: &Beginning,
    spool: &Arc<Spool>,
) -> Result<(Box<dyn Running>, Duration), Ending> {
    let runner = &jobs.parts.runner;
    match beginning {
        Beginning::Fresh => {
            let running = runner
                .start(&order.job, argv, spool)
                .await
                .map_err(|error| Ending::Failed { message: error.message, class: error.class })?;
            let started = Record::Started { job: order.job.clone(), mark: running.mark() };
            if let Err(error) = jobs.table().journal.append(started) {
                tracing::error!(job = %order.job, error = %ErrorChain(&error), "the start could not be recorded");
            }
            Ok((running, Duration::ZERO))
        }
        Beginning::Recovered(mark) => {
            let found = runner.adopt(&order.job, mark.as_ref(), spool).await;
            let running = found.ok_or_else(|| Ending::Unknown { message: lost(mark.as_ref()).to_owned() })?;
            let since = mark.as_ref().map_or(Duration::ZERO, |mark| process_group::age(mark, jobs.parts.clock.now()));
            tracing::info!(job = %order.job, "a program that an earlier agent started still runs; watching it");
            Ok((running, since))
        }
    }
}

const fn lost(mark: Option<&Mark>) -> &'static str {
    match mark {
        None => "the agent stopped before it recorded the start: whether the program began is not known",
        Some(_) => {
            "the program was started and ended while the agent was away: its exit code is not known, and its last \
             output may be missing"
        }
    }
}

/// Waits for the end and enforces the deadline and the operator's wish.
async fn watch(
    jobs: &Arc<Jobs>,
    order: &Order,
    running: &mut dyn Running,
    before: Duration,
    spool: &Arc<Spool>,
    stops: &mut mpsc::Receiver<Duration>,
) -> (Ending, Duration, Option<Pusher>) {
    let begun = Instant::now();
    let deadline = order.timeout.map(|limit| begun + limit.saturating_sub(before));
    let (mut reason, mut kill_at, mut pusher) = (None, None, None);
    let end = loop {
        tokio::select! {
            biased;
            end = running.wait() => break end,
            grace = stops.recv(), if reason.is_none() => {
                reason = Some(Ending::Stopped);
                running.signal(Signal::SIGTERM).await;
                kill_at = Some(Instant::now() + grace.unwrap_or_default());
            }
            () = at(deadline), if reason.is_none() => {
                reason = Some(Ending::TimedOut);
                running.signal(Signal::SIGTERM).await;
                kill_at = Some(Instant::now() + DEADLINE_GRACE);
            }
            () = at(kill_at), if kill_at.is_some() => {
                running.signal(Signal::SIGKILL).await;
                kill_at = None;
            }
            () = sleep_until(begun + QUICK), if pusher.is_none() => {
                jobs.table().running.insert(order.job.clone(), running.mark().pid);
                jobs.post(Report::Started(order.job.clone()));
                pusher = Some(Pusher::begin(jobs, order, spool));
            }
        }
    };
    let ending = reason.unwrap_or(match end {
        End::Exited(code) => Ending::Exited { code },
        End::Signaled(signal) => Ending::Signaled { signal },
        End::Unknown(message) => Ending::Unknown { message },
    });
    // A job that took longer than a quick one is never counted as one, whatever the rounding.
    let least = if pusher.is_some() { QUICK + Duration::from_millis(1) } else { Duration::ZERO };
    (ending, (before + begun.elapsed()).max(least), pusher)
}

pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

pub(super) fn with_output(ending: Ending, duration: Duration, spool: &Spool) -> Outcome {
    let (stdout_bytes, stderr_bytes) = (spool.total(Stream::Stdout), spool.total(Stream::Stderr));
    Outcome { duration, stdout_bytes, stderr_bytes, ..Outcome::bare(ending) }
}

pub(super) const fn failed(message: String) -> Ending {
    Ending::Failed { message, class: ErrorClass::Operator }
}

async fn move_file(jobs: &Arc<Jobs>, order: &Order, stops: &mut mpsc::Receiver<Duration>) -> Outcome {
    let begun = Instant::now();
    let deadline = order.timeout.map(|limit| begun + limit);
    let moved = tokio::select! {
        moved = moved(jobs, order) => moved,
        _ = stops.recv() => Ok(Outcome::bare(Ending::Stopped)),
        () = at(deadline) => Ok(Outcome::bare(Ending::TimedOut)),
    };
    let outcome = moved.unwrap_or_else(|error| {
        let (message, class) = (ErrorChain(&error).to_string(), error.class());
        Outcome::bare(Ending::Failed { message, class })
    });
    Outcome { duration: begun.elapsed(), ..outcome }
}

async fn moved(jobs: &Arc<Jobs>, order: &Order) -> Result<Outcome, FileError> {
    let done = Outcome::bare(Ending::Exited { code: 0 });
    match &order.action {
        Action::PutFile { path, sha256, size_bytes, mode } => {
            let put = Put { path, sha256: *sha256, size: *size_bytes, mode: *mode };
            let changed = jobs.files.put(&order.job, put).await?;
            Ok(Outcome { sha256: Some(*sha256), changed, ..done })
        }
        Action::GetFile { path } => send_file(jobs, order, path, done).await,
        Action::Exec(_) | Action::Step(_) => Ok(Outcome::bare(failed("a program is not a file".to_owned()))),
    }
}

async fn send_file(jobs: &Arc<Jobs>, order: &Order, path: &NodePath, done: Outcome) -> Result<Outcome, FileError> {
    let (sha256, _size) = jobs.files.get(&order.job, path).await?;
    Ok(Outcome { sha256: Some(sha256), ..done })
}
