// SPDX-License-Identifier: Apache-2.0
//! What the tools of the operating system do to the model, and what they print.

use std::fmt::Write as _;
use std::path::PathBuf;

use windlass_types::action::Argv;

use super::{Node, Scripted, packages, yum};

/// What a program prints, and its effects, each to be counted.
type Result = (Scripted, Vec<String>);

/// Runs a tool; `None` if the model knows nothing about it.
pub(super) fn run(node: &mut Node, argv: &Argv) -> Option<Result> {
    let program = argv.program().rsplit('/').next().unwrap_or_default();
    let arguments: Vec<&str> = argv.arguments().iter().map(String::as_str).collect();
    match (program, arguments.as_slice()) {
        ("systemctl", ["--no-block", "reboot"]) => {
            boot(node);
            done("reboot".to_owned())
        }
        ("test", ["-s", path]) => {
            let path = PathBuf::from(path);
            let is_there = node.all_files().get(&path).is_some_and(|content| !content.is_empty());
            Some((Scripted { exit_code: i32::from(!is_there), stdout: String::new() }, Vec::new()))
        }
        ("grep", ["-qsE", words, path]) => {
            let has = |content: &String| words.split('|').any(|word| content.contains(word));
            let has = node.all_files().get(&PathBuf::from(path)).is_some_and(has);
            Some((Scripted { exit_code: i32::from(!has), stdout: String::new() }, Vec::new()))
        }
        ("cat", ["--", path]) => {
            let content = node.all_files().remove(&PathBuf::from(path));
            let exit_code = i32::from(content.is_none());
            Some((Scripted { exit_code, stdout: content.unwrap_or_default() }, Vec::new()))
        }
        ("lsinitrd", [path]) => {
            let is_torn = node.all_files().get(&PathBuf::from(path)).is_none_or(|content| content == "torn");
            Some((Scripted { exit_code: i32::from(is_torn), stdout: String::new() }, Vec::new()))
        }
        ("rpm", words) => packages::rpm(node, words),
        ("dnf", words) => packages::dnf(node, words),
        ("yum", words) => yum::yum(node, words),
        ("grubby", [kernel, arguments]) => {
            let release = kernel.strip_prefix("--update-kernel=/boot/vmlinuz-")?;
            let added = arguments.strip_prefix("--args=")?;
            let options =
                node.kernel_arguments.entry(release.to_owned()).or_insert_with(|| "root=/dev/vda1 ro".to_owned());
            let _ = write!(options, " {added}");
            done(format!("start {release} with {added}"))
        }
        ("grubby", [set]) => make_default(node, set.strip_prefix("--set-default=/boot/vmlinuz-")?),
        ("grub2-set-default", [entry]) => make_default(node, entry.strip_prefix("model-")?),
        ("systemctl", ["show", .., "--", "*.service"]) => {
            Some((Scripted { exit_code: 0, stdout: services(node) }, Vec::new()))
        }
        ("systemctl", ["try-restart", "--", units @ ..]) => {
            for unit in units {
                node.started.insert((*unit).to_owned(), node.now);
            }
            Some((Scripted::default(), units.iter().map(|unit| format!("restart {unit}")).collect()))
        }
        ("systemctl", ["show", .., "--", unit]) => {
            Some((Scripted { exit_code: 0, stdout: state(node, unit) }, Vec::new()))
        }
        ("systemctl", ["list-units", "--type=swap", ..]) => {
            let line = |unit: &String| format!("{unit} loaded active active Swap\n");
            let stdout = node.swap_units.iter().map(line).collect();
            Some((Scripted { exit_code: 0, stdout }, Vec::new()))
        }
        ("systemctl", [verb @ ("enable" | "disable" | "start" | "stop"), "--", unit]) => {
            match *verb {
                "enable" => node.enabled.push((*unit).to_owned()),
                "disable" => node.enabled.retain(|enabled| enabled != unit),
                other => {
                    let active = if other == "start" { "active" } else { "inactive" };
                    let service = node.services.iter_mut().find(|service| service.unit == *unit)?;
                    active.clone_into(&mut service.active);
                }
            }
            done(format!("{verb} {unit}"))
        }
        ("systemctl", ["mask", "--", units @ ..]) => {
            node.swap_units.retain(|unit| !units.contains(&unit.as_str()));
            done(format!("mask {}", units.join(" ")))
        }
        ("swapoff", ["-a"]) => {
            node.files.insert("/proc/swaps".into(), "Filename Type Size Used Priority\n".into());
            done("swap off".to_owned())
        }
        ("setenforce", [mode]) => {
            node.files.insert("/sys/fs/selinux/enforce".into(), (*mode).to_owned());
            done(format!("setenforce {mode}"))
        }
        ("visudo", ["-c", "-f", _]) => nothing(),
        ("useradd", ["-m", name]) => {
            append(node, "/etc/passwd", &format!("{name}:x:1000:1000::/home/{name}:/bin/bash\n"));
            append(node, "/etc/group", &format!("{name}:x:1000:\n"));
            node.attributes.insert(format!("/home/{name}").into(), (0o700, 1000, 1000));
            done(format!("make user {name}"))
        }
        ("userdel", [name]) => {
            let path = PathBuf::from("/etc/passwd");
            let passwd = node.all_files().remove(&path)?;
            let left = passwd.lines().filter(|line| !line.starts_with(&format!("{name}:")));
            node.files.insert(path, left.map(|line| format!("{line}\n")).collect());
            done(format!("remove user {name}"))
        }
        ("usermod", ["-a", "-G", groups, name]) => {
            let path = PathBuf::from("/etc/group");
            let group = node.all_files().remove(&path)?;
            let joins = |line: &str| groups.split(',').any(|group| line.starts_with(&format!("{group}:")));
            let line = |line: &str| if joins(line) { format!("{line}{name}\n") } else { format!("{line}\n") };
            node.files.insert(path, group.lines().map(line).collect());
            done(format!("{name} joins {groups}"))
        }
        ("grub2-probe", ["--target=abstraction", _]) => {
            Some((Scripted { exit_code: 0, stdout: format!("{}\n", node.boot_is_on) }, Vec::new()))
        }
        ("grub2-reboot", [entry]) => {
            node.next_entry = Some((*entry).to_owned());
            done(format!("boot {entry} once"))
        }
        ("grub2-editenv", [_, "unset", "next_entry"]) => {
            node.next_entry = None;
            done("forget what to boot once".to_owned())
        }
        ("sysctl", ["-w", assignment]) => {
            let (key, value) = assignment.split_once('=')?;
            let path = PathBuf::from(format!("/proc/sys/{}", key.replace('.', "/")));
            let old = node.files.insert(path, format!("{value}\n"));
            if old.is_none_or(|old| old.trim() != value) { done(format!("sysctl {assignment}")) } else { nothing() }
        }
        _ => None,
    }
}

