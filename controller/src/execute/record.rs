// SPDX-License-Identifier: Apache-2.0
//! What the store keeps of runs.
//!
//! `runs/ID` the record with its plan; `run-steps/ID/STEP` where each step stands, written before it begins and when it
//! has ended; `cluster-run/NAME` the run under way on a cluster and `node-run/NODE` the one that has a node, of which there
//! is one at most; `run-times/…` how long things took. Ids are padded so that they sort.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_plan::{NodeWish, Plan, StepId};
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::{NodeName, RunId};
use windlass_types::run::RunState;
use windlass_types::time::UnixMillis;

use super::run::StepRecord;
use crate::cloud_init::Repository;
use crate::observe::{ClusterRecord, know};
use crate::store::{Committed, Compare, Entry, Store, StoreError, Transaction};

const RUNS: &str = "runs/";
const NEXT: &str = "meta/next-run";
const CLUSTER_LOCKS: &str = "cluster-run/";
const NODE_LOCKS: &str = "node-run/";

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
    /// Why it begins no further node; `None` if it does.
    #[serde(default)]
    pub paused: Option<String>,
    /// Nodes that count when it is asked how many are down; empty if all do.
    #[serde(default)]
    pub members: Vec<NodeName>,
    /// How often its plan has grown since it was confirmed, by nodes that could not be asked then.
    #[serde(default)]
    pub revision: u32,
    /// Nodes that count as failed although none of their steps did: they were not there to be planned for.
    #[serde(default)]
    pub failed: BTreeSet<NodeName>,
    /// Where it stands.
    pub state: RunState,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// Once it has ended: how many of its steps ended well. A list need not read every step for it.
    #[serde(default)]
    pub done_count: Option<u32>,
}

impl RunRecord {
    /// A run that begins. Its id is given by whoever stores it.
    #[must_use]
    pub fn new(plan: Plan, created_by: String, created_at: UnixMillis, first_event: u64) -> Self {
        Self {
            id: id(0),
            plan,
            inputs: Inputs::default(),
            created_by,
            created_at,
            first_event,
            stop_requested: false,
            paused: None,
            members: Vec::new(),
            revision: 0,
            failed: BTreeSet::new(),
            state: RunState::Running,
            ended_at: None,
            done_count: None,
        }
    }
}

