// SPDX-License-Identifier: Apache-2.0
//! What the store keeps of runs.
//!
//! `runs/ID` the record with its plan; `run-steps/ID/STEP` where each step stands, written before it begins and when it
//! has ended; `cluster-run/NAME` the run under way on a cluster, of which there is one at most; `run-times/…` how long
//! machines took. Ids are padded so that they sort.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_plan::{Plan, StepId};
use windlass_types::name::{ClusterName, RunId};
use windlass_types::run::RunState;
use windlass_types::time::UnixMillis;

use super::run::StepRecord;
use crate::cloud_init::Repository;
use crate::observe::{ClusterRecord, know};
use crate::store::{Committed, Compare, Store, StoreError, Transaction};

const RUNS: &str = "runs/";
const NEXT: &str = "meta/next-run";

/// Runs kept; older ones are forgotten.
const KEEP: u64 = 200;

/// A run as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunRecord {
    /// Its id.
    pub id: RunId,
    /// What is carried out.
    pub plan: Plan,
    /// What new machines are told.
    pub inputs: Inputs,
    /// Who asked.
    pub created_by: String,
    /// When.
    pub created_at: UnixMillis,
    /// The newest event when it began: its own are all after it.
    pub first_event: u64,
    /// Somebody asked it to stop.
    pub stop_requested: bool,
    /// Where it stands.
    pub state: RunState,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
}

/// What new machines are told besides their plan. Nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Where packages come from.
    pub repositories: Vec<StoredRepository>,
    /// Keys that may log in with ssh.
    pub ssh_keys: Vec<String>,
}

/// A repository with the content of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRepository {
    /// Its id.
    pub name: String,
    /// Where it is.
    pub url: String,
    /// The key, ASCII-armoured.
    pub key: String,
    /// Its metadata is signed too.
    pub signed_metadata: bool,
}

impl From<StoredRepository> for Repository {
    fn from(stored: StoredRepository) -> Self {
        let StoredRepository { name, url, key, signed_metadata } = stored;
        Self { id: name, base_url: url, key, has_signed_metadata: signed_metadata }
    }
}

/// A run that could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another run is under way on the cluster.
    #[error("run {0} is under way on this cluster")]
    Busy(RunId),
    /// A record cannot be read.
    #[error("understand the stored record {key}")]
    Unreadable {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The stored runs.
#[derive(Debug, Clone)]
pub struct Records {
    store: Arc<dyn Store>,
}

impl Records {
    /// Runs in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Stores a new run, if no other is under way on its cluster. The id is filled in.
    ///
    /// # Errors
    /// Names the other run.
    pub async fn create(&self, mut record: RunRecord, cluster: &ClusterRecord) -> Result<RunRecord, RecordError> {
        let lock = lock_key(&cluster.name);
        loop {
            if let Some(other) = self.under_way(&cluster.name).await? {
                return Err(RecordError::Busy(other));
            }
            let entry = self.store.get(NEXT).await?;
            let number: u64 =
                entry.as_ref().and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()).unwrap_or(1);
            record.id = RunId::new(format!("r{number}")).expect("an r and a number");
            let counter = match &entry {
                Some(entry) => Compare::Unchanged(entry.key.clone(), entry.revision),
                None => Compare::Absent(NEXT.to_owned()),
            };
            let transaction = Transaction::new()
                .when(counter)
                .when(Compare::Absent(lock.clone()))
                .put(NEXT, (number + 1).to_string())
                .put(lock.clone(), record.id.as_str())
                .put(run_key(&record.id), json(&record));
            let transaction = know(forget_old(transaction, number), cluster);
            if let Committed::Yes(_) = self.store.commit(transaction).await? {
                return Ok(record);
            }
        }
    }

    /// The run under way on a cluster.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn under_way(&self, cluster: &ClusterName) -> Result<Option<RunId>, StoreError> {
        let entry = self.store.get(&lock_key(cluster)).await?;
        Ok(entry.and_then(|entry| RunId::new(String::from_utf8(entry.value).ok()?).ok()))
    }

    /// Runs that were under way.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn unfinished(&self) -> Result<Vec<RunRecord>, RecordError> {
        let mut found = Vec::new();
        for entry in self.store.range("cluster-run/", None, usize::MAX).await? {
            if let Some(id) = String::from_utf8(entry.value).ok().and_then(|id| RunId::new(id).ok())
                && let Some(record) = self.get(&id).await?
            {
                found.push(record);
            }
        }
        Ok(found)
    }

    /// A run.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get(&self, id: &RunId) -> Result<Option<RunRecord>, RecordError> {
        let key = run_key(id);
        let entry = self.store.get(&key).await?;
        let read = |entry: crate::store::Entry| {
            serde_json::from_slice(&entry.value).map_err(|source| RecordError::Unreadable { key, source })
        };
        entry.map(read).transpose()
    }

    /// All runs, newest first.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn newest(&self, limit: usize) -> Result<Vec<RunRecord>, RecordError> {
        let entries = self.store.range(RUNS, None, usize::MAX).await?;
        let read = |entry: &crate::store::Entry| {
            let failed = |source| RecordError::Unreadable { key: entry.key.clone(), source };
            serde_json::from_slice(&entry.value).map_err(failed)
        };
        entries.iter().rev().take(limit).map(read).collect()
    }

    /// Where the steps of a run stand.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn steps(&self, record: &RunRecord) -> Result<BTreeMap<StepId, StepRecord>, RecordError> {
        let mut known = BTreeMap::new();
        for planned in &record.plan.steps {
            let key = step_key(&record.id, &planned.id);
            if let Some(entry) = self.store.get(&key).await? {
                let step =
                    serde_json::from_slice(&entry.value).map_err(|source| RecordError::Unreadable { key, source })?;
                known.insert(planned.id.clone(), step);
            }
        }
        Ok(known)
    }

    /// Stores where a step stands.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn save_step(&self, run: &RunId, step: &StepId, record: &StepRecord) -> Result<(), StoreError> {
        let _: Committed = self.store.commit(Transaction::new().put(step_key(run, step), json(record))).await?;
        Ok(())
    }

    /// Stores a run.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn save(&self, record: &RunRecord) -> Result<(), StoreError> {
        let _: Committed = self.store.commit(Transaction::new().put(run_key(&record.id), json(record))).await?;
        Ok(())
    }

    /// Stores that a run has ended: its cluster is free for the next.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn finish(&self, record: &RunRecord) -> Result<(), StoreError> {
        let transaction = Transaction::new().put(run_key(&record.id), json(record));
        let transaction = match &record.plan.cluster {
            Some(cluster) => transaction.delete(lock_key(cluster)),
            None => transaction,
        };
        let _: Committed = self.store.commit(transaction).await?;
        Ok(())
    }
}

fn forget_old(transaction: Transaction, number: u64) -> Transaction {
    let Some(old) = number.checked_sub(KEEP).filter(|old| *old > 0) else { return transaction };
    let old = RunId::new(format!("r{old}")).expect("an r and a number");
    transaction.delete(run_key(&old)).delete_prefix(format!("run-steps/{old}/"))
}

fn lock_key(cluster: &ClusterName) -> String {
    format!("cluster-run/{cluster}")
}

fn run_key(id: &RunId) -> String {
    format!("{RUNS}{:0>20}", &id.as_str()[1..])
}

fn step_key(run: &RunId, step: &StepId) -> String {
    format!("run-steps/{run}/{step}")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are always JSON")
}
