// SPDX-License-Identifier: Apache-2.0
//! Nodes that could not be asked when the run was planned: when they are back, made, or have their repositories, they are
//! asked and planned for, each by itself, under the wishes and rules that were confirmed. The plan that has grown is stored
//! before anything of it begins. Those that are not there when that is due are looked after in [`super::absent`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::MutexGuard;
use windlass_plan::{Plan, Queued, Snapshot, order_of_nodes, plan_nodes};
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;
use windlass_types::survey::{Survey, SurveyRequest};

use super::record::RunRecord;
use super::stored::rest;
use super::{ActiveRun, Runs};
use crate::survey::Surveyed;

/// Before a node that is back and cannot answer is asked again: after a boot its package manager may be busy for a while.
/// Then it is left out, by name.
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];

impl Runs {
    /// Tells whom the run waits for.
    pub(super) fn tell_awaited(&self, run: &ActiveRun) {
        let queued = run.record().plan.queued.clone();
        for queued in queued.into_iter().filter(|queued| queued.after.is_none()) {
            let message = format!("{} is waited for: {}", queued.node, queued.reason);
            self.with.events.emit_in_run(EventKind::StepHeld, Some(&queued.node), &run.id(), message);
        }
    }

    /// Nodes that are waited for and can be asked now.
    pub(super) fn are_back(&self, run: &ActiveRun) -> Vec<NodeName> {
        let awaited = run.progress().awaited();
        let mut asked = run.asked();
        awaited.into_iter().filter(|node| self.is_connected(node) && asked.insert(node.clone())).collect()
    }

    /// Asks nodes that are back and brings them in. Those that are gone again by then are waited for again.
    pub(super) async fn bring_in(&self, run: &Arc<ActiveRun>, nodes: Vec<NodeName>) {
        let mut left = nodes.clone();
        let mut pauses = PAUSES.into_iter();
        while !left.is_empty() {
            let surveyed = tokio::select! {
                () = run.stop.cancelled() => break,
                surveyed = self.ask_again(run, &left) => surveyed,
            };
            left.retain(|node| surveyed.unsurveyed.contains_key(node) && self.is_connected(node));
            let pause = pauses.next();
            self.grow(run, surveyed, pause.is_none()).await;
            match pause {
                Some(pause) if !left.is_empty() => tokio::select! {
                    () = run.stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                },
                Some(_) | None => break,
            }
        }
        run.asked().retain(|node| !nodes.contains(node));
    }

    async fn ask_again(&self, run: &ActiveRun, nodes: &[NodeName]) -> Surveyed {
        let wishes = run.record().inputs.wishes.clone();
        let request = |node: &NodeName| {
            let wish = wishes.get(node)?;
            let refresh = wish.packages.is_some() || wish.kernel.is_some();
            Some((node.clone(), SurveyRequest { refresh, ..wish.request() }))
        };
        let requests: BTreeMap<_, _> = nodes.iter().filter_map(request).collect();
        let unknown: Vec<_> = nodes.iter().filter(|node| !requests.contains_key(*node)).cloned().collect();
        match self.with.surveyor.ask(requests, "windlass").await {
            Ok(mut surveyed) => {
                let why = || "nobody knows what it shall become".to_owned();
                surveyed.unsurveyed.extend(unknown.into_iter().map(|node| (node, why())));
                surveyed
            }
            Err(refusal) => {
                let unsurveyed = nodes.iter().map(|node| (node.clone(), refusal.message.clone())).collect();
                Surveyed { unsurveyed, ..Surveyed::default() }
            }
        }
    }

    /// Lets the plan grow by what was learned: stored first, then carried out.
    async fn grow(&self, run: &ActiveRun, surveyed: Surveyed, leave_out: bool) {
        let recording = run.recording.lock().await;
        let before = run.record().clone();
        let mut record = before.clone();
        let asked: Vec<_> = surveyed.surveys.keys().cloned().collect();
        let mut told = self.take_in(&mut record, surveyed.surveys);
        if leave_out {
            told.extend(self.leave_out(&mut record, surveyed.unsurveyed));
        }
        if told.is_empty() {
            return;
        }
        let now = self.with.clock.now();
        run.surveyed().extend(asked.into_iter().map(|node| (node, now)));
        // If it cannot be stored they are asked again.
        let _is_stored = self.replan(run, recording, record, &before.plan, told).await;
    }

