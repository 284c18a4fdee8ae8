// SPDX-License-Identifier: Apache-2.0
//! The session of one agent: its stream from Hello to the last heartbeat.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Upward;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::session_service_server::SessionService;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

use super::node::Session;
use super::{Downward, Fleet};
use crate::caller::Caller;
use crate::change::Wish;
use crate::clock::Clock;
use crate::events::EventLog;
use crate::jobs::Jobs;
use crate::join::Enrolment;
use crate::orders::Epoch;
use crate::pki::Serial;
use crate::trust::{NotTrusted, Trust};

/// An agent says Hello at once; one that does not is not ours.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// An agent that misses this many heartbeats is gone, whatever TCP thinks.
const MISSED_HEARTBEATS: u32 = 3;

/// The calls of agents about themselves.
#[derive(Debug)]
pub struct SessionApi {
    shared: Arc<Shared>,
}

/// What every session uses.
pub struct Shared {
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The jobs.
    pub jobs: Arc<Jobs>,
    /// Who is trusted.
    pub trust: Arc<Trust>,
    /// How certificates are renewed.
    pub enrolment: Arc<Enrolment>,
    /// The events.
    pub events: Arc<EventLog>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The controller's epoch.
    pub epoch: Arc<Epoch>,
    /// How often agents send a heartbeat.
    pub heartbeat: Duration,
    /// Cancelled when the controller ends.
    pub stop: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl SessionApi {
    /// The calls.
    #[must_use]
    pub fn new(shared: Shared) -> Self {
        Self { shared: Arc::new(shared) }
    }
}

#[tonic::async_trait]
impl SessionService for SessionApi {
    type ConnectStream = BoxStream<'static, Result<v1::ConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (name, serial, address) = agent(&Caller::of(&request))?;
        let mut upward = request.into_inner();
        let hello = hello(&mut upward).await?;
        self.shared.check_epoch(&name, &hello)?;
        self.shared.check_newest(&name, serial)?;
        let (session, inbox) = self.shared.fleet.begin_session(&name, serial, address, &hello)?;
        let welcome = self.shared.welcome();
        // A new outbox is empty, so there is room.
        let _room = session.send(welcome);
        let ended = session.ended.clone();
        let work = Upstream { shared: Arc::clone(&self.shared), name, serial, session };
        tokio::spawn(work.run(upward, hello.jobs));
        Ok(Response::new(downward(inbox, ended)))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        let caller = Caller::of(&request);
        let (name, serial, _) = agent(&caller)?;
        let wish = Wish { caller: &caller, verb: "renew", object: format!("node/{name}"), arguments: json!({}) };
        let csr = request.into_inner().csr_der;
        let enrolment = &self.shared.enrolment;
        let issued = enrolment.changes.run(wish, enrolment.renew(&name, serial, &csr)).await?;
        Ok(Response::new(v1::RenewCertificateResponse { issued: Some(issued) }))
    }
}

fn agent(caller: &Caller) -> Result<(NodeName, Serial, SocketAddr), Refusal> {
    match caller {
        Caller::Node { name, serial, address } => Ok((name.clone(), *serial, *address)),
        Caller::Stranger { .. } | Caller::Operator { .. } | Caller::Local { .. } => {
            Err(Refusal::new(Reason::NotPermitted, "only an agent opens a session"))
        }
    }
}

async fn hello(upward: &mut Streaming<v1::ConnectRequest>) -> Result<v1::Hello, Status> {
    let first = tokio::time::timeout(HELLO_WITHIN, upward.message()).await;
    let first = first.map_err(|_| Refusal::new(Reason::BadRequest, "the agent did not say hello in time"))??;
    match first.and_then(|request| request.message) {
        Some(Upward::Hello(hello)) => Ok(hello),
        _ => Err(Refusal::new(Reason::BadRequest, "a session begins with hello").into()),
    }
}

/// What the agent is sent: its inbox, until the session is over.
fn downward(
    inbox: mpsc::Receiver<Downward>,
    ended: CancellationToken,
) -> BoxStream<'static, Result<v1::ConnectResponse, Status>> {
    ReceiverStream::new(inbox).map(|message| Ok(*message)).take_until(ended.cancelled_owned()).boxed()
}

impl Shared {
    /// An agent that has obeyed a newer controller must not be commanded by an older one, such as a restored copy.
    fn check_epoch(&self, name: &NodeName, hello: &v1::Hello) -> Result<(), Refusal> {
        let own = self.epoch.number();
        if hello.epoch <= own {
            return Ok(());
        }
        let message = format!("{name} has obeyed epoch {}, this controller is at {own}", hello.epoch);
        if self.epoch.heard_of(hello.epoch) {
            self.events.emit(EventKind::EpochBehind, Some(name), None, message.clone());
            return Err(
                Refusal::new(Reason::Unsafe, message).advise("end this controller, or confirm a new epoch on it")
            );
        }
        // One node's word: it must not decide what the others can obey.
        let message = format!("{message}: that cannot be, and does not count");
        self.events.emit(EventKind::EpochBehind, Some(name), None, message.clone());
        Err(Refusal::new(Reason::Unsafe, message).advise("revoke the node, find out who is in it, and enrol it anew"))
    }

    /// Once a node uses a newer certificate, its older ones open no session.
    fn check_newest(&self, name: &NodeName, serial: Serial) -> Result<(), Refusal> {
        let issued_at = |serial| self.trust.certificate(serial).map(|record| record.issued_at);
        let live = self.fleet.session_serial(name);
        if live.is_some_and(|live| issued_at(live) > issued_at(serial)) {
            let message = format!("{name} is connected with a newer certificate than the one presented now");
            self.events.emit(EventKind::NodeContested, Some(name), None, message.clone());
            return Err(Refusal::new(Reason::NotTrusted, message));
        }
        Ok(())
    }

