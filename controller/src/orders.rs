// SPDX-License-Identifier: Apache-2.0
//! The numbers that make an order obeyed once: the controller's epoch and the sequence within it.
//!
//! The epoch rises when a restored controller is confirmed, so agents refuse whatever an older copy still says. The
//! sequence rises with every order and across restarts: each start takes a new block of numbers, so it need not be
//! stored for every order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use windlass_types::time::UnixMillis;

use crate::jobs::record::NEXT_JOB;
use crate::store::{Committed, Store, StoreError, Transaction};

const EPOCH: &str = "meta/epoch";
const STARTS: &str = "meta/starts";

/// The store's key that says this state came out of a backup.
pub const RESTORED: &str = "meta/restored";

/// Job ids of one epoch. A restored controller does not know which ids were given after the backup, but agents remember
/// them and would take a new job for one they have done; so each epoch has ids of its own, and leaves out as many after
/// those that the backup knows.
const JOBS_PER_EPOCH: u64 = 1_000_000;

/// How far ahead an epoch may be that an agent says it has obeyed: more restores than a controller ever saw. Who says more
/// lies or is damaged, and must not use up the numbers for all others.
const MOST_AHEAD: u64 = 1000;

/// Orders per start of the controller before numbers would meet the next block's.
const BLOCK: u64 = 1 << 32;

/// Why no epoch was begun.
#[derive(Debug, thiserror::Error)]
pub enum ConfirmError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A number would be larger than any.
    #[error("no epoch can follow epoch {epoch}, in which the next job has the id {next_job}")]
    Exhausted {
        /// The highest epoch known.
        epoch: u64,
        /// The id of the next job.
        next_job: u64,
    },
}

/// The controller's epoch and order sequence.
#[derive(Debug)]
pub struct Epoch {
    store: Arc<dyn Store>,
    number: AtomicU64,
    highest_heard: AtomicU64,
    sequence: AtomicU64,
    read_only: Arc<AtomicBool>,
}

impl Epoch {
    /// Reads the epoch and takes a new block of sequence numbers.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn open(store: Arc<dyn Store>) -> Result<Arc<Self>, StoreError> {
        let number = number(&*store, EPOCH).await?.unwrap_or(1);
        let starts = number_or_zero(&*store, STARTS).await? + 1;
        let restored = store.get(RESTORED).await?.is_some();
        let transaction = Transaction::new().put(EPOCH, number.to_string()).put(STARTS, starts.to_string());
        let _: Committed = store.commit(transaction).await?;
        Ok(Arc::new(Self {
            store,
            number: AtomicU64::new(number),
            highest_heard: AtomicU64::new(number),
            sequence: AtomicU64::new(starts * BLOCK),
            read_only: Arc::new(AtomicBool::new(restored)),
        }))
    }

    /// The epoch.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }

    /// The next order's sequence number.
    #[must_use]
    pub fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether this state was restored and its epoch not confirmed yet; shared with the gate.
    #[must_use]
    pub fn read_only_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.read_only)
    }

    /// Whether nothing may change yet.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// An agent says that it has obeyed this epoch. Says whether that can be: what cannot is not counted.
    pub fn heard_of(&self, epoch: u64) -> bool {
        let can_be = epoch <= self.number().saturating_add(MOST_AHEAD);
        if can_be {
            self.highest_heard.fetch_max(epoch, Ordering::AcqRel);
        }
        can_be
    }

    /// Begins an epoch higher than any heard of, and ends the read-only time.
    ///
    /// # Errors
    /// If the store cannot be written, or there is no higher number; then nothing has changed.
    pub async fn confirm(&self, now: UnixMillis) -> Result<u64, ConfirmError> {
        let epoch = self.highest_heard.load(Ordering::Acquire).max(self.number());
        let next_job = number_or_zero(&*self.store, NEXT_JOB).await?;
        let (next, first_job) = following(epoch, next_job).ok_or(ConfirmError::Exhausted { epoch, next_job })?;
        let confirmed = format!("{next} at {}", now.0);
        let transaction = Transaction::new()
            .put(EPOCH, next.to_string())
            .put(NEXT_JOB, first_job.to_string())
            .put("meta/confirmed", confirmed)
            .delete(RESTORED);
        let _: Committed = self.store.commit(transaction).await?;
        self.number.store(next, Ordering::Release);
        self.read_only.store(false, Ordering::Release);
        Ok(next)
    }
}

