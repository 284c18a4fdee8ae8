// SPDX-License-Identifier: Apache-2.0
//! Nodes come into a run's hands, and go: the arbiter is asked whenever something happened that may change its answer, with
//! what is known at that moment. What holds a step up is told with the step.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use windlass_plan::{Objection, Overview, Scene, Snapshot, StepId};
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;
use windlass_types::time::UnixMillis;

use super::out_of_reach::Fate;
use super::request::Petition;
use super::stored::{rest, stored};
use super::{ActiveRun, Runs};
use crate::store::StoreError;

/// What waits, and for what.
pub(super) struct Held {
    /// Steps whose node was refused since something happened.
    refused: BTreeSet<StepId>,
    /// Nodes that cannot, or must not, be told anything since something happened.
    away: BTreeSet<NodeName>,
    /// Nodes are waited for that could not be asked yet.
    awaits: bool,
    /// Nodes wait for others whose turn is before theirs, unless those go away.
    behind: bool,
    opens: Option<UnixMillis>,
    /// When nodes that may be about to dial are there, or are away.
    redialled: Option<Instant>,
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
        let (leases, fleet) = (runs.with.arbiter.changes(), runs.with.fleet.turns());
        let (refused, away) = Default::default();
        Self { refused, away, awaits: false, behind: false, opens: None, redialled: None, leases, fleet }
    }

    /// Something happened: all answers may be others now.
    pub(super) fn look_again(&mut self) {
        self.refused.clear();
        self.away.clear();
        (self.opens, self.redialled) = (None, None);
    }

    /// Everything is looked at again after so long at the latest.
    pub(super) fn look_again_within(&mut self, wait: Duration) {
        let at = Instant::now() + wait;
        self.redialled = Some(self.redialled.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) const fn redialled(&self) -> Option<Instant> {
        self.redialled
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
    /// Asks for the nodes whose turn it is, as many as can begin at once.
    pub(super) async fn ask_arbiter(&self, run: &Arc<ActiveRun>, held: &mut Held) {
        self.lose(run);
        let mut asking = self.whose_turn_it_is(run, held);
        if asking.is_empty() {
            return;
        }
        let mut petition = self.petition(run).await;
        let mut places = run.progress().places();
        while let Some((step, node)) = self.next_that_may(run, held, &mut asking, petition.scene()).await {
            if places == 0 {
                asking.push_front((step, node));
                self.wait_for_a_place(run, &asking);
                break;
            }
            match self.request(&mut petition, &node).await {
                Ok(true) => {
                    run.progress().set_in_hand(&node, true);
                    places -= 1;
                }
                // It is looked at again, with what is known now.
                Ok(false) => asking.push_front((step, node)),
                // By the time that it can be stored the clock and the nodes are others: everything is judged anew.
                Err(error) => return self.judged_anew(run, &error).await,
            }
        }
        held.opens = petition.policy.window.as_ref().and_then(|window| window.opens(petition.now));
        run.signal();
    }

    async fn petition(&self, run: &ActiveRun) -> Petition {
        let members = self.members(run).await;
        let now = self.with.clock.now();
        let mut snapshot = Snapshot { members, ..self.with.observer.nodes() };
        self.with.arbiter.known().write(&mut snapshot);
        let record = run.record();
        let (by, policy, leaving) = (record.created_by.clone(), record.plan.policy.clone(), record.plan.leaving());
        Petition { run: record.id.clone(), by, policy, leaving, now, snapshot }
    }

    /// The next node that may go down as far as is known. The arbiter judges it anew, but need not be asked for those before
    /// it, which are refused: of many, most are.
    async fn next_that_may(
        &self,
        run: &ActiveRun,
        held: &mut Held,
        asking: &mut VecDeque<(StepId, NodeName)>,
        scene: Scene<'_>,
    ) -> Option<(StepId, NodeName)> {
        let overview = Overview::of(scene);
        while let Some((step, node)) = asking.pop_front() {
            let why = overview.objections(&node);
            if why.is_empty() {
                return Some((step, node));
            }
            if self.is_only_away(run, &node, &why) && self.decide(run, held, &step, &node).await == Fate::Ended {
                // Who may begin now is another question than before.
                asking.clear();
                return None;
            }
            self.refused(run, &step, &why);
            held.refused.insert(step);
        }
        None
    }

    /// Nodes that might go down if not so much were under way wait for nothing that needs a word.
    fn wait_for_a_place(&self, run: &ActiveRun, asking: &VecDeque<(StepId, NodeName)>) {
        let mut progress = run.progress();
        for (step, _) in asking {
            progress.change(step, |record| {
                record.message.clear();
                record.advice.clear();
            });
        }
    }

    async fn judged_anew(&self, run: &ActiveRun, error: &StoreError) {
        rest(run, error).await;
        // If it still cannot be stored, that is said again.
        run.set_rests(None);
        run.nudge.notify_one();
    }

    /// Steps that wait for their node, unless it was refused; those that must not overtake others are told so.
    fn whose_turn_it_is(&self, run: &ActiveRun, held: &mut Held) -> VecDeque<(StepId, NodeName)> {
        // Neither is ready by itself for a turn before which something is to be done there.
        let quarantined = self.with.arbiter.known().quarantined;
        let is_away = |node: &NodeName| !self.is_connected(node) || quarantined.contains_key(node);
        let (now, later) = {
            let progress = run.progress();
            let asking = progress.asking(is_away);
            let now = asking.now.into_iter().filter(|planned| !held.refused.contains(&planned.id));
            let now = now.filter_map(|planned| Some((planned.id.clone(), planned.step.node()?.clone())));
            let now: VecDeque<_> = now.collect();
            let later: Vec<_> = asking.later.into_iter().map(|planned| planned.id.clone()).collect();
            (now, later)
        };
        held.behind = !later.is_empty();
        for step in later {
            let message = "waits: nodes whose turn comes before are not ready yet".to_owned();
            self.holds_up(run, &step, vec!["turn"], message, "it goes on by itself".to_owned());
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

    pub(super) fn refused(&self, run: &ActiveRun, step: &StepId, why: &[Objection]) {
        let Some(first) = why.first() else { return };
        let reasons: Vec<_> = why.iter().map(|objection| objection.reason.as_str()).collect();
        let kinds = why.iter().map(|objection| objection.predicate).collect();
        self.holds_up(run, step, kinds, format!("waits: {}", reasons.join("; ")), first.advice.clone());
    }

    /// Shows what a step waits for, and tells it when that is of another kind than before: who is down changes with every
    /// node of a run, and would be told of every node that waits.
    pub(super) fn holds_up(
        &self,
        run: &ActiveRun,
        step: &StepId,
        kinds: Vec<&'static str>,
        message: String,
        advice: String,
    ) {
        let (is_other, is_told) = {
            let mut progress = run.progress();
            let is_other = progress.step(step).message != message;
            if is_other {
                progress.change(step, |record| (record.message, record.advice) = (message.clone(), advice));
            }
            (is_other, progress.waits_for(step, kinds))
        };
        if is_told {
            self.tell(run, EventKind::StepHeld, step, format!("{step} {message}"));
        }
        if is_other {
            run.signal();
        }
    }

    /// Takes back what a step waited for.
    pub(super) fn goes_on(&self, run: &ActiveRun, step: &StepId) {
        {
            let mut progress = run.progress();
            progress.waits_for(step, Vec::new());
            progress.change(step, |record| {
                record.message.clear();
                record.advice.clear();
            });
        }
        run.signal();
    }

    /// Gives back nodes that the run is done with.
    pub(super) async fn give_back(&self, run: &ActiveRun) {
        let (id, finished) = (run.id(), run.progress().finished_with());
        for node in finished {
            stored(run, || self.with.arbiter.give_back(&id, &node)).await;
            run.progress().set_in_hand(&node, false);
        }
    }
}
