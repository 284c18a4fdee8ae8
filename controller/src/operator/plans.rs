// SPDX-License-Identifier: Apache-2.0
//! PlanService.

mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message as _;
use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_plan::Plan;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::plan_cluster_request::Wish as Wire;
use windlass_proto::v1::plan_service_server::PlanService;
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::machine::{MachineReport, ProviderKind, UnknownProvider};
use windlass_types::name::{ClusterName, NodeName};

pub(super) use self::nodes::packages_wish;
use super::{bad, packages};
use crate::caller::Caller;
use crate::change::Wish as ChangeWish;
use crate::execute::apply::{Metadata, Shown, Wish, unobserved};
use crate::server::{Controller, LARGEST_PLAN};
use crate::spec::{Cluster, LARGEST_FILE_BYTES};

/// Keys and the like have a few KiB.
const LARGEST_INPUT_BYTES: usize = 64 << 10;

/// Room in a message beside the plan and what was asked for: hashes, a name, what is limited and in the way.
const BESIDE_BYTES: usize = 1 << 20;

/// The calls.
#[derive(Debug)]
pub struct PlanApi(pub Arc<Controller>);

#[tonic::async_trait]
impl PlanService for PlanApi {
    async fn plan_cluster(
        &self,
        request: Request<v1::PlanClusterRequest>,
    ) -> Result<Response<v1::PlanClusterResponse>, Status> {
        let by = Caller::of(&request).to_string();
        let message = request.into_inner();
        let asked_bytes = message.encoded_len();
        let proposal = self.0.runs.propose(&wish(message)?, &Metadata::Fresh, &by).await?;
        let plan = sendable(&proposal.plan, asked_bytes)?;
        let (obstacle, obstacle_advice) =
            proposal.obstacle.map(|refusal| (refusal.message, refusal.advice)).unwrap_or_default();
        Ok(Response::new(v1::PlanClusterResponse {
            plan,
            sha256: proposal.plan.hash().as_bytes().to_vec().into(),
            obstacle,
            obstacle_advice,
            expected_millis: proposal.expected_millis,
            expected_is_guess: proposal.expected_is_guess,
            run: proposal.busy.map(|busy| String::from(busy.run)).unwrap_or_default(),
            needs: proposal.needs.into_iter().map(need).collect(),
        }))
    }

