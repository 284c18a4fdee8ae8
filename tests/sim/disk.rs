// SPDX-License-Identifier: Apache-2.0
//! The bastion's disk, which is slow now and then: what is written is there later, and whoever wrote it is told later
//! still. Meanwhile others ask, and the controller may die.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fastrand::Rng;
use tokio::sync::Mutex;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Committed, Entry, Store, StoreError, Transaction, Watch};

/// A slow disk.
#[derive(Debug)]
pub(crate) struct SlowDisk {
    disk: Arc<MemoryStore>,
    /// Who writes now: all is written in the order in which it was handed in.
    turn: Mutex<Rng>,
}

impl SlowDisk {
    pub(crate) fn new(disk: Arc<MemoryStore>, seed: u64) -> Arc<Self> {
        Arc::new(Self { disk, turn: Mutex::new(Rng::with_seed(seed)) })
    }
}

fn pause(rng: &mut Rng) -> Duration {
    Duration::from_millis(match rng.u8(0..40) {
        0..=31 => 0,
        32..=37 => rng.u64(1..30),
        38 => rng.u64(30..200),
        _ => rng.u64(200..900),
    })
}

async fn rest(pause: Duration) {
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
}

#[async_trait]
impl Store for SlowDisk {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.disk.get(key).await
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.disk.range(prefix, after, limit).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let mut rng = self.turn.lock().await;
        let (before, after) = (pause(&mut rng), pause(&mut rng));
        rest(before).await;
        let committed = self.disk.commit(transaction).await;
        drop(rng);
        rest(after).await;
        committed
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.disk.watch(prefix)
    }
}
