// SPDX-License-Identifier: Apache-2.0
//! The agent at work: one session with the controller, made again whenever it breaks.
//!
//! - [`facts`]: what is observed and what of it is new.
//! - `handover`: when another agent may take over.
//! - `session`: one session from Hello to its end.
//! - `renewal`: when and how the certificate is renewed.
//!
//! Everything the agent needs of the world is a part of [`Agent`], so that dozens can run in one process over a
//! simulated network, clock and machine.

pub mod facts;
mod handover;
mod renewal;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use windlass_proto::refusal::Reason;
use windlass_types::error_chain::ErrorChain;

use facts::NodeFacts;
use session::{Session, SessionEnd, SessionError};

use crate::backoff::{Backoff, Jitter};
use crate::config::Config;
use crate::dial::{ConnectError, Dial};
use crate::host::change::Change;
use crate::host::clock::Clock;
use crate::identity::{Identity, IdentityStore};
use crate::jobs::runner::Runner;
use crate::jobs::signature::OrderKey;
use crate::jobs::{JobParts, Jobs, transfers_directory};
use crate::join::renew;
use crate::journal::JournalError;
use crate::transfer::{Credentials, Link, TransferError};

/// The first wait after a broken session: a fleet that lost its controller comes back within half a second, spread out.
const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The waits after a refusal: a person has to do something first.
const REFUSED_FIRST_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
const REFUSED_LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A session that lasted this long was a good one: the next wait is a first one again.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// An agent and everything it needs of the world.
pub struct Agent {
    /// Who it is.
    pub identity: Identity,
    /// What the operator set; its `state_dir` is where everything is kept.
    pub config: Config,
    /// Dials the agent listener.
    pub dial: Arc<dyn Dial>,
    /// Dials the join listener, for late renewals.
    pub join_dial: Arc<dyn Dial>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Runs programs.
    pub runner: Arc<dyn Runner>,
    /// The machine.
    pub host: Arc<dyn Change>,
    /// For jitter; different agents need different ones.
    pub seed: u64,
    /// Told in a sentence how the agent is.
    pub status: watch::Sender<String>,
    /// Cancelled when another agent is to take over, as after an upgrade: this one ends once it has no job in hand.
    pub handover: CancellationToken,
}

impl std::fmt::Debug for Agent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Agent").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The agent cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The journal cannot be used.
    #[error("begin")]
    Journal(#[from] JournalError),
}

impl Agent {
    /// Runs until `shutdown`, or until another agent may take over. Jobs that run then go on and are found again by the next agent.
    ///
    /// # Errors
    /// If the agent cannot begin; after that nothing ends it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let state_dir: PathBuf = self.config.state_dir.clone();
        let node = self.identity.node.clone();
        let order_key = OrderKey::new(self.identity.order_key.clone());
        let credentials = Arc::new(Credentials::new(self.identity, Arc::clone(&self.clock)));
        let link =
            Link::new(Arc::clone(&self.dial), Arc::clone(&credentials), transfers_directory(&state_dir), self.seed);
        let ended = CancellationToken::new();
        let _end_jobs_too = ended.clone().drop_guard();
        let jobs = Jobs::open(JobParts {
            node,
            state_dir: state_dir.clone(),
            exec: self.config.exec,
            order_key,
            runner: self.runner,
            host: Arc::clone(&self.host),
            link: Arc::clone(&link),
            clock: Arc::clone(&self.clock),
            ended,
        })?;
        jobs.recover();
        let released = handover::released(self.handover, Arc::clone(&jobs));
        let keeper = Keeper {
            credentials,
            jobs,
            link,
            store: IdentityStore::new(&state_dir),
            dial: self.dial,
            join_dial: self.join_dial,
            facts: NodeFacts::new(self.host, self.config.services),
            jitter: Jitter::new(self.seed),
            seed: self.seed,
            status: self.status,
        };
        tokio::select! {
            () = keeper.keep() => {}
            () = shutdown.cancelled() => {}
            () = released => {}
        }
        Ok(())
    }
}

/// Keeps a session.
struct Keeper {
    credentials: Arc<Credentials>,
    jobs: Arc<Jobs>,
    link: Arc<Link>,
    store: IdentityStore,
    dial: Arc<dyn Dial>,
    join_dial: Arc<dyn Dial>,
    facts: NodeFacts,
    jitter: Jitter,
    seed: u64,
    status: watch::Sender<String>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut broken = Backoff::new(FIRST_WAIT, LONGEST_WAIT, self.seed);
        let mut refused = Backoff::new(REFUSED_FIRST_WAIT, REFUSED_LONGEST_WAIT, self.seed);
        loop {
            let begun = Instant::now();
            let wait = match self.once().await {
                Ok(SessionEnd::NewIdentity) => {
                    tracing::info!("connecting again with the renewed identity");
                    self.link.close().await;
                    continue;
                }
                Err(error) => {
                    if begun.elapsed() >= STABLE_AFTER {
                        broken.reset();
                        refused.reset();
                    }
                    let wait = if error.is_refusal() { refused.next_wait() } else { broken.next_wait() };
                    let text = ErrorChain(&error).to_string();
                    tracing::warn!(error = %text, "no session; trying again in {:.1} s", wait.as_secs_f32());
                    self.tell(format!("not connected: {text}"));
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn once(&mut self) -> Result<SessionEnd, SessionError> {
        if renewal::is_expired(&self.credentials) {
            tracing::info!("this node's certificate has expired; renewing it on the join listener");
            let identity = self.credentials.identity();
            let renewed = renew(&identity, &self.store, &*self.join_dial, self.credentials.clock()).await?;
            self.credentials.replace(renewed);
        }
        let channel = self.credentials.connect(&*self.dial).await?;
        let session = Session {
            credentials: &self.credentials,
            jobs: &self.jobs,
            store: &self.store,
            facts: &mut self.facts,
            renew_at: renewal::due(self.credentials.identity().validity, &mut self.jitter),
            jitter: &mut self.jitter,
        };
        let status = &self.status;
        session
            .run(channel, |text| {
                status.send_replace(text);
            })
            .await
    }

    fn tell(&self, text: String) {
        self.status.send_replace(text);
    }
}

impl SessionError {
    /// Whether a person has to do something before another attempt can succeed.
    fn is_refusal(&self) -> bool {
        match self {
            Self::Connect(TransferError::Connect(
                ConnectError::Refused(_)
                | ConnectError::NotVerified(_)
                | ConnectError::WrongPin(_)
                | ConnectError::Clock { .. },
            ))
            | Self::Connect(TransferError::Tls(_))
            | Self::Epoch { .. } => true,
            Self::Renewal(error) => !error.is_transient(),
            Self::Call(refusal) => matches!(refusal.reason, Reason::NotTrusted | Reason::NotPermitted | Reason::Unsafe),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
