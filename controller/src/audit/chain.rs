// SPDX-License-Identifier: Apache-2.0
//! Appends records to a sink, each chained to the one before. What could not be made durable has not happened: the
//! chain goes on from the last record that was.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::record::{Body, Link};

/// Where lines go.
pub(super) trait Sink: Send + Debug {
    /// Appends whole lines. They are durable when this returns `Ok`, and not there at all when it returns an error.
    fn append(&mut self, lines: &[u8]) -> io::Result<()>;
}

/// Why records were not written.
#[derive(Debug, Clone)]
pub(super) struct Refused(pub(super) String);

/// A sink and the end of its chain.
#[derive(Debug)]
pub(super) struct Chain {
    sink: Box<dyn Sink>,
    last: Link,
}

impl Chain {
    /// On an empty sink.
    pub(super) fn new(sink: Box<dyn Sink>) -> Self {
        Self { sink, last: Link::START }
    }

    /// On a sink whose last record is known.
    pub(super) fn after(last: Link, sink: Box<dyn Sink>) -> Self {
        Self { sink, last }
    }

    /// Makes records durable, all or none.
    pub(super) fn append(&mut self, records: &[Body]) -> Result<(), Refused> {
        let (mut last, mut lines) = (self.last, Vec::new());
        for record in records {
            last.extend(record, &mut lines).map_err(|error| Refused(error.to_string()))?;
        }
        self.sink.append(&lines).map_err(|error| {
            tracing::error!(%error, "the audit log cannot be written; changes are refused");
            metrics::counter!("windlass_audit_write_failures_total").increment(1);
            Refused(error.to_string())
        })?;
        self.last = last;
        for record in records {
            let request = &record.request;
            tracing::info!(
                target: "windlass::audit",
                REQUEST_ID = record.request_id,
                ACTOR = request.actor,
                VERB = request.verb,
                OBJECT = request.object,
                HEAD = %last.hash,
                "audit: {:?}", record.phase
            );
        }
        Ok(())
    }
}

/// Lines in memory, for tests and simulations.
#[derive(Debug, Clone, Default)]
pub struct MemorySink(Arc<Mutex<Memory>>);

#[derive(Debug, Default)]
struct Memory {
    lines: Vec<u8>,
    failing: bool,
}

impl MemorySink {
    /// Pretends that the disk is full, or has room again.
    pub fn set_failing(&self, failing: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).failing = failing;
    }

    /// What was written so far.
    #[must_use]
    pub fn lines(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner).lines).into_owned()
    }
}

impl Sink for MemorySink {
    fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.failing {
            return Err(io::ErrorKind::StorageFull.into());
        }
        memory.lines.extend_from_slice(lines);
        Ok(())
    }
}
