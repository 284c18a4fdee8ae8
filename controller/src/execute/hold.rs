// SPDX-License-Identifier: Apache-2.0
//! Nodes come into a run's hands, and go: the arbiter is asked whenever something happened that may change its answer, with
//! what is known at that moment. What holds a step up is told with the step.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use windlass_plan::{Objection, Scene, Snapshot, StepId, objections};
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;
use windlass_types::time::UnixMillis;

use super::{ActiveRun, Runs};
use crate::arbiter::{Answer, Known};
use crate::store::StoreError;

/// Rules that speak against every node alike: when one node is refused for them, so are the others.
const FOR_ALL: [&str; 2] = ["max-unavailable", "window"];

/// What waits, and for what.
pub(super) struct Held {
    /// Nodes of the run's cluster; only they count. Empty if all do.
    members: Vec<NodeName>,
    /// Steps whose node was refused since something happened.
    refused: BTreeSet<StepId>,
    /// Nodes that cannot be told anything since something happened.
    away: BTreeSet<NodeName>,
    /// Nodes are waited for that could not be asked yet.
    awaits: bool,
    /// Nodes wait for others whose turn is before theirs, unless those go away.
    behind: bool,
    opens: Option<UnixMillis>,
    leases: watch::Receiver<u64>,
    fleet: watch::Receiver<u64>,
}

impl Held {
    /// Nothing yet. What the run had in its hands when the controller was killed, it has again.
    pub(super) fn new(runs: &Runs, run: &ActiveRun) -> Self {
        let id = run.id();
        for node in runs.held_by(&id) {
            run.progress().set_in_hand(&node, true);
        }
        let members = run.record().members.clone();
        let (leases, fleet) = (runs.with.arbiter.changes(), runs.with.fleet.turns());
        let (refused, away) = Default::default();
        Self { members, refused, away, awaits: false, behind: false, opens: None, leases, fleet }
    }

    /// Something happened: all answers may be others now.
    pub(super) fn look_again(&mut self) {
        self.refused.clear();
        self.away.clear();
        self.opens = None;
    }

    /// Before answers are looked for: what happens from now on is news, and what happened before may have changed those that
    /// were given.
    pub(super) fn catch_up(&mut self) {
        // Both senders live as long as the controller.
        let happened = [&self.leases, &self.fleet].map(|changes| changes.has_changed().unwrap_or(false));
        self.leases.mark_unchanged();
        self.fleet.mark_unchanged();
        if happened.contains(&true) {
            self.look_again();
        }
    }

    /// Waits until something happens that may change an answer; for ever if nothing is held up.
    pub(super) async fn news(&mut self) {
        if self.refused.is_empty() && self.away.is_empty() && !self.awaits && !self.behind {
            std::future::pending::<()>().await;
        }
        tokio::select! {
            changed = self.leases.changed() => drop(changed),
            changed = self.fleet.changed() => drop(changed),
        }
    }

    pub(super) fn is_away(&self, node: &NodeName) -> bool {
        self.away.contains(node)
    }

    pub(super) fn set_away(&mut self, node: NodeName) {
        self.away.insert(node);
    }

    pub(super) const fn opens(&self) -> Option<UnixMillis> {
        self.opens
    }

    pub(super) const fn set_awaits(&mut self, awaits: bool) {
        self.awaits = awaits;
    }
}

