// SPDX-License-Identifier: Apache-2.0
//! One session: Hello, Welcome, all facts; then heartbeats, news, orders and reports until it breaks.
//!
//! Nothing large goes over this stream, so that a heartbeat never waits: output and files have a connection of their own.
//! Whatever takes time runs beside the loop, not in it: the executor observes and works, a renewal is a future of its own.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::KeyPair;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use windlass_proto::refusal::Refusal;
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::executor_message::Message as Said;
use windlass_proto::v1::front_message::Message as Told;
use windlass_proto::v1::job_report::State as JobState;
use windlass_proto::v1::session_service_client::SessionServiceClient;
use windlass_types::error_chain::ErrorChain;
use windlass_types::time::UnixMillis;

use super::carry::carry;
use super::executor::{Executor, ExecutorError};
use super::facts::NodeFacts;
use super::link::{Credentials, Link, LinkError};
use super::renewal::{self, RETRY_AFTER};
use crate::backoff::Jitter;
use crate::dial::Dial;
use crate::identity::{IdentityError, IdentityStore, certificate_request};
use crate::join::JoinError;

/// Facts are looked at this often.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(60);

/// And this long after the last job ended, but no later than otherwise: a run of short jobs then costs one look.
const OBSERVE_AFTER_JOB: Duration = Duration::from_secs(1);

/// A controller that took the session answers Hello within this.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(15);

/// Bounds on what a controller may ask for.
const HEARTBEAT_BOUNDS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(300));

/// Messages waiting to be sent; when the controller reads nothing, the session waits here and keepalive decides.
const QUEUE: usize = 16;

/// Why a session ended although nothing failed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionEnd {
    /// The certificate was renewed: connect again with it.
    NewIdentity,
}

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionError {
    #[error(transparent)]
    Connect(#[from] LinkError),
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    #[error("the session with the controller ended")]
    Call(#[source] Refusal),
    #[error("the controller closed the session")]
    Closed,
    #[error("the controller took the session but said nothing for {} s", WELCOME_TIMEOUT.as_secs())]
    Silent,
    #[error("the controller began the session with something else than a welcome")]
    Rude,
    #[error(
        "the controller is of epoch {controller}, but this node has obeyed epoch {obeyed}: an older copy of the \
         controller must not give orders; confirm its epoch after a restore, or shut it down"
    )]
    Epoch { controller: u64, obeyed: u64 },
    #[error("renew this node's certificate")]
    Renewal(#[from] JoinError),
}

impl From<tonic::Status> for SessionError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Refusal::from_status(&status))
    }
}

type Renewing = Pin<Box<dyn Future<Output = Result<(), JoinError>> + Send>>;

/// What a session works with.
pub(super) struct Session<'a> {
    pub(super) credentials: &'a Arc<Credentials>,
    pub(super) executor: Executor,
    /// For calls that the executor announces.
    pub(super) executor_dial: &'a Arc<dyn Dial>,
    pub(super) link: &'a Arc<Link>,
    pub(super) store: &'a IdentityStore,
    pub(super) facts: &'a mut NodeFacts,
    pub(super) renew_at: UnixMillis,
    pub(super) jitter: &'a mut Jitter,
}

/// What happens beside the loop.
#[derive(Default)]
struct Beside {
    /// The executor looks at the node; with whose request, if somebody's.
    observation: Option<Option<u64>>,
    /// Asked for while an observation was under way.
    asked: Option<u64>,
    observe_at: Option<Instant>,
    /// However many jobs end meanwhile.
    observe_by: Option<Instant>,
    /// A job ended while an observation was under way, which may not have seen what it changed.
    ended_meanwhile: bool,
    renewing: Option<Renewing>,
    retry_renewal_at: Option<Instant>,
    has_new_identity: bool,
}

impl Beside {
    /// The next look is due.
    fn observed(&mut self) {
        self.observe_by = Some(Instant::now() + OBSERVE_INTERVAL);
        self.observe_at = self.observe_by;
        if std::mem::take(&mut self.ended_meanwhile) {
            self.job_ended();
        }
    }

    fn renewed(&mut self, renewed: Result<(), JoinError>) {
        self.renewing = None;
        match renewed {
            Ok(()) => self.has_new_identity = true,
            Err(error) => {
                tracing::warn!(error = %error.chain(), "certificate not renewed; trying again later");
                self.retry_renewal_at = Some(Instant::now() + RETRY_AFTER);
            }
        }
    }

    fn job_ended(&mut self) {
        let soon = Instant::now() + OBSERVE_AFTER_JOB;
        self.observe_at = Some(self.observe_by.map_or(soon, |by| by.min(soon)));
        self.ended_meanwhile = self.observation.is_some();
    }
}

