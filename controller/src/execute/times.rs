// SPDX-License-Identifier: Apache-2.0
//! How long a machine takes to reach each stage: learned from every one that came well, else a first guess.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use windlass_types::machine::{Accel, MachineStage, ProviderKind};

use crate::store::{Committed, Store, StoreError, Transaction};

/// A new time counts as much as this many old ones: a changed image is known after a few machines.
const WEIGHT: u64 = 2;

/// Milliseconds from the beginning to each stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(BTreeMap<MachineStage, u64>);

impl Times {
    /// Seen on one machine of each kind: two processors, a small image, a repository nearby.
    #[must_use]
    pub fn guess(accel: Option<Accel>) -> Self {
        let seconds: [u64; 6] = match accel {
            Some(Accel::Kvm) => [1, 2, 8, 15, 17, 18],
            Some(Accel::Emulation) | None => [2, 5, 35, 70, 75, 78],
        };
        Self(MachineStage::ALL.into_iter().zip(seconds.map(|seconds| seconds * 1000)).collect())
    }

    /// Until a stage is reached.
    #[must_use]
    pub fn until(&self, stage: MachineStage) -> u64 {
        self.0.get(&stage).copied().unwrap_or(0)
    }

    /// Until all is done.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.until(MachineStage::Healthy)
    }

    /// Notes when a stage was reached.
    pub fn reached(&mut self, stage: MachineStage, after: Duration) {
        self.0.insert(stage, u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    }

    /// Learns from one more machine.
    #[must_use]
    pub fn learned(&self, seen: &Self) -> Self {
        let mut all = self.0.clone();
        for (stage, new) in &seen.0 {
            let old = all.get(stage).copied().unwrap_or(*new);
            all.insert(*stage, old.saturating_add(new.saturating_mul(WEIGHT)) / (WEIGHT + 1));
        }
        Self(all)
    }
}

/// The stored times.
#[derive(Debug)]
pub struct TimesStore {
    store: Arc<dyn Store>,
}

impl TimesStore {
    /// Times in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// What is expected of machines of this kind. A record that cannot be read is as good as none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn expected(&self, provider: ProviderKind, accel: Option<Accel>) -> Result<Times, StoreError> {
        let entry = self.store.get(&key(provider, accel)).await?;
        let known = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok());
        Ok(known.unwrap_or_else(|| Times::guess(accel)))
    }

    /// Learns from a machine that came well.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn learn(&self, provider: ProviderKind, accel: Option<Accel>, seen: &Times) -> Result<(), StoreError> {
        let mut transaction = Transaction::new();
        // Also for whoever asks before it is known how the processor will be made.
        for key in [key(provider, accel), key(provider, None)] {
            let known = self.store.get(&key).await?;
            let known: Option<Times> = known.and_then(|entry| serde_json::from_slice(&entry.value).ok());
            let learned = known.map_or_else(|| seen.clone(), |known| known.learned(seen));
            transaction = transaction.put(key, serde_json::to_vec(&learned).expect("times are always JSON"));
        }
        let _: Committed = self.store.commit(transaction).await?;
        Ok(())
    }
}

fn key(provider: ProviderKind, accel: Option<Accel>) -> String {
    let accel = accel.map_or_else(|| "any".to_owned(), |accel| accel.to_string());
    format!("run-times/{provider}-{accel}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn the_first_machine_replaces_the_guess_and_further_ones_move_it() {
        let times = TimesStore::new(MemoryStore::new());
        let expected = async || times.expected(ProviderKind::Qemu, Some(Accel::Kvm)).await.expect("readable").whole();
        assert_eq!(expected().await, Times::guess(Some(Accel::Kvm)).whole());
        for (seconds, known) in [(30, 30_000), (60, 50_000)] {
            let mut seen = Times::default();
            seen.reached(MachineStage::Healthy, Duration::from_secs(seconds));
            times.learn(ProviderKind::Qemu, Some(Accel::Kvm), &seen).await.expect("written");
            assert_eq!(expected().await, known);
        }
    }
}
