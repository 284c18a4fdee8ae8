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

/// Does this to units: `restart`, `stop`, `enable`, `disable`, `mask`.
#[must_use]
pub fn on_units(verb: &str, units: &[&UnitName]) -> Program {
    let units = units.iter().map(|unit| unit.as_str());
    Program::change(argv(["systemctl", verb, "--"].into_iter().chain(units)), DEADLINE)
}
