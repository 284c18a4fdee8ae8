// SPDX-License-Identifier: Apache-2.0
//! How long nodes take for each kind of step, learned from all that went well.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use windlass_types::node_step::NodeStep;

use crate::store::{Committed, Store, StoreError, Transaction};

const KEY: &str = "run-times/steps";

/// A new time counts as much as this many old ones: nodes become faster or slower with their software.
const WEIGHT: u64 = 2;

/// The times by kind of step. Read once, and kept when a run ends: what is lost when a controller is killed before, it
/// learns again.
#[derive(Debug)]
pub struct StepTimes {
    store: Arc<dyn Store>,
    known: Mutex<Option<BTreeMap<String, u64>>>,
}

impl StepTimes {
    /// Times in a store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// How long a node takes for a kind of step, milliseconds; 0 if that is not known.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn expected(&self, verb: &str) -> Result<u64, StoreError> {
        self.read().await?;
        Ok(self.known().as_ref().and_then(|known| known.get(verb).copied()).unwrap_or(0))
    }

    /// The same for a plan that is shown, milliseconds: a first guess where nothing is known, and whether it is one.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn expected_or_guess(&self, step: &NodeStep) -> Result<(u64, bool), StoreError> {
        self.read().await?;
        let learned = self.known().as_ref().and_then(|known| known.get(step.verb()).copied());
        Ok(learned.map_or_else(|| (guess(step) * 1000, true), |learned| (learned, false)))
    }

    /// Learns from a step that was done.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn learn(&self, verb: &str, took: Duration) -> Result<(), StoreError> {
        self.read().await?;
        let new = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let mut known = self.known();
        let old = known.get_or_insert_default().entry(verb.to_owned()).or_insert(new);
        *old = old.saturating_add(new.saturating_mul(WEIGHT)) / (WEIGHT + 1);
        Ok(())
    }

    /// Stores what was learned.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn keep(&self) -> Result<(), StoreError> {
        let Some(known) = self.known().clone() else { return Ok(()) };
        let value = serde_json::to_vec(&known).expect("times are always JSON");
        let _: Committed = self.store.commit(Transaction::new().put(KEY, value)).await?;
        Ok(())
    }

    async fn read(&self) -> Result<(), StoreError> {
        if self.known().is_some() {
            return Ok(());
        }
        let entry = self.store.get(KEY).await?;
        // A record that cannot be read is as good as none.
        let known = entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default();
        self.known().get_or_insert(known);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Option<BTreeMap<String, u64>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a node takes for a step, seconds, before any was seen: small servers with ordinary mirrors.
const fn guess(step: &NodeStep) -> u64 {
    match step {
        NodeStep::Survey(_) | NodeStep::ApplySetting { .. } | NodeStep::ConfirmKernel { .. } => 2,
        NodeStep::RestartServices { .. } => 10,
        NodeStep::PruneKernels { .. } => 20,
        NodeStep::RepairPackages | NodeStep::Hook { .. } => 60,
        NodeStep::InstallKernel { .. } => 90,
        NodeStep::ChangePackages(_) | NodeStep::Boot { .. } => 120,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;

    #[tokio::test]
    async fn what_was_learned_is_there_after_a_restart() {
        let store = MemoryStore::new();
        let times = StepTimes::new(store.clone());
        assert_eq!(times.expected("boot").await.expect("readable"), 0);
        for (seconds, known) in [(30, 30_000), (60, 50_000)] {
            times.learn("boot", Duration::from_secs(seconds)).await.expect("readable");
            assert_eq!(times.expected("boot").await.expect("readable"), known);
        }
        times.keep().await.expect("written");
        let (known, unknown) = (NodeStep::PruneKernels { remove: Vec::new() }, NodeStep::RepairPackages);
        times.learn(known.verb(), Duration::from_secs(7)).await.expect("readable");
        assert_eq!(times.expected_or_guess(&known).await.expect("readable"), (7_000, false));
        assert!(matches!(times.expected_or_guess(&unknown).await.expect("readable"), (1.., true)));
        assert_eq!(StepTimes::new(store).expected("boot").await.expect("readable"), 50_000);
    }
}
