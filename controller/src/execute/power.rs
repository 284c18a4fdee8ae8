// SPDX-License-Identifier: Apache-2.0
//! Machines that lose their power while a run has something to do on them are switched on again by the run: nobody chose
//! that they are off. One that somebody switched off through Windlass stays off.
//!
//! Which have lost it is asked when the run begins or goes on, and whenever something happened to a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use windlass_plan::{PlannedStep, Step};
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

use super::health::at;
use super::run::StepRecord;
use super::{ActiveRun, Runs};
use crate::observe::ObserveError;
use crate::provider::{MachineKey, PowerAction, Provider};

/// A machine that goes off so often has a reason, at which somebody has to look.
const MOST_TIMES: u32 = 5;

/// A host without room for a machine may have it by then.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// A machine without power, and who can switch it on.
struct Dark {
    provider: Arc<dyn Provider>,
    key: MachineKey,
}

impl Runs {
    /// Something happened to a machine, or to what a run has to do.
    pub(crate) fn look_at_machines(&self) {
        self.machines.send_modify(|version| *version += 1);
    }

    /// Keeps the machines on of nodes on which the run has something to do, for as long as it is carried out.
    pub(super) async fn keep_on(&self, run: &ActiveRun) -> Infallible {
        let mut turned = self.machines.subscribe();
        let mut times = BTreeMap::new();
        loop {
            turned.mark_unchanged();
            let is_each_on = self.switch_on(run, &mut times).await;
            let again = (!is_each_on).then(|| Instant::now() + AGAIN_AFTER);
            tokio::select! {
                // Runs live as long as the controller.
                changed = turned.changed() => drop(changed),
                () = at(again) => {}
            }
        }
    }

    /// Whether each that has lost its power, and was not switched on too often, is on.
    async fn switch_on(&self, run: &ActiveRun, times: &mut BTreeMap<NodeName, u32>) -> bool {
        let dark = match self.dark(run).await {
            Ok(dark) => dark,
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(RUN = %run.id(), %error, "whether its machines have power is not known");
                return false;
            }
        };
        let few = |one: &Dark| {
            let times = times.entry(one.key.name.clone()).or_default();
            *times += 1;
            *times <= MOST_TIMES
        };
        let dark: Vec<_> = dark.into_iter().filter(few).collect();
        let switched = join_all(dark.into_iter().map(|one| self.switched_on(run, one))).await;
        switched.into_iter().all(|is_on| is_on)
    }

    /// Machines of such nodes that have lost their power.
    async fn dark(&self, run: &ActiveRun) -> Result<Vec<Dark>, ObserveError> {
        let needed = needed(run.progress().records());
        let mut found = Vec::new();
        if needed.is_empty() || run.progress().told().stop {
            return Ok(found);
        }
        for cluster in self.with.observer.clusters().await? {
            let members = self.with.observer.members(&cluster.name).await?;
            if !members.iter().any(|node| needed.contains(node)) {
                continue;
            }
            let provider = self.with.observer.provider(&cluster.provider).await?;
            let without = provider.without_power(&cluster.name).await;
            let without =
                without.map_err(|source| ObserveError::Provider { kind: cluster.provider.clone(), source })?;
            let dark = without.into_iter().filter(|node| needed.contains(node) && members.contains(node));
            found.extend(dark.map(|node| Dark {
                provider: Arc::clone(&provider),
                key: MachineKey::new(cluster.name.clone(), node),
            }));
        }
        Ok(found)
    }

    async fn switched_on(&self, run: &ActiveRun, Dark { provider, key }: Dark) -> bool {
        let (id, name) = (run.id(), key.name.clone());
        // It is brought to its end also if the run ends meanwhile.
        let switched = tokio::spawn(async move { provider.power(&key, PowerAction::On).await });
        let (kind, message) = match switched.await {
            Ok(Ok(())) => {
                (EventKind::MachinePower, format!("run {id} switched the machine of {name} on: it had lost its power"))
            }
            Ok(Err(error)) => {
                let (why, advice) = (ErrorChain(&error), error.advice());
                (EventKind::MachineTrouble, format!("run {id} cannot switch the machine of {name} on: {why}; {advice}"))
            }
            Err(_) => (EventKind::MachineTrouble, format!("the machine of {name} is off; see the controller's log")),
        };
        self.with.events.emit_in_run(kind, Some(&name), &id, message);
        kind == EventKind::MachinePower
    }
}

/// Nodes on which something is to be done or is being done. A machine that is being made or removed is in the hands of who
/// does that.
fn needed<'a>(records: impl Iterator<Item = (&'a PlannedStep, &'a StepRecord)>) -> BTreeSet<NodeName> {
    let (mut needed, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (planned, _) in records.filter(|(_, record)| !record.state.is_final()) {
        let nodes = if matches!(planned.step, Step::OnNode { .. }) { &mut needed } else { &mut others };
        nodes.extend(planned.step.node().cloned());
    }
    &needed - &others
}
