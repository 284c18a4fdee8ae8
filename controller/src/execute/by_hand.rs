// SPDX-License-Identifier: Apache-2.0
//! What people do to a node without a run, and what speaks against it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use windlass_plan::{Policy, Scene, Snapshot, objections_by_hand};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::name::{NodeName, RunId};

use super::Runs;
use crate::arbiter::{Arbiter, Known};

/// A session whose machine has gone is seen to be over within this.
const SEEN_WITHIN: Duration = Duration::from_secs(60);

/// A node that is being taken down by hand.
struct ByHand {
    arbiter: Arc<Arbiter>,
    node: NodeName,
}

impl Drop for ByHand {
    fn drop(&mut self) {
        self.arbiter.end_by_hand(&self.node);
    }
}

impl Runs {
    /// Does something that takes a node down, unless a run has it in hand, or as many others of its cluster are down as may
    /// be; with `force` all the same. Rules of a spec are those of its runs: by hand it is one. It is brought to its end also
    /// if nobody waits for it.
    ///
    /// # Errors
    /// What speaks against it; then nothing was done. What `act` fails with.
    pub async fn by_hand(
        self: &Arc<Self>,
        node: &NodeName,
        force: bool,
        act: impl Future<Output = Result<(), Refusal>> + Send + 'static,
    ) -> Result<(), Refusal> {
        let members = self.neighbours(std::iter::once(node)).await?;
        let (nobody, policy) = (RunId::new("r0").expect("an r and a digit"), Policy::default());
        let judge = |known: &Known| {
            if force {
                return Vec::new();
            }
            let mut snapshot = Snapshot { members, ..self.with.observer.nodes() };
            known.write(&mut snapshot);
            let now = self.with.clock.now();
            let (run, leaving) = (&nobody, &BTreeSet::new());
            objections_by_hand(&Scene { snapshot: &snapshot, run, policy: &policy, leaving, now }, node)
        };
        self.with.arbiter.begin_by_hand(node, judge).await.map_err(|why| {
            let why: Vec<_> = why.into_iter().map(|one| one.reason).collect();
            Refusal::new(Reason::Unsafe, format!("{node} should not go down now: {}", why.join("; ")))
                .advise("wait until that is over; if it has to be now: add --force")
        })?;
        let mark = ByHand { arbiter: Arc::clone(&self.with.arbiter), node: node.clone() };
        let runs = Arc::clone(self);
        let acted = tokio::spawn(async move {
            act.await?;
            tokio::spawn(async move {
                let _ = tokio::time::timeout(SEEN_WITHIN, runs.until_away(&mark.node)).await;
                drop(mark);
            });
            Ok(())
        });
        acted.await.unwrap_or_else(|_| Err(Refusal::new(Reason::Other, "an error of the program: see its log")))
    }
}