    async fn apply_plan(
        &self,
        request: Request<v1::ApplyPlanRequest>,
    ) -> Result<Response<v1::ApplyPlanResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let plan = read_plan(&message.plan)?;
        let wish = wish(message.request.unwrap_or_default())?;
        let sha256 = Sha256Digest::from_slice(&message.sha256).map_err(|error| bad(&error))?;
        let shown = Shown { plan, sha256, confirmation: message.confirmation };
        let change = audited(&caller, "plan apply", &shown);
        let run = self.0.changes.run(change, self.0.runs.apply(&wish, shown, caller.to_string())).await?;
        Ok(Response::new(v1::ApplyPlanResponse { run: run.map(String::from).unwrap_or_default() }))
    }

    async fn list_packages(
        &self,
        request: Request<v1::ListPackagesRequest>,
    ) -> Result<Response<v1::ListPackagesResponse>, Status> {
        let by = Caller::of(&request).to_string();
        Ok(Response::new(packages::list(&self.0, request.into_inner(), &by).await?))
    }

    async fn plan_nodes(
        &self,
        request: Request<v1::PlanNodesRequest>,
    ) -> Result<Response<v1::PlanNodesResponse>, Status> {
        let by = Caller::of(&request).to_string();
        let message = request.into_inner();
        let asked_bytes = message.encoded_len();
        let wish = nodes::wish(&self.0, message.wish).await?;
        let proposal = self.0.runs.propose(&wish, &Metadata::Fresh, &by).await?;
        let plan = sendable(&proposal.plan, asked_bytes)?;
        Ok(Response::new(v1::PlanNodesResponse {
            plan,
            sha256: proposal.plan.hash().as_bytes().to_vec().into(),
            expected_millis: proposal.expected_millis,
            expected_is_guess: proposal.expected_is_guess,
            run: proposal.busy.map(|busy| String::from(busy.run)).unwrap_or_default(),
        }))
    }

    async fn apply_nodes(
        &self,
        request: Request<v1::ApplyNodesRequest>,
    ) -> Result<Response<v1::ApplyNodesResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let plan = read_plan(&message.plan)?;
        let wish = nodes::wish(&self.0, message.wish).await?;
        let sha256 = Sha256Digest::from_slice(&message.sha256).map_err(|error| bad(&error))?;
        let shown = Shown { plan, sha256, confirmation: String::new() };
        let change = audited(&caller, "nodes apply", &shown);
        let run = self.0.changes.run(change, self.0.runs.apply(&wish, shown, caller.to_string())).await?;
        Ok(Response::new(v1::ApplyNodesResponse { run: run.map(String::from).unwrap_or_default() }))
    }

    async fn list_machines(
        &self,
        request: Request<v1::ListMachinesRequest>,
    ) -> Result<Response<v1::ListMachinesResponse>, Status> {
        let only = request.into_inner().cluster;
        let observer = self.0.runs.observer();
        let clusters = observer.clusters().await.map_err(|error| unobserved(&error))?;
        let mut answer = v1::ListMachinesResponse::default();
        for cluster in clusters.iter().filter(|cluster| only.is_empty() || cluster.name.as_str() == only) {
            match observer.machines(&cluster.name, &cluster.provider).await {
                Ok(machines) => answer.machines.extend(machines.into_iter().map(|machine| {
                    let joined = observer.node(&machine.name).is_some();
                    on_wire(&cluster.name, &cluster.provider, machine, joined)
                })),
                Err(error) => answer.failures.push(format!("{}: {}", cluster.name, ErrorChain(&error))),
            }
        }
        answer.machines.sort_by(|a, b| (&a.cluster, &a.name).cmp(&(&b.cluster, &b.name)));
        Ok(Response::new(answer))
    }
}

/// A plan as text. Whoever is shown it sends it back to have it carried out, beside what they asked for in `asked_bytes`:
/// one that could not be sent is not shown either.
fn sendable(plan: &Plan, asked_bytes: usize) -> Result<String, Refusal> {
    let text = serde_json::to_string(plan).map_err(|error| bad(&error))?;
    let most = LARGEST_PLAN.saturating_sub(BESIDE_BYTES + asked_bytes);
    if text.len() <= most {
        return Ok(text);
    }
    let (size, most, steps) = (text.len().div_ceil(1 << 20), most >> 20, plan.steps.len());
    let message = format!("the plan has {steps} steps and {size} MiB, and no more than {most} MiB can be carried out");
    Err(Refusal::new(Reason::LimitReached, message).advise(
        "do it for part of the nodes first, chosen by name or with -l; where packages of a spec make it so large: windlass \
         update packages -l KEY=VALUE",
    ))
}

fn read_plan(text: &str) -> Result<Plan, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        Refusal::new(Reason::BadRequest, format!("the plan cannot be read: {error}"))
            .advise("make a new one with `windlass plan -o FILE`")
    })
}

fn audited<'a>(caller: &'a Caller, verb: &'static str, shown: &Shown) -> ChangeWish<'a> {
    let steps: Vec<_> = shown.plan.steps.iter().map(|planned| planned.id.to_string()).collect();
    let arguments = json!({ "plan": shown.sha256.to_string(), "steps": steps, "confirmation": shown.confirmation });
    let cluster = shown.plan.cluster.as_ref();
    let object = cluster.map_or_else(|| "nodes".to_owned(), |cluster| format!("cluster/{cluster}"));
    ChangeWish { caller, verb, object, arguments }
}

