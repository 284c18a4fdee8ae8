// SPDX-License-Identifier: Apache-2.0
//! A run asks the arbiter for one node after the other. What is, is looked at once for all that are refused, and anew for each
//! that may be granted.

use std::collections::BTreeSet;

use windlass_plan::{LeaseStatus, Policy, Scene, Snapshot, objections};
use windlass_types::name::{NodeName, RunId};
use windlass_types::time::UnixMillis;

use super::Runs;
use crate::arbiter::{Answer, Known};
use crate::store::StoreError;

/// Who asks, under which rules, and what is known.
pub(super) struct Petition {
    pub(super) run: RunId,
    pub(super) by: String,
    pub(super) policy: Policy,
    /// Nodes that the run removes.
    pub(super) leaving: BTreeSet<NodeName>,
    /// One moment for all: a window that opens in between would be neither waited for nor open.
    pub(super) now: UnixMillis,
    pub(super) snapshot: Snapshot,
}

impl Petition {
    pub(super) const fn scene(&self) -> Scene<'_> {
        let Self { run, policy, leaving, now, snapshot, .. } = self;
        Scene { snapshot, run, policy, leaving, now: *now }
    }
}

impl Runs {
    /// Asks for a node; says whether it was granted. What is known now is in the petition then, also why it was not.
    ///
    /// # Errors
    /// If that cannot be stored: it was not granted.
    pub(super) async fn request(&self, petition: &mut Petition, node: &NodeName) -> Result<bool, StoreError> {
        let (run, by, since) = (petition.run.clone(), petition.by.clone(), petition.now);
        let judge = |known: &Known| {
            // Now, and not before the turn was waited for.
            petition.snapshot.nodes = self.with.observer.nodes().nodes;
            known.write(&mut petition.snapshot);
            objections(&petition.scene(), node)
        };
        let Answer::Granted(lease) = self.with.arbiter.request(&run, node, &by, judge).await? else {
            return Ok(false);
        };
        petition.snapshot.leases.retain(|held| held.lease.node != *node);
        petition.snapshot.leases.push(LeaseStatus { lease, since, by });
        Ok(true)
    }
}
