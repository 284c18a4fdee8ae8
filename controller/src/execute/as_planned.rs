// SPDX-License-Identifier: Apache-2.0
//! Whether a node still is as it was when it was planned for. It is asked again when its turn comes, which may be hours
//! after the plan: what was done meanwhile is skipped as done, and a node that differs is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use windlass_plan::{Plan, PlannedStep, Snapshot, Step, StepId, plan_nodes};
use windlass_types::name::NodeName;
use windlass_types::node_step::NodeStep;
use windlass_types::run::StepState;

use super::on_node::request_id;
use super::steps::StepFailure;
use super::{ActiveRun, Runs};

/// A node that was asked less than this ago is not asked again: a plan that was just confirmed.
const FRESH: Duration = Duration::from_secs(60);

/// What came of it, for the step whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    /// It is to be done.
    Due,
    /// It was done meanwhile.
    WasDone,
}

impl Runs {
    /// Compares a node with what was planned for it, before the first step there and before the first one for which it is
    /// taken down.
    ///
    /// # Errors
    /// If it differs, or cannot be asked.
    pub(super) async fn compare(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
    ) -> Result<Comparison, StepFailure> {
        let Some(wish) = run.record().inputs.wishes.get(node).cloned() else { return Ok(Comparison::Due) };
        let now = self.with.clock.now();
        let is_fresh = run.surveyed().get(node).is_some_and(|at| now.since(*at) < FRESH);
        if is_fresh || self.was_ordered(run, planned).await? || has_begun(run, planned, node) {
            return Ok(Comparison::Due);
        }
        let surveyed = loop {
            self.until_connected(run, node).await?;
            let ask = self.with.surveyor.ask(BTreeMap::from([(node.clone(), wish.request())]), "windlass");
            let asked = tokio::select! {
                () = run.stop.cancelled() => return Err(StepFailure::Stopped),
                asked = ask => asked,
            };
            let surveyed = asked.map_err(|refusal| StepFailure::said(refusal.message, refusal.advice))?;
            let Some(why) = surveyed.unsurveyed.get(node) else { break surveyed };
            if self.is_connected(node) {
                let message = format!("{node} cannot be asked how it is: {why}");
                return Err(StepFailure::said(message, format!("`windlass run retry {}`", run.id())));
            }
        };
        let snapshot = Snapshot { surveys: surveyed.surveys, ..self.with.observer.nodes() };
        let policy = run.record().plan.policy.clone();
        let mut fresh = plan_nodes(&snapshot, &BTreeMap::from([(node.clone(), wish)]), &policy, now);
        fresh.blocked.retain(|blocked| !run.record().plan.blocked.iter().any(|known| known.is_of(blocked)));
        run.surveyed().insert(node.clone(), now);
        let (open, over) = open_and_over(run, node);
        let done = still_as_planned(&open, &over, &fresh).map_err(|differs| {
            let advice = format!("make a new plan; nothing of this one was begun on {node} since it was asked");
            StepFailure::said(format!("{node} is not as planned: {}", differs.join("; ")), advice)
        })?;
        for id in done.iter().filter(|id| **id != planned.id) {
            run.progress().change(id, |record| record.was_done = true);
            self.ended(run, id, StepState::Done, None).await;
        }
        Ok(if done.contains(&planned.id) { Comparison::WasDone } else { Comparison::Due })
    }

    /// Whether the node was told to do this step: by this controller, its former process, or in a former attempt.
    pub(super) async fn was_ordered(&self, run: &ActiveRun, planned: &PlannedStep) -> Result<bool, StepFailure> {
        Ok(run.progress().step(&planned.id).was_told_before() || self.is_ordered(run, planned).await?)
    }

    /// Whether the order of this attempt was given.
    pub(super) async fn is_ordered(&self, run: &ActiveRun, planned: &PlannedStep) -> Result<bool, StepFailure> {
        let attempt = run.progress().step(&planned.id).attempt;
        let known = self.with.jobs.is_known(&request_id(&run.id(), &planned.id, attempt)).await;
        known.map_err(|error| StepFailure::ours("look for the order", &error))
    }
}

/// Whether the node was told to do something of this part of its chain already: then it is as it left it.
fn has_begun(run: &ActiveRun, planned: &PlannedStep, node: &NodeName) -> bool {
    let progress = run.progress();
    let mut part = progress.records_of(node).filter(|(other, _)| other.lease == planned.lease);
    part.any(|(_, record)| record.state == StepState::Done && !record.was_done || record.state == StepState::Failed)
}

/// Steps of a node that are to be done, and ids of those that are over.
fn open_and_over(run: &ActiveRun, node: &NodeName) -> (Vec<PlannedStep>, BTreeSet<StepId>) {
    let progress = run.progress();
    let of_node = progress.records_of(node).filter(|(planned, _)| matches!(planned.step, Step::OnNode { .. }));
    let (open, over): (Vec<_>, Vec<_>) = of_node.partition(|(_, record)| !record.state.is_final());
    (
        open.into_iter().map(|(step, _)| step.clone()).collect(),
        over.into_iter().map(|(step, _)| step.id.clone()).collect(),
    )
}

/// The steps that were done meanwhile, or what is not as planned.
fn still_as_planned(open: &[PlannedStep], over: &BTreeSet<StepId>, fresh: &Plan) -> Result<Vec<StepId>, Vec<String>> {
    let mut differs: Vec<_> = fresh.blocked.iter().map(|blocked| blocked.reason.clone()).collect();
    let away = fresh.queued.iter().filter(|queued| queued.after.is_none());
    differs.extend(away.map(|queued| queued.reason.clone()));
    let mut done = Vec::new();
    for planned in open {
        match fresh.step(&planned.id) {
            None => done.push(planned.id.clone()),
            Some(now) if !does_the_same(&now.step, &planned.step) => {
                differs.push(format!("{} would be done with other particulars now", planned.id));
            }
            Some(_) => {}
        }
    }
    let is_new = |step: &&PlannedStep| !over.contains(&step.id) && !open.iter().any(|planned| planned.id == step.id);
    differs.extend(fresh.steps.iter().filter(is_new).map(|step| format!("{} is needed now too", step.id)));
    // A chain whose core was done by somebody else is done: what surrounds it has nothing to surround.
    if differs.is_empty() { Ok(done) } else { Err(differs) }
}

/// Whether two steps change the same. How much of it is to be fetched depends on what was fetched before, and which boot is
/// ended on when.
fn does_the_same(a: &Step, b: &Step) -> bool {
    match (a, b) {
        (Step::OnNode { node, step }, Step::OnNode { node: other_node, step: other }) => {
            match (step.as_ref(), other.as_ref()) {
                (NodeStep::ChangePackages(one), NodeStep::ChangePackages(two)) => {
                    node == other_node && one.changes == two.changes
                }
                (NodeStep::Boot { once: one, .. }, NodeStep::Boot { once: two, .. }) => {
                    node == other_node && one == two
                }
                (one, two) => node == other_node && one == two,
            }
        }
        (a, b) => a == b,
    }
}
