// SPDX-License-Identifier: Apache-2.0
//! The log of who changed what: JSON lines, each with the digest of the one before, in a directory of its own.
//!
//! Every change is written twice: as requested before anything is done, and as done before it is answered. Both are on
//! the disk when the call returns; if they cannot be, the caller refuses the change. Callers that wait at the same time
//! share one flush.
//!
//! The chain tells whether a line was altered, removed or put in. It cannot tell that the last lines were cut off, or
//! that all of it was written anew by somebody who owns the machine: for that, compare [`AuditReport::head`] with one
//! that was kept elsewhere; every digest also goes to the journal. The file grows by about 1 KiB with every change and
//! is never shortened or rotated here.

mod chain;
mod file;
mod record;
mod redact;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{mpsc, oneshot};

pub use self::chain::MemorySink;
use self::chain::{Chain, Refused};
pub use self::file::FILE;
pub use self::record::{AuditRequest, AuditResult, Origin};
pub use self::redact::redact;
pub use self::verify::{AuditReport, verify};
use crate::clock::Clock;

/// Records that share one flush.
const LARGEST_GROUP: usize = 512;

/// A failure of the audit log. The change it belongs to must be refused.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log cannot be opened or read.
    #[error("use the audit log {}", .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The end of the log was altered.
    #[error("the audit log {} is broken ({fault}): find out who changed it, move the file away, keep it as evidence and start again", .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        fault: String,
    },
    /// A record could not be written.
    #[error("write a record: {0}")]
    Write(String),
    /// The log's thread is gone; the controller is ending.
    #[error("the audit log is closed")]
    Closed,
}

/// A change that was recorded as requested and waits for its result.
#[derive(Debug)]
#[must_use = "the result has to be recorded too"]
pub struct Ticket {
    request_id: String,
    request: AuditRequest,
}

impl Ticket {
    /// Ties the records of one request together, and to the journal.
    #[must_use]
    pub fn request_id(&self) -> &str {
        &self.request_id
    }
}

/// The audit log.
#[derive(Debug)]
pub struct AuditLog {
    clock: Arc<dyn Clock>,
    requests: AtomicU64,
    writer: Writer,
}

#[derive(Debug)]
enum Writer {
    Thread { requests: Option<mpsc::UnboundedSender<Entry>>, thread: Option<JoinHandle<()>> },
    Inline(Mutex<Chain>),
}

/// A record and who waits for it.
#[derive(Debug)]
struct Entry {
    record: record::Body,
    answer: oneshot::Sender<Result<(), Refused>>,
}

impl AuditLog {
    /// Opens the log in a directory of its own, which is made with mode 0700 if it is missing. A last line that was
    /// never finished is removed, and a record says so.
    ///
    /// # Errors
    /// If the file cannot be written, or its end was altered.
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Result<Arc<Self>, AuditError> {
        let mut chain = file::open(directory, clock.now())?;
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || serve(&mut chain, &mut receiver))
            .map_err(|source| AuditError::File { path: directory.to_owned(), source })?;
        let writer = Writer::Thread { requests: Some(requests), thread: Some(thread) };
        Ok(Arc::new(Self { clock, requests: AtomicU64::new(0), writer }))
    }

    /// A log without file or thread, for tests and simulations.
    #[must_use]
    pub fn in_memory(sink: MemorySink, clock: Arc<dyn Clock>) -> Arc<Self> {
        let writer = Writer::Inline(Mutex::new(Chain::new(Box::new(sink))));
        Arc::new(Self { clock, requests: AtomicU64::new(0), writer })
    }

    /// Records that a change was asked for. Only when this has returned may the change be made.
    ///
    /// # Errors
    /// If it cannot be recorded: then refuse the change.
    pub async fn requested(&self, request: AuditRequest) -> Result<Ticket, AuditError> {
        let now = self.clock.now();
        // The time tells apart the requests of one controller process from those of the next.
        let request_id = format!("{:x}-{:x}", now.0, self.requests.fetch_add(1, Ordering::Relaxed));
        self.write(record::Body::new(now, &request_id, &request, None)).await?;
        Ok(Ticket { request_id, request: AuditRequest { arguments: serde_json::Value::Null, ..request } })
    }

    /// Records what came of a change. Only when this has returned may it be answered.
    ///
    /// # Errors
    /// If it cannot be recorded: then answer that the change may have been made and was not recorded.
    pub async fn done(&self, ticket: Ticket, result: AuditResult) -> Result<(), AuditError> {
        let Ticket { request_id, request } = ticket;
        self.write(record::Body::new(self.clock.now(), &request_id, &request, Some(result))).await
    }

    async fn write(&self, record: record::Body) -> Result<(), AuditError> {
        let refused = |refused: Refused| AuditError::Write(refused.0);
        match &self.writer {
            Writer::Inline(chain) => {
                chain.lock().unwrap_or_else(PoisonError::into_inner).append(&[record]).map_err(refused)
            }
            Writer::Thread { requests, .. } => {
                let (answer, written) = oneshot::channel();
                let requests = requests.as_ref().ok_or(AuditError::Closed)?;
                requests.send(Entry { record, answer }).map_err(|_| AuditError::Closed)?;
                written.await.map_err(|_| AuditError::Closed)?.map_err(refused)
            }
        }
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        if let Writer::Thread { requests, thread } = &mut self.writer {
            *requests = None;
            if thread.take().is_some_and(|thread| thread.join().is_err()) {
                tracing::error!("the thread of the audit log panicked");
            }
        }
    }
}

fn serve(chain: &mut Chain, entries: &mut mpsc::UnboundedReceiver<Entry>) {
    while let Some(first) = entries.blocking_recv() {
        let mut group = vec![first];
        while group.len() < LARGEST_GROUP
            && let Ok(next) = entries.try_recv()
        {
            group.push(next);
        }
        let (records, answers): (Vec<_>, Vec<_>) = group.into_iter().map(|entry| (entry.record, entry.answer)).unzip();
        let written = chain.append(&records);
        for answer in answers {
            // Whoever asked may have gone away; the record stands.
            let _ = answer.send(written.clone());
        }
    }
}

#[cfg(test)]
mod tests;
