// SPDX-License-Identifier: Apache-2.0
//! The one place that grants the right to take a node down.
//!
//! Who wants it is judged by the planner's predicates, over what is known at that moment; one request is judged at a time,
//! so two can never be granted what only one may have. A lease is stored before it is given, and is ended by whoever holds
//! it, or by an operator with a reason: never by time. A node that does not come back keeps its lease, and others wait.
//!
//! Kept are `leases/NODE`, `quarantine/NODE` and the number of the next lease, which only rises.

mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Mutex as Turn, watch};
use windlass_plan::{LeaseStatus, Snapshot};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::escape::Escaped;
use windlass_types::event::EventKind;
use windlass_types::name::{NodeName, RunId};
use windlass_types::node_step::Lease;

pub use self::record::{ArbiterError, Held, Quarantine};
use self::record::{lease_key, quarantine_key};
use crate::clock::Clock;
use crate::events::EventLog;
use crate::store::{Committed, Store, StoreError, Transaction};

/// Grants leases and keeps them.
#[derive(Debug)]
pub struct Arbiter {
    store: Arc<dyn Store>,
    events: Arc<EventLog>,
    clock: Arc<dyn Clock>,
    /// Whose request is judged.
    turn: Turn<()>,
    known: Mutex<Known>,
    changed: watch::Sender<u64>,
}

/// Who holds what, and which nodes are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The leases.
    pub leases: BTreeMap<NodeName, Held>,
    /// Nodes on which nothing is begun.
    pub quarantined: BTreeMap<NodeName, Quarantine>,
    /// Nodes that are being taken down without a run, whatever is still seen of them, and by how many.
    pub by_hand: BTreeMap<NodeName, usize>,
    next: u64,
}

