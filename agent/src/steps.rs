// SPDX-License-Identifier: Apache-2.0
//! Steps of runs, one at a time on a node: check, apply, verify.
//!
//! [`carry_out`] is the only loop; each kind of step is a small file. *Check* looks whether it is done already and whether
//! it may be done; *apply* does it; *verify* looks afresh and trusts no exit code.
//!
//! A step may be ended at any point and taken up again by the next agent, after a reboot too. It is then looked at from
//! the beginning: first the end of a program that an earlier agent started is awaited, because half of its work is no
//! basis for a decision; then check says that the step is done, or what is left of it is done. Between check and apply the
//! intention is written down ([`crate::host::tools::Tools::intend`]): what is found later and differs from what the plan
//! saw may then be our own half of a change, and before it may not.
//!
//! Steps that take something down carry a lease; [`lease`] says which is good.

#![deny(clippy::wildcard_enum_match_arm)]

mod boot;
mod error;
mod hook;
mod kernel;
pub mod lease;
mod packages;
mod repair;
mod services;
mod settings;
mod survey;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use windlass_types::name::on_node::BootId;
use windlass_types::node_step::NodeStep;

pub use error::StepError;

use crate::host::Look;
use crate::host::answers::Source;
use crate::host::change::Change;
use crate::host::procfs;
use crate::host::tools::{Program, Ran, ToolError, Tools};

/// How a step comes to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// For the first time.
    Fresh,
    /// An earlier agent had it in hand.
    Again {
        /// And may have changed something.
        intended: bool,
        /// In which boot of the machine that was.
        boot: Option<BootId>,
    },
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Whether anything had to be changed.
    pub changed: bool,
    /// What it answers.
    pub output: String,
}

/// What the kinds of steps work with.
#[derive(Debug)]
pub(crate) struct Here<'a> {
    /// The machine.
    host: &'a dyn Change,
    /// Its programs.
    tools: &'a dyn Tools,
    /// An earlier agent may have changed something for this step.
    intended: bool,
    /// In which boot of the machine that was; `None` if that is not known.
    intended_in: Option<BootId>,
    /// How the program that it started has ended.
    left: Option<Ran>,
}

/// What check finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// There is nothing to do.
    AlreadyDone,
    /// It can be done.
    Ready,
}

/// One kind of step.
#[async_trait]
trait Kind: Send + Sync {
    /// Looks whether it is done already, and whether it may be done.
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError>;

    /// Does it, or what is left of it.
    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError>;

    /// Proves that it is done.
    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError>;
}

/// Carries a step out.
///
/// # Errors
/// If it is not done.
pub async fn carry_out(
    host: &dyn Change,
    tools: &dyn Tools,
    step: &NodeStep,
    beginning: Beginning,
) -> Result<Done, StepError> {
    let (left, intended, intended_in) = match beginning {
        Beginning::Fresh => (None, false, None),
        Beginning::Again { intended, boot } => (tools.settle().await, intended, boot),
    };
    let watched = Watched { tools, has_changed: AtomicBool::new(false) };
    let here = Here { host, tools: &watched, intended, intended_in, left };
    if let NodeStep::Survey(request) = step {
        let output = survey::answer(&here, request).await?;
        return Ok(Done { changed: false, output });
    }
    let kind = kind(step)?;
    // Only of a node on which nothing was changed is said that it is as it was.
    let judged = |error: StepError| if intended || watched.has_changed() { error.once_begun() } else { error };
    if kind.check(&here).await.map_err(judged)? == Check::AlreadyDone {
        return Ok(Done { changed: intended, output: String::new() });
    }
    tools.intend(here.boot_id().ok()).await?;
    kind.apply(&here).await.map_err(judged)?;
    kind.verify(&here).await.map_err(StepError::once_begun)?;
    Ok(Done { changed: true, output: String::new() })
}

/// Notices when a program is started that changes something.
#[derive(Debug)]
struct Watched<'a> {
    tools: &'a dyn Tools,
    has_changed: AtomicBool,
}

impl Watched<'_> {
    fn has_changed(&self) -> bool {
        self.has_changed.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Tools for Watched<'_> {
    async fn run(&self, program: &Program) -> Result<Ran, ToolError> {
        self.has_changed.fetch_or(program.is_change(), Ordering::Relaxed);
        self.tools.run(program).await
    }

    async fn settle(&self) -> Option<Ran> {
        self.tools.settle().await
    }

    async fn intend(&self, boot: Option<BootId>) -> Result<(), ToolError> {
        self.tools.intend(boot).await
    }

    async fn reached(&self) {
        self.tools.reached().await;
    }
}

fn kind(step: &NodeStep) -> Result<Box<dyn Kind + '_>, StepError> {
    Ok(match step {
        NodeStep::ApplySetting { setting, seen, begun } => {
            Box::new(settings::Apply { setting, seen: *seen, begun: *begun })
        }
        NodeStep::Boot { boot_id, once } => Box::new(boot::Boot { boot_id, once: once.as_ref() }),
        NodeStep::Hook { argv, timeout_millis } => Box::new(hook::Hook { argv, timeout_millis: *timeout_millis }),
        NodeStep::RepairPackages => Box::new(repair::Repair),
        NodeStep::ChangePackages(transaction) => Box::new(packages::ChangePackages { transaction }),
        NodeStep::InstallKernel { package, release, changes } => {
            Box::new(kernel::Install { package, release, changes })
        }
        NodeStep::ConfirmKernel { release } => Box::new(kernel::Confirm { release }),
        NodeStep::PruneKernels { remove } => Box::new(kernel::Prune { remove }),
        NodeStep::RestartServices { units } => Box::new(services::Restart { units }),
        NodeStep::Survey(_) => return Err(StepError::Refused("a survey is answered, not done".to_owned())),
    })
}

impl Here<'_> {
    /// What rpm or dnf answers, or has answered and would again.
    async fn ask(&self, question: &Program, source: Source, look: Look) -> Result<Ran, ToolError> {
        self.host.answer((&question.argv, source), look, Box::pin(self.tools.run(question))).await
    }

    /// The boot that the machine is in.
    fn boot_id(&self) -> Result<BootId, StepError> {
        let text = self.host.read(procfs::BOOT_ID.as_ref()).map_err(StepError::file("read", procfs::BOOT_ID))?;
        BootId::new(text.trim())
            .map_err(|error| StepError::Unreadable { program: "the kernel", reason: error.to_string() })
    }

    /// How old this boot is; nothing where that is not told.
    fn uptime(&self) -> Duration {
        let text = self.host.read(procfs::UPTIME.as_ref()).unwrap_or_default();
        let seconds = text.split_whitespace().next().and_then(|seconds| seconds.parse().ok());
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).unwrap_or_default()
    }

    /// The kernel that runs.
    fn running_kernel(&self) -> Result<String, StepError> {
        Ok(self.host.machine().map_err(StepError::file("ask uname(2) about", "/"))?.kernel)
    }
}
