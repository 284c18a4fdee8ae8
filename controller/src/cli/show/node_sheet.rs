// SPDX-License-Identifier: Apache-2.0
//! One node on one page: conditions first, then every fact with its age.

use std::io::{self, Write};
use std::time::Duration;

use jiff::tz::TimeZone;
use windlass_types::escape::Escaped;
use windlass_types::facts::{BlockDevice, NetworkInterface, ServiceState};
use windlass_types::time::UnixMillis;

use super::facts::{Aged, Facts, value};
use super::node::NodeView;
use super::{local_in, size};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::toned;
use crate::duration::Age;

/// Column where values begin.
const VALUE_COLUMN: usize = 14;

/// Writes the page.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn write(
    out: &mut dyn Write,
    node: &NodeView,
    colour: bool,
    now: UnixMillis,
    zone: TimeZone,
) -> io::Result<()> {
    let local = |at| local_in(at, zone.clone());
    let mut sheet = Sheet { out, colour };
    sheet.line("name", &node.name, None)?;
    writeln!(sheet.out, "{:VALUE_COLUMN$}{}", "status", toned(colour, node.tone(), node.status_text()))?;
    if let Some(reason) = &node.quarantine {
        sheet.line("quarantine", reason, None)?;
    }
    for (key, value) in &node.labels {
        sheet.line("label", &format!("{key}={value}"), None)?;
    }
    sheet.line("address", node.address.as_deref().unwrap_or("-"), None)?;
    let seen = node.seen(now).map_or_else(|| "never".to_owned(), |age| format!("{} ago", Age(age)));
    sheet.line("seen", &seen, None)?;
    sheet.line("agent", &node.agent_version, None)?;
    sheet.line("joined", &local(node.joined), None)?;
    sheet.line("certificate", &format!("{}, until {}", node.certificate_serial, local(node.certificate_end)), None)?;
    sheet.line("clock", &format!("{:+} ms from the controller's", node.clock_offset_millis), None)?;
    sheet.conditions(node, now)?;
    sheet.facts(node, now)
}

struct Sheet<'a> {
    out: &'a mut dyn Write,
    colour: bool,
}

