// SPDX-License-Identifier: Apache-2.0
//! Begins whatever may begin, until every step has ended.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use windlass_plan::{OnFailure, PlannedStep, Step, StepId};
use windlass_types::event::EventKind;
use windlass_types::run::{RunState, StepState};
use windlass_types::time::UnixMillis;

use super::health::at;
use super::hold::Held;
use super::out_of_reach::Fate;
use super::record::RunRecord;
use super::run::counts;
use super::steps::{StepEnd, StepFailure};
use super::stored::{rest, stored};
use super::{ActiveRun, Runs};

/// A timer is never set for longer: clocks are put right meanwhile.
const LONGEST_TIMER: Duration = Duration::from_secs(24 * 3600);

/// What is known of how a step ended.
type Ended = Result<StepEnd, StepFailure>;

impl Runs {
    /// Carries a run to its end, or to where somebody must decide.
    pub(super) async fn drive(self: &Arc<Self>, run: &Arc<ActiveRun>) {
        let mut under_way = JoinSet::new();
        let mut held = Held::new(self, run);
        self.tell_awaited(run);
        loop {
            held.catch_up();
            self.sweep(run).await;
            self.give_back(run).await;
            self.ask_arbiter(run, &mut held).await;
            for planned in self.may_begin(run, &mut held).await {
                self.takes_up(run, &planned);
                let (runs, run) = (Arc::clone(self), Arc::clone(run));
                under_way.spawn(async move { runs.step(&run, planned).await });
            }
            self.look_for_absent(run, &mut held).await;
            let back = self.are_back(run);
            if !back.is_empty() {
                let (runs, run) = (Arc::clone(self), Arc::clone(run));
                under_way.spawn(async move { runs.bring_in(&run, back).await });
            }
            held.set_awaits(!run.progress().awaited().is_empty());
            if under_way.is_empty()
                && let Some(verdict) = closed(run)
            {
                return self.finish(run, verdict).await;
            }
            let (opens, redialled) = (held.opens(), held.redialled());
            tokio::select! {
                // What a step came to is in the run's progress.
                Some(ended) = under_way.join_next() => {
                    drop(ended);
                    while under_way.try_join_next().is_some() {}
                }
                () = run.nudge.notified() => held.look_again(),
                () = held.news() => held.look_again(),
                () = window(opens, self.with.clock.now()) => held.look_again(),
                () = at(redialled) => held.look_again(),
            }
        }
    }

    /// Ends steps that will never begin.
    pub(super) async fn sweep(&self, run: &ActiveRun) {
        loop {
            let left_over = run.progress().left_over();
            if left_over.is_empty() {
                return;
            }
            for (id, state) in left_over {
                self.ended(run, &id, state, None).await;
            }
        }
    }

    /// Steps that may begin and whose node can be told. What becomes of the others is in the plan's rules.
    async fn may_begin(&self, run: &ActiveRun, held: &mut Held) -> Vec<PlannedStep> {
        loop {
            let ready = run.progress().ready(|node| held.is_away(node));
            let mut begin = Vec::with_capacity(ready.len());
            let mut is_place_free = false;
            for planned in ready {
                match self.reach(run, held, &planned).await {
                    Fate::GoesOn => begin.push(planned),
                    Fate::Expected => {}
                    // Whoever cannot be told takes nobody's place.
                    Fate::Waits | Fate::Ended => is_place_free = true,
                }
            }
            if !is_place_free {
                return begin;
            }
        }
    }

    async fn reach(&self, run: &ActiveRun, held: &mut Held, planned: &PlannedStep) -> Fate {
        let Step::OnNode { node, .. } = &planned.step else { return Fate::GoesOn };
        if let Some(objection) = self.put_aside(run, &planned.id, node).await {
            held.set_away(node.clone());
            self.refused(run, &planned.id, &[objection]);
            return Fate::Waits;
        }
        if self.is_within_reach(run, node) {
            return Fate::GoesOn;
        }
        let fate = self.decide(run, held, &planned.id, node).await;
        if matches!(fate, Fate::Expected | Fate::Waits) {
            held.set_away(node.clone());
        }
        if fate == Fate::Waits {
            self.tell_it_waits(run, &planned.id, node);
        }
        fate
    }

    async fn step(self: &Arc<Self>, run: &Arc<ActiveRun>, planned: PlannedStep) {
        let id = planned.id.clone();
        self.began(run, &planned).await;
        let worked = tokio::spawn({
            let (runs, run) = (Arc::clone(self), Arc::clone(run));
            async move { runs.carry_out(&run, &planned).await }
        });
        let ended: Ended = worked.await.unwrap_or_else(|_| {
            Err(StepFailure::said("the step ended in an error of the program", "see the controller's log"))
        });
        match ended {
            Ok(end) => {
                run.progress().change(&id, |record| record.was_done = end == StepEnd::WasDone);
                self.ended(run, &id, StepState::Done, None).await
            }
            Err(StepFailure::Stopped) => self.ended(run, &id, StepState::Stopped, None).await,
            Err(failure) => self.failed(run, &id, failure).await,
        }
    }

    /// A step failed. A run that shall pause then is paused first: nothing else may begin in between, not even after a
    /// restart of the controller. Machines that cannot be made are no reason for that.
    pub(super) async fn failed(&self, run: &ActiveRun, id: &StepId, failure: StepFailure) {
        let pauses = {
            let progress = run.progress();
            progress.planned(id).is_some_and(counts) && progress.plan().policy.on_failure == OnFailure::Pause
        };
        if pauses && !run.progress().told().stop {
            stored(run, || self.set_paused(run, Some(format!("{id} failed")))).await;
        }
        self.ended(run, id, StepState::Failed, Some(failure)).await;
    }