fn make_default(node: &mut Node, release: &str) -> Option<Result> {
    node.default_kernel = Some(release.to_owned());
    node.newest_is_default = false;
    done(format!("make {release} the default"))
}

fn append(node: &mut Node, path: &str, line: &str) {
    let old = node.all_files().remove(&PathBuf::from(path)).unwrap_or_default();
    node.files.insert(path.into(), format!("{old}{line}"));
}

fn state(node: &Node, unit: &str) -> String {
    let enabled = if node.enabled.iter().any(|enabled| enabled == unit) { "enabled" } else { "disabled" };
    match node.services.iter().find(|service| service.unit == unit) {
        Some(service) => format!("LoadState=loaded\nActiveState={}\nUnitFileState={enabled}\n", service.active),
        None => "LoadState=not-found\nActiveState=inactive\nUnitFileState=\n".to_owned(),
    }
}

fn services(node: &Node) -> String {
    let show = |service: &windlass_types::facts::ServiceState| {
        let started = node.started.get(&service.unit).copied().unwrap_or(node.booted_at);
        let micros = started.since(node.booted_at).as_micros();
        let unit = &service.unit;
        let file = unit.split_once('@').map_or_else(|| unit.clone(), |(template, _)| format!("{template}@.service"));
        format!(
            "Id={unit}\nSubState={}\nFragmentPath=/usr/lib/systemd/system/{file}\nExecMainStartTimestampMonotonic={micros}\n",
            service.sub
        )
    };
    node.services.iter().map(show).collect::<Vec<_>>().join("\n")
}

/// The machine goes down and comes back.
pub(super) fn boot(node: &mut Node) {
    node.reboot();
}

#[expect(clippy::unnecessary_wraps, reason = "as the arms of the match need it")]
fn done(effect: String) -> Option<Result> {
    Some((Scripted::default(), vec![effect]))
}

#[expect(clippy::unnecessary_wraps, reason = "as the arms of the match need it")]
fn nothing() -> Option<Result> {
    Some((Scripted::default(), Vec::new()))
}
