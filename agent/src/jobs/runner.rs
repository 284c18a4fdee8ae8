// SPDX-License-Identifier: Apache-2.0
//! Who runs programs: a process group of the agent's own, a transient systemd unit, or a model in tests.

use std::sync::Arc;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use windlass_types::action::Argv;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;

use crate::journal::Mark;
use crate::output::Spool;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// With this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// It ended, but nobody saw how.
    Unknown(String),
}

/// A program that did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct NotStarted {
    /// What failed and why.
    pub message: String,
    /// What to do about it.
    pub class: ErrorClass,
}

/// Runs programs.
#[async_trait]
pub trait Runner: Send + Sync + std::fmt::Debug {
    /// Starts a program whose output goes to the spool.
    ///
    /// # Errors
    /// If it did not start; then it has had no effect.
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted>;

    /// Finds a program that an earlier agent started, or was about to start if there is no mark. `None` if it is not
    /// there any more and nothing is known about its end.
    async fn adopt(&self, job: &JobId, mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>>;

    /// Whether programs have the rights of root on the node, rather than those of the agent's sandbox: steps need them.
    fn is_unconfined(&self) -> bool {
        true
    }
}

/// A program that was started. Dropping it leaves the program alone.
#[async_trait]
pub trait Running: Send {
    /// By what it is known.
    fn mark(&self) -> Mark;

    /// Waits for its end, with its output in the spool. May be dropped and called again.
    async fn wait(&mut self) -> End;

    /// Sends a signal to all its processes.
    async fn signal(&mut self, signal: Signal);

    /// Forgets it, once its end is on disk.
    async fn release(&mut self);
}
