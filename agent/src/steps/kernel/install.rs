// SPDX-License-Identifier: Apache-2.0
//! Installs a kernel beside the others: whole, with a way back, and not the default.
//!
//! A transaction that was cut off can leave a kernel that looks installed. rpm's database is on the disk before the files
//! are, and the scripts that make the initramfs and the boot entry come last. So a kernel counts as installed only if its
//! files are what was packed, and its initramfs can be read to its end; another one is taken out and installed again.

use async_trait::async_trait;
use windlass_types::name::on_node::KernelRelease;
use windlass_types::package::{Package, PackageChange};

use super::super::boot::no_boot_loader;
use super::super::packages::{exactly, left_to_do};
use super::super::{Check, Here, Kind, StepError, repair};
use super::{default, way_back};
use crate::host::grub::Grub;
use crate::host::kernel_files;
use crate::host::rpm::{self, Installed};
use crate::observe::kernel::default_release;

/// What the distributions make of one kernel.
const PARTS: [&str; 5] = ["", "-core", "-modules", "-modules-core", "-modules-extra"];

pub(in crate::steps) struct Install<'a> {
    pub(in crate::steps) package: &'a Package,
    pub(in crate::steps) release: &'a KernelRelease,
    pub(in crate::steps) changes: &'a [PackageChange],
}

impl Install<'_> {
    fn is_installed(&self, installed: &[Installed]) -> bool {
        installed.iter().any(|installed| installed.package == *self.package)
    }

    /// Whether the node would come back from it by itself, and it is not the default.
    async fn is_ready(&self, here: &Here<'_>) -> Result<(), StepError> {
        let grub = Grub::of(here.host).ok_or_else(no_boot_loader)?;
        if let Some(reason) = way_back::stands_still(here, grub, self.release) {
            let reason = format!("kernel {} is not booted: {reason}", self.release);
            return Err(StepError::operator(reason, way_back::say_so(grub)));
        }
        let is_default = default_release(here.host).await.as_deref() == Some(self.release.as_str());
        let runs = here.running_kernel().is_ok_and(|running| running == self.release.as_str());
        if !is_default || runs {
            return Ok(());
        }
        Err(StepError::operator(
            format!("kernel {} is the default before it has proved itself", self.release),
            "make the kernel that runs the default, with grubby --set-default or grub2-set-default",
        ))
    }

    /// The package and all that comes with it, whole.
    async fn bring(&self, here: &Here<'_>, runs: bool) -> Result<(), StepError> {
        let mut installed = repair::mend(here).await?;
        let there = parts(self.package, &installed);
        if !there.is_empty() && !runs && damage(here, self.package, self.release, &installed).await?.is_some() {
            let there: Vec<String> = there.iter().map(Package::to_string).collect();
            here.tools.run(&rpm::erase(&there)).await?;
            installed = here.installed().await?;
        }
        if self.is_installed(&installed) {
            return Ok(());
        }
        let left = left_to_do(self.changes, &installed)?;
        exactly(here, &left, &installed).await
    }

    fn stays_default(&self, error: &StepError, before: Option<&StepError>) -> StepError {
        let before = before.map(|before| format!("; before that: {before}")).unwrap_or_default();
        StepError::operator(
            format!("kernel {} may be the default before it has proved itself: {error}{before}", self.release),
            "make the kernel that runs the default, with grubby --set-default or grub2-set-default, before the node reboots",
        )
    }
}

#[async_trait]
impl Kind for Install<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let Some(installed) = here.readable().await? else { return Ok(Check::Ready) };
        let is_done = self.is_installed(&installed)
            && damage(here, self.package, self.release, &installed).await?.is_none()
            && self.is_ready(here).await.is_ok()
            // Power that failed at the very end of it leaves a whole kernel, and a transaction that never ended.
            && repair::interrupted(here, &installed).await?.is_none();
        Ok(if is_done { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        let runs = here.running_kernel()? == self.release.as_str();
        if !runs {
            default::keep_running(here).await?;
            default::leave_it_alone(here).await?;
        }
        let brought = self.bring(here, runs).await;
        // However that ended: its scripts may have run, and may not have asked.
        if !runs {
            default::keep_running(here).await.map_err(|error| self.stays_default(&error, brought.as_ref().err()))?;
        }
        brought?;
        way_back::be_left_by_itself(here, self.release).await
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        let installed = here.installed().await?;
        if !self.is_installed(&installed) {
            return Err(StepError::operator(
                format!("{} was installed and is not there", self.package),
                "see `dnf history` and /var/log/dnf.log on the node",
            ));
        }
        let damage = damage(here, self.package, self.release, &installed).await?;
        if let Some(damage) = damage {
            return Err(StepError::operator(
                format!("kernel {} cannot be booted: {damage}", self.release),
                format!("remove {} with dnf and plan again; the default is what it was", self.package),
            ));
        }
        self.is_ready(here).await
    }
}

/// The packages of a kernel that are there.
fn parts(package: &Package, installed: &[Installed]) -> Vec<Package> {
    let name = package.name.as_str();
    let is_part = |other: &&Package| {
        other.version == package.version
            && other.name.as_str().strip_prefix(name).is_some_and(|rest| PARTS.contains(&rest))
    };
    installed.iter().map(|installed| &installed.package).filter(is_part).cloned().collect()
}

/// What an installed kernel lacks to be started; `None` if it is whole.
pub(in crate::steps) async fn damage(
    here: &Here<'_>,
    package: &Package,
    release: &KernelRelease,
    installed: &[Installed],
) -> Result<Option<String>, StepError> {
    for part in parts(package, installed) {
        let ran = here.tools.run(&rpm::verify(&part)).await?;
        if let Some(path) = rpm::damaged(&ran.stdout) {
            return Ok(Some(format!("{path} is not what {part} brought")));
        }
    }
    if let Some(missing) = kernel_files::missing(here.host, here.tools, release).await? {
        return Ok(Some(missing));
    }
    let grub = Grub::of(here.host);
    let has_entry = grub.is_some_and(|grub| grub.entry_of(here.host, release).is_some());
    Ok((!has_entry).then(|| "the boot loader has no entry for it".to_owned()))
}

/// What installing a kernel again comes to.
pub(in crate::steps) fn again(package: &Package, installed: &[Installed]) -> Vec<PackageChange> {
    let new = |part: Package| PackageChange {
        name: part.name,
        arch: part.arch,
        from: None,
        to: Some(part.version),
        repository: None,
    };
    parts(package, installed).into_iter().map(new).collect()
}
