// SPDX-License-Identifier: Apache-2.0
//! What an update leaves running: services that are older than their package, and reasons to reboot.

use async_trait::async_trait;
use windlass_types::name::on_node::{KernelRelease, PackageName, UnitName};
use windlass_types::survey::Kernels;
use windlass_types::time::UnixMillis;

use super::{Check, Here, Kind, StepError};
use crate::host::procfs::{STAT, parse_boot_time};
use crate::host::rpm::Installed;
use crate::host::systemctl;
use crate::observe::pending_reboot;

/// Restarting these ends sessions, the bus that everything talks over, or ourselves: a reboot is for them.
const NEVER_RESTARTED: [&str; 6] = [
    "dbus.service",
    "dbus-broker.service",
    "systemd-logind.service",
    "windlass-agent.service",
    "windlass-executor.service",
    "polkit.service",
];

/// Likewise, whoever they are for: the sessions of users and what lingers after them, and the consoles. Their unit files are
/// systemd's, so each of its updates makes them look outdated.
const NEVER_RESTARTED_FOR_ANYBODY: [&str; 3] = ["user@", "getty@", "serial-getty@"];

fn may_be_restarted(unit: &UnitName) -> bool {
    let unit = unit.as_str();
    !NEVER_RESTARTED.contains(&unit) && !NEVER_RESTARTED_FOR_ANYBODY.iter().any(|start| unit.starts_with(start))
}

pub(super) struct Restart<'a> {
    pub(super) units: &'a [UnitName],
}

impl Restart<'_> {
    async fn left(&self, here: &Here<'_>) -> Result<Vec<UnitName>, StepError> {
        let mut outdated = outdated(here, &here.installed().await?, &[]).await?;
        outdated.retain(|unit| self.units.contains(unit));
        Ok(outdated)
    }
}

#[async_trait]
impl Kind for Restart<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        Ok(if self.left(here).await?.is_empty() { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        let left = self.left(here).await?;
        here.tools.run(&systemctl::on_units("try-restart", &left.iter().collect::<Vec<_>>())).await?;
        Ok(())
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        match self.left(here).await?.first() {
            None => Ok(()),
            Some(unit) => Err(StepError::operator(
                format!("{unit} was restarted and still runs from before its update"),
                format!("see `systemctl status {unit}` on the node"),
            )),
        }
    }
}

/// Services that were started before their package was installed, and those whose package is about to be `replaced`.
pub(super) async fn outdated(
    here: &Here<'_>,
    installed: &[Installed],
    replaced: &[PackageName],
) -> Result<Vec<UnitName>, StepError> {
    let Some(booted_at) = booted_at(here).filter(|_| !installed.is_empty()) else { return Ok(Vec::new()) };
    let services = systemctl::parse_services(&here.tools.run(&systemctl::services()).await?.stdout);
    // Units below /run are nobody's, and those of our own programs are gone before rpm is asked about them.
    let services: Vec<_> = services.into_iter().filter(|service| !service.file.starts_with("/run/")).collect();
    if services.is_empty() {
        return Ok(Vec::new());
    }
    let files: Vec<String> = services.iter().map(|service| service.file.clone()).collect();
    let owners = here.owners(&files).await?;
    let is_older = |service: &systemctl::RunningService, owner: &windlass_types::package::Package| {
        let since =
            UnixMillis(booted_at.0.saturating_add(i64::try_from(service.started_micros / 1000).unwrap_or(i64::MAX)));
        installed.iter().any(|installed| installed.package == *owner && installed.at > since)
    };
    let outdated = services.into_iter().zip(owners).filter(|(service, owner)| {
        may_be_restarted(&service.unit)
            && owner.as_ref().is_some_and(|owner| replaced.contains(&owner.name) || is_older(service, owner))
    });
    Ok(outdated.map(|(service, _)| service.unit).collect())
}

/// Why the node should be rebooted, one sentence each.
pub(super) fn reboot_reasons(here: &Here<'_>, kernels: &Kernels, installed: &[Installed]) -> Vec<String> {
    let default = kernels.default.as_ref().map(KernelRelease::as_str);
    let mut reasons = pending_reboot::without_packages(here.host, kernels.running.as_str(), default);
    let Some(booted_at) = booted_at(here) else { return reasons };
    reasons.extend(installed.iter().filter_map(|installed| installed.reason_to_reboot(booted_at)));
    reasons
}

fn booted_at(here: &Here<'_>) -> Option<UnixMillis> {
    parse_boot_time(&here.host.read(STAT.as_ref()).ok()?)
}
