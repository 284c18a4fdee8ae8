// SPDX-License-Identifier: Apache-2.0
//! Both halves of the agent in one process, for machines without systemd, tests and simulations: the same front and the
//! same executor, with a pipe in memory between them. Nothing is gained by splitting them where both are the same user.
//!
//! Everything the agent needs of the world is a part of [`Agent`], so that dozens can run in one process over a simulated
//! network, clock and machine.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::dial::Dial;
use crate::executor::Executor;
use crate::executor::mandate::{Mandate, MandateError};
use crate::front::Front;
use crate::host::change::Change;
use crate::host::clock::Clock;
use crate::identity::Identity;
use crate::jobs::runner::Runner;
use crate::journal::JournalError;
use crate::local::pipe;

/// An agent and everything it needs of the world.
pub struct Agent {
    /// Who it is.
    pub identity: Identity,
    /// What the operator set; everything is kept in its `state_dir`.
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
    /// It is not known in whose name orders are obeyed.
    #[error("begin")]
    Mandate(#[from] MandateError),
}

impl Agent {
    /// Runs until `shutdown`, or until another agent may take over. Jobs that run then go on and are found again by the
    /// next agent.
    ///
    /// # Errors
    /// If the agent cannot begin; after that nothing ends it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), AgentError> {
        let (executor_dial, listener) = pipe();
        let executor = Executor {
            mandate: Mandate::load(&self.config.state_dir)?,
            state_dir: self.config.state_dir.clone(),
            clock: Arc::clone(&self.clock),
            runner: self.runner,
            host: Arc::clone(&self.host),
            seed: self.seed,
            handover: self.handover,
            config: self.config.clone(),
        };
        let front = Front {
            identity: self.identity,
            state_dir: self.config.state_dir,
            executor: Arc::new(executor_dial),
            dial: self.dial,
            join_dial: self.join_dial,
            clock: self.clock,
            host: self.host,
            seed: self.seed,
            status: self.status,
            // It goes when the executor goes, whose last reports it brings home.
            handover: CancellationToken::new(),
        };
        tokio::select! {
            ended = executor.run(listener, shutdown.clone(), || {}) => Ok(ended?),
            () = front.run(shutdown.clone()) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
