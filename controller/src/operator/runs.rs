// SPDX-License-Identifier: Apache-2.0
//! RunService.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use serde_json::json;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use windlass_plan::step::Mark;
use windlass_plan::{NodeWish, PlannedStep};
use windlass_proto::refusal::Refusal;
use windlass_proto::v1;
use windlass_proto::v1::run_service_server::RunService;
use windlass_types::event::Event;
use windlass_types::machine::MachineStage;
use windlass_types::name::RunId;
use windlass_types::time::UnixMillis;

use super::bad;
use super::events::on_wire as event_on_wire;
use crate::caller::Caller;
use crate::change::Wish;
use crate::execute::RunView;
use crate::execute::record::RunRecord;
use crate::execute::run::StepRecord;
use crate::server::Controller;

/// Runs in one answer at most.
const MOST_RUNS: usize = 200;

/// Events read at once.
const BATCH: usize = 512;

/// The calls.
#[derive(Debug)]
pub struct RunApi(pub Arc<Controller>);

#[tonic::async_trait]
impl RunService for RunApi {
    type WatchRunStream = BoxStream<'static, Result<v1::WatchRunResponse, Status>>;

    async fn list_runs(&self, request: Request<v1::ListRunsRequest>) -> Result<Response<v1::ListRunsResponse>, Status> {
        let limit = match request.into_inner().newest as usize {
            0 => MOST_RUNS,
            newest => newest.min(MOST_RUNS),
        };
        let runs = self.0.runs.list(limit, |record| self.listed(record)).await?;
        Ok(Response::new(v1::ListRunsResponse { runs }))
    }

    async fn watch_run(&self, request: Request<v1::WatchRunRequest>) -> Result<Response<Self::WatchRunStream>, Status> {
        let message = request.into_inner();
        let id = RunId::new(message.id).map_err(|error| bad(&error))?;
        let first = self.0.runs.view(&id).await?.record.first_event;
        let after = message.after.max(first);
        let controller = Arc::clone(&self.0);
        let watching = Watching { controller, id, after, changes: None, is_over: false, hashed: None };
        let next = async |mut watching: Watching| {
            let answer = watching.next().await?;
            Some((answer.map_err(Status::from), watching))
        };
        let answers = unfold(watching, next).take_until(self.0.stop.clone().cancelled_owned());
        Ok(Response::new(answers.boxed()))
    }

    async fn pause_run(&self, request: Request<v1::PauseRunRequest>) -> Result<Response<v1::PauseRunResponse>, Status> {
        let caller = Caller::of(&request);
        let id = RunId::new(request.into_inner().id).map_err(|error| bad(&error))?;
        let by = caller.to_string();
        let view = self.0.changes.run(wish(&caller, "run pause", &id), self.0.runs.pause(&id, &by)).await?;
        Ok(Response::new(v1::PauseRunResponse { run: Some(on_wire(&view, hash(&view.record))) }))
    }

    async fn resume_run(
        &self,
        request: Request<v1::ResumeRunRequest>,
    ) -> Result<Response<v1::ResumeRunResponse>, Status> {
        let caller = Caller::of(&request);
        let id = RunId::new(request.into_inner().id).map_err(|error| bad(&error))?;
        let by = caller.to_string();
        let view = self.0.changes.run(wish(&caller, "run resume", &id), self.0.runs.resume(&id, &by)).await?;
        Ok(Response::new(v1::ResumeRunResponse { run: Some(on_wire(&view, hash(&view.record))) }))
    }

    async fn retry_run(&self, request: Request<v1::RetryRunRequest>) -> Result<Response<v1::RetryRunResponse>, Status> {
        let caller = Caller::of(&request);
        let id = RunId::new(request.into_inner().id).map_err(|error| bad(&error))?;
        let by = caller.to_string();
        let view = self.0.changes.run(wish(&caller, "run retry", &id), self.0.runs.retry(&id, &by)).await?;
        Ok(Response::new(v1::RetryRunResponse { run: Some(on_wire(&view, hash(&view.record))) }))
    }

    async fn list_holds(
        &self,
        _request: Request<v1::ListHoldsRequest>,
    ) -> Result<Response<v1::ListHoldsResponse>, Status> {
        let known = self.0.runs.arbiter().known();
        let leases = known.leases.into_iter().map(|(node, held)| v1::Hold {
            node: node.into(),
            run: held.lease.run.into(),
            lease: held.lease.number,
            since_unix_millis: held.since.0,
            by: held.by,
            reason: String::new(),
        });
        let quarantined = known.quarantined.into_iter().map(|(node, quarantine)| v1::Hold {
            node: node.into(),
            since_unix_millis: quarantine.since.0,
            by: quarantine.by,
            reason: quarantine.reason,
            ..v1::Hold::default()
        });
        let mut holds: Vec<_> = leases.chain(quarantined).collect();
        holds.sort_by(|a, b| a.node.cmp(&b.node));
        Ok(Response::new(v1::ListHoldsResponse { holds }))
    }

