// SPDX-License-Identifier: Apache-2.0
//! A session held by hand, for agents that say what ours never would.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::session_service_client::SessionServiceClient;

/// An open session.
#[derive(Debug)]
pub struct Session {
    say: mpsc::Sender<v1::ConnectRequest>,
    /// What the controller says.
    pub hear: Streaming<v1::ConnectResponse>,
}

impl Session {
    /// Opens a session as this version of an agent.
    ///
    /// # Errors
    /// What the controller answers.
    ///
    /// # Panics
    /// If it answers with something else than a welcome.
    pub async fn open(channel: Channel, agent_version: &str) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(16);
        let hello = v1::Hello {
            agent_version: agent_version.to_owned(),
            boot_id: "boot".to_owned(),
            unix_millis: now_millis(),
            abilities: vec!["exec".to_owned()],
            ..Default::default()
        };
        say.send(v1::ConnectRequest { message: Some(Up::Hello(hello)) }).await.expect("room");
        let answer = SessionServiceClient::new(channel).connect(ReceiverStream::new(said)).await?;
        let mut session = Self { say, hear: answer.into_inner() };
        match session.hear.message().await?.and_then(|message| message.message) {
            Some(Down::Welcome(_)) => Ok(session),
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// Says something.
    ///
    /// # Panics
    /// If the session is over.
    pub async fn say(&self, message: Up) {
        self.say.send(v1::ConnectRequest { message: Some(message) }).await.expect("the session is open");
    }
}

#[expect(clippy::disallowed_methods, reason = "the session tells the time as a node's clock has it")]
fn now_millis() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("in range")
}