    /// Lets the run have another plan: stored first, then carried out and told. Says whether it could be stored.
    pub(super) async fn replan(
        &self,
        run: &ActiveRun,
        recording: MutexGuard<'_, ()>,
        mut record: RunRecord,
        before: &Plan,
        told: Vec<Told>,
    ) -> bool {
        record.revision += 1;
        if let Err(error) = self.with.records.grow(&record, before).await {
            drop(recording);
            rest(run, &error).await;
            run.set_rests(None);
            return false;
        }
        {
            let mut known = run.record();
            (known.plan, known.revision) = (record.plan.clone(), record.revision);
        }
        run.progress().extend(record.plan);
        drop(recording);
        for Told { kind, node, message } in told {
            self.with.events.emit_in_run(kind, Some(&node), &record.id, message);
        }
        run.signal();
        true
    }

    /// Plans for those that answered.
    fn take_in(&self, record: &mut RunRecord, surveys: BTreeMap<NodeName, Survey>) -> Vec<Told> {
        let mut snapshot = Snapshot { members: record.members.clone(), surveys, ..self.with.observer.nodes() };
        self.with.arbiter.known().write(&mut snapshot);
        let mut told = Vec::new();
        for node in snapshot.surveys.keys() {
            let Some(queued) = queued(&record.plan, node) else { continue };
            let Some(wish) = record.inputs.wishes.get(node).cloned() else { continue };
            let was_away = queued.after.is_none();
            let wishes = BTreeMap::from([(node.clone(), wish)]);
            let later = plan_nodes(&snapshot, &wishes, &record.plan.policy, self.with.clock.now());
            let message = brought_in(node, was_away, &later);
            told.push(Told { kind: EventKind::RunExtended, node: node.clone(), message });
            // What goes for good has its turns before all others.
            let leaving = record.plan.leaving();
            let turns = record.plan.turns.iter().map(|turn| &turn.node).filter(|other| !leaving.contains(*other));
            let names: Vec<_> = turns.chain([node]).cloned().collect();
            let order: Vec<_> = order_of_nodes(&snapshot, &names).into_iter().map(|(node, _)| node).collect();
            record.plan.take_in(node, later, &order);
        }
        told
    }

    /// Gives up those that are here and cannot answer.
    fn leave_out(&self, record: &mut RunRecord, unsurveyed: BTreeMap<NodeName, String>) -> Vec<Told> {
        let mut told = Vec::new();
        for (node, why) in unsurveyed {
            if queued(&record.plan, &node).is_some() && self.is_connected(&node) {
                let reason = format!("cannot be asked: {why}");
                record.plan.leave_out(&node, reason.as_str(), "mend that, then make a new plan for it");
                let message = format!("{node} is left out: it {reason}");
                told.push(Told { kind: EventKind::RunLeftOut, node, message });
            }
        }
        told
    }
}

/// What became of a node, for whoever watches.
pub(super) struct Told {
    pub(super) kind: EventKind,
    pub(super) node: NodeName,
    pub(super) message: String,
}

pub(super) fn queued<'a>(plan: &'a Plan, node: &NodeName) -> Option<&'a Queued> {
    plan.queued.iter().find(|queued| queued.node == *node)
}

fn brought_in(node: &NodeName, was_away: bool, later: &Plan) -> String {
    let what = match (later.steps.len(), later.blocked.first()) {
        (0, None) => "nothing is to be done there".to_owned(),
        (0, Some(blocked)) => format!("it is left as it is: {}", blocked.reason),
        (1, _) => "1 step is to be done there".to_owned(),
        (steps, _) => format!("{steps} steps are to be done there"),
    };
    let is = if was_away { "is back" } else { "was looked at again" };
    format!("{node} {is}: {what}")
}
