// SPDX-License-Identifier: Apache-2.0
//! A disk that is the last thing a controller writes to: before or after the write that was chosen nothing goes on, as if
//! the machine had lost power in that moment.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
const COUNTED: [&str; 10] = [
    "runs/",
    "run-steps/",
    "node-run/",
    "cluster-run/",
    "leases/",
    "jobs/",
    "job-nodes/",
    "job-output/",
    "job-unfinished/",
    "job-ended/",
];

type Choice = Box<dyn FnMut(&Transaction) -> bool + Send>;

/// What becomes of the controller.
enum Fate {
    Lives,
    /// It dies at the write that this is said of.
    Dies(Choice, Moment),
    Dead,
}

/// A disk.
pub struct DyingStore {
    disk: Arc<MemoryStore>,
    writes: AtomicU64,
    fate: Mutex<Fate>,
    dead: Notify,
    is_full: AtomicBool,
}

impl std::fmt::Debug for DyingStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DyingStore").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl DyingStore {
    /// One that lives on.
    #[must_use]
    pub fn new(disk: Arc<MemoryStore>) -> Arc<Self> {
        let (writes, is_full) = Default::default();
        Arc::new(Self { disk, writes, fate: Mutex::new(Fate::Lives), dead: Notify::new(), is_full })
    }

    /// Lets it die at the `nth` write about runs from now on; 1 is the next one.
    pub fn die_at(&self, nth: u64, moment: Moment) {
        let mut left = nth;
        let is_it = move |transaction: &Transaction| {
            left -= u64::from(is_counted(transaction) && left > 0);
            left == 0
        };
        self.die_when(is_it, moment);
    }

    /// Lets it die at the first write of which this is so. Asked of every write, in their order.
    pub fn die_when(&self, is_it: impl FnMut(&Transaction) -> bool + Send + 'static, moment: Moment) {
        *self.fate() = Fate::Dies(Box::new(is_it), moment);
    }

    /// Has no room for anything from now on, or has room again.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::SeqCst);
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

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.fate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the controller dies of this write, if it does. Once it is decided nothing else is written.
    fn dies_of(&self, transaction: &Transaction) -> Option<Moment> {
        let mut fate = self.fate();
        let moment = match &mut *fate {
            Fate::Lives => return None,
            Fate::Dead => return Some(Moment::Before),
            Fate::Dies(is_it, moment) => is_it(transaction).then_some(*moment)?,
        };
        *fate = Fate::Dead;
        Some(moment)
    }

    async fn die(&self) -> ! {
        self.dead.notify_one();
        std::future::pending().await
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
        if self.is_full.load(Ordering::SeqCst) {
            return Err(StoreError::DiskFull);
        }
        self.writes.fetch_add(u64::from(is_counted(&transaction)), Ordering::SeqCst);
        let moment = self.dies_of(&transaction);
        if moment == Some(Moment::Before) {
            self.die().await;
        }
        let committed = self.disk.commit(transaction).await;
        if moment == Some(Moment::After) {
            self.die().await;
        }
        committed
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.disk.watch(prefix)
    }
}
