// SPDX-License-Identifier: Apache-2.0
//! A unit that is enabled and runs, or neither.

use windlass_types::name::on_node::UnitName;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due_if_any};
use crate::host::systemctl::{self, UnitState, on_units};

pub(super) async fn look(here: &Here<'_>, unit: &UnitName, on: bool) -> Result<Found<SettingDue>, StepError> {
    let state = state(here, unit).await?;
    if !state.exists {
        // What is not there does not run.
        return Ok(if on {
            blocked(format!("there is no unit {unit}"), "install the package that brings it first")
        } else {
            Found::AsWished
        });
    }
    if on && state.is_masked {
        return Ok(blocked(
            format!("{unit} is masked: nothing can start it"),
            format!("see why; then windlass exec NODE -- systemctl unmask {unit}"),
        ));
    }
    Ok(due_if_any(&format!("{state:?}"), changes(&state, unit, on)))
}

pub(super) async fn apply(here: &Here<'_>, unit: &UnitName, on: bool) -> Result<(), StepError> {
    let state = state(here, unit).await?;
    let enabled = state.enabled.unwrap_or(on);
    for (is_so, [verb, opposite]) in [(enabled, ["enable", "disable"]), (state.active, ["start", "stop"])] {
        if is_so != on {
            here.tools.run(&on_units(if on { verb } else { opposite }, &[unit])).await?;
        }
    }
    Ok(())
}

pub(super) async fn state(here: &Here<'_>, unit: &UnitName) -> Result<UnitState, StepError> {
    let ran = here.tools.run(&systemctl::state_of(unit)).await?;
    Ok(systemctl::parse_state(&ran.stdout))
}

fn changes(state: &UnitState, unit: &UnitName, on: bool) -> Vec<String> {
    let mut changes = Vec::new();
    if state.enabled.is_some_and(|enabled| enabled != on) {
        changes.push(format!("{unit} is {} at boot", if on { "started" } else { "no more started" }));
    }
    if state.active != on {
        changes.push(format!("{unit} is {} now", if on { "started" } else { "stopped" }));
    }
    changes
}
