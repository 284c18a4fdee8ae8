// SPDX-License-Identifier: Apache-2.0
//! What an interrupted transaction leaves, and mending it.
//!
//! A package manager installs the new packages first and takes the old ones out after. Ended in between, it leaves some
//! packages twice in the database: the surest sign, and the same for every version of rpm. The newer one's files are in
//! place then, so the older one is taken out; what the transaction had not come to is left to the step that is done again.
//!
//! dnf remembers besides that a transaction has no end. What it had brought by then may lack the end of its scripts, such
//! as the initramfs of a kernel: that is installed once more, in the same version, after which the history has an end.

use std::collections::BTreeMap;

use async_trait::async_trait;
use windlass_types::package::Package;

use super::kernel::default;
use super::{Check, Here, Kind, StepError};
use crate::host::Look;
use crate::host::answers::Source;
use crate::host::dnf::Manager;
use crate::host::dnf::history::{self, Unended};
use crate::host::dnf::is_kernel;
use crate::host::grub::Grub;
use crate::host::rpm::{self, Installed};
use crate::host::rpm_version::compare;
use crate::host::tools::ToolError;

/// Where yum keeps what it has not finished.
const YUM_STATE: &str = "/var/lib/yum";

/// Packages of which several versions may be installed at once.
const SEVERAL: [&str; 4] = ["kernel", "kmod-", "gpg-pubkey", "installonly"];

pub(super) struct Repair;

#[async_trait]
impl Kind for Repair {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        let Some(installed) = here.readable().await? else { return Ok(Check::Ready) };
        let whole = interrupted(here, &installed).await?.is_none();
        Ok(if whole { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        mend(here).await.map(drop)
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        match interrupted(here, &here.installed().await?).await? {
            None => Ok(()),
            Some(left) => Err(StepError::operator(
                format!("the package database could not be mended: {left}"),
                "see `rpm -Va` and `dnf check` on the node",
            )),
        }
    }
}

/// What an interrupted transaction left.
pub(super) async fn interrupted(here: &Here<'_>, installed: &[Installed]) -> Result<Option<String>, StepError> {
    if is_under_way(here).await? {
        return Ok(None);
    }
    if let Some(left) = left_in_the_database(here, installed) {
        return Ok(Some(left));
    }
    let Some(unended) = unended(here).await? else { return Ok(None) };
    let (number, count, all) = (unended.number, came(&unended, installed).len(), unended.comes.len());
    let text =
        format!("transaction {number} of dnf has no end: {count} of its {all} packages came, perhaps not wholly");
    Ok((count > 0).then_some(text))
}

fn left_in_the_database(here: &Here<'_>, installed: &[Installed]) -> Option<String> {
    let twice = twice(installed);
    if !twice.is_empty() {
        let names: Vec<String> = twice.iter().map(Package::to_string).collect();
        return Some(format!("packages that a newer version has replaced are still there: {}", names.join(", ")));
    }
    let unfinished = unfinished(here);
    (!unfinished.is_empty()).then(|| format!("yum has not finished what {YUM_STATE}/{} says", unfinished[0]))
}

/// Whether somebody's package manager is in the middle of a transaction. What it has not come to yet looks like what an
/// interrupted one leaves.
async fn is_under_way(here: &Here<'_>) -> Result<bool, StepError> {
    if here.host.rpm_is_at_work() {
        return Ok(true);
    }
    for lock in history::LOCKS {
        let holder = here.host.read(lock.as_ref()).ok().and_then(|holder| holder.trim().parse().ok());
        if let Some(holder) = holder
            && here.tools.run(&history::is_at_work(holder)).await?.code == 0
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The last transaction of dnf, if it was cut off.
async fn unended(here: &Here<'_>) -> Result<Option<Unended>, StepError> {
    let Some(ask) = Manager::of(here.host).and_then(|manager| manager.last_transaction()) else { return Ok(None) };
    match here.ask(&ask, Source::History, Look::Briefly).await {
        // Some versions fail where there was none yet.
        Err(ToolError::Failed { .. }) => Ok(None),
        told => Ok(history::parse_unended(&told?.stdout)),
    }
}

/// What it has brought and is still there.
fn came(unended: &Unended, installed: &[Installed]) -> Vec<Package> {
    let is_of_it = |package: &&Package| unended.comes.contains(&package.to_string());
    installed.iter().map(|installed| &installed.package).filter(is_of_it).cloned().collect()
}

async fn bring_again(here: &Here<'_>, unended: &Unended, packages: &[Package]) -> Result<(), StepError> {
    let program = super::packages::program(here.manager()?.reinstall(packages))?;
    // A kernel's scripts run again with it, and may make it the default before they make its initramfs.
    let guards_default = packages.iter().any(|package| is_kernel(&package.name)) && Grub::of(here.host).is_some();
    if guards_default {
        default::keep_running(here).await?;
        default::leave_it_alone(here).await?;
    }
    let ran = here.tools.run(&program).await;
    if guards_default {
        default::keep_running(here).await?;
    }
    match ran {
        Err(error @ ToolError::Failed { .. }) => Err(StepError::operator(
            format!("what transaction {} of dnf has brought cannot be installed again: {error}", unended.number),
            "see that the repositories have these versions; or, if `rpm -V` finds the packages whole, `dnf -y reinstall` any \
             other package: what counts is that the last transaction has an end",
        )),
        ran => Ok(ran.map(drop)?),
    }
}

/// Mends it. A transaction that is under way comes to its end by itself, and the next one waits for it.
///
/// Returns what is installed then.
pub(super) async fn mend(here: &Here<'_>) -> Result<Vec<Installed>, StepError> {
    if is_under_way(here).await? {
        return here.installed().await;
    }
    let installed = match here.readable().await? {
        Some(installed) => installed,
        None => {
            here.tools.run(&rpm::rebuild()).await?;
            here.installed().await?
        }
    };
    let old: Vec<String> = twice(&installed).iter().map(Package::to_string).collect();
    if !old.is_empty() {
        here.tools.run(&rpm::erase(&old)).await?;
    }
    for name in unfinished(here) {
        let path = format!("{YUM_STATE}/{name}");
        here.host.remove(path.as_ref()).await.map_err(StepError::file("remove", &path))?;
    }
    let unended = unended(here).await?;
    if old.is_empty() && unended.is_none() {
        return Ok(installed);
    }
    let mut installed = here.installed().await?;
    if let Some(unended) = unended {
        let packages = came(&unended, &installed);
        if !packages.is_empty() {
            bring_again(here, &unended, &packages).await?;
            installed = here.installed().await?;
        }
    }
    Ok(installed)
}

fn unfinished(here: &Here<'_>) -> Vec<String> {
    let mut names = here.host.list(YUM_STATE.as_ref()).unwrap_or_default();
    names.retain(|name| name.starts_with("transaction-all.") || name.starts_with("transaction-done."));
    names
}

/// Packages of which a newer version is there too, and should not be.
fn twice(installed: &[Installed]) -> Vec<Package> {
    let mut newest: BTreeMap<(&str, &str), &Package> = BTreeMap::new();
    let mut old = Vec::new();
    let once = installed.iter().map(|installed| &installed.package);
    for package in once.filter(|package| !SEVERAL.iter().any(|prefix| package.name.as_str().starts_with(prefix))) {
        let key = (package.name.as_str(), package.arch.as_str());
        let Some(other) = newest.insert(key, package) else { continue };
        if compare(&other.version, &package.version).is_gt() {
            newest.insert(key, other);
            old.push(package.clone());
        } else {
            old.push(other.clone());
        }
    }
    old
}
