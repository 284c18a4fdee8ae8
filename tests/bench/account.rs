// SPDX-License-Identifier: Apache-2.0
//! Who used how much processor time: a control group (cgroup v2) for each side of each contender, or, where none can be
//! made, the kernel's times of the processes and their children.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};

use crate::process;

/// Where cgroup v2 may be mounted.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The kernel's unit in `/proc/PID/stat` for programs, on every architecture Linux has.
const TICKS_PER_SECOND: f64 = 100.0;

/// Makes groups.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// Where groups go, and where cgroup v2 is mounted.
    cgroup: Option<(PathBuf, PathBuf)>,
}

impl Accounts {
    /// With control groups if they can be made.
    pub(crate) fn new() -> Self {
        Self { cgroup: cgroup() }
    }

    /// How the time is counted, for the reader of the results.
    pub(crate) fn method(&self) -> &'static str {
        match self.cgroup {
            Some(_) => "processor time from cgroup v2, ended processes included",
            None => "processor time from /proc and getrusage: no cgroup v2 can be made here, so it is coarse",
        }
    }

    /// What ends everything that was started, whoever holds its groups; nothing without control groups.
    pub(crate) fn emergency(&self) -> impl Fn() + Send + use<> {
        let base = self.cgroup.as_ref().map(|(base, _)| base.clone());
        move || {
            let groups = base.iter().filter_map(|base| fs::read_dir(base).ok()).flatten().flatten();
            for group in groups.filter(|group| group.path().is_dir()) {
                // Whatever cannot be ended here ends with the terminal.
                let _unsupported = fs::write(group.path().join("cgroup.kill"), "1");
            }
        }
    }

    /// A new group.
    ///
    /// # Errors
    /// If the control group cannot be made.
    pub(crate) fn group(&self, name: &str) -> Result<Group> {
        let cgroup = match &self.cgroup {
            Some((base, mount)) => {
                let path = base.join(name);
                fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
                Some((path, mount.clone()))
            }
            None => None,
        };
        Ok(Group { cgroup, pids: RefCell::default() })
    }
}

impl Drop for Accounts {
    fn drop(&mut self) {
        if let Some((base, _)) = &self.cgroup {
            // Left behind if a group is still busy; an empty directory costs nothing.
            let _busy = fs::remove_dir(base);
        }
    }
}

fn cgroup() -> Option<(PathBuf, PathBuf)> {
    let mount = MOUNTS.iter().map(Path::new).find(|mount| mount.join("cgroup.procs").exists())?;
    let home = own_group(mount)?;
    let base = home.join(format!("windlass-bench-{}", std::process::id()));
    fs::create_dir(&base).ok()?;
    let works = base.join("cpu.stat").exists() && fs::write(base.join("cgroup.procs"), "0").is_ok();
    let _back = fs::write(home.join("cgroup.procs"), "0");
    works.then(|| (base, mount.to_owned()))
}

/// The group this process is in.
fn own_group(mount: &Path) -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::/")).map(|own| mount.join(own))
}

/// Processes whose time is counted together.
#[derive(Debug)]
pub(crate) struct Group {
    cgroup: Option<(PathBuf, PathBuf)>,
    pids: RefCell<BTreeSet<u32>>,
}

/// While it lives, what is started belongs to the group.
#[derive(Debug)]
pub(crate) struct Entered {
    back: Option<PathBuf>,
}

impl Group {
    /// Makes this process, and so what it starts, part of the group.
    ///
    /// # Errors
    /// If the kernel says no.
    pub(crate) fn enter(&self) -> Result<Entered> {
        let Some((path, mount)) = &self.cgroup else { return Ok(Entered { back: None }) };
        let back = own_group(mount);
        fs::write(path.join("cgroup.procs"), "0").context("enter a control group")?;
        Ok(Entered { back })
    }

    /// Counts a long-lived process where there are no control groups.
    pub(crate) fn watch(&self, pid: u32) {
        self.pids.borrow_mut().insert(pid);
    }

    /// Seconds of processor time so far.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        match &self.cgroup {
            Some((path, _)) => usage_seconds(path).unwrap_or(f64::NAN),
            None => reaped_seconds() + self.pids.borrow().iter().map(|pid| stat_seconds(*pid)).sum::<f64>(),
        }
    }

    /// The processes in it.
    pub(crate) fn pids(&self) -> Vec<u32> {
        match &self.cgroup {
            Some((path, _)) => {
                let text = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                text.lines().filter_map(|line| line.parse().ok()).collect()
            }
            None => self.pids.borrow().iter().copied().collect(),
        }
    }

    /// Ends everything in it.
    pub(crate) fn kill(&self) {
        let Some((path, _)) = &self.cgroup else { return };
        // Not there before Linux 5.14; then what is left ends by itself.
        let _unsupported = fs::write(path.join("cgroup.kill"), "1");
        let most = Duration::from_secs(5);
        let _late = process::wait_until("end", most, Duration::from_millis(10), || self.pids().is_empty());
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(back) = &self.back {
            // Staying in the group would only count our own waiting.
            let _stays = fs::write(back.join("cgroup.procs"), "0");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some((path, _)) = &self.cgroup {
            let _busy = fs::remove_dir(path);
        }
    }
}

fn usage_seconds(path: &Path) -> Option<f64> {
    let text = fs::read_to_string(path.join("cpu.stat")).ok()?;
    let micros: f64 = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?.parse().ok()?;
    Some(micros / 1e6)
}

fn reaped_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return f64::NAN };
    let seconds = |time: nix::sys::time::TimeVal| Duration::from_micros(micros(time)).as_secs_f64();
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn micros(time: nix::sys::time::TimeVal) -> u64 {
    u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or_default()
}

/// User and system time of a process and of its children that it waited for.
fn stat_seconds(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold spaces; the times are the 12th to 15th field after it.
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    after.split_whitespace().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>()
        / TICKS_PER_SECOND
}
