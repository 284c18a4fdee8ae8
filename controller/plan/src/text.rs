// SPDX-License-Identifier: Apache-2.0
//! A plan as an operator reads it: 80 columns, marks at the front, and after the steps what a diff cannot say.

mod consequences;
mod on_node;
mod wrap;

use std::fmt::{self, Write as _};

use windlass_types::cloud::{NetworkChoice, ServerSpec, SharedSpec};
use windlass_types::escape::Escaped;
use windlass_types::machine::MachineSpec;

use self::wrap::wrapped;
pub use self::wrap::wrapped_at;
use crate::plan::{Blocked, Plan};
use crate::step::{DiskEffect, Fate, Mark, PlannedStep, Step, Undo};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_heading(f)?;
        if self.is_empty() {
            return self.write_notes(f);
        }
        f.write_char('\n')?;
        let machines = self.steps.iter().filter(|planned| !matches!(planned.step, Step::OnNode { .. }));
        machines.into_iter().try_for_each(|planned| write_step(f, planned))?;
        on_node::write(f, self)?;
        self.blocked.iter().try_for_each(|block| write_blocked(f, block))?;
        for queued in &self.queued {
            let node = &queued.node;
            let when = match &queued.after {
                None => format!("? {node} cannot be asked now; once it can be, it is planned for in the same run"),
                Some(step) => format!("? the rest of {node} is planned after {step}, in the same run"),
            };
            wrapped_at(f, 2, &when)?;
            wrapped(f, &format!("why: {}", queued.reason))?;
        }
        self.write_notes(f)?;
        f.write_char('\n')?;
        consequences::write(f, self)
    }
}

impl Plan {
    fn write_heading(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nothing = self.is_empty();
        match (&self.cluster, &self.provider) {
            (Some(cluster), Some(provider)) => write!(f, "Cluster {cluster} on {provider}: ")?,
            (Some(cluster), None) => write!(f, "Cluster {cluster}: ")?,
            (None, _) if nothing => return f.write_str("Nothing to do.\n"),
            (None, _) if self.steps.is_empty() => return f.write_str("No step can be done.\n"),
            (None, _) => {
                return writeln!(f, "{} on {}.", many(self.steps.len(), "step"), many(self.turns.len(), "node"));
            }
        }
        if nothing {
            return f.write_str("nothing to do.\n");
        }
        let (add, change, remove) = (self.count(Mark::Add), self.count(Mark::Change), self.count(Mark::Remove));
        writeln!(f, "{add} to add, {change} to change, {remove} to destroy.")
    }

    fn write_notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.notes.iter().try_for_each(|note| wrapped(f, &format!("note: {} {}", note.node, note.text)))
    }
}

fn write_blocked(f: &mut fmt::Formatter<'_>, block: &Blocked) -> fmt::Result {
    let what = if block.part.is_empty() {
        format!("! {} is left as it is", block.node)
    } else {
        format!("! not done on {}: {}", block.node, block.part)
    };
    wrapped_at(f, 2, &what)?;
    wrapped(f, &format!("why: {}", block.reason))?;
    wrapped(f, &format!("do: {}", block.advice))
}