impl Sheet<'_> {
    fn line(&mut self, title: &str, text: &str, age: Option<u64>) -> io::Result<()> {
        write!(self.out, "{title:VALUE_COLUMN$}{}", Escaped(text))?;
        match age {
            Some(seconds) => writeln!(self.out, "  ({} ago)", Age(Duration::from_secs(seconds))),
            None => writeln!(self.out),
        }
    }

    fn conditions(&mut self, node: &NodeView, now: UnixMillis) -> io::Result<()> {
        writeln!(self.out, "\nconditions")?;
        let mut table = Table::new(vec!["CONDITION", "HOLDS", "SINCE", "WHY"]);
        for condition in &node.conditions {
            table.row(vec![
                Cell::new(condition.kind),
                Cell::new(if condition.holds { "yes" } else { "no" }),
                Cell::new(Age(now.since(condition.since_millis))),
                Cell::new(&condition.reason),
            ]);
        }
        table.write(self.out, self.colour, "  ")
    }

    fn facts(&mut self, node: &NodeView, now: UnixMillis) -> io::Result<()> {
        let Facts { os, kernel, boot, cpu, memory, load, disks, network, package_manager, pending_reboot, services } =
            &node.facts;
        writeln!(self.out, "\nfacts")?;
        self.fact("os", os, |os| format!("{} ({}), host name {}", os.pretty_name, os.architecture, os.hostname))?;
        self.fact("kernel", kernel, |kernel| kernel.running.clone())?;
        if let Some(kernel) = value(kernel)
            && let Some(next) = kernel.default_release.as_ref().filter(|next| **next != kernel.running)
        {
            self.line("  next boot", next, None)?;
        }
        let uptime = node.uptime(now).unwrap_or_default();
        self.fact("boot", boot, |boot| format!("up {}, boot id {}", Age(uptime), boot.boot_id))?;
        self.fact("cpu", cpu, |cpu| format!("{} x {}", cpu.logical, cpu.model))?;
        self.fact("memory", memory, |memory| {
            let swap = if memory.swap_total_bytes == 0 { "no".to_owned() } else { size(memory.swap_total_bytes) };
            format!("{} of {} available, {swap} swap", size(memory.available_bytes), size(memory.total_bytes))
        })?;
        self.fact("load", load, |load| {
            let average = |centi: u32| format!("{}.{:02}", centi / 100, centi % 100);
            format!("{} {} {}", average(load.one_centi), average(load.five_centi), average(load.fifteen_centi))
        })?;
        self.fact("packages", package_manager, |manager| match manager.name.as_str() {
            "" => "no package manager that Windlass uses".to_owned(),
            name => format!("{name} {}", manager.version),
        })?;
        self.fact("reboot", pending_reboot, |reasons| match reasons.as_slice() {
            [] => "not needed".to_owned(),
            reasons => format!("needed: {}", reasons.join("; ")),
        })?;
        self.table_fact("disks", disks, disks_table)?;
        self.table_fact("network", network, network_table)?;
        self.table_fact("services", services, services_table)
    }

    fn fact<T>(&mut self, title: &str, fact: &Option<Aged<T>>, text: impl Fn(&T) -> String) -> io::Result<()> {
        let title = format!("  {title}");
        match fact {
            None => self.line(&title, "not reported yet", None),
            Some(Aged { value: Some(value), age_seconds, .. }) => self.line(&title, &text(value), Some(*age_seconds)),
            Some(Aged { unavailable, age_seconds, .. }) => {
                let why = unavailable.as_deref().unwrap_or("no reason was given");
                self.line(&title, &format!("could not be observed: {why}"), Some(*age_seconds))
            }
        }
    }

    fn table_fact<T>(&mut self, title: &str, fact: &Option<Aged<Vec<T>>>, table: fn(&[T]) -> Table) -> io::Result<()> {
        match fact {
            Some(Aged { value: Some(rows), age_seconds, .. }) if !rows.is_empty() => {
                writeln!(self.out, "\n{title}  ({} ago)", Age(Duration::from_secs(*age_seconds)))?;
                table(rows).write(self.out, self.colour, "  ")
            }
            other => {
                writeln!(self.out)?;
                self.fact(title, other, |_| "none".to_owned())
            }
        }
    }
}

/// Disks by their stable identity, because kernel names change between boots.
fn disks_table(devices: &[BlockDevice]) -> Table {
    let mut table = Table::new(vec!["ID", "NOW", "TYPE", "SIZE", "CONTENT", "USED BY"]);
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_by(|a, b| (root(devices, a), &a.parent, &a.name).cmp(&(root(devices, b), &b.parent, &b.name)));
    for device in sorted {
        let used: Vec<_> = device.mounts.iter().chain(&device.holders).map(String::as_str).collect();
        table.row(vec![
            Cell::new(&device.stable_id),
            Cell::new(&device.name),
            Cell::new(if device.read_only { format!("{} (ro)", device.kind) } else { device.kind.clone() }),
            Cell::new(size(device.size_bytes)),
            Cell::new(&device.signature),
            Cell::new(used.join(" ")),
        ]);
    }
    table
}

/// The whole disk a device is part of; a node that names parents in a circle gets no further than the list is long.
fn root<'a>(devices: &'a [BlockDevice], device: &'a BlockDevice) -> &'a str {
    let mut at = device;
    for _ in 0..devices.len() {
        match devices.iter().find(|candidate| candidate.name == at.parent) {
            Some(parent) => at = parent,
            None => break,
        }
    }
    &at.name
}

fn network_table(interfaces: &[NetworkInterface]) -> Table {
    let mut table = Table::new(vec!["INTERFACE", "STATE", "MTU", "MAC", "ADDRESSES"]);
    for interface in interfaces {
        table.row(vec![
            Cell::new(&interface.name),
            Cell::new(if interface.up { "up" } else { "down" }),
            Cell::new(interface.mtu),
            Cell::new(&interface.mac),
            Cell::new(interface.addresses.join(" ")),
        ]);
    }
    table
}

fn services_table(services: &[ServiceState]) -> Table {
    let mut table = Table::new(vec!["SERVICE", "STATE", "SUB"]);
    for service in services {
        table.row(vec![Cell::new(&service.unit), Cell::new(&service.active), Cell::new(&service.sub)]);
    }
    table
}
