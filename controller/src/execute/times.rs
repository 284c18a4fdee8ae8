// SPDX-License-Identifier: Apache-2.0
//! How long a machine takes to reach each stage: learned from every one that came well, else a first guess.
//!
//! Machines that come up side by side on one host are slower the more of them share a processor. What is learned is put
//! down as if each had one of its own, and what is expected takes the crowd into account.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_plan::{Plan, Step};
use windlass_types::machine::{Accel, MachineStage, ProviderKind};
use windlass_types::time::UnixMillis;

use super::run::StepRecord;
use crate::store::{Committed, Store, StoreError, Transaction};

/// A new time counts as much as this many old ones: a changed image is known after a few machines.
const WEIGHT: u64 = 2;

/// Milliseconds from the beginning to each stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Times(BTreeMap<MachineStage, u64>);

impl Times {
    /// Seen on one machine of each kind with a processor of its own: a small image, a repository nearby.
    #[must_use]
    pub fn guess(accel: Option<Accel>) -> Self {
        let seconds: [u64; 6] = match accel {
            Some(Accel::Kvm) => [1, 2, 8, 15, 17, 18],
            Some(Accel::Emulation) | None => [1, 2, 40, 85, 88, 90],
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

    /// Those of one machine.
    #[must_use]
    pub fn of(step: &StepRecord) -> Self {
        let Some(began) = step.started_at else { return Self::default() };
        let after = |at: UnixMillis| u64::try_from(at.since(began).as_millis()).unwrap_or(u64::MAX);
        Self(step.reached.iter().map(|(stage, at)| (*stage, after(*at))).collect())
    }

    /// In a crowd, of what one has that is alone.
    #[must_use]
    pub fn in_crowd(&self, crowd: Crowd) -> Self {
        self.scaled(crowd.percent, 100)
    }

    /// Alone, of what one had in a crowd.
    #[must_use]
    pub fn alone(&self, crowd: Crowd) -> Self {
        self.scaled(100, crowd.percent)
    }

    fn scaled(&self, by: u64, of: u64) -> Self {
        Self(self.0.iter().map(|(stage, millis)| (*stage, millis.saturating_mul(by) / of)).collect())
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

/// How the machines of one plan get into each other's way while they come up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// How much longer each takes than one alone.
    percent: u64,
    /// How many times as many come up as may at once.
    rounds: u64,
}

impl Crowd {
    /// The machines that a plan makes or waits for, on so many processors in all; `None` if each has its own.
    #[must_use]
    pub fn of(plan: &Plan, processors: Option<NonZeroUsize>) -> Self {
        let machines = plan.steps.iter().filter(|planned| waits(&planned.step)).count() as u64;
        let parallel = u64::from(plan.policy.parallel).max(1);
        let percent = processors
            .map_or(100, |processors| (machines.min(parallel).saturating_mul(100) / processors.get() as u64).max(100));
        Self { percent, rounds: machines.div_ceil(parallel) }
    }

    /// How long it takes until the last one is healthy, milliseconds, if one alone takes this long; 0 if there is none.
    #[must_use]
    pub fn whole(self, alone: &Times) -> u64 {
        alone.in_crowd(self).whole().saturating_mul(self.rounds)
    }
}

/// Whether a step waits until a new machine has come up.
const fn waits(step: &Step) -> bool {
    matches!(step, Step::CreateMachine { .. } | Step::AwaitMachine { .. })
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

    /// What was learned of machines of this kind, each alone; `None` before the first. A record that cannot be read is as
    /// good as none.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn known(&self, provider: &ProviderKind, accel: Option<Accel>) -> Result<Option<Times>, StoreError> {
        let entry = self.store.get(&key(provider, accel)).await?;
        Ok(entry.and_then(|entry| serde_json::from_slice(&entry.value).ok()))
    }

    /// Learns from a machine that came well: how long it took, as if it had been alone.
    ///
    /// # Errors
    /// If the store cannot be used.
    pub async fn learn(&self, provider: &ProviderKind, accel: Option<Accel>, seen: &Times) -> Result<(), StoreError> {
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

fn key(provider: &ProviderKind, accel: Option<Accel>) -> String {
    let accel = accel.map_or_else(|| "any".to_owned(), |accel| accel.to_string());
    format!("run-times/{provider}-{accel}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::memory::MemoryStore;
    use windlass_plan::{PlannedStep, Policy};
    use windlass_types::name::{MachineId, NodeName};

    fn seen(seconds: i64) -> Times {
        let reached = BTreeMap::from([(MachineStage::Healthy, UnixMillis(5_000 + seconds * 1000))]);
        Times::of(&StepRecord { started_at: Some(UnixMillis(5_000)), reached, ..StepRecord::default() })
    }

    fn plan(machines: usize, parallel: u32) -> Plan {
        let name = |nth| NodeName::new(format!("node{nth}")).expect("a name");
        let id = MachineId::new("m").expect("an id");
        let step = |nth| Step::AwaitMachine { name: name(nth), id: id.clone() };
        let steps = (0..machines).map(|nth| PlannedStep::new(step(nth), "a test"));
        let policy = Policy { parallel, ..Policy::default() };
        Plan { steps: steps.collect(), ..Plan::empty(None, policy) }
    }

    #[tokio::test]
    async fn nothing_is_known_before_the_first_machine_and_further_ones_move_it() {
        let times = TimesStore::new(MemoryStore::new());
        let known = async || times.known(&ProviderKind::Qemu, Some(Accel::Kvm)).await.expect("readable");
        assert_eq!(known().await, None);
        for (seconds, whole) in [(30, 30_000), (60, 50_000)] {
            times.learn(&ProviderKind::Qemu, Some(Accel::Kvm), &seen(seconds)).await.expect("written");
            assert_eq!(known().await.map(|known| known.whole()), Some(whole));
        }
    }

    #[test]
    fn three_machines_on_two_processors_take_half_as_long_again_and_are_learned_as_one_alone() {
        let two = NonZeroUsize::new(2);
        let crowd = Crowd::of(&plan(3, 10), two);
        assert_eq!(crowd.whole(&seen(90)), 135_000);
        assert_eq!(seen(135).alone(crowd), seen(90));
        assert_eq!(Crowd::of(&plan(2, 10), two).whole(&seen(90)), 90_000, "each has a processor");
        assert_eq!(Crowd::of(&plan(3, 10), None).whole(&seen(90)), 90_000, "each is on a host of its own");
        assert_eq!(Crowd::of(&plan(7, 3), two).whole(&seen(90)), 3 * 135_000, "three rounds of three");
        assert_eq!(Crowd::of(&plan(0, 10), two).whole(&seen(90)), 0);
    }
}
