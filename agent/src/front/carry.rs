// SPDX-License-Identifier: Apache-2.0
//! Carries one call of the executor to the controller: messages pass as they are, and what breaks is told as what it is.

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::carry_request::Part as Asked;
use windlass_proto::v1::carry_response::Part as Answer;
use windlass_proto::v1::executor_greeting::Purpose;
use windlass_proto::v1::transfer_service_client::TransferServiceClient;
use windlass_types::error_chain::ErrorChain;

use super::link::{Link, LinkError};
use crate::dial::Dial;
use crate::local::{Receiver, Sender, messages};

/// Messages between the two connections.
const QUEUE: usize = 2;

/// Why a call ended before its end.
#[derive(Debug, thiserror::Error)]
enum CarryError {
    #[error("talk to the executor")]
    Executor(#[from] io::Error),
    #[error("the executor asks for nothing that this version knows")]
    Unknown,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the controller ended the call")]
    Controller(#[from] Status),
}

/// Carries a call from its announcement to its end.
pub(super) async fn carry(link: Arc<Link>, executor: Arc<dyn Dial>, call: u64) {
    let Err(error) = connected(&link, &*executor, call).await else { return };
    tracing::info!(call, error = %ErrorChain(&error), "a call could not be carried");
}

async fn connected(link: &Arc<Link>, executor: &dyn Dial, call: u64) -> Result<(), CarryError> {
    let (mut sender, mut receiver) = messages(executor.dial().await?);
    let purpose = Some(Purpose::Carry(v1::CarryPurpose { call }));
    sender.send(&v1::ExecutorGreeting { purpose }).await?;
    let Some(first) = receiver.next::<v1::CarryRequest>().await? else { return Ok(()) };
    let carried = passed_on(link, first, &mut sender, receiver).await;
    if let Err(error) = &carried {
        // The next call makes a new attempt at the controller.
        if !matches!(error, CarryError::Executor(_)) {
            link.close().await;
        }
        let failure = Answer::Failure(failure(error));
        // If the executor is gone there is nobody to tell.
        drop(sender.send(&v1::CarryResponse { part: Some(failure) }).await);
    }
    carried
}

async fn passed_on(
    link: &Arc<Link>,
    first: v1::CarryRequest,
    sender: &mut Sender,
    receiver: Receiver,
) -> Result<(), CarryError> {
    let lease = link.lease().await?;
    let mut client = TransferServiceClient::new(lease.channel.clone());
    match first.part.ok_or(CarryError::Unknown)? {
        Asked::Fetch(request) => {
            answers(client.fetch_file(request).await?.into_inner(), Answer::Fetch, sender, receiver).await
        }
        Asked::Output(piece) => {
            let (up, outgoing) = mpsc::channel(QUEUE);
            // The first piece goes with the call: a controller may read before it answers.
            drop(up.try_send(piece));
            let feeding = feed(receiver, up, |part| if let Asked::Output(piece) = part { Some(piece) } else { None });
            let answered = client.push_output(ReceiverStream::new(outgoing));
            both(feeding, async { stream(answered.await?.into_inner(), Answer::Output, sender).await }).await
        }
        Asked::Store(part) => {
            let (up, outgoing) = mpsc::channel(QUEUE);
            drop(up.try_send(part));
            let feeding = feed(receiver, up, |part| if let Asked::Store(part) = part { Some(part) } else { None });
            let answered = client.store_file(ReceiverStream::new(outgoing));
            both(feeding, async { stream(answered.await?.into_inner(), Answer::Store, sender).await }).await
        }
    }
}

/// Goes on until the controller has answered to the end, whether or not more is to be sent.
async fn both(
    feeding: impl Future<Output = Result<(), CarryError>>,
    answering: impl Future<Output = Result<(), CarryError>>,
) -> Result<(), CarryError> {
    tokio::pin!(answering);
    tokio::select! {
        biased;
        answered = &mut answering => return answered,
        fed = feeding => fed?,
    }
    answering.await
}

/// Passes on what the executor sends. At its end the controller is told that nothing more comes; an executor that is gone
/// and one that has said all look the same, and the controller stores what it has either way.
async fn feed<M>(
    mut receiver: Receiver,
    up: mpsc::Sender<M>,
    of_this_kind: impl Fn(Asked) -> Option<M>,
) -> Result<(), CarryError> {
    while let Some(request) = receiver.next::<v1::CarryRequest>().await? {
        let part = request.part.and_then(&of_this_kind).ok_or(CarryError::Unknown)?;
        if up.send(part).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Passes on what the controller answers.
async fn stream<M>(
    mut answers: Streaming<M>,
    wrap: impl Fn(M) -> Answer,
    sender: &mut Sender,
) -> Result<(), CarryError> {
    while let Some(answer) = answers.message().await? {
        sender.send(&v1::CarryResponse { part: Some(wrap(answer)) }).await?;
    }
    Ok(())
}

/// As [`stream`], until the executor has enough.
async fn answers<M>(
    answers: Streaming<M>,
    wrap: impl Fn(M) -> Answer,
    sender: &mut Sender,
    mut receiver: Receiver,
) -> Result<(), CarryError> {
    tokio::select! {
        streamed = stream(answers, wrap, sender) => streamed,
        // It sends nothing more: this is the end of the connection.
        _ended = receiver.next::<v1::CarryRequest>() => Ok(()),
    }
}

fn failure(error: &CarryError) -> v1::CarryFailure {
    let broken = |message: String| v1::CarryFailure { message, ..v1::CarryFailure::default() };
    match error {
        CarryError::Controller(status) => {
            let Refusal { reason, message, advice } = Refusal::from_status(status);
            // What is not the controller's own word is the way to it.
            if reason == Reason::Other {
                return broken(message);
            }
            v1::CarryFailure { is_refusal: true, reason: reason.as_str().to_owned(), message, advice }
        }
        CarryError::Executor(_) | CarryError::Unknown | CarryError::Link(_) => broken(ErrorChain(error).to_string()),
    }
}
