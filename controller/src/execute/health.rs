// SPDX-License-Identifier: Apache-2.0
//! Waiting for a node: until it is connected, and until it is well again after something was done to it. Nothing is polled:
//! the fleet says when a conclusion about a node turned.

use std::time::Duration;

use tokio::time::Instant;
use windlass_plan::StepId;
use windlass_types::name::on_node::BootId;
use windlass_types::name::{NodeName, RunId};

use super::steps::StepFailure;
use super::{ActiveRun, Runs};

/// A node whose agent restarts, or whose network is changed, is back within this; one that is not needs a look.
const BACK_WITHIN: Duration = Duration::from_secs(900);

/// A node that boots once into a kernel that does not stay is back from its old one within this: two boots of a server, and
/// the minutes in which the kernel may show that it can be used.
const BOOTED_WITHIN: Duration = Duration::from_secs(1500);

/// A node that is back is well within this: the slowest services of a node start within minutes.
const HEALTHY_WITHIN: Duration = Duration::from_secs(600);

/// An agent that restarts is back before it is told that a step waits for it.
const SAID_AFTER: Duration = Duration::from_secs(10);

/// After a restart of the controller nodes are back within this; one that is not by then is given up by whoever stops.
const STOPPED_AFTER: Duration = Duration::from_secs(20);

/// What it takes an agent to look at everything when none of the tools that it asks answers in time.
const LOOK: Duration = Duration::from_secs(100);