impl Known {
    /// Puts it into a snapshot.
    pub fn write(&self, snapshot: &mut Snapshot) {
        let status = |held: &Held| LeaseStatus { lease: held.lease.clone(), since: held.since, by: held.by.clone() };
        snapshot.leases = self.leases.values().map(status).collect();
        let reason = |(node, quarantine): (&NodeName, &Quarantine)| (node.clone(), quarantine.reason.clone());
        snapshot.quarantined = self.quarantined.iter().map(reason).collect();
        for status in snapshot.nodes.iter_mut().filter(|status| self.by_hand.contains_key(&status.name)) {
            status.is_healthy = false;
            status.reason = "somebody is switching its machine".to_owned();
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer<Objection> {
    /// The node is the run's.
    Granted(Lease),
    /// Not now.
    Refused(Vec<Objection>),
}

impl Arbiter {
    /// Reads who holds what.
    ///
    /// # Errors
    /// If the store cannot be read or holds something else.
    pub async fn open(
        store: Arc<dyn Store>,
        events: Arc<EventLog>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, ArbiterError> {
        let (leases, quarantined, next) = record::read(store.as_ref()).await?;
        let known = Mutex::new(Known { leases, quarantined, next, ..Known::default() });
        Ok(Arc::new(Self { store, events, clock, turn: Turn::default(), known, changed: watch::channel(0).0 }))
    }

    /// Asks for the right to take a node down. `judge` names what speaks against it, from who holds what now; nothing, and
    /// it is granted. A run that holds it already is given the same again, unless the node was quarantined since.
    ///
    /// # Errors
    /// If the store cannot be written; then nothing was granted.
    pub async fn request<Objection>(
        &self,
        run: &RunId,
        node: &NodeName,
        by: &str,
        judge: impl FnOnce(&Known) -> Vec<Objection>,
    ) -> Result<Answer<Objection>, StoreError> {
        let _one_at_a_time = self.turn.lock().await;
        let known = self.known();
        if let Some(held) = known.leases.get(node).filter(|held| held.lease.run == *run)
            && !known.quarantined.contains_key(node)
        {
            return Ok(Answer::Granted(held.lease.clone()));
        }
        let objections = judge(&known);
        if !objections.is_empty() {
            return Ok(Answer::Refused(objections));
        }
        let lease = match known.leases.get(node) {
            Some(held) => held.lease.clone(),
            None => self.grant(run, node, by, known.next).await?,
        };
        Ok(Answer::Granted(lease))
    }

    /// Somebody takes a node down without a run, unless `judge` names what speaks against it. Until [`Arbiter::end_by_hand`] it
    /// counts as one that is down.
    ///
    /// # Errors
    /// What speaks against it.
    pub async fn begin_by_hand<Objection>(
        &self,
        node: &NodeName,
        judge: impl FnOnce(&Known) -> Vec<Objection>,
    ) -> Result<(), Vec<Objection>> {
        let _one_at_a_time = self.turn.lock().await;
        let objections = judge(&self.known());
        if !objections.is_empty() {
            return Err(objections);
        }
        self.change(|known| {
            *known.by_hand.entry(node.clone()).or_default() += 1;
        });
        Ok(())
    }

    /// How the node is can be seen again.
    pub fn end_by_hand(&self, node: &NodeName) {
        self.change(|known| {
            let Some(count) = known.by_hand.get_mut(node) else { return };
            *count -= 1;
            if *count == 0 {
                known.by_hand.remove(node);
            }
        });
    }

    async fn grant(&self, run: &RunId, node: &NodeName, by: &str, number: u64) -> Result<Lease, StoreError> {
        let lease = Lease { number, node: node.clone(), run: run.clone() };
        let held = Held { lease: lease.clone(), since: self.clock.now(), by: by.to_owned() };
        let transaction =
            Transaction::new().put(lease_key(node), record::json(&held)).put(record::NEXT, (number + 1).to_string());
        let _: Committed = self.store.commit(transaction).await?;
        self.change(|known| {
            known.next = number + 1;
            known.leases.insert(node.clone(), held);
        });
        let message = format!("run {run} may take {node} down (lease {number})");
        self.events.emit_in_run(EventKind::LeaseGranted, Some(node), run, message);
        Ok(lease)
    }

    /// The holder needs it no longer. Says whether it held it.
    ///
    /// # Errors
    /// If the store cannot be written; then it is still held.
    pub async fn give_back(&self, run: &RunId, node: &NodeName) -> Result<bool, StoreError> {
        let _one_at_a_time = self.turn.lock().await;
        if self.known().leases.get(node).is_none_or(|held| held.lease.run != *run) {
            return Ok(false);
        }
        let _: Committed = self.store.commit(Transaction::new().delete(lease_key(node))).await?;
        self.change(|known| drop(known.leases.remove(node)));
        let message = format!("run {run} is done with {node}");
        self.events.emit_in_run(EventKind::LeaseReleased, Some(node), run, message);
        Ok(true)
    }

    /// Leaves a node alone from now on: nothing that takes it down is begun there.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn quarantine(&self, node: &NodeName, reason: &str, by: &str) -> Result<(), Refusal> {
        let _one_at_a_time = self.turn.lock().await;
        let quarantine = Quarantine { reason: reason.to_owned(), since: self.clock.now(), by: by.to_owned() };
        let transaction = Transaction::new().put(quarantine_key(node), record::json(&quarantine));
        let _: Committed = self.store.commit(transaction).await.map_err(|error| crate::join::store(&error))?;
        self.change(|known| drop(known.quarantined.insert(node.clone(), quarantine)));
        let message = format!("{by} quarantined {node}: {}", Escaped(reason));
        self.events.emit(EventKind::NodeQuarantined, Some(node), None, message);
        Ok(())
    }

    /// Takes a quarantine off a node and breaks the lease on it, if there is one. Gives what there was.
    ///
    /// # Errors
    /// If there was neither, a lease is to be broken without a reason, or the store cannot be written.
    pub async fn release(&self, node: &NodeName, reason: &str, by: &str) -> Result<(bool, Option<Held>), Refusal> {
        let _one_at_a_time = self.turn.lock().await;
        let known = self.known();
        let (held, was_quarantined) = (known.leases.get(node).cloned(), known.quarantined.contains_key(node));
        if held.is_none() && !was_quarantined {
            return Err(Refusal::new(Reason::NotFound, format!("{node} is neither quarantined nor held by a run"))
                .advise("`windlass status` lists which are"));
        }
        if let Some(held) = held.as_ref().filter(|_| reason.trim().is_empty()) {
            let run = &held.lease.run;
            return Err(Refusal::new(Reason::Unsafe, format!("run {run} holds {node}, which may not be whole"))
                .advise(format!("look at it with `windlass run attach {run}`; then add --reason TEXT")));
        }
        let transaction = Transaction::new().delete(lease_key(node)).delete(quarantine_key(node));
        let _: Committed = self.store.commit(transaction).await.map_err(|error| crate::join::store(&error))?;
        self.change(|known| {
            known.leases.remove(node);
            known.quarantined.remove(node);
        });
        self.tell_released(node, reason, by, held.as_ref(), was_quarantined);
        Ok((was_quarantined, held))
    }

    /// A node is removed: nobody holds it or leaves it alone any more, nor the next one of its name. The run that removes it
    /// under its own lease gives that back when it has recorded that it did.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn forget(&self, node: &NodeName, by: Option<&RunId>) -> Result<(), StoreError> {
        let _one_at_a_time = self.turn.lock().await;
        let held = self.known().leases.get(node).filter(|held| by != Some(&held.lease.run)).cloned();
        let mut transaction = Transaction::new().delete(quarantine_key(node));
        if held.is_some() {
            transaction = transaction.delete(lease_key(node));
        }
        let _: Committed = self.store.commit(transaction).await?;
        self.change(|known| {
            known.quarantined.remove(node);
            if held.is_some() {
                known.leases.remove(node);
            }
        });
        if let Some(Held { lease, .. }) = held {
            let message = format!("{node} is removed, and run {} holds it no longer", lease.run);
            self.events.emit_in_run(EventKind::LeaseReleased, Some(node), &lease.run, message);
        }
        Ok(())
    }

    fn tell_released(&self, node: &NodeName, reason: &str, by: &str, held: Option<&Held>, was_quarantined: bool) {
        if was_quarantined {
            let message = format!("{by} ended the quarantine of {node}");
            self.events.emit(EventKind::NodeReleased, Some(node), None, message);
        }
        if let Some(held) = held {
            let run = &held.lease.run;
            let message = format!("{by} took {node} from run {run}: {}", Escaped(reason));
            self.events.emit_in_run(EventKind::LeaseBroken, Some(node), run, message);
        }
    }

    /// Who holds what now.
    #[must_use]
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// The lease of a run on a node.
    #[must_use]
    pub fn lease(&self, run: &RunId, node: &NodeName) -> Option<Lease> {
        let known = self.lock();
        known.leases.get(node).filter(|held| held.lease.run == *run).map(|held| held.lease.clone())
    }

    /// Whether a lease is held still: an older one of the same run is not.
    #[must_use]
    pub fn stands(&self, lease: &Lease) -> bool {
        self.lock().leases.get(&lease.node).is_some_and(|held| held.lease == *lease)
    }

    /// Why a node is left alone; `None` if it is not.
    #[must_use]
    pub fn quarantine_of(&self, node: &NodeName) -> Option<String> {
        self.lock().quarantined.get(node).map(|quarantine| quarantine.reason.clone())
    }

    /// Is told whenever a lease or a quarantine begins or ends.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.lock());
        self.changed.send_modify(|version| *version += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
