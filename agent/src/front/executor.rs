// SPDX-License-Identifier: Apache-2.0
//! The connection to the executor, one for each session with the controller.

use std::io;
use std::time::Duration;

use tokio::time::timeout;
use windlass_proto::v1;
use windlass_proto::v1::executor_greeting::Purpose;
use windlass_proto::v1::executor_message::Message;
use windlass_types::escape::Escaped;
use windlass_types::name::NodeName;

use crate::dial::Dial;
use crate::local::{Receiver, Sender, messages};

/// An executor that starts reads its journal first, which takes a moment on a slow disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// There is no executor to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExecutorError {
    #[error("reach the executor; see `systemctl status windlass-executor`")]
    Dial(#[source] io::Error),
    #[error("talk to the executor")]
    Talk(#[from] io::Error),
    #[error("the executor closed the connection; see `systemctl status windlass-executor`")]
    Closed,
    #[error("the executor said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    #[error("the executor began with something else than how it stands")]
    Rude,
    #[error(
        "this node's identity is of node {front}, and its executor obeys orders for node {}: remove both state \
         directories and join again",
        Escaped(executor)
    )]
    OtherNode { front: NodeName, executor: String },
}

/// The executor, for one session.
#[derive(Debug)]
pub(super) struct Executor {
    /// What it is and has obeyed.
    pub(super) standing: v1::ExecutorStanding,
    sender: Sender,
    receiver: Receiver,
}

impl Executor {
    /// Connects, and hears how it stands.
    pub(super) async fn connect(dial: &dyn Dial, node: &NodeName) -> Result<Self, ExecutorError> {
        let (mut sender, mut receiver) = messages(dial.dial().await.map_err(ExecutorError::Dial)?);
        let purpose = Some(Purpose::Session(v1::SessionPurpose { version: env!("CARGO_PKG_VERSION").to_owned() }));
        sender.send(&v1::ExecutorGreeting { purpose }).await?;
        let first = timeout(PATIENCE, receiver.next::<v1::ExecutorMessage>()).await;
        let first = first.map_err(|_| ExecutorError::Silent)??.ok_or(ExecutorError::Closed)?;
        let Some(Message::Standing(standing)) = first.message else { return Err(ExecutorError::Rude) };
        if standing.node != node.as_str() {
            return Err(ExecutorError::OtherNode { front: node.clone(), executor: standing.node });
        }
        Ok(Self { standing, sender, receiver })
    }

    /// Tells it something.
    pub(super) async fn tell(&mut self, message: v1::front_message::Message) -> Result<(), ExecutorError> {
        Ok(self.sender.send(&v1::FrontMessage { message: Some(message) }).await?)
    }

    /// What it says next. May be dropped while it waits.
    pub(super) async fn heard(&mut self) -> Result<Option<Message>, ExecutorError> {
        let message: Option<v1::ExecutorMessage> = self.receiver.next().await?;
        message.map(|message| message.message).ok_or(ExecutorError::Closed)
    }
}