/// Before a node is asked again that could not be asked, although it is connected.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Runs {
    /// Waits until a node is connected.
    ///
    /// # Errors
    /// If it is not in time, or the run is stopped.
    pub(super) async fn until_connected(&self, run: &ActiveRun, node: &NodeName) -> Result<(), StepFailure> {
        let is_connected = || self.is_connected(node).then_some(());
        match self.wait_for(run, BACK_WITHIN, is_connected).await? {
            Some(()) => Ok(()),
            None => Err(self.too_long_away(run, node, BACK_WITHIN).await),
        }
    }

    /// Waits until a node that boots has not been connected for too long.
    pub(super) async fn stays_away(&self, run: &ActiveRun, node: &NodeName) -> StepFailure {
        self.until_connection(node, false, BOOTED_WITHIN).await;
        self.too_long_away(run, node, BOOTED_WITHIN).await
    }

    /// Says that a step waits for its node whenever that is away, and gives it up once the run is stopped.
    pub(super) async fn attended(&self, run: &ActiveRun, step: &StepId, node: &NodeName) -> StepFailure {
        loop {
            self.until_connection(node, false, SAID_AFTER).await;
            self.tell_it_waits(run, step, node);
            let stopped = async {
                run.stop.cancelled().await;
                self.until_connection(node, false, STOPPED_AFTER).await;
            };
            tokio::select! {
                () = self.until_connection(node, true, Duration::ZERO) => self.goes_on(run, step),
                () = stopped => {
                    let message = format!("{node} is not connected and the run was stopped: how this ended is not known");
                    return self.gone(run, node, &message).await;
                }
            }
        }
    }

    /// Waits until a node has been connected, or has not, for so long.
    async fn until_connection(&self, node: &NodeName, is_connected: bool, lasting: Duration) {
        let mut turns = self.with.fleet.turns();
        let mut since = None;
        loop {
            turns.mark_unchanged();
            let is_so = self.is_connected(node) == is_connected;
            since = if is_so { since.or_else(|| Some(Instant::now())) } else { None };
            tokio::select! {
                () = at(since.map(|since| since + lasting)) => return,
                // The fleet lives as long as the controller.
                changed = turns.changed() => drop(changed),
            }
        }
    }

    /// Waits until a node is not connected.
    pub(super) async fn until_away(&self, node: &NodeName) {
        self.until_connection(node, false, Duration::ZERO).await;
    }

    async fn too_long_away(&self, run: &ActiveRun, node: &NodeName, limit: Duration) -> StepFailure {
        let minutes = limit.as_secs() / 60;
        self.gone(run, node, &format!("{node} was not connected for {minutes} minutes")).await
    }

    /// Waits until a node is connected and well, in another boot than `before`.
    ///
    /// # Errors
    /// If it is not in time, or the run is stopped.
    pub(super) async fn until_well(
        &self,
        run: &ActiveRun,
        node: &NodeName,
        before: Option<&BootId>,
    ) -> Result<(), StepFailure> {
        self.until_it_has_looked(run, node).await?;
        let well = || {
            let is_other_boot = before.is_none_or(|before| {
                let standing = self.with.fleet.standing(node);
                standing.and_then(|standing| standing.record.boot_id).is_some_and(|boot| boot != before.as_str())
            });
            let status = self.with.observer.node(node)?;
            (is_other_boot && status.is_connected && status.is_healthy).then_some(())
        };
        if self.wait_for(run, HEALTHY_WITHIN, well).await?.is_some() {
            return Ok(());
        }
        let minutes = HEALTHY_WITHIN.as_secs() / 60;
        let why = match self.with.observer.node(node) {
            Some(status) if !status.is_healthy => status.reason,
            Some(_) => "it is still in the boot that was to end".to_owned(),
            None => "it is not known any more".to_owned(),
        };
        Err(self.gone(run, node, &format!("{node} did not become healthy within {minutes} minutes: {why}")).await)
    }

    /// Has a node look at everything now: what it said before is no proof.
    async fn until_it_has_looked(&self, run: &ActiveRun, node: &NodeName) -> Result<(), StepFailure> {
        let end = Instant::now() + HEALTHY_WITHIN;
        loop {
            self.until_connected(run, node).await?;
            let ask = async {
                let answered = self.with.fleet.refresh(std::slice::from_ref(node), LOOK).await;
                if answered.is_empty() {
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                !answered.is_empty()
            };
            let has_looked = tokio::select! {
                has_looked = ask => has_looked,
                // Its answer is lost with its session.
                () = self.until_away(node) => false,
                () = stopped_for_long(run) => return Err(StepFailure::Stopped),
            };
            if has_looked {
                return Ok(());
            }
            if Instant::now() >= end {
                let minutes = HEALTHY_WITHIN.as_secs() / 60;
                return Err(self.gone(run, node, &format!("{node} did not say how it is for {minutes} minutes")).await);
            }
        }
    }

    /// Waits for an answer, which is looked for again whenever something about a node turned. `None` if it did not come.
    async fn wait_for<T>(
        &self,
        run: &ActiveRun,
        within: Duration,
        look: impl Fn() -> Option<T>,
    ) -> Result<Option<T>, StepFailure> {
        let mut turns = self.with.fleet.turns();
        let end = Instant::now() + within;
        loop {
            turns.mark_unchanged();
            if let Some(found) = look() {
                return Ok(Some(found));
            }
            tokio::select! {
                () = run.stop.cancelled() => return Err(StepFailure::Stopped),
                () = tokio::time::sleep_until(end) => return Ok(None),
                // The fleet lives as long as the controller.
                changed = turns.changed() => drop(changed),
            }
        }
    }

    /// A node that does not come back, with the end of its console.
    async fn gone(&self, run: &ActiveRun, node: &NodeName, message: &str) -> StepFailure {
        let advice = format!(
            "mend it, then `windlass run retry {}`; to give the node up: `windlass node release {node} --reason TEXT`",
            run.id()
        );
        StepFailure::Said { message: message.to_owned(), advice, console_tail: self.console_tail(node).await }
    }
}

/// A node that is well can say so meanwhile: what it did was done then, also in a run that is stopped.
async fn stopped_for_long(run: &ActiveRun) {
    run.stop.cancelled().await;
    tokio::time::sleep(STOPPED_AFTER).await;
}

/// What there is to do about a step that waits for its node.
pub(super) fn waits_for_its_node(run: &RunId, node: &NodeName) -> String {
    format!(
        "it goes on when the node is back; if its machine is off: `windlass machine power {node} on`; to end the whole run: \
         `windlass run stop {run}`"
    )
}

/// That moment, if there is one.
pub(super) async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
