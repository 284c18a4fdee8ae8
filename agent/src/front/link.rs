// SPDX-License-Identifier: Apache-2.0
//! The second connection to the controller, over which calls of the executor go: whatever is moved there, a heartbeat never
//! waits behind it. It is opened when something is to be moved and closed when nothing was for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tonic::transport::Channel;

use crate::dial::verify::{TlsSetupError, session_config};
use crate::dial::{ConnectError, Dial, connect};
use crate::host::clock::Clock;
use crate::identity::Identity;

/// An unused connection is closed after this: longer than the pause between two jobs of one run.
const IDLE_CLOSE: Duration = Duration::from_secs(10);

/// The identity in use, shared by every connection and replaced by a renewal.
#[derive(Debug)]
pub(super) struct Credentials {
    identity: RwLock<Arc<Identity>>,
    clock: Arc<dyn Clock>,
}

impl Credentials {
    /// Begins with this identity.
    pub(super) fn new(identity: Identity, clock: Arc<dyn Clock>) -> Self {
        Self { identity: RwLock::new(Arc::new(identity)), clock }
    }

    /// The identity now.
    pub(super) fn identity(&self) -> Arc<Identity> {
        Arc::clone(&self.identity.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Uses another from now on.
    pub(super) fn replace(&self, identity: Identity) {
        *self.identity.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(identity);
    }

    /// The clock.
    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Connects as this node.
    pub(super) async fn connect(&self, dial: &dyn Dial) -> Result<Channel, LinkError> {
        let tls = session_config(&self.identity(), &self.clock)?;
        Ok(connect(dial, tls).await?)
    }
}

/// There is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The controller cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
}

/// The second connection.
pub(super) struct Link {
    dial: Arc<dyn Dial>,
    credentials: Arc<Credentials>,
    open: tokio::sync::Mutex<Option<Channel>>,
    users: AtomicUsize,
}

impl Link {
    /// A connection that is opened once it is needed.
    pub(super) fn new(dial: Arc<dyn Dial>, credentials: Arc<Credentials>) -> Arc<Self> {
        Arc::new(Self { dial, credentials, open: tokio::sync::Mutex::default(), users: AtomicUsize::default() })
    }

    /// Whether nothing is being moved.
    pub(super) fn is_quiet(&self) -> bool {
        self.users.load(Ordering::Acquire) == 0
    }

    /// Closes the connection, so that the next one uses the identity of then.
    pub(super) async fn close(&self) {
        *self.open.lock().await = None;
    }

    /// The connection, opened if need be, for as long as the lease lives.
    pub(super) async fn lease(self: &Arc<Self>) -> Result<Lease, LinkError> {
        let users = Users::of(self);
        let mut open = self.open.lock().await;
        let channel = match &*open {
            Some(channel) => channel.clone(),
            None => {
                let channel = self.credentials.connect(&*self.dial).await?;
                tokio::spawn(close_when_idle(Arc::downgrade(self)));
                open.insert(channel).clone()
            }
        };
        Ok(Lease { channel, _users: users })
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

/// The connection in use.
pub(super) struct Lease {
    pub(super) channel: Channel,
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