fn wish(request: v1::PlanClusterRequest) -> Result<Wish, Refusal> {
    match request.wish {
        Some(Wire::Spec(wire)) => {
            let (cluster, files) = spec(wire)?;
            Ok(Wish::Spec { cluster: Box::new(cluster), files })
        }
        Some(Wire::Destruction(destruction)) => {
            let cluster = ClusterName::new(destruction.cluster).map_err(|error| bad(&error))?;
            let nodes = destruction.nodes.into_iter().map(NodeName::new).collect::<Result<_, _>>();
            let provider = Some(destruction.provider).filter(|text| !text.is_empty()).map(|text| text.parse());
            let provider = provider.transpose().map_err(|error: UnknownProvider| bad(&error))?;
            Ok(Wish::Destruction { cluster, nodes: nodes.map_err(|error| bad(&error))?, provider })
        }
        None => Err(Refusal::new(Reason::BadRequest, "nothing was asked for")),
    }
}

/// Reads a spec with the files it names.
///
/// # Errors
/// If it is too large, or cannot be understood.
pub(super) fn spec(wire: v1::ClusterSpec) -> Result<(Cluster, BTreeMap<String, String>), Refusal> {
    let is_large = |text: &String| text.len() > LARGEST_INPUT_BYTES;
    if wire.text.len() as u64 > LARGEST_FILE_BYTES || wire.files.values().any(is_large) {
        return Err(Refusal::new(Reason::LimitReached, "the spec or a file that it names is too large"));
    }
    let cluster = Cluster::parse(&wire.text).map_err(|error| bad(&error))?;
    Ok((cluster, wire.files.into_iter().collect()))
}

fn part(part: windlass_types::cloud::MachinePart) -> v1::MachinePart {
    v1::MachinePart { kind: part.kind.to_string(), id: part.id, name: part.name }
}

fn need(need: windlass_types::cloud::Need) -> v1::Need {
    v1::Need { of: need.of, needed: need.needed, left: need.left }
}

fn on_wire(cluster: &ClusterName, provider: &ProviderKind, machine: MachineReport, joined: bool) -> v1::Machine {
    let disk = |disk: windlass_types::machine::DiskReport| v1::MachineDisk {
        name: disk.name.into(),
        size_bytes: disk.size_bytes,
        serial: disk.serial.into(),
    };
    v1::Machine {
        cluster: cluster.to_string(),
        name: machine.name.to_string(),
        id: machine.id.to_string(),
        provider: provider.to_string(),
        power: v1::PowerState::from(machine.power).into(),
        complete: machine.complete,
        addresses: machine.addresses.iter().map(ToString::to_string).collect(),
        accel: machine.accel.map(|accel| accel.to_string()).unwrap_or_default(),
        created_unix_millis: machine.created_at.0,
        disks: machine.disks.into_iter().map(disk).collect(),
        note: machine.note.unwrap_or_default(),
        joined,
        parts: machine.parts.into_iter().map(part).collect(),
    }
}

#[cfg(test)]
mod tests {
    use windlass_plan::Policy;
    use windlass_plan::plan::Note;

    use super::*;

    fn plan(bytes: usize) -> Plan {
        let note = Note { node: NodeName::new("node1").expect("a name"), text: "x".repeat(bytes) };
        Plan { notes: vec![note], ..Plan::empty(None, Policy::default()) }
    }

    #[test]
    fn a_plan_that_could_not_be_sent_back_is_not_shown() {
        assert!(sendable(&plan(10 << 20), 1 << 20).is_ok());
        for (plan_bytes, asked_bytes) in [(LARGEST_PLAN, 0), (LARGEST_PLAN / 2, LARGEST_PLAN / 2)] {
            let refused = sendable(&plan(plan_bytes), asked_bytes).expect_err("too large");
            assert_eq!(refused.reason, Reason::LimitReached);
            assert!(refused.message.contains("MiB can be carried out"), "{}", refused.message);
            assert!(refused.advice.contains("-l KEY=VALUE"), "{}", refused.advice);
        }
    }
}