    /// Nobody else takes it up from here on.
    fn takes_up(&self, run: &ActiveRun, planned: &PlannedStep) {
        let now = self.with.clock.now();
        run.progress().change(&planned.id, |record| {
            record.state = StepState::Running;
            record.started_at.get_or_insert(now);
            record.message.clear();
            record.advice.clear();
            if matches!(planned.step, Step::OnNode { .. }) {
                record.attempt = record.attempt.max(record.untold + 1);
            } else {
                // Whoever finds it ended in the middle cannot say how much of it was done.
                record.begun = planned.lease;
            }
        });
    }

    /// The intent, stored before anything is done. Steps that begin at the same time share a flush.
    async fn began(&self, run: &ActiveRun, planned: &PlannedStep) {
        let (id, run_id) = (&planned.id, run.id());
        let expected = match &planned.step {
            Step::OnNode { step, .. } => Some(stored(run, || self.with.step_times.expected(step.verb())).await),
            _ => None,
        };
        let record = run.progress().change(id, |record| {
            record.expected_millis = expected.unwrap_or(record.expected_millis);
        });
        stored(run, || self.with.records.save_step(&run_id, id, &record)).await;
        run.signal();
        self.tell(run, EventKind::StepStarted, id, format!("{id} began"));
    }

    /// The result.
    pub(super) async fn ended(&self, run: &ActiveRun, id: &StepId, state: StepState, failure: Option<StepFailure>) {
        let (now, run_id) = (self.with.clock.now(), run.id());
        let record = run.progress().change(id, |record| {
            record.state = state;
            record.ended_at = Some(now);
            match failure {
                Some(failure) => failure.write(record),
                None => {
                    record.message.clear();
                    record.advice.clear();
                }
            }
        });
        stored(run, || self.with.records.save_step(&run_id, id, &record)).await;
        let took = record.started_at.map(|began| now.since(began));
        let after = took.map_or_else(String::new, |took| format!(" after {} s", took.as_secs()));
        match state {
            StepState::Done if record.was_done => {
                self.tell(run, EventKind::StepDone, id, format!("{id} was done already"));
            }
            StepState::Done => {
                self.learn(run, id, took.unwrap_or_default()).await;
                self.tell(run, EventKind::StepDone, id, format!("{id} is done{after}"));
            }
            StepState::Failed => {
                self.tell(run, EventKind::StepFailed, id, format!("{id} failed{after}: {}", record.message));
            }
            StepState::Skipped if !record.message.is_empty() => {
                self.tell(run, EventKind::StepFailed, id, format!("{id} is skipped: {}", record.message));
            }
            StepState::Skipped | StepState::Stopped | StepState::Waiting | StepState::Running => {}
        }
        if state == StepState::Done
            && let Some(job) = record.job
        {
            self.with.jobs.forget(&job).await;
        }
        run.signal();
    }

    async fn learn(&self, run: &ActiveRun, id: &StepId, took: Duration) {
        let verb = run.progress().planned(id).and_then(|planned| match &planned.step {
            Step::OnNode { step, .. } => Some(step.verb()),
            _ => None,
        });
        if let Some(verb) = verb {
            stored(run, || self.with.step_times.learn(verb, took)).await;
        }
    }

    async fn finish(&self, run: &Arc<ActiveRun>, verdict: RunState) {
        self.give_back(run).await;
        stored(run, || self.with.step_times.keep()).await;
        // Tried again without the lock: whoever tells the run something meanwhile is answered.
        let (_recording, record) = loop {
            let recording = run.recording.lock().await;
            let (ended_at, done_count) = (Some(self.with.clock.now()), Some(run.progress().done_count()));
            let record = RunRecord { state: verdict, paused: None, ended_at, done_count, ..run.record().clone() };
            match self.with.records.finish(&record).await {
                Ok(()) => break (recording, record),
                Err(error) => {
                    drop(recording);
                    rest(run, &error).await;
                }
            }
        };
        run.set_rests(None);
        let id = record.id.clone();
        let held: Vec<_> = self.held_by(&id).into_iter().map(String::from).collect();
        let holds = if held.is_empty() { String::new() } else { format!(" and still holds {}", held.join(", ")) };
        let message = format!("run {id} has {}{holds}", ended_as(verdict));
        self.with.events.emit_in_run(EventKind::RunEnded, None, &id, message);
        // Whoever watches is told of the end only when all events up to it can be read.
        self.with.events.flush().await;
        *run.record() = record;
        self.active().remove(&id);
        run.signal();
    }
}

/// The final state of a run, once every step has ended; from then on nothing of it can be tried again until it is recorded.
fn closed(run: &ActiveRun) -> Option<RunState> {
    let progress = run.progress();
    let verdict = progress.verdict()?;
    run.record().state = verdict;
    Some(verdict)
}

/// Waits until the window opens; for ever if nothing waits for that.
async fn window(opens: Option<UnixMillis>, now: UnixMillis) {
    match opens {
        None => std::future::pending().await,
        // A moment later, so that the clock, which counts milliseconds, shows it.
        Some(at) => tokio::time::sleep(at.since(now).min(LONGEST_TIMER) + Duration::from_millis(1)).await,
    }
}

const fn ended_as(verdict: RunState) -> &'static str {
    match verdict {
        RunState::Succeeded => "succeeded",
        RunState::Failed => "failed",
        RunState::Stopped => "been stopped",
        RunState::Running | RunState::Paused => "not ended",
    }
}
