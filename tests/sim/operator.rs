// SPDX-License-Identifier: Apache-2.0
//! The operator: asks until answered, as the command line does, and follows the events.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};
use turmoil::net::TcpStream;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::admin_service_client::AdminServiceClient;
use windlass_proto::v1::create_job_request::Action;
use windlass_proto::v1::event_service_client::EventServiceClient;
use windlass_proto::v1::job_service_client::JobServiceClient;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_proto::v1::token_service_client::TokenServiceClient;
use windlass_types::name::RunId;

use crate::bastion::{BASTION, LOCAL_PORT};
use crate::copies::{CopyWish, copy};
use crate::ledger::Ledger;
use crate::machine::program;
use crate::node::Node;
use crate::runs::book::Dealings;
use crate::runs::operators::tell;
use crate::runs::{RunWish, Tell};
use crate::schedule::JobWish;
use crate::trace;

/// Until an answer counts as lost.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(400);

/// What an operator wants.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// A token for a machine.
    Enrol(usize),
    /// A job, in this era of the controller.
    Job { wish: JobWish, era: usize },
    /// The end of a job.
    Stop { job: usize, era: usize },
    /// A node revoked.
    Revoke(usize),
    /// A file copied to a node and back.
    Copy { wish: CopyWish, era: usize },
    /// A restored controller confirmed.
    Confirm,
    /// A run.
    Run { wish: RunWish, era: usize },
    /// A run told something.
    Tell { run: usize, what: Tell, era: usize },
    /// A run told something by its id.
    TellLate { run: RunId, what: Tell },
    /// A node left alone.
    Quarantine(usize),
    /// A node taken back.
    Release(usize),
    /// All runs at their end, and nothing left to do: of what one spec says, or of what commands ask for.
    Settle { by_spec: bool },
}

/// The operator.
pub(crate) struct Operator {
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) dealings: Arc<Dealings>,
}

/// Reaches the controller.
pub(crate) async fn connect() -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(|_| async { TcpStream::connect((BASTION, LOCAL_PORT)).await.map(TokioIo::new) });
    Endpoint::from_static("http://bastion")
        .http2_keep_alive_interval(Duration::from_secs(5))
        .keep_alive_timeout(Duration::from_secs(5))
        .connect_with_connector(connector)
        .await
}

/// Whether the same question may be answered otherwise.
fn is_transient(status: &tonic::Status) -> bool {
    matches!(Refusal::from_status(status).reason, Reason::Other | Reason::StateUnavailable)
}

