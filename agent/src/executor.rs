// SPDX-License-Identifier: Apache-2.0
//! The half of the agent that may do everything and talks to nobody but the front.
//!
//! It opens no network connection and reads nothing from outside but what the controller signed: an order is verified
//! before anything in it is looked at ([`crate::jobs::signature`]), whoever holds the socket. It keeps the journal, runs
//! programs and steps, and looks at what only root can see. A front in foreign hands can keep orders away, keep reports
//! from the controller and lie in them, as whoever holds the node's network could; it can have nothing done.
//!
//! - [`mandate`]: in whose name orders are obeyed.
//! - `session`: one session with the controller, seen from here.
//! - `handover`: when another executor may take over.

mod handover;
pub mod mandate;
mod session;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_proto::v1::executor_greeting::Purpose;

use self::mandate::Mandate;
use self::session::Seen;
use crate::config::Config;
use crate::dial::Io;
use crate::host::change::Change;
use crate::host::clock::Clock;
use crate::jobs::runner::Runner;
use crate::jobs::signature::OrderKey;
use crate::jobs::{JobParts, Jobs, transfers_directory};
use crate::journal::JournalError;
use crate::local::{Listen, messages};
use crate::transfer::Carriers;

/// A front says at once what it wants.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that say what they are for, and sessions. Calls that a front carries are as many as jobs wait for.
const MOST_CONNECTIONS: usize = 32;

/// After a connection could not be taken: descriptors are scarce for a while.
const AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(100);

/// The executor and everything it needs of the world.
pub struct Executor {
    /// In whose name it obeys.
    pub mandate: Mandate,
    /// Where it keeps what it must remember.
    pub state_dir: PathBuf,
    /// What the operator set.
    pub config: Config,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Runs programs.
    pub runner: Arc<dyn Runner>,
    /// The machine.
    pub host: Arc<dyn Change>,
    /// For jitter.
    pub seed: u64,
    /// Cancelled when another executor is to take over: this one ends once it has no job in hand.
    pub handover: CancellationToken,
}

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("mandate", &self.mandate).finish_non_exhaustive()
    }
}

/// What connections share.
struct Shared {
    jobs: Arc<Jobs>,
    carriers: Arc<Carriers>,
    seen: Seen,
    /// Ends the session that another one takes the place of.
    current: Mutex<CancellationToken>,
}

impl Executor {
    /// Serves until `shutdown`, or until another executor may take over. Jobs that run then go on and are found again.
    /// `ready` is told once the journal is read.
    ///
    /// # Errors
    /// If it cannot begin; after that nothing ends it.
    pub async fn run(
        self,
        listener: impl Listen,
        shutdown: CancellationToken,
        ready: impl FnOnce(),
    ) -> Result<(), JournalError> {
        let ended = CancellationToken::new();
        let _end_jobs_too = ended.clone().drop_guard();
        let carriers = Carriers::new(transfers_directory(&self.state_dir), self.seed);
        let jobs = Jobs::open(JobParts {
            node: self.mandate.node,
            state_dir: self.state_dir,
            exec: self.config.exec,
            order_key: OrderKey::new(self.mandate.order_key),
            runner: self.runner,
            host: Arc::clone(&self.host),
            carriers: Arc::clone(&carriers),
            clock: self.clock,
            ended: ended.clone(),
        })?;
        jobs.recover();
        ready();
        let seen = Seen { host: self.host, watched: self.config.services };
        let shared = Arc::new(Shared { jobs: Arc::clone(&jobs), carriers, seen, current: Mutex::default() });
        tokio::select! {
            () = serve(listener, &shared, &ended) => {}
            () = shutdown.cancelled() => {}
            () = handover::released(self.handover, jobs) => {}
        }
        Ok(())
    }
}

async fn serve(mut listener: impl Listen, shared: &Arc<Shared>, ended: &CancellationToken) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Nobody closes the semaphore.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok(stream) => {
                let (shared, ended) = (Arc::clone(shared), ended.clone());
                tokio::spawn(async move {
                    let _until_done = place;
                    ended.run_until_cancelled(connection(stream, &shared)).await
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of the front could not be taken");
                tokio::time::sleep(AFTER_FAILED_ACCEPT).await;
            }
        }
    }
}

async fn connection(stream: Box<dyn Io>, shared: &Shared) {
    let (sender, mut receiver) = messages(stream);
    let greeting = tokio::time::timeout(GREETING_TIMEOUT, receiver.next::<v1::ExecutorGreeting>()).await;
    match greeting.ok().and_then(Result::ok).flatten().and_then(|greeting| greeting.purpose) {
        Some(Purpose::Session(_)) => {
            let mine = shared.newest();
            let held = session::hold(&shared.jobs, &shared.carriers, &shared.seen, sender, receiver);
            if let Some(Err(error)) = mine.run_until_cancelled(held).await {
                tracing::info!(%error, "the front is gone");
            }
        }
        Some(Purpose::Carry(carry)) => shared.carriers.take(carry.call, sender, receiver),
        None => tracing::warn!("somebody connected and did not say what for"),
    }
}

impl Shared {
    /// Ends the session before, if there is one; cancelled when the next begins.
    fn newest(&self) -> CancellationToken {
        let mine = CancellationToken::new();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, mine.clone()).cancel();
        mine
    }
}

#[cfg(test)]
mod tests;
