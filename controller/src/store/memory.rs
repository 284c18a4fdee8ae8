// SPDX-License-Identifier: Apache-2.0
//! A store without a disk, for tests and simulations. It means the same as [`super::sqlite`]: one suite of tests holds
//! both to the same contract, and random transactions must leave both in the same state.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{
    Change, Committed, Compare, Entry, Revision, Store, StoreError, Transaction, WATCH_BACKLOG, Watch, WatchEvent,
};

/// Keys in memory.
#[derive(Debug)]
pub struct MemoryStore {
    state: Mutex<State>,
    changes: broadcast::Sender<Arc<Vec<WatchEvent>>>,
}

#[derive(Debug, Default)]
struct State {
    keys: BTreeMap<String, (Vec<u8>, Revision)>,
    revision: Revision,
    full: bool,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changes: broadcast::Sender::new(WATCH_BACKLOG) })
    }

    /// Pretends that the disk is full, or has room again.
    pub fn set_full(&self, full: bool) {
        self.state().full = full;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn holds(&self, compare: &Compare) -> bool {
        match compare {
            Compare::Absent(key) => !self.keys.contains_key(key),
            Compare::Unchanged(key, revision) => self.keys.get(key).is_some_and(|(_, written)| written == revision),
        }
    }

    fn from<'a>(&'a self, prefix: &'a str, start: Bound<&'a str>) -> impl Iterator<Item = Entry> + 'a {
        self.keys
            .range::<str, _>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, (value, revision))| Entry { key: key.clone(), value: value.clone(), revision: *revision })
    }

    fn remove(&mut self, key: String) -> Option<WatchEvent> {
        self.keys.remove(&key).map(|_| WatchEvent { revision: self.revision, key, value: None })
    }

    fn apply(&mut self, change: Change) -> Vec<WatchEvent> {
        match change {
            Change::Put(key, value) => {
                self.keys.insert(key.clone(), (value.clone(), self.revision));
                vec![WatchEvent { revision: self.revision, key, value: Some(value) }]
            }
            Change::Delete(key) => self.remove(key).into_iter().collect(),
            Change::DeletePrefix(prefix) => {
                let keys: Vec<_> = self.from(&prefix, Bound::Included(&prefix)).map(|entry| entry.key).collect();
                keys.into_iter().filter_map(|key| self.remove(key)).collect()
            }
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        Ok(self.state().keys.get(key).map(|(value, revision)| Entry {
            key: key.to_owned(),
            value: value.clone(),
            revision: *revision,
        }))
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        Ok(self.state().from(prefix, start).take(limit).collect())
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let mut state = self.state();
        if state.full {
            return Err(StoreError::DiskFull);
        }
        if !transaction.compares.iter().all(|compare| state.holds(compare)) {
            return Ok(Committed::Conflict);
        }
        state.revision += 1;
        let events: Vec<_> = transaction.changes.into_iter().flat_map(|change| state.apply(change)).collect();
        // Sent while the state is locked, so that watchers see transactions in their order. No watcher is no error.
        let _ = self.changes.send(Arc::new(events));
        Ok(Committed::Yes(state.revision))
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.changes.subscribe())
    }
}