/// What new machines are told besides their plan, and what nodes shall become.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// Where packages come from.
    pub repositories: Vec<StoredRepository>,
    /// Keys that may log in with ssh.
    pub ssh_keys: Vec<String>,
    /// What the nodes shall become: they are asked again before each one's turn.
    #[serde(default)]
    pub wishes: BTreeMap<NodeName, NodeWish>,
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
    /// Another run is under way there.
    #[error("run {} is under way on {}, begun by {}", .0.run, .0.what, .0.by)]
    Busy(Busy),
    /// A record is none of this version's: another one wrote it, or it is damaged.
    #[error("the stored record {key} is not one that this version of Windlass understands")]
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

    /// Stores a new run, if no other is under way on its cluster or any of its nodes. The id is filled in.
    ///
    /// # Errors
    /// Names the other run.
    pub async fn create(
        &self,
        mut record: RunRecord,
        cluster: Option<&ClusterRecord>,
    ) -> Result<RunRecord, RecordError> {
        loop {
            self.require_free(&record.plan).await?;
            let entry = self.store.get(NEXT).await?;
            let number = next_number(entry.as_ref());
            record.id = id(number);
            let counter = match &entry {
                Some(entry) => Compare::Unchanged(entry.key.clone(), entry.revision),
                None => Compare::Absent(NEXT.to_owned()),
            };
            let transaction = Transaction::new().when(counter).put(NEXT, (number + 1).to_string());
            let transaction = taking(transaction, &record).put(run_key(&record.id), json(&record));
            let transaction = self.forget_old(transaction, number).await?;
            let transaction = match cluster {
                Some(cluster) => know(transaction, cluster),
                None => transaction,
            };
            if let Committed::Yes(_) = self.store.commit(transaction).await? {
                return Ok(record);
            }
        }
    }

    /// Stores that a run goes on, with the steps that wait again. One that has ended must find its nodes free.
    ///
    /// # Errors
    /// Names the run that has one of them.
    pub async fn reopen(&self, record: &RunRecord, steps: &[(StepId, StepRecord)]) -> Result<(), RecordError> {
        loop {
            let mut transaction = Transaction::new().put(run_key(&record.id), json(record));
            match self.under_way(&record.plan).await? {
                Some(Busy { run, .. }) if run == record.id => {}
                Some(busy) => return Err(RecordError::Busy(busy)),
                None => transaction = taking(transaction, record),
            }
            for (id, step) in steps {
                transaction = transaction.put(step_key(&record.id, id), json(step));
            }
            if let Committed::Yes(_) = self.store.commit(transaction).await? {
                return Ok(());
            }
        }
    }

    async fn require_free(&self, plan: &Plan) -> Result<(), RecordError> {
        match self.under_way(plan).await? {
            Some(busy) => Err(RecordError::Busy(busy)),
            None => Ok(()),
        }
    }

    /// The run that is under way where this plan would be carried out.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn under_way(&self, plan: &Plan) -> Result<Option<Busy>, RecordError> {
        for (key, what) in locks(plan) {
            let entry = self.store.get(&key).await?;
            if let Some(run) = entry.and_then(|entry| RunId::new(String::from_utf8(entry.value).ok()?).ok()) {
                let record = match self.get(&run).await {
                    Err(RecordError::Unreadable { .. }) => None,
                    record => record?,
                };
                let by = record.map_or_else(|| "nobody knows whom".to_owned(), |record| record.created_by);
                return Ok(Some(Busy { run, what, by }));
            }
        }
        Ok(None)
    }

    async fn forget_old(&self, transaction: Transaction, number: u64) -> Result<Transaction, RecordError> {
        let Some(old) = number.checked_sub(KEEP).filter(|old| *old > 0) else { return Ok(transaction) };
        let old = id(old);
        match self.get(&old).await {
            Ok(Some(record)) if !record.state.is_final() => return Ok(transaction),
            Err(RecordError::Unreadable { .. }) if self.unfinished().await?.contains(&old) => return Ok(transaction),
            Ok(_) | Err(RecordError::Unreadable { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(transaction.delete(run_key(&old)).delete_prefix(format!("run-steps/{old}/")))
    }

    /// Stores that a run which cannot be understood is given up: in its place there is one without steps, and what it took
    /// for itself is free.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn give_up(&self, record: &RunRecord) -> Result<(), StoreError> {
        let mut transaction = Transaction::new()
            .put(run_key(&record.id), json(record))
            .delete_prefix(format!("run-steps/{}/", record.id));
        for locks in [CLUSTER_LOCKS, NODE_LOCKS] {
            let entries = self.store.range(locks, None, usize::MAX).await?;
            let its = entries.into_iter().filter(|entry| entry.value == record.id.as_str().as_bytes());
            transaction = its.fold(transaction, |transaction, entry| transaction.delete(entry.key));
        }
        let _: Committed = self.store.commit(transaction).await?;
        Ok(())
    }

    /// Runs that were under way.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn unfinished(&self) -> Result<BTreeSet<RunId>, StoreError> {
        let mut ids = BTreeSet::new();
        for locks in [CLUSTER_LOCKS, NODE_LOCKS] {
            let entries = self.store.range(locks, None, usize::MAX).await?;
            ids.extend(entries.into_iter().filter_map(|entry| RunId::new(String::from_utf8(entry.value).ok()?).ok()));
        }
        Ok(ids)
    }

    /// A run.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn get(&self, id: &RunId) -> Result<Option<RunRecord>, RecordError> {
        let key = run_key(id);
        let Some(entry) = self.store.get(&key).await? else { return Ok(None) };
        let record: RunRecord =
            serde_json::from_slice(&entry.value).map_err(|source| RecordError::Unreadable { key, source })?;
        // The key is the number alone: r07 would be found as r7, and taken for another run.
        Ok(Some(record).filter(|record| record.id == *id))
    }

    /// The newest runs, newest first, each as it is `shown`: one plan at a time is in memory. One that cannot be understood
    /// is reported and left out; it must not hide all others.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn newest<T>(&self, limit: usize, shown: impl Fn(&RunRecord) -> T) -> Result<Vec<T>, RecordError> {
        let next = next_number(self.store.get(NEXT).await?.as_ref());
        let mut found = Vec::new();
        for number in (next.saturating_sub(KEEP).max(1)..next).rev() {
            if found.len() == limit {
                break;
            }
            match self.get(&id(number)).await {
                Ok(record) => found.extend(record.as_ref().map(&shown)),
                Err(error @ RecordError::Unreadable { .. }) => {
                    tracing::warn!(error = %ErrorChain(&error), "a run is not listed");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
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

    /// Stores a run whose plan has grown since `before`. A node that it leaves out is free.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn grow(&self, record: &RunRecord, before: &Plan) -> Result<(), StoreError> {
        let has: BTreeSet<_> = locks(&record.plan).into_iter().collect();
        self.save_and_free(record, locks(before).into_iter().filter(|lock| !has.contains(lock)).collect()).await
    }

    /// Stores that a run has ended: its cluster and its nodes are free for the next.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn finish(&self, record: &RunRecord) -> Result<(), StoreError> {
        self.save_and_free(record, locks(&record.plan)).await
    }

    async fn save_and_free(&self, record: &RunRecord, freed: Vec<(String, String)>) -> Result<(), StoreError> {
        let transaction = Transaction::new().put(run_key(&record.id), json(record));
        let free = |transaction: Transaction, (key, _)| transaction.delete(key);
        let _: Committed = self.store.commit(freed.into_iter().fold(transaction, free)).await?;
        Ok(())
    }
}

/// A run that is in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Busy {
    /// Which.
    pub run: RunId,
    /// On what.
    pub what: String,
    /// Who began it.
    pub by: String,
}

/// What a plan takes for itself while it is carried out, as keys and in words.
fn locks(plan: &Plan) -> Vec<(String, String)> {
    let cluster = plan.cluster.iter().map(|name| (format!("{CLUSTER_LOCKS}{name}"), "this cluster".to_owned()));
    let queued = plan.queued.iter().map(|queued| &queued.node);
    let nodes: BTreeSet<_> = plan.steps.iter().filter_map(|planned| planned.step.node()).chain(queued).collect();
    let nodes = nodes.into_iter().map(|node| (format!("{NODE_LOCKS}{node}"), node.to_string()));
    cluster.chain(nodes).collect()
}

fn taking(transaction: Transaction, record: &RunRecord) -> Transaction {
    locks(&record.plan).into_iter().fold(transaction, |transaction, (key, _)| {
        transaction.when(Compare::Absent(key.clone())).put(key, record.id.as_str())
    })
}

fn next_number(entry: Option<&Entry>) -> u64 {
    entry.and_then(|entry| std::str::from_utf8(&entry.value).ok()?.parse().ok()).unwrap_or(1)
}

fn id(number: u64) -> RunId {
    RunId::new(format!("r{number}")).expect("an r and a number")
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
