// SPDX-License-Identifier: Apache-2.0
//! The task that stores events: many in one transaction, old ones removed in the same.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::Event;

use super::{Shared, key};
use crate::store::{Committed, Store, StoreError, Transaction};

/// Where the first and last stored cursor are kept.
const BOUNDS: &str = "meta/events";

/// Most events in one transaction: keeps it well under a millisecond per follower that reads beside it.
const BATCH: usize = 1024;

/// Old events are removed this many at a time, so that not every transaction has to.
const PRUNED_AT_ONCE: u64 = 2 * BATCH as u64;

/// The stored cursors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Bounds {
    /// Everything up to here was removed.
    pruned: u64,
    pub(super) newest: u64,
}

impl Bounds {
    pub(super) async fn read(store: &dyn Store) -> Result<Self, StoreError> {
        let mut bounds = match store.get(BOUNDS).await? {
            Some(entry) => serde_json::from_slice(&entry.value).unwrap_or_default(),
            None => Self::default(),
        };
        // Nothing to do unless the bounds were lost: the events themselves then tell where the stream ends.
        while let Some(last) = store.range(super::PREFIX, Some(&key(bounds.newest)), BATCH).await?.last() {
            bounds.newest = super::decode(last).cursor.max(bounds.newest + 1);
        }
        Ok(bounds)
    }
}

/// How far the task has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Progress {
    pub(super) durable: u64,
    pub(super) failures: u64,
}

/// The task's state.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) bounds: Bounds,
    pub(super) retained: u64,
    pub(super) retry: Duration,
}

impl Writer {
    /// Stores events until the log is closed. When it is, a transaction that fails is not tried again.
    pub(super) async fn run(mut self) {
        loop {
            let (events, closed) = {
                let waiting = self.shared.waiting();
                (waiting.events.iter().take(BATCH).cloned().collect::<Vec<_>>(), waiting.closed)
            };
            if events.is_empty() {
                if closed {
                    return;
                }
                self.shared.wake.notified().await;
                continue;
            }
            match self.store(&events).await {
                Ok(()) => {}
                Err(error) if closed => {
                    tracing::error!(error = %ErrorChain(&error), count = events.len(), "events were not stored");
                    return;
                }
                Err(error) => self.wait_after(&error).await,
            }
        }
    }

    async fn store(&mut self, events: &[Event]) -> Result<(), StoreError> {
        let (transaction, bounds) = self.transaction(events);
        match self.shared.store.commit(transaction).await? {
            Committed::Yes(_) => {}
            Committed::Conflict => tracing::error!("storing events met a conflict although it has no condition"),
        }
        self.bounds = bounds;
        self.shared.waiting().events.drain(..events.len());
        self.progress.send_modify(|progress| progress.durable = bounds.newest);
        Ok(())
    }

    fn transaction(&self, events: &[Event]) -> (Transaction, Bounds) {
        let mut bounds = self.bounds;
        let mut transaction = Transaction::new();
        for event in events {
            bounds.newest = event.cursor;
            // An event is plain data with text keys: there is nothing that could not be written as JSON.
            transaction = transaction.put(key(event.cursor), serde_json::to_vec(event).unwrap_or_default());
        }
        if bounds.newest - bounds.pruned >= self.retained + PRUNED_AT_ONCE {
            let until = bounds.pruned + PRUNED_AT_ONCE;
            transaction = (bounds.pruned + 1..=until).fold(transaction, |all, cursor| all.delete(key(cursor)));
            bounds.pruned = until;
        }
        let stored = serde_json::to_vec(&bounds).unwrap_or_default();
        (transaction.put(BOUNDS, stored), bounds)
    }

    async fn wait_after(&self, error: &StoreError) {
        tracing::error!(error = %ErrorChain(error), "events cannot be stored; they are kept and tried again");
        self.progress.send_modify(|progress| progress.failures += 1);
        let pause = tokio::time::sleep(self.retry);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => return,
                // Woken by every event; only the end cuts the pause short.
                () = self.shared.wake.notified() => if self.shared.waiting().closed { return },
            }
        }
    }
}
