// SPDX-License-Identifier: Apache-2.0
//! Machines.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;

use super::{Listed, size, utc};
use crate::cli::table::Cell;
use crate::cli::terminal::Tone;
use crate::duration::Age;

/// A machine as its provider reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MachineView {
    cluster: String,
    name: String,
    id: String,
    provider: String,
    power: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    note: String,
    complete: bool,
    joined: bool,
    addresses: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    accel: String,
    created_at: String,
    disks: Vec<DiskView>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartView>,
    #[serde(skip)]
    created_millis: UnixMillis,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct DiskView {
    name: String,
    size_bytes: u64,
    serial: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PartView {
    kind: String,
    name: String,
    id: String,
}

impl From<v1::Machine> for MachineView {
    fn from(machine: v1::Machine) -> Self {
        let power = match machine.power() {
            v1::PowerState::On => "on",
            v1::PowerState::Off => "off",
            v1::PowerState::Unknown | v1::PowerState::Unspecified => "unknown",
        };
        let disk =
            |disk: v1::MachineDisk| DiskView { name: disk.name, size_bytes: disk.size_bytes, serial: disk.serial };
        let part = |part: v1::MachinePart| PartView { kind: part.kind, name: part.name, id: part.id };
        Self {
            power,
            created_at: utc(UnixMillis(machine.created_unix_millis)),
            created_millis: UnixMillis(machine.created_unix_millis),
            disks: machine.disks.into_iter().map(disk).collect(),
            parts: machine.parts.into_iter().map(part).collect(),
            cluster: machine.cluster,
            name: machine.name,
            id: machine.id,
            provider: machine.provider,
            complete: machine.complete,
            joined: machine.joined,
            addresses: machine.addresses,
            accel: machine.accel,
            note: machine.note,
        }
    }
}

impl MachineView {
    /// What is out of order with it, as a line below the list; `None` if nothing is.
    pub(crate) fn trouble(&self) -> Option<String> {
        (!self.note.is_empty()).then(|| format!("{}: {}", Escaped(&self.name), Escaped(&self.note)))
    }
}

impl Listed for MachineView {
    const KIND: &'static str = "Machine";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["NAME", "CLUSTER", "POWER", "JOINED", "ADDRESS", "AGE"];
        if wide {
            header.extend(["PROVIDER", "ACCEL", "DISKS", "ID"]);
        }
        header
    }

    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell> {
        let (power, tone) = match (self.complete, self.power) {
            (false, _) => ("unfinished", Tone::Warning),
            (true, "on") => ("on", Tone::Good),
            (true, other) => (other, Tone::Bad),
        };
        let joined = if self.joined { "yes" } else { "no" };
        let mut cells = vec![
            Cell::new(&self.name),
            Cell::new(&self.cluster),
            Cell::new(power).toned(tone),
            Cell::new(joined),
            Cell::new(self.addresses.first().map_or("", String::as_str)),
            Cell::new(Age(now.since(self.created_millis))),
        ];
        if wide {
            let disks: Vec<_> =
                self.disks.iter().map(|disk| format!("{}={}", disk.serial, size(disk.size_bytes))).collect();
            cells.extend([
                Cell::new(&self.provider),
                Cell::new(&self.accel),
                Cell::new(disks.join(",")),
                Cell::new(&self.id),
            ]);
        }
        cells
    }
}
