// SPDX-License-Identifier: Apache-2.0
//! The one stream of everything that happened, with a cursor that rises by one and survives restarts.
//!
//! Emitting never waits: an event gets its cursor, goes to the journal, and is stored by a task in the background,
//! together with whatever else happened meanwhile. Followers read the store and nothing else, and are only woken by the
//! task: so what they see is durable, has no gap and comes once, however slow they are and wherever they begin.
//!
//! If the store cannot be written, events wait in memory, up to a limit; beyond it they go to the journal alone.

mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use windlass_types::escape::Escaped;
use windlass_types::event::{Event, EventKind, Severity};
use windlass_types::name::{JobId, NodeName, RunId};

use self::writer::{Bounds, Progress, Writer};
use crate::clock::Clock;
use crate::store::{Entry, Store, StoreError};

/// Events kept: weeks of a busy fleet, in some 25 MB of the database.
pub const RETAINED: u64 = 100_000;

/// Events that may wait for a store that cannot be written, at some 300 bytes each.
const MOST_WAITING: usize = 20_000;

/// Events a follower is given at once.
const PAGE: usize = 512;

/// Pause before storing is tried again after it failed.
const RETRY: Duration = Duration::from_secs(1);

const PREFIX: &str = "events/";

fn key(cursor: u64) -> String {
    format!("{PREFIX}{cursor:020}")
}

/// The event stream.
#[derive(Debug)]
pub struct EventLog {
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<dyn Store>,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// What an event is about.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    node: Option<&'a NodeName>,
    job: Option<&'a JobId>,
    run: Option<&'a RunId>,
}

/// What was emitted and is not stored.
#[derive(Debug)]
struct Waiting {
    newest: u64,
    events: Vec<Event>,
    overflowing: bool,
    closed: bool,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let entries = self.store.range(PREFIX, Some(&key(after)), limit).await?;
        Ok(entries.iter().map(decode).collect())
    }
}

impl EventLog {
    /// Goes on where the stored stream ends, and starts the task that stores events on the current runtime.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        Self::open_with(store, clock, RETAINED, RETRY).await
    }

    async fn open_with(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        retained: u64,
        retry: Duration,
    ) -> Result<Arc<Self>, StoreError> {
        let bounds = Bounds::read(store.as_ref()).await?;
        let waiting = Waiting { newest: bounds.newest, events: Vec::new(), overflowing: false, closed: false };
        let shared = Arc::new(Shared { store, waiting: Mutex::new(waiting), wake: Notify::new() });
        let (sender, progress) = watch::channel(Progress { durable: bounds.newest, failures: 0 });
        let writer = Writer { shared: shared.clone(), progress: sender, bounds, retained, retry };
        let task = Mutex::new(Some(tokio::spawn(writer.run())));
        Ok(Arc::new(Self { clock, shared, progress, task }))
    }

    /// Tells what happened. Never waits: the event is durable, and seen by followers, a moment later.
    pub fn emit(&self, kind: EventKind, node: Option<&NodeName>, job: Option<&JobId>, message: impl Into<String>) {
        self.tell(kind, Subject { node, job, run: None }, message.into());
    }

    /// Tells what happened in a run.
    pub fn emit_in_run(&self, kind: EventKind, node: Option<&NodeName>, run: &RunId, message: impl Into<String>) {
        self.tell(kind, Subject { node, job: None, run: Some(run) }, message.into());
    }

    fn tell(&self, kind: EventKind, about: Subject<'_>, message: String) {
        log(kind, about, &message);
        let mut waiting = self.shared.waiting();
        if waiting.closed || waiting.events.len() >= MOST_WAITING {
            if !std::mem::replace(&mut waiting.overflowing, true) {
                tracing::error!("events cannot be stored at present; new ones go to this journal only");
            }
            return;
        }
        waiting.overflowing = false;
        waiting.newest += 1;
        let cursor = waiting.newest;
        let at = self.clock.now();
        let Subject { node, job, run } = about;
        let (node, job, run) = (node.cloned(), job.cloned(), run.cloned());
        waiting.events.push(Event { cursor, at, kind, node, job, run, message });
        drop(waiting);
        self.shared.wake.notify_one();
    }

    /// Waits until everything emitted so far is durable. Answers `false` if it could not be stored now; it is kept and
    /// tried again.
    pub async fn flush(&self) -> bool {
        let newest = self.shared.waiting().newest;
        let mut progress = self.progress.clone();
        let failures = progress.borrow().failures;
        let done = progress.wait_for(|now| now.durable >= newest || now.failures > failures).await;
        done.is_ok_and(|now| now.durable >= newest)
    }

    /// Stores what was emitted and ends the task. Followers then come to their end. What is
    /// emitted afterwards goes to the journal only.
    pub async fn close(&self) {
        self.end();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the task that stores events failed");
        }
    }

    fn end(&self) {
        self.shared.waiting().closed = true;
        self.shared.wake.notify_one();
    }

    /// The cursor of the newest durable event; 0 if there is none.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.progress.borrow().durable
    }

    /// Durable events after a cursor, oldest first, at most `limit`. Those that are kept no longer are passed over.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        self.shared.read(after, limit).await
    }

    /// The newest durable events, oldest first, at most `limit`.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn newest(&self, limit: usize) -> Result<Vec<Event>, StoreError> {
        let after = self.durable().saturating_sub(u64::try_from(limit).unwrap_or(u64::MAX));
        self.shared.read(after, limit).await
    }

    /// Follows the stream from after a cursor: first what is stored, then what happens.
    #[must_use]
    pub fn follow(&self, after: u64) -> Follower {
        Follower { shared: self.shared.clone(), progress: self.progress.clone(), after }
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.end();
    }
}

