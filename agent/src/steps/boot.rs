// SPDX-License-Identifier: Apache-2.0
//! Reboots the node: into its default kernel, or once into another.
//!
//! Done when another boot has begun than the one that was to end; so it never reboots twice, however often it is ordered.
//! A node that somebody else booted meanwhile, as a power cut does, has not tried the kernel that it shall start: that is
//! still to be done, unless it was this step that took the node down.
//! Nobody reports from a machine that goes down: the step ends when the next agent looks.
//!
//! A kernel that is started once has to show that the node can be reached with it. If no session with the controller comes
//! about, the node goes back by itself: what is started next is the default, the kernel before it. A kernel that panics goes
//! back by itself too, by what [`super::kernel`] has put on its command line.

use std::time::Duration;

use async_trait::async_trait;
use windlass_types::name::on_node::{BootId, KernelRelease};

use super::kernel::way_back;
use super::{Check, Here, Kind, StepError};
use crate::host::grub::Grub;
use crate::host::{kernel_files, systemctl};
use crate::observe::kernel::default_release;

/// How long a node may take to go down: services have ninety seconds by default, and some more.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How old a boot becomes without a session in a kernel that was started once. Network and a restarted controller are back
/// long before; and two boots of a server and this fit into what the controller waits for the step. Counted from the start of
/// the kernel, because an agent that has trouble in a new kernel may begin anew every few seconds.
const UNREACHED: Duration = Duration::from_secs(8 * 60);

/// An agent that begins later than that still tries to connect.
const LEAST: Duration = Duration::from_secs(10);

pub(super) struct Boot<'a> {
    pub(super) boot_id: &'a BootId,
    pub(super) once: Option<&'a KernelRelease>,
}

#[async_trait]
impl Kind for Boot<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let has_booted = here.boot_id()? != *self.boot_id;
        let Some(once) = self.once else {
            if has_booted {
                return Ok(Check::AlreadyDone);
            }
            return default_starts(here).await.map(|()| Check::Ready);
        };
        let running = here.running_kernel()?;
        let was_our_doing = has_booted && self.took_it_down(here)?;
        if !has_booted || !was_our_doing && running != once.as_str() {
            if let Some(grub) = Grub::of(here.host) {
                way_back::forgets_once(here, grub).await?;
            }
            return match kernel_files::missing(here.host, here.tools, once).await? {
                None => Ok(Check::Ready),
                Some(missing) => Err(missing_kernel(once, &missing)),
            };
        }
        // Where GRUB cannot write its environment it would start this kernel for ever.
        if let Some(grub) = Grub::of(here.host).filter(|grub| grub.once(here.host).is_some()) {
            here.tools.run(&grub.forget_once()).await?;
        }
        if running == once.as_str() {
            return self.stay(here, once).await;
        }
        Err(StepError::operator(
            format!("the node came back with kernel {running} instead of {once}"),
            "the new kernel did not start, or the controller was not reached with it; see the console of that boot, the \
             default is the old one",
        ))
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        if let Some(release) = self.once {
            let grub = Grub::of(here.host).ok_or_else(no_boot_loader)?;
            let entry = grub.entry_of(here.host, release).ok_or_else(|| no_entry(release))?;
            if here.running_kernel()? != release.as_str() {
                way_back::prepare(here, grub, release).await?;
            }
            let is_chosen = || grub.once(here.host).as_deref() == Some(release.as_str());
            if !is_chosen() {
                here.tools.run(&grub.start_once(&entry)).await?;
            }
            if !is_chosen() {
                return Err(StepError::operator(
                    format!("GRUB was told to start {release} once and does not say so"),
                    "see `grub2-editenv list` and whether /boot can be written; the node was not rebooted",
                ));
            }
        }
        here.tools.run(&systemctl::reboot()).await?;
        tokio::time::sleep(PATIENCE).await;
        Ok(())
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        if here.boot_id()? != *self.boot_id {
            return Ok(());
        }
        Err(StepError::operator(
            format!("the node was told to reboot and has not gone down within {PATIENCE:?}"),
            "see `systemctl list-jobs` there for what it waits for",
        ))
    }
}

impl Boot<'_> {
    /// Whether an earlier agent, in an earlier boot, was about to take the node down for this step.
    fn took_it_down(&self, here: &Here<'_>) -> Result<bool, StepError> {
        let now = here.boot_id()?;
        // The records of older agents do not say in which boot, and are of the one that was planned.
        let before = here.intended_in.as_ref().unwrap_or(self.boot_id);
        Ok(here.intended && *before != now)
    }

    /// Stays in the kernel that was to be started once if the controller is reached with it; goes back if not. There is a
    /// way back only as long as another kernel is the default.
    async fn stay(&self, here: &Here<'_>, once: &KernelRelease) -> Result<Check, StepError> {
        let rest = UNREACHED.saturating_sub(here.uptime()).max(LEAST);
        if tokio::time::timeout(rest, here.tools.reached()).await.is_ok() {
            return Ok(Check::AlreadyDone);
        }
        let default = default_release(here.host).await;
        let Some(default) = default.filter(|default| default != once.as_str()) else { return Ok(Check::AlreadyDone) };
        tracing::error!(
            kernel = %once,
            "no session with the controller in the first {UNREACHED:?} of a kernel that was to be started once: going back to {default}"
        );
        here.tools.run(&systemctl::reboot()).await?;
        tokio::time::sleep(PATIENCE).await;
        Err(StepError::operator(
            format!("kernel {once} does not reach the controller, and the node has not gone down within {PATIENCE:?}"),
            "`windlass machine power NODE reset --force`; the next boot is the old kernel",
        ))
    }
}

/// Whether the default kernel is whole: one that somebody else installed may not be, as after /boot was full. Where it
/// cannot be told, or kernels lie elsewhere than the Red Hat family has them, nothing speaks against it.
async fn default_starts(here: &Here<'_>) -> Result<(), StepError> {
    let default = default_release(here.host).await.and_then(|release| KernelRelease::new(release).ok());
    // A rescue image has no modules beside it, and releases() leaves it out.
    let is_of_ours = |default: &KernelRelease| !default.as_str().contains("rescue");
    let Some(default) = default.filter(is_of_ours).filter(|_| !kernel_files::releases(here.host).is_empty()) else {
        return Ok(());
    };
    match kernel_files::missing(here.host, here.tools, &default).await? {
        None => Ok(()),
        Some(missing) => Err(StepError::blocked(
            format!("kernel {default}, which this reboot would start, is not whole: {missing}"),
            format!(
                "see that /boot has room and install it again, or make its initramfs with `dracut --force --kver {default}`, \
                 or choose another default with `grubby --set-default`"
            ),
        )),
    }
}

fn missing_kernel(release: &KernelRelease, missing: &str) -> StepError {
    StepError::blocked(format!("kernel {release} cannot be started: {missing}"), "install it again")
}

pub(super) fn no_boot_loader() -> StepError {
    StepError::blocked("there is no GRUB on this node", "kernels can only be chosen where GRUB starts them")
}

pub(super) fn no_entry(release: &KernelRelease) -> StepError {
    StepError::blocked(
        format!("the boot loader has no entry for kernel {release}"),
        "install the kernel again, or make the menu anew with grub2-mkconfig",
    )
}
