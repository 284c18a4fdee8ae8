// SPDX-License-Identifier: Apache-2.0
//! Kernels: installed beside the others, booted once, then made the default; old ones removed.
//!
//! Until a kernel has proved itself the default is the one before it, whatever the distribution's own scripts do: a node
//! that does not come up with the new one comes up with the old one.

pub(super) mod default;
pub(super) mod install;
pub(super) mod way_back;

use async_trait::async_trait;
use windlass_types::name::on_node::KernelRelease;
use windlass_types::package::Package;

use super::boot::{no_boot_loader, no_entry};
use super::packages::{act, before, program, read};
use super::{Check, Here, Kind, StepError};
use crate::host::dnf::{Going, Resolved, Wanted};
use crate::host::grub::Grub;
use crate::observe::kernel::default_release;

pub(super) use install::Install;

/// Makes the running kernel the default.
pub(super) struct Confirm<'a> {
    pub(super) release: &'a KernelRelease,
}

#[async_trait]
impl Kind for Confirm<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let running = here.running_kernel()?;
        if running != self.release.as_str() {
            return Err(StepError::blocked(
                format!("kernel {} does not run, {running} does", self.release),
                "only a kernel that runs can be confirmed; plan again",
            ));
        }
        let is_default = default_release(here.host).await.as_deref() == Some(self.release.as_str());
        Ok(if is_default { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        make_default(here, self.release).await
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        started_by_default(here, self.release).await
    }
}

async fn make_default(here: &Here<'_>, release: &KernelRelease) -> Result<(), StepError> {
    let grub = Grub::of(here.host).ok_or_else(no_boot_loader)?;
    let entry = grub.entry_of(here.host, release).ok_or_else(|| no_entry(release))?;
    here.tools.run(&grub.make_default(release, &entry)).await?;
    Ok(())
}

/// Whether what GRUB was told has come about.
async fn started_by_default(here: &Here<'_>, release: &KernelRelease) -> Result<(), StepError> {
    let default = default_release(here.host).await;
    if default.as_deref() == Some(release.as_str()) {
        return Ok(());
    }
    let default = default.unwrap_or_else(|| "one that cannot be told".to_owned());
    Err(StepError::operator(
        format!("GRUB was told to start {release} by default and starts {default}"),
        "set GRUB_DEFAULT=saved in /etc/default/grub and make the menu anew with grub2-mkconfig",
    ))
}

/// What needs a package goes with it, and so does what nothing needs any more. Of a kernel that are its other packages;
/// anything else was not shown to anybody.
fn nothing_else_goes(resolved: &Resolved, going: &[Package]) -> Result<(), StepError> {
    let belongs = |other: &&Going| {
        other.name.as_str().starts_with("kernel") && going.iter().any(|package| package.version == other.version)
    };
    let others = resolved.going.iter().filter(|other| !belongs(other));
    let others = others.map(|other| format!("{}-{}.{}", other.name, other.version, other.arch));
    let come = resolved.coming.iter().map(|other| format!("{}-{}.{}", other.name, other.version, other.arch));
    let others: Vec<String> = others.chain(come).collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(StepError::blocked(
        format!("with the old kernels more would be changed: {}", others.join(", ")),
        "nothing was changed; remove these first if nobody needs them, or keep them with `dnf mark install`, or keep more kernels",
    ))
}

/// Removes kernels that neither run nor are the default.
pub(super) struct Prune<'a> {
    pub(super) remove: &'a [Package],
}

#[async_trait]
impl Kind for Prune<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let installed = here.installed().await?;
        let there = |package: &&Package| installed.iter().any(|installed| installed.package == **package);
        if !self.remove.iter().any(|package| there(&package)) {
            return Ok(Check::AlreadyDone);
        }
        let kernels = super::survey::kernels(here).await?;
        for kernel in kernels.installed {
            let is_needed = kernel.release == kernels.running || kernels.default.as_ref() == Some(&kernel.release);
            let goes = kernel.package.is_some_and(|package| self.remove.contains(&package));
            if is_needed && goes {
                return Err(StepError::blocked(
                    format!("kernel {} runs or is the default and is not removed", kernel.release),
                    "plan again",
                ));
            }
        }
        Ok(Check::Ready)
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        let installed = here.installed().await?;
        let there = self.remove.iter().filter(|package| installed.iter().any(|i| i.package == **package));
        let going: Vec<Package> = there.cloned().collect();
        let manager = here.manager()?;
        let ran = before(here.tools.run(&program(manager.look_at_removing(&going))?).await)?;
        nothing_else_goes(&read(&ran)?.unwrap_or_default(), &going)?;
        act(here, &manager, &Wanted::Go(going)).await?;
        Ok(())
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        let installed = here.installed().await?;
        match self.remove.iter().find(|package| installed.iter().any(|i| i.package == **package)) {
            None => Ok(()),
            Some(package) => Err(StepError::operator(
                format!("{package} was removed and is still there"),
                "see `dnf history` on the node; something may protect it",
            )),
        }
    }
}