/// Somebody who follows the stream.
#[derive(Debug)]
pub struct Follower {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
    after: u64,
}

impl Follower {
    /// The next events, oldest first, at least one; waits for them. `None` when the log is closed and all was seen.
    /// Giving up the wait loses nothing.
    ///
    /// # Errors
    /// If the store cannot be read; calling again goes on at the same place.
    pub async fn next(&mut self) -> Result<Option<Vec<Event>>, StoreError> {
        loop {
            let after = self.after;
            let closed = self.progress.wait_for(|now| now.durable > after).await.is_err();
            let events = self.shared.read(after, PAGE).await?;
            if let Some(last) = events.last() {
                self.after = last.cursor;
                return Ok(Some(events));
            }
            if closed {
                return Ok(None);
            }
            // All of it was pruned between the two lines above: go on at the end.
            self.after = self.progress.borrow().durable;
        }
    }

    /// The cursor of the last event that was given.
    #[must_use]
    pub const fn cursor(&self) -> u64 {
        self.after
    }
}

/// An event that cannot be read is told as such, so that the cursor stays without a gap.
fn decode(entry: &Entry) -> Event {
    serde_json::from_slice(&entry.value).unwrap_or_else(|error| Event {
        cursor: entry.key.strip_prefix(PREFIX).and_then(|cursor| cursor.parse().ok()).unwrap_or(0),
        at: windlass_types::time::UnixMillis::default(),
        kind: EventKind::Unknown,
        node: None,
        job: None,
        run: None,
        message: format!("this event cannot be read: {error}"),
    })
}

fn log(kind: EventKind, about: Subject<'_>, message: &str) {
    use tracing::field::display;
    let (node, job, run) = (about.node.map(display), about.job.map(display), about.run.map(display));
    let message = Escaped(message);
    match kind.severity() {
        Severity::Info => tracing::info!(NODE = node, JOB = job, RUN = run, KIND = kind.as_str(), "{message}"),
        Severity::Warning => tracing::warn!(NODE = node, JOB = job, RUN = run, KIND = kind.as_str(), "{message}"),
        Severity::Alarm => tracing::error!(NODE = node, JOB = job, RUN = run, KIND = kind.as_str(), "{message}"),
    }
}

#[cfg(test)]
mod tests;