impl Session<'_> {
    /// Holds the session until it breaks.
    pub(super) async fn run(mut self, channel: Channel, tell: impl Fn(String)) -> Result<SessionEnd, SessionError> {
        let (up, outgoing) = mpsc::channel(QUEUE);
        up.try_send(request(Up::Hello(self.hello()))).map_err(|_| SessionError::Closed)?;
        let mut client = SessionServiceClient::new(channel);
        let greeting = async {
            let mut down = client.connect(ReceiverStream::new(outgoing)).await?.into_inner();
            let first = down.message().await?.ok_or(SessionError::Closed)?;
            Ok::<_, SessionError>((down, first))
        };
        let (mut down, first) = timeout(WELCOME_TIMEOUT, greeting).await.map_err(|_| SessionError::Silent)??;
        let Some(Down::Welcome(welcome)) = first.message else { return Err(SessionError::Rude) };
        let interval = self.welcome(&welcome, &up).await?;
        tracing::info!(epoch = welcome.epoch, "session opened");
        tell("connected".to_owned());
        self.executor.tell(Told::Opened(v1::SessionOpened {})).await?;
        let mut beside = Beside::default();
        self.observe(&mut beside, Some(0)).await?;
        let mut heartbeats = tokio::time::interval_at(Instant::now() + interval, interval);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = heartbeats.tick() => {
                    let now = self.credentials.clock().now();
                    send(&up, Up::Heartbeat(self.facts.heartbeat(now))).await?;
                    self.consider_renewal(&mut beside, now, &client);
                    if beside.has_new_identity && self.link.is_quiet() {
                        return Ok(SessionEnd::NewIdentity);
                    }
                }
                message = down.message() => {
                    match message?.ok_or(SessionError::Closed)?.message {
                        Some(Down::Welcome(again)) => drop(self.welcome(&again, &up).await?),
                        message => self.obey(message, &mut beside).await?,
                    }
                }
                said = self.executor.heard() => self.hear(said?, &up, &mut beside).await?,
                () = at(beside.observe_at), if beside.observation.is_none() => {
                    beside.observe_at = None;
                    self.observe(&mut beside, None).await?;
                }
                renewed = ready(&mut beside.renewing) => beside.renewed(renewed),
            }
        }
    }

    /// What the executor says.
    async fn hear(
        &mut self,
        said: Option<Said>,
        up: &mpsc::Sender<v1::ConnectRequest>,
        beside: &mut Beside,
    ) -> Result<(), SessionError> {
        match said {
            Some(Said::Job(report)) => {
                if let Some(JobState::Outcome(_)) = &report.state {
                    beside.job_ended();
                }
                send(up, Up::Job(report)).await?;
            }
            Some(Said::Carry(announced)) => {
                let (link, executor) = (Arc::clone(self.link), Arc::clone(self.executor_dial));
                tokio::spawn(carry(link, executor, announced.call));
            }
            Some(Said::Observed(observed)) => {
                let asked = beside.observation.take().flatten();
                beside.observed();
                if let Some(report) = self.facts.report(observed, asked) {
                    send(up, Up::Facts(report)).await?;
                }
                if let Some(request) = beside.asked.take() {
                    self.observe(beside, Some(request)).await?;
                }
            }
            Some(Said::Standing(_)) => tracing::warn!("the executor tells again how it stands; ignoring it"),
            None => tracing::warn!("the executor said something that this version does not know; ignoring it"),
        }
        Ok(())
    }

    fn hello(&self) -> v1::Hello {
        let v1::ExecutorStanding { epoch, sequence, jobs, abilities, .. } = self.executor.standing.clone();
        v1::Hello {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.facts.boot_id(),
            epoch,
            sequence,
            jobs,
            unix_millis: self.credentials.clock().now().0,
            abilities,
        }
    }

    /// Checks a welcome, takes over whom to trust and says so; the heartbeat interval.
    async fn welcome(
        &mut self,
        welcome: &v1::Welcome,
        up: &mpsc::Sender<v1::ConnectRequest>,
    ) -> Result<Duration, SessionError> {
        // The executor refuses older orders by itself; here it is told as what it is.
        let obeyed = self.executor.standing.epoch;
        if welcome.epoch < obeyed {
            return Err(SessionError::Epoch { controller: welcome.epoch, obeyed });
        }
        if let Err(error) = self.take_over_trust(&welcome.ca_der) {
            tracing::error!(error = %ErrorChain(&error), "whom to trust could not be kept");
        }
        self.hasten_renewal(welcome.renewal_spread_millis);
        if welcome.ca_der.len() > 1 {
            let ca = &self.credentials.identity().ca;
            let ca_sha256 = ca.iter().map(|der| digest(&SHA256, der).as_ref().to_vec().into()).collect();
            send(up, Up::Trust(v1::TrustReport { ca_sha256 })).await?;
        }
        let interval = Duration::from_millis(welcome.heartbeat_interval_millis.into());
        Ok(interval.clamp(HEARTBEAT_BOUNDS.0, HEARTBEAT_BOUNDS.1))
    }

    /// Once another CA signs, this node's certificate is soon worth nothing: it is renewed now and not at half of its
    /// life, but not by all nodes at once.
    fn hasten_renewal(&mut self, spread_millis: u32) {
        if self.credentials.identity().is_signed_by_first_ca() {
            return;
        }
        let soon = renewal::hastened(self.credentials.clock().now(), spread_millis, self.jitter);
        self.renew_at = self.renew_at.min(soon);
    }

    fn take_over_trust(&self, ca_der: &[bytes::Bytes]) -> Result<(), IdentityError> {
        let identity = self.credentials.identity();
        let same = ca_der.iter().map(AsRef::as_ref).eq(identity.ca.iter().map(AsRef::<[u8]>::as_ref));
        if ca_der.is_empty() || same {
            return Ok(());
        }
        let identity = identity.trusting(ca_der)?;
        self.store.save(&identity)?;
        tracing::info!(authorities = identity.ca.len(), "the controller told whom to trust from now on");
        self.credentials.replace(identity);
        Ok(())
    }

    async fn obey(&mut self, message: Option<Down>, beside: &mut Beside) -> Result<(), SessionError> {
        match message {
            Some(Down::Order(order)) => self.executor.tell(Told::Order(order)).await?,
            Some(Down::Ack(ack)) => self.executor.tell(Told::Ack(ack)).await?,
            Some(Down::Observe(order)) if beside.observation.is_some() => beside.asked = Some(order.request),
            Some(Down::Observe(order)) => self.observe(beside, Some(order.request)).await?,
            // Taken over by the caller.
            Some(Down::Welcome(_)) => {}
            None => tracing::warn!("a message of a kind that this version does not know; ignoring it"),
        }
        Ok(())
    }

    /// Has the executor look at the node. What was asked for is looked at for certain.
    async fn observe(&mut self, beside: &mut Beside, request: Option<u64>) -> Result<(), SessionError> {
        beside.observation = Some(request);
        Ok(self.executor.tell(Told::Observe(v1::ObserveNode { closely: request.is_some() })).await?)
    }

    fn consider_renewal(&self, beside: &mut Beside, now: UnixMillis, client: &SessionServiceClient<Channel>) {
        let waits = beside.retry_renewal_at.is_some_and(|at| Instant::now() < at);
        if now < self.renew_at || beside.has_new_identity || beside.renewing.is_some() || waits {
            return;
        }
        tracing::info!("renewing this node's certificate");
        let renewing = renew_in_session(client.clone(), Arc::clone(self.credentials), self.store.clone());
        beside.renewing = Some(Box::pin(renewing));
    }
}

