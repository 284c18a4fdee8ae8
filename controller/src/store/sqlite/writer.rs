// SPDX-License-Identifier: Apache-2.0
//! The one thread that writes. It takes every transaction that is waiting, applies them in their order within one
//! transaction of the database, flushes once, and only then answers; so a flush is shared by all who wait for it.
//!
//! If anything in a group fails, the whole group is rolled back and each transaction is tried on its own, so that one
//! that does not fit on the disk takes no other down. After a flush that failed, nobody can know what the disk holds:
//! the writer then refuses everything until the controller is started again and has read back what is there.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, OptionalExtension, TransactionBehavior, ffi, params};
use tokio::sync::{broadcast, mpsc, oneshot};

use super::super::{Change, Committed, Compare, Revision, StoreError, Transaction, WatchEvent};
use super::number;

/// Most transactions that share one flush: bounds how long the first of them waits for the last.
const LARGEST_GROUP: usize = 512;

/// A transaction and who waits for it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) transaction: Transaction,
    pub(super) answer: oneshot::Sender<Result<Committed, StoreError>>,
}

/// The writing connection and what it last wrote.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) revision: Revision,
    pub(super) changes: broadcast::Sender<Arc<Vec<WatchEvent>>>,
    pub(super) failed: Option<(ffi::Error, Option<String>)>,
}

/// What a group did, once it is durable.
struct Done {
    revision: Revision,
    outcomes: Vec<Committed>,
    events: Vec<WatchEvent>,
}

impl Writer {
    /// Serves until every sender is gone.
    pub(super) fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut group = vec![first];
            while group.len() < LARGEST_GROUP
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            self.serve(group);
        }
    }

    fn serve(&mut self, group: Vec<Request>) {
        match self.commit(&group) {
            Ok(outcomes) => {
                for (request, outcome) in group.into_iter().zip(outcomes) {
                    // Whoever asked may have gone away; the transaction is made all the same.
                    let _ = request.answer.send(Ok(outcome));
                }
            }
            Err(_) if group.len() > 1 => group.into_iter().for_each(|request| self.serve(vec![request])),
            Err(_) if group.is_empty() => {}
            Err(error) => {
                for request in group {
                    let _ = request.answer.send(Err(StoreError::new("write", copy(&error))));
                }
            }
        }
    }

    fn commit(&mut self, group: &[Request]) -> rusqlite::Result<Vec<Committed>> {
        if let Some((code, message)) = &self.failed {
            return Err(rusqlite::Error::SqliteFailure(*code, message.clone()));
        }
        match apply(&mut self.connection, self.revision, group) {
            Ok(done) => {
                self.revision = done.revision;
                if !done.events.is_empty() {
                    // Nobody watching is no error.
                    let _ = self.changes.send(Arc::new(done.events));
                }
                Ok(done.outcomes)
            }
            Err(error) => {
                if let rusqlite::Error::SqliteFailure(code, message) = &error
                    && is_final(*code)
                {
                    tracing::error!(%error, "the state database failed; nothing more is written until a restart");
                    self.failed = Some((*code, message.clone()));
                }
                Err(error)
            }
        }
    }
}

/// Whether the disk's content is uncertain from here on.
fn is_final(error: ffi::Error) -> bool {
    matches!(error.code, ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase)
        || matches!(error.extended_code, ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
}

fn copy(error: &rusqlite::Error) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(code, message) => rusqlite::Error::SqliteFailure(*code, message.clone()),
        other => rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_ERROR), Some(other.to_string())),
    }
}

/// Applies a group and flushes it. On an error nothing of it remains: dropping the transaction rolls it back.
fn apply(connection: &mut Connection, revision: Revision, group: &[Request]) -> rusqlite::Result<Done> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut done = Done { revision, outcomes: Vec::with_capacity(group.len()), events: Vec::new() };
    let mut statements = Statements::prepare(&transaction)?;
    for request in group {
        let outcome = statements.apply(&request.transaction, done.revision + 1, &mut done.events)?;
        if let Committed::Yes(revision) = outcome {
            done.revision = revision;
        }
        done.outcomes.push(outcome);
    }
    drop(statements);
    if done.revision != revision {
        let mut remember = transaction.prepare_cached("UPDATE meta SET value = ?1 WHERE name = 'revision'")?;
        remember.execute([number(done.revision)])?;
    }
    transaction.commit()?;
    Ok(done)
}

struct Statements<'c> {
    revision: CachedStatement<'c>,
    following: CachedStatement<'c>,
    put: CachedStatement<'c>,
    delete: CachedStatement<'c>,
}

impl<'c> Statements<'c> {
    fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            revision: connection.prepare_cached("SELECT revision FROM keys WHERE key = ?1")?,
            following: connection.prepare_cached("SELECT key FROM keys WHERE key >= ?1 ORDER BY key")?,
            put: connection.prepare_cached("INSERT OR REPLACE INTO keys VALUES (?1, ?2, ?3)")?,
            delete: connection.prepare_cached("DELETE FROM keys WHERE key = ?1")?,
        })
    }

    /// Every condition is checked before anything is written, so a conflict leaves nothing to undo.
    fn apply(
        &mut self,
        transaction: &Transaction,
        revision: Revision,
        events: &mut Vec<WatchEvent>,
    ) -> rusqlite::Result<Committed> {
        for compare in &transaction.compares {
            if !self.holds(compare)? {
                return Ok(Committed::Conflict);
            }
        }
        for change in &transaction.changes {
            match change {
                Change::Put(key, value) => {
                    self.put.execute(params![key, value, number(revision)])?;
                    events.push(WatchEvent { revision, key: key.clone(), value: Some(value.clone()) });
                }
                Change::Delete(key) => self.delete(key.clone(), revision, events)?,
                Change::DeletePrefix(prefix) => {
                    for key in self.beginning_with(prefix)? {
                        self.delete(key, revision, events)?;
                    }
                }
            }
        }
        Ok(Committed::Yes(revision))
    }

    fn holds(&mut self, compare: &Compare) -> rusqlite::Result<bool> {
        let (Compare::Absent(key) | Compare::Unchanged(key, _)) = compare;
        let written: Option<i64> = self.revision.query_row([key], |row| row.get(0)).optional()?;
        Ok(match compare {
            Compare::Absent(_) => written.is_none(),
            Compare::Unchanged(_, revision) => written == Some(number(*revision)),
        })
    }

    fn delete(&mut self, key: String, revision: Revision, events: &mut Vec<WatchEvent>) -> rusqlite::Result<()> {
        if self.delete.execute([&key])? > 0 {
            events.push(WatchEvent { revision, key, value: None });
        }
        Ok(())
    }

    fn beginning_with(&mut self, prefix: &str) -> rusqlite::Result<Vec<String>> {
        let mut rows = self.following.query([prefix])?;
        let mut keys = Vec::new();
        while let Some(row) = rows.next()? {
            let key: String = row.get(0)?;
            if !key.starts_with(prefix) {
                break;
            }
            keys.push(key);
        }
        Ok(keys)
    }
}