/// The epoch after `epoch`, and the id of its first job.
fn following(epoch: u64, next_job: u64) -> Option<(u64, u64)> {
    let first_job = epoch.checked_mul(JOBS_PER_EPOCH)?.checked_add(1)?.max(next_job.checked_add(JOBS_PER_EPOCH)?);
    Some((epoch.checked_add(1)?, first_job))
}

async fn number(store: &dyn Store, key: &str) -> Result<Option<u64>, StoreError> {
    let entry = store.get(key).await?;
    Ok(entry.and_then(|entry| String::from_utf8(entry.value).ok()?.parse().ok()))
}

async fn number_or_zero(store: &dyn Store, key: &str) -> Result<u64, StoreError> {
    Ok(number(store, key).await?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn a_restart_continues_above_every_number_used() {
        let store = MemoryStore::new();
        let first = Epoch::open(store.clone()).await.expect("a new store");
        let last = (0..10).map(|_| first.next_sequence()).max().expect("ten");
        let second = Epoch::open(store).await.expect("the same store");
        assert!(second.next_sequence() > last);
        assert_eq!(second.number(), first.number());
    }

    #[tokio::test]
    async fn confirming_goes_beyond_every_epoch_an_agent_obeyed() {
        let store = MemoryStore::new();
        let restored = Transaction::new().put(RESTORED, "{}");
        assert!(matches!(store.commit(restored).await, Ok(Committed::Yes(_))));
        let epoch = Epoch::open(store.clone()).await.expect("opened");
        assert!(epoch.is_read_only());
        assert!(epoch.heard_of(7));
        assert_eq!(epoch.confirm(UnixMillis(0)).await.expect("confirmed"), 8);
        assert!(!epoch.is_read_only());
        let again = Epoch::open(store).await.expect("opened");
        assert_eq!((again.number(), again.is_read_only()), (8, false));
    }

    #[tokio::test]
    async fn an_epoch_that_cannot_be_does_not_count() {
        let store = MemoryStore::new();
        let epoch = Epoch::open(store).await.expect("a new store");
        assert!(epoch.heard_of(3));
        for impossible in [u64::MAX, u64::MAX - 1, 2 + MOST_AHEAD] {
            assert!(!epoch.heard_of(impossible), "{impossible}");
        }
        assert_eq!(epoch.confirm(UnixMillis(0)).await.expect("confirmed"), 4);
    }

    #[tokio::test]
    async fn where_the_numbers_end_no_epoch_is_begun() {
        for (key, value) in [(EPOCH, u64::MAX), (EPOCH, u64::MAX / JOBS_PER_EPOCH + 1), (NEXT_JOB, u64::MAX)] {
            let store = MemoryStore::new();
            let stored = Transaction::new().put(RESTORED, "{}").put(key, value.to_string());
            assert!(matches!(store.commit(stored).await, Ok(Committed::Yes(_))));
            let epoch = Epoch::open(store.clone()).await.expect("opened");
            let before = epoch.number();
            let refused = epoch.confirm(UnixMillis(0)).await.expect_err("there is no higher number");
            assert!(matches!(refused, ConfirmError::Exhausted { .. }), "{refused}");
            assert_eq!((epoch.number(), epoch.is_read_only()), (before, true));
        }
    }

    #[tokio::test]
    async fn a_confirmed_controller_gives_no_job_id_again_that_was_given_after_the_backup() {
        for (in_backup, first) in [("7", 1_000_007), ("999999", 1_999_999), ("1200000", 2_200_000)] {
            let store = MemoryStore::new();
            let backup = Transaction::new().put(RESTORED, "{}").put(NEXT_JOB, in_backup);
            assert!(matches!(store.commit(backup).await, Ok(Committed::Yes(_))));
            let epoch = Epoch::open(store.clone()).await.expect("opened");
            epoch.confirm(UnixMillis(0)).await.expect("confirmed");
            assert_eq!(number(&*store, NEXT_JOB).await.expect("readable"), Some(first), "{in_backup}");
        }
    }

    #[tokio::test]
    async fn an_old_backup_gives_no_job_id_again_of_the_epochs_after_it() {
        let store = MemoryStore::new();
        let backup = Transaction::new().put(RESTORED, "{}").put(NEXT_JOB, "7");
        assert!(matches!(store.commit(backup).await, Ok(Committed::Yes(_))));
        let epoch = Epoch::open(store.clone()).await.expect("opened");
        assert!(epoch.heard_of(4));
        epoch.confirm(UnixMillis(0)).await.expect("confirmed");
        assert_eq!(number(&*store, NEXT_JOB).await.expect("readable"), Some(4_000_001));
    }
}