    async fn stop_run(&self, request: Request<v1::StopRunRequest>) -> Result<Response<v1::StopRunResponse>, Status> {
        let caller = Caller::of(&request);
        let id = RunId::new(request.into_inner().id).map_err(|error| bad(&error))?;
        let by = caller.to_string();
        let view = self.0.changes.run(wish(&caller, "run stop", &id), self.0.runs.stop(&id, &by)).await?;
        Ok(Response::new(v1::StopRunResponse { run: Some(on_wire(&view, hash(&view.record))) }))
    }
}

impl RunApi {
    fn listed(&self, record: &RunRecord) -> v1::Run {
        let holds = self.0.runs.held_by(&record.id);
        let done_count = self.0.runs.done(&record.id).or(record.done_count);
        let holds = holds.into_iter().map(String::from).collect();
        v1::Run { holds, done_count: done_count.unwrap_or(0), ..head(record, hash(record)) }
    }
}

fn wish<'a>(caller: &'a Caller, verb: &'static str, id: &RunId) -> Wish<'a> {
    Wish { caller, verb, object: format!("run/{id}"), arguments: json!({}) }
}

/// Somebody who watches a run.
struct Watching {
    controller: Arc<Controller>,
    id: RunId,
    after: u64,
    changes: Option<watch::Receiver<u64>>,
    is_over: bool,
    /// The hash of the plan, and of which revision of it.
    hashed: Option<(u32, Bytes)>,
}

impl Watching {
    /// How the run stands now, with what happened since: at once at first, then whenever something changes.
    async fn next(&mut self) -> Option<Result<v1::WatchRunResponse, Refusal>> {
        if self.is_over {
            return None;
        }
        match &mut self.changes {
            None => self.changes = self.controller.runs.changes(&self.id),
            // The sender goes when the run has ended.
            Some(changes) => drop(changes.changed().await),
        }
        // What is told below was emitted before the run was looked at.
        self.controller.events.flush().await;
        let answer = self.look().await;
        self.is_over =
            answer.as_ref().map_or(true, |answer| answer.run.as_ref().is_none_or(|run| !is_under_way(run.state())));
        Some(answer)
    }

    async fn look(&mut self) -> Result<v1::WatchRunResponse, Refusal> {
        let view = self.controller.runs.view(&self.id).await?;
        let mut events = Vec::new();
        loop {
            let read = self.controller.events.read(self.after, BATCH).await;
            let batch: Vec<Event> = read.map_err(|error| crate::join::store(&error))?;
            let Some(last) = batch.last() else { break };
            self.after = last.cursor;
            events.extend(batch.into_iter().filter(|event| event.run.as_ref() == Some(&self.id)).map(event_on_wire));
        }
        let now_unix_millis = self.controller.clock.now().0;
        let hash = hash_of_revision(&mut self.hashed, &view.record);
        Ok(v1::WatchRunResponse { run: Some(on_wire(&view, hash)), events, now_unix_millis })
    }
}

/// The hash of a run's plan, made anew only when the plan has grown: that of a large plan takes longer than all else that
/// is told of a change.
fn hash_of_revision(hashed: &mut Option<(u32, Bytes)>, record: &RunRecord) -> Bytes {
    match hashed {
        Some((revision, hash)) if *revision == record.revision => hash.clone(),
        _ => hashed.insert((record.revision, hash(record))).1.clone(),
    }
}

fn hash(record: &RunRecord) -> Bytes {
    record.plan.hash().as_bytes().to_vec().into()
}

const fn is_under_way(state: v1::RunState) -> bool {
    matches!(state, v1::RunState::Running | v1::RunState::Paused)
}