/// A number and what is counted.
fn many(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn write_step(f: &mut fmt::Formatter<'_>, planned: &PlannedStep) -> fmt::Result {
    let step = &planned.step;
    writeln!(f, "  {} {} {}", step.mark(), step.verb(), step.subject())?;
    for line in particulars(planned) {
        wrapped(f, &line)?;
    }
    planned.disks.iter().try_for_each(|disk| wrapped(f, &disk_line(disk)))?;
    wrapped(f, &format!("why: {}", planned.reason))?;
    if !planned.after.is_empty() {
        let before: Vec<_> = planned.after.iter().map(ToString::to_string).collect();
        wrapped(f, &format!("after: {}", before.join(", ")))?;
    }
    if planned.lease {
        wrapped(f, "in its turn, when it may go down")?;
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
        Step::AwaitMachine { id, .. } | Step::StartMachine { id, .. } => vec![format!("machine {id}")],
        Step::DeleteMachine { id, parts, .. } if parts.is_empty() => vec![format!("machine {id}")],
        Step::DeleteMachine { parts, .. } => parts
            .iter()
            .map(|part| format!("- {} {} ({})", part.kind, Escaped(&part.name), Escaped(&part.id)))
            .collect(),
        Step::PrepareCloud { shared } => shared.iter().flat_map(shared_lines).collect(),
        Step::ClearCloud { shared } => {
            shared.iter().map(|report| format!("- {} {}", report.is.kind(), report.id)).collect()
        }
        Step::AdoptMachine { name } => {
            vec![format!("run on it what `windlass token create {name}` prints")]
        }
        Step::LabelNode { set, remove, .. } => {
            let set = set.iter().map(|(key, value)| format!("{key}={value}"));
            let all: Vec<_> = set.chain(remove.iter().map(|key| format!("{key}-"))).collect();
            vec![all.join(" ")]
        }
        Step::AttachDisk { .. } | Step::ForgetNode { .. } | Step::OnNode { .. } => Vec::new(),
    }
}

fn machine_lines(machine: &MachineSpec) -> Vec<String> {
    let disk = match machine.root_disk_bytes {
        0 => "as large as its image".to_owned(),
        bytes => size(bytes),
    };
    let mut lines = match &machine.server {
        None => vec![format!("{} cpus, {} memory, disk {disk}", machine.cpus, size(machine.memory_bytes))],
        Some(server) => server_lines(server, machine.root_disk_bytes),
    };
    lines.push(format!("image {}", Escaped(&machine.image)));
    let address = machine.server.as_ref().and_then(|server| server.address).map(|address| address.to_string());
    let address = machine.address.map(|address| address.to_string()).or(address);
    lines.extend(address.map(|address| format!("address {address}")));
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

/// Every thing that is made of its own, a line each.
fn server_lines(server: &ServerSpec, root_disk_bytes: u64) -> Vec<String> {
    let network = match &server.network {
        NetworkChoice::Own => "the cluster's network".to_owned(),
        NetworkChoice::Existing(name) => format!("network {}", Escaped(name)),
    };
    let mut lines = vec![format!("+ server, flavor {}", Escaped(&server.flavor)), format!("+ port in {network}")];
    lines.extend(server.floating.as_ref().map(|outside| format!("+ floating IP of {}", Escaped(outside))));
    if let Some(volume) = &server.root_volume {
        let kind = volume.volume_type.as_ref().map(|kind| format!(", type {}", Escaped(kind))).unwrap_or_default();
        lines.push(format!("+ root disk as a volume, {}{kind}", size(root_disk_bytes)));
    }
    let named = [("keypair", &server.keypair), ("zone", &server.zone)];
    lines.extend(named.iter().filter_map(|(what, name)| Some(format!("{what} {}", Escaped(name.as_ref()?)))));
    lines
}

fn shared_lines(shared: &SharedSpec) -> Vec<String> {
    let mut all = vec![format!("+ {}", shared.kind())];
    match &shared.particulars()[..] {
        [] => {}
        [one] => all = vec![format!("+ {}, {}", shared.kind(), Escaped(one))],
        many => all.extend(many.iter().map(|line| format!("  {}", Escaped(line)))),
    }
    all
}

fn disk_line(disk: &DiskEffect) -> String {
    let (mark, fate) = match disk.fate {
        Fate::Made => ("+", "new and empty"),
        Fate::Destroyed => ("-", "destroyed with all that is on it"),
    };
    let serial = disk.serial.as_ref().map(|serial| format!(", serial {serial}")).unwrap_or_default();
    format!("{mark} disk {}, {}{serial}: {fate}", disk.name, size(disk.size_bytes))
}

/// Bytes in the largest unit that leaves no fraction.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = units.iter().find(|(shift, _)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    fits.map_or_else(|| format!("{bytes} B"), |(shift, unit)| format!("{} {unit}", bytes >> shift))
}
