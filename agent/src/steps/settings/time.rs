// SPDX-License-Identifier: Apache-2.0
//! The clock follows others: whichever of the known programs is there is enabled and runs.

use windlass_types::name::on_node::UnitName;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, service};

/// The preferred first; chrony has another name on Debian.
const UNITS: [&str; 3] = ["chronyd.service", "chrony.service", "systemd-timesyncd.service"];

pub(super) async fn look(here: &Here<'_>) -> Result<Found<SettingDue>, StepError> {
    match unit(here).await? {
        Some(unit) => service::look(here, &unit, true).await,
        None => Ok(blocked("there is no program that sets the clock", "install chrony first")),
    }
}

pub(super) async fn apply(here: &Here<'_>) -> Result<(), StepError> {
    match unit(here).await? {
        Some(unit) => service::apply(here, &unit, true).await,
        None => Err(StepError::blocked("there is no program that sets the clock", "install chrony first")),
    }
}

/// The first that is there and can be started, or else the first that is there.
async fn unit(here: &Here<'_>) -> Result<Option<UnitName>, StepError> {
    let mut masked = None;
    for name in UNITS {
        let unit = UnitName::new(name)
            .map_err(|error| StepError::Unreadable { program: "systemctl", reason: error.to_string() })?;
        match service::state(here, &unit).await? {
            state if !state.exists => {}
            state if state.is_masked => masked = masked.or(Some(unit)),
            _ => return Ok(Some(unit)),
        }
    }
    Ok(masked)
}