    fn welcome(&self) -> Down {
        Down::Welcome(v1::Welcome {
            epoch: self.epoch.number(),
            heartbeat_interval_millis: u32::try_from(self.heartbeat.as_millis()).unwrap_or(u32::MAX),
            unix_millis: self.clock.now().0,
            ca_der: self.trust.authority().trusted().into_iter().map(Into::into).collect(),
            renewal_spread_millis: self.fleet.renewal_spread_millis(),
        })
    }
}

fn lost_trust(why: &NotTrusted) -> String {
    match why {
        NotTrusted::Revoked => "its certificate was revoked",
        NotTrusted::Expired => "its certificate has expired",
        NotTrusted::Unknown => "its certificate is not known any more",
    }
    .to_owned()
}

/// What the libraries say about a broken connection, and what that means. They say it in words only.
const MEANINGS: [(&str, &str); 8] = [
    ("closed by the controller", "the controller closed the connection"),
    ("keep-alive timed out", "the node did not answer"),
    ("keep alive", "the node did not answer"),
    ("timed out", "the node did not answer"),
    ("connection reset", "the connection was reset"),
    ("broken pipe", "the node closed the connection"),
    ("eof", "the node closed the connection without a word, as when it loses power or its agent is killed"),
    ("closed", "the node closed the connection"),
];

fn in_words(error: &str) -> &'static str {
    let error = error.to_lowercase();
    let meaning = MEANINGS.iter().find(|(sign, _)| error.contains(sign));
    meaning.map_or("the connection broke", |(_, meaning)| meaning)
}

/// Reads what one agent says.
struct Upstream {
    shared: Arc<Shared>,
    name: NodeName,
    serial: Serial,
    session: Session,
}

impl Upstream {
    async fn run(self, mut upward: Streaming<v1::ConnectRequest>, known_jobs: Vec<String>) {
        self.shared.jobs.connected(&self.name, &known_jobs).await;
        let why = tokio::select! {
            why = self.listen(&mut upward) => why,
            // A session that another one has replaced ends here, too, but then the node is connected.
            () = self.session.ended.cancelled() => "the agent did not read what it was sent".to_owned(),
            () = self.shared.stop.cancelled() => "the controller is shutting down".to_owned(),
        };
        self.session.ended.cancel();
        self.shared.fleet.end_session(&self.name, self.session.view.id, &why);
    }

    async fn listen(&self, upward: &mut Streaming<v1::ConnectRequest>) -> String {
        let patience = self.shared.heartbeat * MISSED_HEARTBEATS;
        loop {
            let message = match tokio::time::timeout(patience, upward.message()).await {
                Err(_) => return format!("no heartbeat for {} s", patience.as_secs()),
                Ok(Err(status)) => return self.why_broken(&status),
                Ok(Ok(None)) => return "the agent ended the session".to_owned(),
                Ok(Ok(Some(message))) => message,
            };
            // The gate saw the request that opened this stream; the certificate must still be good for each message.
            if let Err(why) = self.shared.trust.identify(self.serial) {
                return lost_trust(&why);
            }
            if let Err(error) = self.take(message).await {
                // Not taken and so not acknowledged: the agent says it again in its next session.
                return format!("its report could not be stored: {error}");
            }
        }
    }

    /// Why the stream broke, for people: when trust has ended, that is why, and not how the connection was closed.
    fn why_broken(&self, status: &Status) -> String {
        tracing::debug!(node = %self.name, error = %ErrorChain(status), "a session broke");
        match self.shared.trust.identify(self.serial) {
            Err(why) => lost_trust(&why),
            Ok(_) => in_words(&ErrorChain(status).to_string()).to_owned(),
        }
    }

    async fn take(&self, message: v1::ConnectRequest) -> Result<(), String> {
        match message.message {
            Some(Upward::Heartbeat(heartbeat)) => self.shared.fleet.heartbeat(&self.name, &heartbeat),
            Some(Upward::Facts(report)) => {
                let stored = self.shared.fleet.facts(&self.name, report).await;
                stored.map_err(|error| ErrorChain(&error).to_string())?;
            }
            Some(Upward::Job(report)) => {
                let stored = self.shared.jobs.report(&self.name, report).await;
                stored.map_err(|error| ErrorChain(&error).to_string())?;
            }
            Some(Upward::Trust(report)) => self.shared.fleet.trusts(&self.name, self.session.view.id, &report),
            Some(Upward::Hello(_)) => return Err("hello is said once".to_owned()),
            // A newer agent may say more than this controller understands.
            None => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_connection_is_told_in_words_for_people() {
        for (library, people) in [
            ("status: Unknown: h2 protocol error: error reading a body from connection", "the connection broke"),
            ("connection error: Connection reset by peer (os error 104)", "the connection was reset"),
            ("stream closed because of a broken pipe", "the node closed the connection"),
            ("keep-alive timed out: operation timed out", "the node did not answer"),
            ("closed by the controller", "the controller closed the connection"),
        ] {
            assert_eq!(in_words(library), people, "{library}");
        }
        assert!(in_words("peer closed connection: unexpected EOF").starts_with("the node closed the connection"));
        assert_eq!(lost_trust(&NotTrusted::Revoked), "its certificate was revoked");
    }
}
