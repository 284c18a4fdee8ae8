// SPDX-License-Identifier: Apache-2.0
//! What operators ask for: a plan, that it be carried out, and what is told to runs and done to nodes.

use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Response, Status};
use windlass_plan::Plan;
use windlass_proto::v1;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_proto::v1::nodes_wish::Wish as Wire;
use windlass_proto::v1::plan_service_client::PlanServiceClient;
use windlass_proto::v1::run_service_client::RunServiceClient;

use super::{RunWish, Tell, What};
use crate::node::Node;
use crate::operator::{Operator, connect, until_answered};

/// Whoever asks for a plan waits longer than the controller waits for nodes.
const PLAN_WITHIN: Duration = Duration::from_secs(400);

/// What is said to whoever was let wait in vain.
const IN_VAIN: [&str; 2] = ["Timeout expired", "did not answer within"];

/// How often a plan is asked for.
const ATTEMPTS: usize = 3;

/// A plan as it was shown.
pub(crate) struct Shown {
    pub(crate) plan: Plan,
    answer: v1::PlanNodesResponse,
    wish: v1::NodesWish,
}

/// Asks once.
async fn once<T>(ask: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>) -> Result<T, Status> {
    let lost = |_| Status::unavailable("no answer in time");
    let asked = async {
        let channel = connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        ask(channel).await
    };
    tokio::time::timeout(PLAN_WITHIN, asked).await.map_err(lost)?.map(Response::into_inner)
}

/// Asks for a plan.
pub(crate) async fn plan(wish: &v1::NodesWish) -> Result<Shown, Status> {
    let request = v1::PlanNodesRequest { wish: Some(wish.clone()) };
    let answer = once(async |channel| PlanServiceClient::new(channel).plan_nodes(request).await).await?;
    let plan = serde_json::from_str(&answer.plan).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Shown { plan, answer, wish: wish.clone() })
}

/// Has a plan carried out; the run, if there is anything to do.
pub(crate) async fn apply(shown: Shown) -> Result<Option<String>, Status> {
    let v1::PlanNodesResponse { plan, sha256, .. } = shown.answer;
    let request = v1::ApplyNodesRequest { wish: Some(shown.wish), plan, sha256 };
    let answer = once(async |channel| PlanServiceClient::new(channel).apply_nodes(request).await).await?;
    Ok((!answer.run.is_empty()).then_some(answer.run))
}

/// What becomes of nodes, as it is asked for.
pub(crate) fn on_wire(what: What, names: Vec<String>) -> v1::NodesWish {
    let packages = |reboot_if_needed| v1::UpdatePackages { reboot_if_needed, ..v1::UpdatePackages::default() };
    let kernel = v1::UpgradeKernel { channel: "elrepo-lt".to_owned(), ..v1::UpgradeKernel::default() };
    let wish = match what {
        What::Reboot => Wire::Reboot(v1::Reboot { if_needed: false }),
        What::RebootIfNeeded => Wire::Reboot(v1::Reboot { if_needed: true }),
        What::Packages => Wire::Packages(packages(false)),
        What::PackagesAndReboot => Wire::Packages(packages(true)),
        What::Kernel => Wire::Kernel(kernel),
    };
    let selector = Some(v1::NodeSelector { names, ..v1::NodeSelector::default() });
    v1::NodesWish { selector, wish: Some(wish), ..v1::NodesWish::default() }
}

impl Operator {
    /// Plans and applies, as the command line does. An answer that is lost is not asked for again: the run may be under
    /// way.
    pub(crate) async fn begin_run(&self, wish: &RunWish, era: usize) -> Result<String, Status> {
        let names = self.ledger.usable_nodes(wish.nodes.iter().filter_map(|index| self.nodes.get(*index)));
        let wire = v1::NodesWish {
            max_unavailable: wish.max_unavailable,
            on_failure: wish.on_failure.to_owned(),
            unreachable: wish.unreachable.to_owned(),
            ..on_wire(wish.what, names)
        };
        let mut shown = plan(&wire).await;
        for _ in 1..ATTEMPTS {
            if shown.is_err() {
                tokio::time::sleep(Duration::from_secs(2)).await;
                shown = plan(&wire).await;
            }
        }
        if let Some(status) =
            shown.as_ref().err().filter(|status| IN_VAIN.iter().any(|said| status.message().contains(said)))
        {
            self.ledger.broke(format!("(20) no plan is made of {wish:?}: {}", status.message()));
        }
        let shown = shown?;
        let steps = shown.plan.steps.len();
        match apply(shown).await? {
            None => Ok("nothing to do".to_owned()),
            Some(run) => {
                self.dealings.began(era, wish.number, &run);
                Ok(format!("run {run}: {steps} steps"))
            }
        }
    }

    /// Tells a run something.
    pub(crate) async fn tell_run(&self, wish: usize, what: Tell, era: usize) -> Result<String, Status> {
        let Some(id) = self.dealings.run_of(era, wish) else { return Ok("there is no such run".to_owned()) };
        let run = tell(&id, what).await?;
        Ok(format!("run {id} is {:?}", run.map(|run| run.state())))
    }

    /// Leaves a node alone.
    pub(crate) async fn quarantine(&self, node: &Node) -> Result<String, Status> {
        let request = v1::QuarantineNodeRequest { node: node.name.to_string(), reason: "smoke".to_owned() };
        until_answered(async |channel| NodeServiceClient::new(channel).quarantine_node(request.clone()).await).await?;
        Ok("left alone".to_owned())
    }

    /// Takes a node back, from whoever holds it.
    pub(crate) async fn release(&self, node: &Node) -> Result<String, Status> {
        let request = v1::ReleaseNodeRequest { node: node.name.to_string(), reason: "looked at".to_owned() };
        self.dealings.releases(&node.name);
        let answer =
            until_answered(async |channel| NodeServiceClient::new(channel).release_node(request.clone()).await).await?;
        Ok(format!("was quarantined: {}, run: {:?}", answer.was_quarantined, answer.run))
    }
}

/// Tells a run something; how it stands then.
pub(crate) async fn tell(run: &str, what: Tell) -> Result<Option<v1::Run>, Status> {
    let id = run.to_owned();
    let ask = async |channel| {
        let (mut runs, id) = (RunServiceClient::new(channel), id.clone());
        Ok(Response::new(match what {
            Tell::Pause => runs.pause_run(v1::PauseRunRequest { id }).await?.into_inner().run,
            Tell::Resume => runs.resume_run(v1::ResumeRunRequest { id }).await?.into_inner().run,
            Tell::Stop => runs.stop_run(v1::StopRunRequest { id }).await?.into_inner().run,
            Tell::Retry => runs.retry_run(v1::RetryRunRequest { id }).await?.into_inner().run,
        }))
    };
    until_answered(ask).await
}
