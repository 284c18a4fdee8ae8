// SPDX-License-Identifier: Apache-2.0
//! A disk that is the last thing a controller writes to: before or after the write that was chosen nothing goes on, as if
//! the machine had lost power in that moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Change, Committed, Entry, Store, StoreError, Transaction, Watch};

/// When the controller dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before the write.
    Before,
    /// When it is on the disk and nobody was told.
    After,
}

/// Keys that say how a run stands; the others change with the time of day.
const COUNTED: [&str; 9] = [
    "runs/",
    "run-steps/",
    "node-run/",
    "cluster-run/",
    "leases/",
    "jobs/",
    "job-nodes/",
    "job-output/",
    "job-unfinished/",
];

/// A disk.
#[derive(Debug)]
pub struct DyingStore {
    disk: Arc<MemoryStore>,
    writes: AtomicU64,
    dies_at: Mutex<Option<(u64, Moment)>>,
    dead: Notify,
}

impl DyingStore {
    /// One that lives on.
    #[must_use]
    pub fn new(disk: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self { disk, writes: AtomicU64::new(0), dies_at: Mutex::default(), dead: Notify::new() })
    }

    /// Lets it die at the `nth` write about runs from now on; 1 is the next one.
    pub fn die_at(&self, nth: u64, moment: Moment) {
        let at = self.writes.load(Ordering::SeqCst) + nth;
        *self.dies_at.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, moment));
    }

    /// Writes about runs so far.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::SeqCst)
    }

    /// Waits until it died.
    pub async fn died(&self) {
        self.dead.notified().await;
    }

    async fn die_if(&self, at: Option<u64>, moment: Moment) {
        let planned = *self.dies_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = match (planned, at) {
            (Some((dies_at, when)), Some(at)) => at > dies_at || at == dies_at && when == moment,
            // What is written later than the last moment is not written.
            (Some((dies_at, when)), None) => {
                let writes = self.writes.load(Ordering::SeqCst);
                writes > dies_at || writes == dies_at && when == Moment::Before
            }
            (None, _) => false,
        };
        if is_over {
            self.dead.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

fn is_counted(transaction: &Transaction) -> bool {
    transaction.changes.iter().any(|change| {
        let (Change::Put(key, _) | Change::Delete(key) | Change::DeletePrefix(key)) = change;
        COUNTED.iter().any(|prefix| key.starts_with(prefix))
    })
}

#[async_trait]
impl Store for DyingStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.disk.get(key).await
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.disk.range(prefix, after, limit).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let at = is_counted(&transaction).then(|| self.writes.fetch_add(1, Ordering::SeqCst) + 1);
        self.die_if(at, Moment::Before).await;
        let committed = self.disk.commit(transaction).await;
        self.die_if(at, Moment::After).await;
        committed
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.disk.watch(prefix)
    }
}
