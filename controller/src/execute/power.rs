// SPDX-License-Identifier: Apache-2.0
//! Machines of a run's nodes that lose their power are switched on again by the run: nobody chose that they are off, and
//! others wait for them. One that somebody switched off through Windlass, or in the machine itself, stays off, and so does
//! one whose node is quarantined.
//!
//! Which have lost it is asked when the run begins or goes on, and whenever something happened to a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use windlass_plan::step::Mark;
use windlass_plan::{Plan, Step, StepId};
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;
use windlass_types::run::StepState;

use super::health::at;
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

/// What was done about a machine.
#[derive(Default)]
struct Tries {
    /// How often it was switched on.
    times: u32,
    /// What was told since: the same is not told again.
    told: BTreeSet<String>,
}

impl Runs {
    /// Something happened to a machine, or to what a run has to do.
    pub(crate) fn look_at_machines(&self) {
        self.machines.send_modify(|version| *version += 1);
    }

    /// Keeps the machines of a run's nodes on for as long as it is carried out.
    pub(super) async fn keep_on(&self, run: &ActiveRun) -> Infallible {
        let mut turned = self.machines.subscribe();
        let mut tries = BTreeMap::new();
        loop {
            turned.mark_unchanged();
            let is_each_on = self.light(run, &mut tries).await;
            let again = (!is_each_on).then(|| Instant::now() + AGAIN_AFTER);
            tokio::select! {
                // Runs live as long as the controller.
                changed = turned.changed() => drop(changed),
                () = at(again) => {}
            }
        }
    }

    /// Switches on what has lost its power. Whether nothing is left that is to be tried again.
    async fn light(&self, run: &ActiveRun, tries: &mut BTreeMap<NodeName, Tries>) -> bool {
        let dark = match self.dark(run).await {
            Ok(dark) => dark,
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                tracing::warn!(RUN = %run.id(), %error, "whether its machines have power is not known");
                return false;
            }
        };
        let (often, dark): (Vec<_>, Vec<_>) =
            dark.into_iter().partition(|one| tries.get(&one.key.name).is_some_and(|tries| tries.times >= MOST_TIMES));
        for Dark { key: MachineKey { name, .. }, .. } in often {
            let message = format!(
                "the machine of {name} has lost its power {MOST_TIMES} times, and run {0} leaves it off: see why, then \
                 windlass machine power {name} on",
                run.id()
            );
            self.tell_once(run, &name, EventKind::MachineTrouble, message, tries);
        }
        let mut is_each_on = true;
        for one in &dark {
            // Before it can come back and say what it runs: who judges that looks for this.
            let name = &one.key.name;
            let message = format!("run {} switches the machine of {name} on: it has lost its power", run.id());
            self.tell_once(run, name, EventKind::MachinePower, message, tries);
        }
        for (name, switched) in join_all(dark.into_iter().map(switched_on)).await {
            match switched {
                Ok(()) => {
                    let tries = tries.entry(name).or_default();
                    (tries.times, tries.told) = (tries.times + 1, BTreeSet::new());
                }
                Err(why) => {
                    is_each_on = false;
                    let message = format!("run {} cannot switch the machine of {name} on yet: {why}", run.id());
                    self.tell_once(run, &name, EventKind::MachineTrouble, message, tries);
                }
            }
        }
        is_each_on
    }

    fn tell_once(
        &self,
        run: &ActiveRun,
        name: &NodeName,
        kind: EventKind,
        message: String,
        tries: &mut BTreeMap<NodeName, Tries>,
    ) {
        if tries.entry(name.clone()).or_default().told.insert(message.clone()) {
            self.with.events.emit_in_run(kind, Some(name), &run.id(), message);
        }
    }

    /// Machines of such nodes that have lost their power.
    async fn dark(&self, run: &ActiveRun) -> Result<Vec<Dark>, ObserveError> {
        let mut needed = {
            let progress = run.progress();
            needed(progress.plan(), |step| progress.state(step))
        };
        let quarantined = self.with.arbiter.known().quarantined;
        needed.retain(|node| !quarantined.contains_key(node));
        let mut found = Vec::new();
        if needed.is_empty() || run.progress().told().stop {
            return Ok(found);
        }
        for cluster in self.with.observer.clusters().await? {
            let members = self.with.observer.members(&cluster.name).await?;
            if !members.iter().any(|node| needed.contains(node)) {
                continue;
            }
            let provider = match self.with.observer.provider(&cluster.provider).await {
                Ok(provider) => provider,
                Err(error) => {
                    // Those of the others are looked after all the same.
                    let error = ErrorChain(&error).to_string();
                    tracing::warn!(CLUSTER = %cluster.name, %error, "whether its machines have power is not known");
                    continue;
                }
            };
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
}

async fn switched_on(Dark { provider, key }: Dark) -> (NodeName, Result<(), String>) {
    let name = key.name.clone();
    // It is brought to its end also if the run ends meanwhile.
    let switched = tokio::spawn(async move { provider.power(&key, PowerAction::On).await });
    let switched = match switched.await {
        Ok(switched) => switched.map_err(|error| format!("{}; {}", ErrorChain(&error), error.advice())),
        Err(_) => Err("see the controller's log".to_owned()),
    };
    (name, switched)
}

/// Nodes on which the run does something, or would if it could ask them. A machine that is being made or removed is in the
/// hands of who does that.
fn needed(plan: &Plan, state: impl Fn(&StepId) -> StepState) -> BTreeSet<NodeName> {
    let mut needed: BTreeSet<_> = plan.queued.iter().map(|queued| queued.node.clone()).collect();
    let mut others = BTreeSet::new();
    for planned in &plan.steps {
        let is_removed = planned.step.mark() == Mark::Remove;
        if matches!(planned.step, Step::OnNode { .. }) {
            needed.extend(planned.step.node().cloned());
        } else if is_removed || !state(&planned.id).is_final() {
            others.extend(planned.step.node().cloned());
        }
    }
    &needed - &others
}
