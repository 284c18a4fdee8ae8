// SPDX-License-Identifier: Apache-2.0
//! The half of the agent that talks to the controller and may do nothing: one session, made again whenever it breaks.
//!
//! It holds the node's key and parses everything from outside. Orders it passes on as they came, signed; what is done about
//! them is the executor's matter ([`crate::executor`]).
//!
//! - `session`: one session from Hello to its end. [`facts`]: what is observed and what of it is new.
//! - `executor`: the connection to the other half. `carry`, `link`: output and files, on a connection of their own.
//! - `renewal`: when and how the certificate is renewed.

mod carry;
mod executor;
pub mod facts;
mod link;
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

use self::executor::Executor;
use self::facts::NodeFacts;
use self::link::{Credentials, Link, LinkError};
use self::session::{Session, SessionEnd, SessionError};
use crate::backoff::{Backoff, Jitter};
use crate::dial::{ConnectError, Dial};
use crate::host::Observe;
use crate::host::clock::Clock;
use crate::identity::{Identity, IdentityStore};
use crate::join::renew;

/// The first wait after a broken session: a fleet that lost its controller comes back within half a second, spread out.
const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The waits after a refusal: a person has to do something first.
const REFUSED_FIRST_WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(15));
const REFUSED_LONGEST_WAIT: Duration = Duration::from_secs(300);

/// A session that lasted this long was a good one: the next wait is a first one again.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// How often a front that is to make room looks whether nothing is being moved.
const LOOK_WHETHER_QUIET: Duration = Duration::from_millis(250);

/// The front and everything it needs of the world.
pub struct Front {
    /// Who the node is.
    pub identity: Identity,
    /// Where the identity is kept.
    pub state_dir: PathBuf,
    /// Dials the executor.
    pub executor: Arc<dyn Dial>,
    /// Dials the agent listener.
    pub dial: Arc<dyn Dial>,
    /// Dials the join listener, for late renewals.
    pub join_dial: Arc<dyn Dial>,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The machine, as anybody may see it.
    pub host: Arc<dyn Observe>,
    /// For jitter; different agents need different ones.
    pub seed: u64,
    /// Told in a sentence how the agent is.
    pub status: watch::Sender<String>,
    /// Cancelled when another front is to take over, as after an upgrade: this one ends once nothing is being moved.
    pub handover: CancellationToken,
}

impl std::fmt::Debug for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Front").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Front {
    /// Runs until `shutdown`, or until another front may take over.
    pub async fn run(self, shutdown: CancellationToken) {
        let credentials = Arc::new(Credentials::new(self.identity, Arc::clone(&self.clock)));
        let link = Link::new(Arc::clone(&self.dial), Arc::clone(&credentials));
        let released = released(self.handover, Arc::clone(&link));
        let keeper = Keeper {
            credentials,
            link,
            store: IdentityStore::new(&self.state_dir),
            executor: self.executor,
            dial: self.dial,
            join_dial: self.join_dial,
            facts: NodeFacts::new(self.host),
            jitter: Jitter::new(self.seed),
            seed: self.seed,
            status: self.status,
        };
        tokio::select! {
            () = keeper.keep() => {}
            () = shutdown.cancelled() => {}
            () = released => {}
        }
    }
}

/// Waits until it is `asked` for, and then for a moment in which nothing is being moved.
async fn released(asked: CancellationToken, link: Arc<Link>) {
    asked.cancelled().await;
    while !link.is_quiet() {
        tokio::time::sleep(LOOK_WHETHER_QUIET).await;
    }
    tracing::info!("making room for the next front");
}

/// Keeps a session.
struct Keeper {
    credentials: Arc<Credentials>,
    link: Arc<Link>,
    store: IdentityStore,
    executor: Arc<dyn Dial>,
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
        let executor = Executor::connect(&*self.executor, &self.credentials.identity().node).await?;
        let channel = self.credentials.connect(&*self.dial).await?;
        let session = Session {
            credentials: &self.credentials,
            executor,
            executor_dial: &self.executor,
            link: &self.link,
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
            Self::Connect(LinkError::Connect(
                ConnectError::Refused(_)
                | ConnectError::NotVerified(_)
                | ConnectError::WrongPin(_)
                | ConnectError::Clock { .. },
            ))
            | Self::Connect(LinkError::Tls(_))
            | Self::Epoch { .. } => true,
            Self::Renewal(error) => !error.is_transient(),
            Self::Call(refusal) => matches!(refusal.reason, Reason::NotTrusted | Reason::NotPermitted | Reason::Unsafe),
            _ => false,
        }
    }
}
