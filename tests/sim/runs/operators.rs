// SPDX-License-Identifier: Apache-2.0
//! What operators do: they have plans made and carried out, tell runs something, and take nodes from them.

use std::time::Duration;

use tonic::{Response, Status};
use windlass_plan::Step;
use windlass_proto::v1;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_proto::v1::run_service_client::RunServiceClient;

use super::wishes::{apply, plan};
use super::{RunWish, Tell};
use crate::node::Node;
use crate::operator::{Operator, until_answered};

/// What is said to whoever was let wait in vain.
const IN_VAIN: [&str; 2] = ["Timeout expired", "did not answer within"];

/// How often a plan is asked for.
const ATTEMPTS: usize = 3;

impl Operator {
    /// Plans and applies, as the command line does. An answer that is lost is not asked for again: the run may be under
    /// way.
    pub(crate) async fn begin_run(&self, wish: &RunWish, era: usize) -> Result<String, Status> {
        let mut shown = plan(&self.asked(wish.what, &wish.nodes, wish.rules)).await;
        for _ in 1..ATTEMPTS {
            if shown.is_err() {
                tokio::time::sleep(Duration::from_secs(2)).await;
                // A restored controller may know other nodes.
                shown = plan(&self.asked(wish.what, &wish.nodes, wish.rules)).await;
            }
        }
        if let Some(status) =
            shown.as_ref().err().filter(|status| IN_VAIN.iter().any(|said| status.message().contains(said)))
        {
            self.ledger.broke(format!("(20) no plan is made of {wish:?}: {}", status.message()));
        }
        let shown = shown?;
        let steps = shown.plan.steps.len();
        if shown.plan.steps.iter().any(|planned| matches!(planned.step, Step::AdoptMachine { .. })) {
            // Who has joined another controller than the one that answers does not join again.
            return Ok("a node of the spec has not joined".to_owned());
        }
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
