// SPDX-License-Identifier: Apache-2.0
//! A run that is told something in the moment in which it ends, and one that others are newer than.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Notify;
use windlass_plan::{Plan, Policy};
use windlass_types::run::RunState;
use windlass_types::time::UnixMillis;

use crate::execute::record::RunRecord;
use crate::execute::{ActiveRun, Runs};
use crate::server::testing::controller;
use crate::store::memory::MemoryStore;
use crate::store::{Change, Committed, Entry, Store, StoreError, Transaction, Watch};

/// A store that is slow to say that the end of a run is stored.
#[derive(Debug)]
struct Slow {
    disk: Arc<MemoryStore>,
    stored: Notify,
    goes_on: Notify,
}

fn is_end(change: &Change) -> bool {
    matches!(change, Change::Put(key, value) if key.starts_with("runs/")
        && serde_json::from_slice::<RunRecord>(value).is_ok_and(|record| record.state.is_final()))
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.disk.get(key).await
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.disk.range(prefix, after, limit).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let ends = transaction.changes.iter().any(is_end);
        let committed = self.disk.commit(transaction).await;
        if ends {
            self.stored.notify_one();
            self.goes_on.notified().await;
        }
        committed
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.disk.watch(prefix)
    }
}

async fn runs(store: Arc<Slow>, directory: &std::path::Path) -> Arc<Runs> {
    Arc::clone(&controller(store, directory).await.runs)
}

/// A run without steps, which is at its end as soon as it begins.
fn empty() -> RunRecord {
    RunRecord::new(Plan::empty(None, Policy::default()), "root".to_owned(), UnixMillis(0), 0)
}

/// Found by the simulation, `WINDLASS_SIM_SEED=45` and 50 of `one_run_seed`: it was under way for ever after that, and had
/// none of its nodes.
#[tokio::test]
async fn a_run_that_has_ended_stays_so_whatever_it_is_told_before_everybody_knows() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Slow { disk: MemoryStore::new(), stored: Notify::new(), goes_on: Notify::new() });
    let runs = runs(Arc::clone(&store), directory.path()).await;
    let record = runs.with.records.create(empty(), None).await.expect("stored");
    let id = record.id.clone();
    runs.begin(record);
    store.stored.notified().await;
    assert!(runs.pause(&id, "root").await.expect_err("it has ended").message.contains("has ended"));
    assert!(runs.resume(&id, "root").await.expect_err("it has ended").message.contains("has ended"));
    // Whoever stops it waits until it is stored.
    let (stopped, ()) = tokio::join!(runs.stop(&id, "root"), async { store.goes_on.notify_one() });
    assert_eq!(stopped.expect("it is known").record.state, RunState::Succeeded);
    let stored = runs.with.records.get(&id).await.expect("readable").expect("it is kept");
    assert_eq!(stored.state, RunState::Succeeded);
}

#[tokio::test]
async fn a_run_under_way_is_listed_however_many_are_newer() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Slow { disk: MemoryStore::new(), stored: Notify::new(), goes_on: Notify::new() });
    let runs = runs(store, directory.path()).await;
    let old = runs.with.records.create(empty(), None).await.expect("stored");
    runs.active().insert(old.id.clone(), ActiveRun::new(old, BTreeMap::new()));
    for _ in 0..10 {
        runs.with.records.create(empty(), None).await.expect("stored");
    }
    let listed = async |limit| runs.list(limit, |run| run.id.to_string()).await.expect("readable");
    assert_eq!(listed(2).await, ["r11", "r10", "r1"]);
    assert_eq!(listed(200).await.len(), 11, "once");
}

#[tokio::test]
async fn a_retry_of_nothing_leaves_those_that_were_not_there_counted_as_failed() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Slow { disk: MemoryStore::new(), stored: Notify::new(), goes_on: Notify::new() });
    let runs = runs(store, directory.path()).await;
    let node1 = "node1".parse().expect("a name");
    let record = RunRecord { failed: BTreeSet::from([node1]), ..empty() };
    let record = runs.with.records.create(record, None).await.expect("stored");
    let (id, run) = (record.id.clone(), ActiveRun::new(record, BTreeMap::new()));
    runs.active().insert(id.clone(), Arc::clone(&run));
    let refused = runs.retry(&id, "root").await.expect_err("nothing is to be tried again");
    assert!(refused.message.contains("because node1 was not there"), "{}", refused.message);
    assert!(run.progress().has_failed_too_often(), "no further node may begin");
}

/// Also one that cannot be understood: some version does, and it is to find all of it.
#[tokio::test]
async fn only_runs_that_have_ended_are_forgotten() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemoryStore::new();
    let runs = Arc::clone(&controller(store.clone(), directory.path()).await.runs);
    let records = &runs.with.records;
    let cluster = Some("k8s1".parse().expect("a name"));
    let under_way = RunRecord { plan: Plan::empty(cluster, Policy::default()), ..empty() };
    records.create(under_way, None).await.expect("stored");
    for _ in 0..3 {
        records.create(RunRecord { state: RunState::Failed, ..empty() }, None).await.expect("stored");
    }
    for number in [1, 2] {
        let damaged = Transaction::new().put(format!("runs/{number:0>20}"), "of a later version");
        assert!(matches!(store.commit(damaged).await.expect("there is room"), Committed::Yes(_)));
    }
    let listed = records.newest(10, |run| run.id.to_string()).await.expect("readable");
    assert_eq!(listed, ["r4", "r3"], "one that cannot be understood hides no other");
    for _ in 0..200 {
        records.create(empty(), None).await.expect("stored");
    }
    let left = store.range("runs/", None, usize::MAX).await.expect("readable");
    let left: Vec<_> = left.iter().map(|entry| entry.key.trim_start_matches(['r', 'u', 'n', 's', '/', '0'])).collect();
    assert_eq!(left[..2], ["1", "5"]);
}