/// Asks for the next certificate over the session's connection; it is used from the next connection on.
async fn renew_in_session(
    mut client: SessionServiceClient<Channel>,
    credentials: Arc<Credentials>,
    store: IdentityStore,
) -> Result<(), JoinError> {
    let key: KeyPair = store.pending_key()?;
    let csr_der = certificate_request(&key)?;
    let asked = client.renew_certificate(v1::RenewCertificateRequest { csr_der });
    let answer = timeout(Duration::from_secs(30), asked).await.map_err(|_| JoinError::NoAnswer)?;
    let answer = answer.map_err(|status| JoinError::refused(&status))?.into_inner();
    let issued = answer.issued.ok_or(IdentityError::Answer("it has no certificate"))?;
    let renewed = credentials.identity().renewed(&key, &issued)?;
    store.save(&renewed)?;
    store.forget_pending_key()?;
    credentials.replace(renewed);
    Ok(())
}

const fn request(message: Up) -> v1::ConnectRequest {
    v1::ConnectRequest { message: Some(message) }
}

async fn send(up: &mpsc::Sender<v1::ConnectRequest>, message: Up) -> Result<(), SessionError> {
    up.send(request(message)).await.map_err(|_| SessionError::Closed)
}

async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn ready<T>(slot: &mut Option<Pin<Box<dyn Future<Output = T> + Send>>>) -> T {
    match slot {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
