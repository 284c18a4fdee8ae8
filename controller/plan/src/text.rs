// SPDX-License-Identifier: Apache-2.0
//! A plan as an operator reads it: 80 columns, marks at the front, and after the steps what a diff cannot say.

use std::fmt::{self, Write as _};

use windlass_types::escape::Escaped;
use windlass_types::machine::MachineSpec;

use crate::plan::Plan;
use crate::step::{DiskEffect, Fate, Mark, PlannedStep, Step, Undo};

/// Lines are broken before this column.
const WIDTH: usize = 80;

/// Where the particulars of a step begin.
const INDENT: usize = 6;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (add, change, remove) = (self.count(Mark::Add), self.count(Mark::Change), self.count(Mark::Remove));
        if self.is_empty() {
            writeln!(f, "{}nothing to do.", self.heading())?;
            return self.write_notes(f);
        }
        writeln!(f, "{}{add} to add, {change} to change, {remove} to destroy.", self.heading())?;
        f.write_char('\n')?;
        self.steps.iter().try_for_each(|step| write_step(f, step))?;
        for block in &self.blocked {
            writeln!(f, "  ! {} is left as it is", block.node)?;
            wrapped(f, &format!("why: {}", block.reason))?;
            wrapped(f, &format!("do: {}", block.advice))?;
        }
        self.write_notes(f)?;
        f.write_char('\n')?;
        self.write_consequences(f)
    }
}

impl Plan {
    fn heading(&self) -> String {
        match (&self.cluster, self.provider) {
            (Some(cluster), Some(provider)) => format!("Cluster {cluster} on {provider}: "),
            (Some(cluster), None) => format!("Cluster {cluster}: "),
            (None, _) => String::new(),
        }
    }

    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().try_for_each(|note| wrapped(f, &format!("note: {} {}", note.node, note.text)))
    }

    fn write_consequences(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.steps.is_empty() {
            return writeln!(f, "Nothing can be done until that is settled.");
        }
        if self.steps.len() > 1 {
            writeln!(f, "Up to {} steps at once.", self.policy.parallel)?;
        }
        let lost: Vec<_> = self.destroyed().into_iter().map(ToString::to_string).collect();
        if lost.is_empty() {
            return writeln!(f, "No node is taken down and no data is destroyed.");
        }
        wrapped_at(f, 0, &format!("Lost for good, with all data: {}.", lost.join(", ")))
    }
}

fn write_step(f: &mut fmt::Formatter<'_>, planned: &PlannedStep) -> fmt::Result {
    let step = &planned.step;
    writeln!(f, "  {} {} {}", step.mark(), step.verb(), step.node())?;
    for line in particulars(planned) {
        wrapped(f, &line)?;
    }
    planned.disks.iter().try_for_each(|disk| wrapped(f, &disk_line(disk)))?;
    wrapped(f, &format!("why: {}", planned.reason))?;
    if !planned.after.is_empty() {
        let before: Vec<_> = planned.after.iter().map(ToString::to_string).collect();
        wrapped(f, &format!("after: {}", before.join(", ")))?;
    }
    match planned.undo {
        Undo::Nothing | Undo::Possible => Ok(()),
        Undo::ForwardOnly => wrapped(f, "stays until the machine is destroyed"),
        Undo::Impossible => wrapped(f, "cannot be undone"),
    }
}

fn particulars(planned: &PlannedStep) -> Vec<String> {
    match &planned.step {
        Step::CreateMachine { machine, .. } => machine_lines(machine),
        Step::AwaitMachine { id, .. } | Step::StartMachine { id, .. } | Step::DeleteMachine { id, .. } => {
            vec![format!("machine {id}")]
        }
        Step::AdoptMachine { name } => {
            vec![format!("run on it what `windlass token create {name}` prints")]
        }
        Step::LabelNode { set, remove, .. } => {
            let set = set.iter().map(|(key, value)| format!("{key}={value}"));
            let all: Vec<_> = set.chain(remove.iter().map(|key| format!("{key}-"))).collect();
            vec![all.join(" ")]
        }
        Step::AttachDisk { .. } | Step::ForgetNode { .. } | Step::OnNode { .. } => planned.changes.clone(),
    }
}

fn machine_lines(machine: &MachineSpec) -> Vec<String> {
    let disk = match machine.root_disk_bytes {
        0 => "as large as its image".to_owned(),
        bytes => size(bytes),
    };
    let mut lines = vec![
        format!("{} cpus, {} memory, disk {disk}", machine.cpus, size(machine.memory_bytes)),
        format!("image {}", Escaped(&machine.image)),
    ];
    lines.extend(machine.address.map(|address| format!("address {address}")));
    for forward in &machine.forwards {
        let host = format!("{}:{}", forward.host_address, forward.host_port);
        lines.push(format!("{host}/{} leads to its port {}", forward.protocol, forward.guest_port));
    }
    if !machine.roles.is_empty() {
        let roles: Vec<_> = machine.roles.iter().map(|role| role.as_str()).collect();
        lines.push(format!("roles {}", roles.join(", ")));
    }
    lines
}

fn disk_line(disk: &DiskEffect) -> String {
    let (mark, fate) = match disk.fate {
        Fate::Made => ("+", "new and empty"),
        Fate::Destroyed => ("-", "destroyed with all that is on it"),
    };
    format!("{mark} disk {}, {}, serial {}: {fate}", disk.name, size(disk.size_bytes), disk.serial)
}

/// Bytes in the largest unit that leaves no fraction.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or_else(|| format!("{bytes} B"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}

fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    wrapped_at(f, INDENT, text)
}

/// Breaks at spaces; continued lines stand two further in.
fn wrapped_at(f: &mut fmt::Formatter<'_>, indent: usize, text: &str) -> fmt::Result {
    let text = Escaped(text).to_string();
    let mut column = indent;
    write!(f, "{:indent$}", "")?;
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
            let further = indent + 2;
            write!(f, "\n{:further$}{word}", "")?;
            column = further + width;
        } else {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{word}")?;
            column += space.len() + width;
        }
    }
    f.write_char('\n')
}