impl Runs {
    /// Asks for the nodes whose turn it is.
    pub(super) async fn ask_arbiter(&self, run: &Arc<ActiveRun>, held: &mut Held) -> Result<(), StoreError> {
        self.lose(run);
        let asking = self.whose_turn_it_is(run, held);
        if asking.is_empty() {
            return Ok(());
        }
        let (id, by, policy) = {
            let record = run.record();
            (record.id.clone(), record.created_by.clone(), record.plan.policy.clone())
        };
        let mut snapshot = Snapshot { members: held.members.clone(), ..self.with.observer.nodes() };
        let mut general: Option<Objection> = None;
        for (step, node) in asking {
            let answer = match &general {
                Some(objection) => Answer::Refused(vec![objection.clone()]),
                None => {
                    let judge = |known: &Known| {
                        known.write(&mut snapshot);
                        let now = self.with.clock.now();
                        objections(&Scene { snapshot: &snapshot, run: &id, policy: &policy, now }, &node)
                    };
                    self.with.arbiter.request(&id, &node, &by, judge).await?
                }
            };
            match answer {
                Answer::Granted(_) => run.progress().set_in_hand(&node, true),
                Answer::Refused(why) => {
                    general = general.or_else(|| why.iter().find(|one| FOR_ALL.contains(&one.predicate)).cloned());
                    self.refused(run, &step, &why);
                    held.refused.insert(step);
                }
            }
        }
        held.opens = policy.window.and_then(|window| window.opens(self.with.clock.now()));
        run.signal();
        Ok(())
    }

    /// Steps that wait for their node, unless it was refused; those that must not overtake others are told so.
    fn whose_turn_it_is(&self, run: &ActiveRun, held: &mut Held) -> Vec<(StepId, NodeName)> {
        let is_away = |node: &NodeName| !self.with.fleet.standing(node).is_some_and(|standing| standing.is_connected);
        let (now, later) = {
            let progress = run.progress();
            let asking = progress.asking(is_away);
            let now = asking.now.into_iter().filter(|planned| !held.refused.contains(&planned.id));
            let now = now.filter_map(|planned| Some((planned.id.clone(), planned.step.node()?.clone())));
            let now: Vec<_> = now.collect();
            let later: Vec<_> = asking.later.into_iter().map(|planned| planned.id.clone()).collect();
            (now, later)
        };
        held.behind = !later.is_empty();
        for step in later {
            let advice = "it goes on by itself".to_owned();
            self.holds_up(run, &step, "waits: nodes whose turn comes before are not ready yet".to_owned(), advice);
        }
        now
    }

    /// An operator may have taken a node from the run.
    fn lose(&self, run: &ActiveRun) {
        let id = run.id();
        let mut progress = run.progress();
        let lost: Vec<_> =
            progress.in_hand().iter().filter(|node| self.with.arbiter.lease(&id, node).is_none()).cloned().collect();
        lost.iter().for_each(|node| progress.set_in_hand(node, false));
    }

    fn refused(&self, run: &ActiveRun, step: &StepId, why: &[Objection]) {
        let Some(first) = why.first() else { return };
        let reasons: Vec<_> = why.iter().map(|objection| objection.reason.as_str()).collect();
        self.holds_up(run, step, format!("waits: {}", reasons.join("; ")), first.advice.clone());
    }

    /// Tells what a step waits for, once.
    pub(super) fn holds_up(&self, run: &ActiveRun, step: &StepId, message: String, advice: String) {
        let is_new = {
            let mut progress = run.progress();
            let is_new = progress.step(step).message != message;
            if is_new {
                progress.change(step, |record| {
                    record.message.clone_from(&message);
                    record.advice = advice;
                });
            }
            is_new
        };
        if is_new {
            self.tell(run, EventKind::StepHeld, step, format!("{step} {message}"));
            run.signal();
        }
    }

    /// Takes back what a step waited for.
    pub(super) fn goes_on(&self, run: &ActiveRun, step: &StepId) {
        run.progress().change(step, |record| {
            record.message.clear();
            record.advice.clear();
        });
        run.signal();
    }

    /// Gives back nodes that the run is done with.
    pub(super) async fn give_back(&self, run: &ActiveRun) -> Result<(), StoreError> {
        let (id, finished) = (run.id(), run.progress().finished_with());
        for node in finished {
            self.with.arbiter.give_back(&id, &node).await?;
            run.progress().set_in_hand(&node, false);
        }
        Ok(())
    }
}
