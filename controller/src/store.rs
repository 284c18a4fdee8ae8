// SPDX-License-Identifier: Apache-2.0
//! Where the controller keeps everything: revisioned keys, compare-and-set transactions, prefix watches, shaped like etcd.
//!
//! One machine needs no database server, so the default is [`sqlite`]; tests and simulations use [`memory`]; a site that
//! outgrows one bastion can put a real etcd cluster behind the same trait. Keys are text with `/` between parts and sort
//! by bytes; values are whatever their owner serialised. Every committed transaction has one revision, higher than all
//! before it.

pub mod memory;
pub mod sqlite;

#[cfg(test)]
mod contract;

use std::fmt::Debug;

use async_trait::async_trait;

/// The number of a committed transaction.
pub type Revision = u64;

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// The transaction that wrote it last.
    pub revision: Revision,
}

/// What must hold for a transaction to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The key does not exist.
    Absent(String),
    /// The key was last written by this transaction.
    Unchanged(String, Revision),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Write a key.
    Put(String, Vec<u8>),
    /// Remove a key; removing one that does not exist is no error.
    Delete(String),
    /// Remove every key that begins with this.
    DeletePrefix(String),
}

/// Changes that are made together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// All must hold.
    pub compares: Vec<Compare>,
    /// Made in order.
    pub changes: Vec<Change>,
}

impl Transaction {
    /// An empty transaction.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a condition.
    #[must_use]
    pub fn when(mut self, compare: Compare) -> Self {
        self.compares.push(compare);
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn put(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.changes.push(Change::Put(key.into(), value.into()));
        self
    }

    /// Adds a removal.
    #[must_use]
    pub fn delete(mut self, key: impl Into<String>) -> Self {
        self.changes.push(Change::Delete(key.into()));
        self
    }

    /// Adds the removal of every key that begins with this.
    #[must_use]
    pub fn delete_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.changes.push(Change::DeletePrefix(prefix.into()));
        self
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Committed {
    /// It is durable.
    Yes(Revision),
    /// A condition did not hold; nothing was changed.
    Conflict,
}

/// Groups of changes a watch may be behind before it is told to read anew. Bounds what a stuck follower can cost.
const WATCH_BACKLOG: usize = 4096;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database answered with an error.
    #[error("{operation} the state database")]
    Database {
        /// What was tried, as an infinitive: "read", "write".
        operation: &'static str,
        /// The database's words.
        #[source]
        source: rusqlite::Error,
    },
    /// There is no room.
    #[error("the disk with the state database is full; nothing was changed: free some space and try again")]
    DiskFull,
    /// The database's thread is gone; the controller is ending.
    #[error("the state database is closed")]
    Closed,
}

impl StoreError {
    /// Tells a full disk from everything else.
    pub(crate) fn new(operation: &'static str, source: rusqlite::Error) -> Self {
        match source.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::DiskFull,
            _ => Self::Database { operation, source },
        }
    }
}

/// Where the controller keeps everything.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Reads one key.
    ///
    /// # Errors
    /// If the database cannot be read.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Reads the keys that begin with `prefix` and sort after `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// If the database cannot be read.
    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError>;

    /// Commits a transaction. It is durable when this returns [`Committed::Yes`]. Concurrent transactions share one
    /// flush to disk and are applied in the order in which they were handed in.
    ///
    /// # Errors
    /// If the database cannot be written; then nothing was changed.
    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError>;

    /// Follows changes of keys that begin with `prefix`, beginning now. A receiver that lags is told so and reads anew.
    fn watch(&self, prefix: &str) -> Watch;
}

/// A change that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchEvent {
    /// By which transaction.
    pub revision: Revision,
    /// Which key.
    pub key: String,
    /// Its new value; `None` if it was removed.
    pub value: Option<Vec<u8>>,
}

/// Follows changes of a prefix.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    changes: tokio::sync::broadcast::Receiver<std::sync::Arc<Vec<WatchEvent>>>,
    ready: std::collections::VecDeque<WatchEvent>,
}

/// A watch missed changes; read the prefix anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the watch fell behind")]
pub struct Lagged;

impl Watch {
    pub(crate) fn new(
        prefix: &str,
        changes: tokio::sync::broadcast::Receiver<std::sync::Arc<Vec<WatchEvent>>>,
    ) -> Self {
        Self { prefix: prefix.to_owned(), changes, ready: std::collections::VecDeque::new() }
    }

    /// The next change; `None` when the store is closed.
    ///
    /// # Errors
    /// [`Lagged`] if changes were missed.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Lagged> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.changes.recv().await {
                Ok(batch) => {
                    self.ready.extend(batch.iter().filter(|e| e.key.starts_with(&self.prefix)).cloned());
                }
                Err(RecvError::Closed) => return Ok(None),
                Err(RecvError::Lagged(_)) => return Err(Lagged),
            }
        }
    }
}
