// SPDX-License-Identifier: Apache-2.0
//! Kernels: installed beside the others, booted once, then made the default; old ones removed.
//!
//! Until a kernel has proved itself the default is the one before it, whatever the distribution's own scripts do: a node
//! that does not come up with the new one comes up with the old one.

use async_trait::async_trait;
use windlass_types::name::on_node::KernelRelease;
use windlass_types::package::{Package, PackageChange};

use super::boot::{no_boot_loader, no_entry};
use super::packages::{exactly, left_to_do};
use super::{Check, Here, Kind, StepError, repair};
use crate::host::grub::Grub;
use crate::host::kernel_files;
use crate::observe::kernel::default_release;

/// Installs a kernel beside the others.
pub(super) struct Install<'a> {
    pub(super) package: &'a Package,
    pub(super) release: &'a KernelRelease,
    pub(super) changes: &'a [PackageChange],
}

impl Install<'_> {
    fn is_installed(&self, installed: &[crate::host::rpm::Installed]) -> bool {
        installed.iter().any(|installed| installed.package == *self.package)
    }

    /// Complete, with an entry, and not the default.
    async fn is_ready(&self, here: &Here<'_>) -> Result<(), String> {
        kernel_files::complete(here.host, here.tools, self.release).await?;
        let grub = Grub::of(here.host).ok_or("there is no GRUB on this node")?;
        grub.entry_of(here.host, self.release).ok_or("the boot loader has no entry for it")?;
        let is_default = default_release(here.host).await.as_deref() == Some(self.release.as_str());
        let runs = here.running_kernel().is_ok_and(|running| running == self.release.as_str());
        if is_default && !runs { Err("it is the default before it has proved itself".to_owned()) } else { Ok(()) }
    }

    /// The kernel that shall stay the default: the one that runs has proved itself.
    async fn keep_default(&self, here: &Here<'_>) -> Result<(), StepError> {
        if default_release(here.host).await.as_deref() != Some(self.release.as_str()) {
            return Ok(());
        }
        let running = here.running_kernel()?;
        let Ok(running) = KernelRelease::new(running) else { return Ok(()) };
        if running == *self.release { Ok(()) } else { make_default(here, &running).await }
    }
}

#[async_trait]
impl Kind for Install<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let is_there = self.is_installed(&here.installed().await?);
        Ok(if is_there && self.is_ready(here).await.is_ok() { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        repair::mend(here).await?;
        let installed = here.installed().await?;
        if !self.is_installed(&installed) {
            let left = left_to_do(self.changes, &installed)?;
            exactly(here, &left, &installed).await?;
        }
        self.keep_default(here).await
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        if !self.is_installed(&here.installed().await?) {
            return Err(StepError::operator(
                format!("{} was installed and is not there", self.package),
                "see `dnf history` and /var/log/dnf.log on the node",
            ));
        }
        self.is_ready(here).await.map_err(|reason| {
            StepError::operator(
                format!("kernel {} cannot be booted: {reason}", self.release),
                format!("remove {} with dnf and plan again; the default is what it was", self.package),
            )
        })
    }
}

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
        let default = default_release(here.host).await;
        if default.as_deref() == Some(self.release.as_str()) {
            return Ok(());
        }
        let default = default.unwrap_or_else(|| "one that cannot be told".to_owned());
        Err(StepError::operator(
            format!("GRUB was told to start {} by default and starts {default}", self.release),
            "set GRUB_DEFAULT=saved in /etc/default/grub and make the menu anew with grub2-mkconfig",
        ))
    }
}

async fn make_default(here: &Here<'_>, release: &KernelRelease) -> Result<(), StepError> {
    let grub = Grub::of(here.host).ok_or_else(no_boot_loader)?;
    let entry = grub.entry_of(here.host, release).ok_or_else(|| no_entry(release))?;
    here.tools.run(&grub.make_default(release, &entry)).await?;
    Ok(())
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
        let manager = here.manager()?;
        let wanted = crate::host::dnf::Wanted::Go(there.cloned().collect());
        here.tools.run(&super::packages::program(manager.act(&wanted))?).await?;
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
