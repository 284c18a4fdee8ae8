// SPDX-License-Identifier: Apache-2.0
//! systemctl(1): what steps do to units and to the machine.

use std::time::Duration;

use windlass_types::name::on_node::UnitName;

use super::tools::{Program, argv};

/// A unit may take its ninety seconds to stop and as long to start.
const DEADLINE: Duration = Duration::from_secs(300);

/// Ends everything in order and boots anew.
#[must_use]
pub fn reboot() -> Program {
    Program::change(argv(["systemctl", "--no-block", "reboot"]), DEADLINE)
}

/// Units that are not restarted by hand, as auditd.service, say so.
const REFUSES: [&str; 2] = ["RefuseManualStart", "RefuseManualStop"];

/// Asks for all services that are loaded.
#[must_use]
pub fn services() -> Program {
    let properties = ["Id", "SubState", "FragmentPath", "ExecMainStartTimestampMonotonic"].into_iter().chain(REFUSES);
    let asked = properties.flat_map(|property| ["-p", property]);
    let words = ["systemctl", "show", "--no-pager"].into_iter().chain(asked).chain(["--", "*.service"]);
    Program::query(argv(words), DEADLINE)
}

/// A service that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningService {
    /// Its unit.
    pub unit: UnitName,
    /// The file it is described in.
    pub file: String,
    /// When it was started, microseconds since boot.
    pub started_micros: u64,
}

/// Reads what [`services`] prints: those that run and let themselves be restarted.
#[must_use]
pub fn parse_services(text: &str) -> Vec<RunningService> {
    let service = |block: &str| {
        let value = |key: &str| {
            let mut pairs = block.lines().filter_map(|line| line.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        value("SubState").filter(|state| *state == "running")?;
        if REFUSES.iter().any(|property| value(property) == Some("yes")) {
            return None;
        }
        Some(RunningService {
            unit: UnitName::new(value("Id")?).ok()?,
            file: value("FragmentPath").filter(|path| path.starts_with('/'))?.to_owned(),
            started_micros: value("ExecMainStartTimestampMonotonic")?.parse().ok()?,
        })
    };
    text.split("\n\n").filter_map(service).collect()
}

/// Asks whether a unit is there, enabled and active.
#[must_use]
pub fn state_of(unit: &UnitName) -> Program {
    let words =
        ["systemctl", "show", "--no-pager", "-p", "LoadState", "-p", "ActiveState", "-p", "UnitFileState", "--"];
    Program::query(argv(words.into_iter().chain([unit.as_str()])), DEADLINE)
}

/// How a unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitState {
    /// There is such a unit.
    pub exists: bool,
    /// Nothing can start it.
    pub is_masked: bool,
    /// It is started at boot; `None` if that is not for us to say, as others bring it with them.
    pub enabled: Option<bool>,
    /// It runs, or has run and stays.
    pub active: bool,
}

/// Reads what [`state_of`] prints.
#[must_use]
pub fn parse_state(text: &str) -> UnitState {
    let value = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    };
    UnitState {
        exists: matches!(value("LoadState"), "loaded" | "masked"),
        is_masked: value("LoadState") == "masked",
        enabled: match value("UnitFileState") {
            "enabled" | "enabled-runtime" => Some(true),
            "disabled" | "masked" | "masked-runtime" => Some(false),
            _ => None,
        },
        active: matches!(value("ActiveState"), "active" | "activating" | "reloading"),
    }
}

/// Asks for the swap units there are, in whatever state.
#[must_use]
pub fn swap_units() -> Program {
    Program::query(
        argv(["systemctl", "list-units", "--type=swap", "--all", "--no-legend", "--plain", "--no-pager"]),
        DEADLINE,
    )
}

/// Reads what [`swap_units`] prints: those that are not masked.
#[must_use]
pub fn parse_unit_files(text: &str) -> Vec<UnitName> {
    let unit = |line: &str| {
        let mut words = line.split_whitespace();
        let (name, load) = (words.next()?, words.next()?);
        UnitName::new(name).ok().filter(|_| load == "loaded")
    };
    text.lines().filter_map(unit).collect()
}

/// Does this to units: `restart`, `stop`, `enable`, `disable`, `mask`.
#[must_use]
pub fn on_units(verb: &str, units: &[&UnitName]) -> Program {
    let units = units.iter().map(|unit| unit.as_str());
    Program::change(argv(["systemctl", verb, "--"].into_iter().chain(units)), DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_there_enabled_and_active_or_not() {
        let text = "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\n";
        assert_eq!(parse_state(text), UnitState { exists: true, is_masked: false, enabled: Some(true), active: false });
        let text = "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n";
        assert_eq!(parse_state(text), UnitState { exists: false, is_masked: false, enabled: None, active: false });
    }

    #[test]
    fn a_unit_that_is_masked_is_there_and_off() {
        let text = "LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n";
        assert_eq!(parse_state(text), UnitState { exists: true, is_masked: true, enabled: Some(false), active: false });
    }

    #[test]
    fn swap_units_that_are_masked_are_left_out() {
        let text =
            "dev-sda2.swap loaded active active Swap Partition\ndev-sdb1.swap masked inactive dead dev-sdb1.swap\n";
        let units: Vec<String> = parse_unit_files(text).iter().map(ToString::to_string).collect();
        assert_eq!(units, ["dev-sda2.swap"]);
    }

    #[test]
    fn only_services_that_run_are_read() {
        let text = "Id=a.service\nSubState=running\nFragmentPath=/usr/lib/systemd/system/a.service\n\
                    ExecMainStartTimestampMonotonic=12000000\n\n\
                    Id=b.service\nSubState=exited\nFragmentPath=/x\nExecMainStartTimestampMonotonic=1\n\n\
                    Id=auditd.service\nSubState=running\nFragmentPath=/x\nExecMainStartTimestampMonotonic=1\n\
                    RefuseManualStart=no\nRefuseManualStop=yes\n\n\
                    Id=run-u1.service\nSubState=running\nFragmentPath=\nExecMainStartTimestampMonotonic=1\n";
        let found = parse_services(text);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].unit.as_str(), found[0].started_micros), ("a.service", 12_000_000));
    }
}