/// Asks until there is an answer that stays.
pub(crate) async fn until_answered<T, F>(mut ask: impl FnMut(Channel) -> F) -> Result<T, tonic::Status>
where
    F: Future<Output = Result<tonic::Response<T>, tonic::Status>>,
{
    loop {
        if let Ok(Ok(channel)) = tokio::time::timeout(ANSWER_WITHIN, connect()).await {
            match tokio::time::timeout(ANSWER_WITHIN, ask(channel)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) if !is_transient(&status) => return Err(status),
                _ => {}
            }
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

impl Operator {
    /// Fulfils wishes for ever.
    pub(crate) async fn live(self, mut wishes: mpsc::UnboundedReceiver<Wish>) -> turmoil::Result {
        let this = Arc::new(self);
        while let Some(wish) = wishes.recv().await {
            tokio::task::spawn_local(Arc::clone(&this).fulfil(wish));
        }
        Ok(())
    }

    async fn fulfil(self: Arc<Self>, wish: Wish) {
        let text = format!("{wish:?}");
        let answer = match wish {
            Wish::Enrol(node) => self.enrol(node).await,
            Wish::Job { wish, era } => self.job(&wish, era).await,
            Wish::Stop { job, era } => self.stop(job, era).await,
            Wish::Revoke(node) => self.revoke(node).await,
            Wish::Copy { wish, era } => copy(&self.ledger, &self.nodes[wish.node], &wish, era).await,
            Wish::Confirm => {
                let ask =
                    async |channel| AdminServiceClient::new(channel).confirm_epoch(v1::ConfirmEpochRequest {}).await;
                until_answered(ask).await.map(|answer| format!("epoch {}", answer.epoch))
            }
            Wish::Run { wish, era } => self.begin_run(&wish, era).await,
            Wish::Tell { run, what, era } => self.tell_run(run, what, era).await,
            Wish::TellLate { run, what } => {
                let run = tell(run.as_str(), what).await;
                run.map(|run| format!("is {:?}", run.map(|run| run.state())))
            }
            Wish::Quarantine(node) => self.quarantine(&self.nodes[node]).await,
            Wish::Release(node) => self.release(&self.nodes[node]).await,
            Wish::Settle { by_spec } => self.settle(by_spec).await,
        };
        match answer {
            Ok(answer) => trace::line(|| format!("{text}: {answer}")),
            Err(status) => trace::line(|| format!("{text}: refused: {}", status.message())),
        }
    }

    async fn enrol(&self, node: usize) -> Result<String, tonic::Status> {
        let node = &self.nodes[node];
        let request = v1::CreateTokenRequest { node: node.name.to_string(), ttl_seconds: 1800 };
        let answer =
            until_answered(async |channel| TokenServiceClient::new(channel).create_token(request.clone()).await)
                .await?;
        node.give_token(&answer.token, &answer.ca_pins);
        Ok("a token".to_owned())
    }

    async fn job(&self, wish: &JobWish, era: usize) -> Result<String, tonic::Status> {
        let names = self.ledger.usable_nodes(wish.nodes.iter().filter_map(|index| self.nodes.get(*index)));
        let request = v1::CreateJobRequest {
            request_id: request_id(wish.number, era),
            selector: Some(v1::NodeSelector { names, ..v1::NodeSelector::default() }),
            action: Some(Action::Exec(v1::ExecAction { argv: program(wish) })),
            batch: wish.batch,
            max_failures: wish.max_failures,
            timeout_millis: u64::try_from(wish.timeout.as_millis()).expect("a short time"),
        };
        let answer =
            until_answered(async |channel| JobServiceClient::new(channel).create_job(request.clone()).await).await?;
        self.ledger.created(&request.request_id, &answer.id);
        Ok(format!("job {} on {:?}", answer.id, answer.nodes))
    }

    async fn stop(&self, job: usize, era: usize) -> Result<String, tonic::Status> {
        let Some(id) = self.ledger.job_of(&request_id(job, era)) else { return Ok("nothing to stop".to_owned()) };
        let request = v1::StopJobRequest { id };
        until_answered(async |channel| JobServiceClient::new(channel).stop_job(request.clone()).await).await?;
        Ok("stopped".to_owned())
    }

    async fn revoke(&self, node: usize) -> Result<String, tonic::Status> {
        let node = &self.nodes[node];
        let request = v1::RevokeNodeRequest { node: node.name.to_string(), reason: String::new() };
        self.ledger.revoking(&node.name);
        until_answered(async |channel| NodeServiceClient::new(channel).revoke_node(request.clone()).await).await?;
        self.ledger.revoked(&node.name);
        Ok("revoked".to_owned())
    }
}

/// A job's request: the same one always gives the same job.
pub(crate) fn request_id(job: usize, era: usize) -> String {
    format!("era-{era}-job-{job}")
}

/// Follows the events whenever it is there; another era of the controller is another stream.
pub(crate) async fn follow_events(ledger: Arc<Ledger>, mut present: watch::Receiver<bool>) -> turmoil::Result {
    loop {
        if present.wait_for(|present| *present).await.is_err() {
            return Ok(());
        }
        tokio::select! {
            () = follow_once(&ledger) => tokio::time::sleep(AGAIN_AFTER).await,
            left = present.wait_for(|present| !*present) => if left.is_err() { return Ok(()) },
        }
    }
}

async fn follow_once(ledger: &Ledger) {
    let (era, after) = ledger.watched_until();
    let Ok(Ok(channel)) = tokio::time::timeout(ANSWER_WITHIN, connect()).await else { return };
    let request = v1::WatchEventsRequest { after, follow: true, ..v1::WatchEventsRequest::default() };
    let Ok(answer) = EventServiceClient::new(channel).watch_events(request).await else { return };
    let mut batches = answer.into_inner();
    while let Ok(Some(batch)) = batches.message().await {
        batch.events.iter().for_each(|event| ledger.watched(era, event));
    }
}