fn head(record: &RunRecord, plan_sha256: Bytes) -> v1::Run {
    let plan = &record.plan;
    let blocked = plan.blocked.iter().map(|left| format!("{}: {}; {}", left.node, left.reason, left.advice));
    let queued = plan.queued.iter();
    let queued = queued.map(|queued| v1::QueuedNode {
        node: queued.node.to_string(),
        reason: queued.reason.clone(),
        after: queued.after.as_ref().map(ToString::to_string).unwrap_or_default(),
    });
    v1::Run {
        id: record.id.to_string(),
        cluster: plan.cluster.as_ref().map(ToString::to_string).unwrap_or_default(),
        state: v1::RunState::from(record.state).into(),
        created_by: record.created_by.clone(),
        created_unix_millis: record.created_at.0,
        ended_unix_millis: record.ended_at.map_or(0, |at| at.0),
        plan_sha256,
        stop_requested: record.stop_requested,
        steps: Vec::new(),
        step_count: u32::try_from(record.plan.steps.len()).unwrap_or(u32::MAX),
        blocked: blocked.collect(),
        paused: record.paused.clone().unwrap_or_default(),
        holds: Vec::new(),
        done_count: 0,
        queued: queued.collect(),
        plan_revision: record.revision,
        what: what(record),
        only_destroys: only_destroys(plan),
    }
}

fn only_destroys(plan: &windlass_plan::Plan) -> bool {
    !plan.destroyed().is_empty() && plan.count(Mark::Add) + plan.count(Mark::Change) == 0
}

/// What a run does, in a few words.
fn what(record: &RunRecord) -> String {
    let plan = &record.plan;
    if let Some(cluster) = &plan.cluster {
        let verb = if only_destroys(plan) { "destroy in" } else { "apply" };
        return format!("{verb} {cluster}");
    }
    let mut wishes = record.inputs.wishes.iter();
    let Some((node, wish)) = wishes.next() else { return plan.subject() };
    let on = match wishes.len() {
        0 => node.to_string(),
        others => format!("{} nodes", others + 1),
    };
    match wish {
        NodeWish { packages: Some(_), .. } => format!("packages on {on}"),
        NodeWish { kernel: Some(_), .. } => format!("kernel of {on}"),
        _ => format!("reboot {on}"),
    }
}

fn on_wire(view: &RunView, plan_sha256: Bytes) -> v1::Run {
    let steps = view
        .record
        .plan
        .steps
        .iter()
        .map(|planned| step(planned, &view.steps.get(&planned.id).cloned().unwrap_or_default()));
    let is_done = |record: &&StepRecord| record.state == windlass_types::run::StepState::Done;
    let done_count = u32::try_from(view.steps.values().filter(is_done).count()).unwrap_or(u32::MAX);
    let holds = view.holds.iter().map(ToString::to_string).collect();
    v1::Run { steps: steps.collect(), holds, done_count, ..head(&view.record, plan_sha256) }
}

fn step(planned: &PlannedStep, record: &StepRecord) -> v1::RunStep {
    v1::RunStep {
        id: planned.id.to_string(),
        node: planned.step.node().map(ToString::to_string).unwrap_or_default(),
        verb: planned.step.verb().to_owned(),
        state: v1::StepState::from(record.state).into(),
        stage: record.stage().map_or(v1::MachineStage::Unspecified, Into::into).into(),
        started_unix_millis: record.started_at.map_or(0, |at| at.0),
        ended_unix_millis: record.ended_at.map_or(0, |at| at.0),
        expected_millis: record.expected_millis,
        expected_stage_millis: record.expected_stage_millis,
        message: record.message.clone(),
        advice: record.advice.clone(),
        console_tail: record.console_tail.clone(),
        stages: record.reached.iter().map(|(stage, at)| stage_time(*stage, *at)).collect(),
        attempt: record.attempt,
        was_done: record.was_done,
        job: record.job.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}

fn stage_time(stage: MachineStage, at: UnixMillis) -> v1::StageTime {
    v1::StageTime { stage: v1::MachineStage::from(stage).into(), unix_millis: at.0 }
}

#[cfg(test)]
mod tests {
    use windlass_plan::{Plan, Policy};

    use super::*;

    fn record() -> RunRecord {
        RunRecord::new(Plan::empty(None, Policy::default()), "root".to_owned(), UnixMillis(0), 0)
    }

    #[test]
    fn whoever_watches_is_told_the_hash_of_the_plan_as_it_has_grown() {
        let (mut hashed, mut record) = (None, record());
        let first = hash_of_revision(&mut hashed, &record);
        assert_eq!(first, hash(&record));
        // Only a new revision is another plan: the old one is not hashed again.
        record.plan.policy.parallel += 1;
        assert_eq!(hash_of_revision(&mut hashed, &record), first);
        record.revision += 1;
        assert_eq!(hash_of_revision(&mut hashed, &record), hash(&record));
        assert_ne!(hash(&record), first);
    }
}
