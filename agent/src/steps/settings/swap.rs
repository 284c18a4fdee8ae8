// SPDX-License-Identifier: Apache-2.0
//! No swap: none in use, none in fstab(5), and none that systemd finds on disks by itself.

use std::path::Path;
use std::time::Duration;

use windlass_types::name::on_node::UnitName;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due_if_any, file};
use crate::host::change::FileKind;
use crate::host::systemctl::{self, on_units};
use crate::host::tools::{Program, argv};

const FSTAB: &str = "/etc/fstab";
const IN_USE: &str = "/proc/swaps";

/// Where the units of this machine alone are.
const OWN_UNITS: &str = "/etc/systemd/system";

/// What is in swap has to be read back.
const DEADLINE: Duration = Duration::from_secs(900);

/// What is before a line that is switched off.
const OFF: &str = "# switched off by Windlass: ";

pub(super) async fn look(here: &Here<'_>) -> Result<Found<SettingDue>, StepError> {
    let (fstab, in_use, units) = (fstab(here), in_use(here), units(here).await?);
    let is_file = |unit: &&UnitName| {
        let file = here.host.attributes(&Path::new(OWN_UNITS).join(unit.as_str()));
        file.is_ok_and(|there| there.kind == FileKind::File)
    };
    if let Some(unit) = units.iter().find(is_file) {
        return Ok(blocked(
            format!("{unit} is a file in {OWN_UNITS}, so it cannot be masked"),
            format!("if nobody needs it: windlass exec NODE -- systemctl disable --now {unit}, then remove the file"),
        ));
    }
    let mut changes: Vec<String> = in_use.iter().map(|device| format!("swap on {device} is switched off")).collect();
    if without_swap(&fstab) != fstab {
        changes.push(format!("no swap in {FSTAB}"));
    }
    changes.extend(units.iter().map(|unit| format!("{unit} is masked")));
    Ok(due_if_any(&format!("{in_use:?}\n{units:?}\n{fstab}"), changes))
}

pub(super) async fn apply(here: &Here<'_>) -> Result<(), StepError> {
    let (path, fstab) = (Path::new(FSTAB), fstab(here));
    let wished = without_swap(&fstab);
    // The units that follow from fstab go with its lines; they are looked for before, and masked with the others.
    let units = units(here).await?;
    if wished != fstab {
        file::rewrite(here, path, &wished).await?;
    }
    if !in_use(here).is_empty() {
        here.tools.run(&Program::change(argv(["swapoff", "-a"]), DEADLINE)).await?;
    }
    if !units.is_empty() {
        here.tools.run(&on_units("mask", &units.iter().collect::<Vec<_>>())).await?;
    }
    Ok(())
}

fn fstab(here: &Here<'_>) -> String {
    here.host.read(Path::new(FSTAB)).unwrap_or_default()
}

fn in_use(here: &Here<'_>) -> Vec<String> {
    let swaps = here.host.read(Path::new(IN_USE)).unwrap_or_default();
    swaps.lines().skip(1).filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect()
}

/// Swap units that are not masked.
async fn units(here: &Here<'_>) -> Result<Vec<UnitName>, StepError> {
    Ok(systemctl::parse_unit_files(&here.tools.run(&systemctl::swap_units()).await?.stdout))
}

fn without_swap(fstab: &str) -> String {
    let is_swap = |line: &str| !line.trim_start().starts_with('#') && line.split_whitespace().nth(2) == Some("swap");
    let line = |line: &str| if is_swap(line) { format!("{OFF}{line}\n") } else { format!("{line}\n") };
    fstab.lines().map(line).collect()
}
