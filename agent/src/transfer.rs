// SPDX-License-Identifier: Apache-2.0
//! Output and files, on a connection of their own: whatever is moved there, a heartbeat never waits behind it.
//!
//! The connection is opened when something is to be moved and closed when nothing was for a while. Everything moved can
//! be taken up again where it broke off: the controller says how much it has, or the agent asks from an offset.

mod file;
mod output;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;
use windlass_proto::refusal::{Reason, Refusal};

pub use file::{FileError, Files, Put};
pub use output::push;

use crate::dial::verify::{TlsSetupError, session_config};
use crate::dial::{ConnectError, Dial, connect};
use crate::host::clock::Clock;
use crate::identity::Identity;

/// An unused connection is closed after this: longer than the pause between two jobs of one run.
const IDLE_CLOSE: Duration = Duration::from_secs(10);

/// Most bytes in one message: small enough that no buffer on the way grows.
const PIECE_BYTES: usize = 32 * 1024;

/// The identity in use, shared by every connection and replaced by a renewal.
#[derive(Debug)]
pub struct Credentials {
    identity: RwLock<Arc<Identity>>,
    clock: Arc<dyn Clock>,
}

impl Credentials {
    /// Begins with this identity.
    #[must_use]
    pub fn new(identity: Identity, clock: Arc<dyn Clock>) -> Self {
        Self { identity: RwLock::new(Arc::new(identity)), clock }
    }

    /// The identity now.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another from now on.
    pub fn replace(&self, identity: Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Connects as this node.
    ///
    /// # Errors
    /// If the identity cannot be used or there is no connection.
    pub async fn connect(&self, dial: &dyn Dial) -> Result<Channel, TransferError> {
        let tls = session_config(&self.identity(), &self.clock)?;
        Ok(connect(dial, tls).await?)
    }
}

/// Something was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// The call failed.
    #[error("the transfer broke off")]
    Call(#[source] Refusal),
    /// The controller ended the transfer too early.
    #[error("the controller ended the transfer early")]
    Ended,
    /// The spool cannot be read.
    #[error("read the spool")]
    Spool(#[source] std::io::Error),
}

impl TransferError {
    /// Whether the controller will say the same again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Call(refusal) => matches!(
                refusal.reason,
                Reason::BadRequest
                    | Reason::NotFound
                    | Reason::NotPermitted
                    | Reason::SwitchedOff
                    | Reason::LimitReached
            ),
            Self::Spool(_) | Self::Tls(_) => true,
            Self::Connect(_) | Self::Ended => false,
        }
    }
}

impl TransferError {
    /// Whether the controller has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Call(refusal) if refusal.reason == Reason::DiskFull)
    }
}

impl From<tonic::Status> for TransferError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Refusal::from_status(&status))
    }
}

/// The second connection.
pub struct Link {
    dial: Arc<dyn Dial>,
    credentials: Arc<Credentials>,
    directory: PathBuf,
    open: tokio::sync::Mutex<Option<Channel>>,
    users: AtomicUsize,
    seed: u64,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("users", &self.users).finish_non_exhaustive()
    }
}

impl Link {
    /// A connection that is opened once it is needed; unfinished files are kept in `directory`.
    #[must_use]
    pub fn new(dial: Arc<dyn Dial>, credentials: Arc<Credentials>, directory: PathBuf, seed: u64) -> Arc<Self> {
        let (open, users) = (tokio::sync::Mutex::default(), AtomicUsize::default());
        Arc::new(Self { dial, credentials, directory, open, users, seed })
    }

    /// Whether nothing is being moved.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }

    /// Closes the connection, so that the next one uses the identity of then.
    pub async fn close(&self) {
        *self.open.lock().await = None;
    }

    /// The connection, opened if need be, for as long as the lease lives.
    async fn lease(self: &Arc<Self>) -> Result<Lease, TransferError> {
        let lease = Users::of(self);
        let mut open = self.open.lock().await;
        let channel = match &*open {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.credentials.connect(&*self.dial).await?;
                tokio::spawn(close_when_idle(Arc::downgrade(self)));
                open.insert(channel).clone()
            }
        };
        Ok(Lease { channel, _users: lease })
    }
}

/// Counts one user of the link.
struct Users(Arc<Link>);

impl Users {
    fn of(link: &Arc<Link>) -> Self {
        link.users.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(link))
    }
}

impl Drop for Users {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Lease {
    channel: Channel,
    _users: Users,
}

/// Looks now and then, and only while the connection is open.
async fn close_when_idle(link: Weak<Link>) {
    let mut idle_since = None;
    loop {
        tokio::time::sleep(IDLE_CLOSE / 4).await;
        let Some(link) = link.upgrade() else { return };
        if !link.is_quiet() {
            idle_since = None;
            continue;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= IDLE_CLOSE {
            link.close().await;
            return;
        }
    }
}
