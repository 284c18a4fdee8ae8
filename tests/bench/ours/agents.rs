// SPDX-License-Identifier: Apache-2.0
//! Agents as they are installed: a front and an executor each, with a state directory and a working directory of their own.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::{Controller, Programs};
use crate::account::Group;
use crate::process::{Daemon, command, end_all, pause};

/// Agents that run.
#[derive(Debug)]
pub(crate) struct Agents {
    executors: Vec<Daemon>,
    fronts: Vec<Daemon>,
    directories: Vec<PathBuf>,
}

/// The executor's socket, in the working directory.
const SOCKET: &str = "executor.sock";

/// A machine that was given a token.
#[derive(Debug)]
pub(crate) struct Prepared {
    directory: PathBuf,
    ca_pin: String,
    /// Where its agent's journal is, if not in its state directory.
    journal: Option<PathBuf>,
}

impl Prepared {
    /// Its agent's journal will be in this directory, which is there.
    pub(crate) fn with_journal_in(mut self, directory: &Path) -> Self {
        self.journal = self.directory.file_name().map(|name| directory.join(name));
        self
    }
}

/// Makes tokens for machines `node0`, `node1`, ….
///
/// # Errors
/// If the controller refuses or files cannot be written.
pub(crate) fn prepare(controller: &Controller, directory: &Path, nodes: usize) -> Result<Vec<Prepared>> {
    let one = |node: usize| {
        let directory = directory.join(format!("node{node}"));
        fs::create_dir_all(&directory)?;
        let token = controller.token(&format!("node{node}"))?;
        let mut file = fs::OpenOptions::new();
        let file = file.create(true).write(true).truncate(true).mode(0o600).open(directory.join("token"))?;
        std::io::Write::write_all(&mut &file, token.token.as_bytes())?;
        let config = format!("jobs = \"process-group\"\nexecutor_socket = \"{SOCKET}\"\n");
        fs::write(directory.join("agent.toml"), config)?;
        Ok(Prepared { directory, ca_pin: token.ca_pin, journal: None })
    };
    (0..nodes).map(one).collect()
}

/// Joins all machines at once and starts each one's agent as soon as it is a node.
///
/// # Errors
/// If one does not join or does not come.
pub(crate) fn join_and_run(
    programs: &Programs,
    controller: &Controller,
    prepared: Vec<Prepared>,
    group: &Group,
) -> Result<Agents> {
    let entered = group.enter()?;
    let mut joining = Vec::new();
    for machine in prepared {
        let mut join = command(&programs.agent);
        join.current_dir(&machine.directory).arg("join").args(["--token-file", "token", "--state-dir", "state"]);
        join.arg("--controller").arg(controller.join().to_string()).arg("--ca-pin").arg(&machine.ca_pin);
        let daemon = Daemon::start(&mut join, &machine.directory.join("log"))?;
        joining.push((daemon, machine.directory, machine.journal));
    }
    let mut agents = Agents { executors: Vec::new(), fronts: Vec::new(), directories: Vec::new() };
    // Without systemd, which holds the socket from the beginning, a front comes when its executor has made it.
    let mut without_front: Vec<PathBuf> = Vec::new();
    while !joining.is_empty() || !without_front.is_empty() {
        let mut still = Vec::new();
        for (mut daemon, directory, journal) in joining {
            if daemon.has_ended() {
                if let Some(journal) = journal {
                    symlink(journal, directory.join("state/journal")).context("put a journal elsewhere")?;
                }
                agents.executors.push(start(programs, "executor", &directory, group)?);
                without_front.push(directory);
            } else {
                still.push((daemon, directory, journal));
            }
        }
        joining = still;
        let (ready, not_yet): (Vec<_>, Vec<_>) =
            without_front.into_iter().partition(|directory| directory.join(SOCKET).exists());
        without_front = not_yet;
        for directory in ready {
            agents.fronts.push(start(programs, "front", &directory, group)?);
            agents.directories.push(directory);
        }
        pause(Duration::from_millis(1));
    }
    drop(entered);
    let wanted = agents.fronts.len();
    let come = controller.wait_connected(wanted, Duration::from_secs(60));
    let log = agents.directories.first().map(|directory| directory.join("log"));
    come.with_context(|| format!("{} of {wanted} are connected; see {log:?}", controller.connected()))?;
    Ok(agents)
}

fn start(programs: &Programs, half: &str, directory: &Path, group: &Group) -> Result<Daemon> {
    let mut agent = command(&programs.agent);
    agent.current_dir(directory).args([half, "--state-dir", "state", "--config", "agent.toml"]);
    let daemon = Daemon::start(&mut agent, &directory.join("log"))?;
    group.watch(daemon.pid());
    Ok(daemon)
}

/// A path that is another file for every agent, although they share a machine: each has its own working directory.
pub(crate) const BULK_PATH: &str = "/proc/self/cwd/bulk";

impl Agents {
    /// The process ids of their fronts, and of their executors.
    pub(crate) fn pids(&self) -> [Vec<u32>; 2] {
        [&self.fronts, &self.executors].map(|daemons| daemons.iter().map(Daemon::pid).collect())
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.fronts.len()
    }

    /// Sees that every node holds this content at [`BULK_PATH`].
    ///
    /// # Errors
    /// If one does not.
    pub(crate) fn require_bulk(&self, content: &[u8]) -> Result<()> {
        for directory in &self.directories {
            let found = fs::read(directory.join("bulk")).unwrap_or_default();
            ensure!(found == content, "{} holds something else", directory.display());
        }
        Ok(())
    }

    /// Sees that these nodes hold a file of this size at [`BULK_PATH`].
    ///
    /// # Errors
    /// If one does not.
    pub(crate) fn require_bulk_size(&self, nodes: &[usize], bytes: u64) -> Result<()> {
        for node in nodes {
            let found = self.directories.iter().find(|directory| directory.ends_with(format!("node{node}")));
            let path = found.context("no such node")?.join("bulk");
            let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            ensure!(size == bytes, "{} has {size} bytes", path.display());
        }
        Ok(())
    }

    /// Sees that every node holds these files, as [`crate::spec::Files`] wishes for them.
    ///
    /// # Errors
    /// If one does not.
    pub(crate) fn require_settings(&self, files: &[(String, String)]) -> Result<()> {
        for directory in &self.directories {
            for (name, content) in files {
                let path = directory.join("settings").join(name);
                let found = fs::read_to_string(&path).unwrap_or_default();
                ensure!(found == format!("{content}\n"), "{} holds {found:?}", path.display());
            }
        }
        Ok(())
    }

    /// Removes what was copied to [`BULK_PATH`].
    pub(crate) fn remove_bulk(&self) {
        for directory in &self.directories {
            let _absent = fs::remove_file(directory.join("bulk"));
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        end_all(std::mem::take(&mut self.fronts));
        end_all(std::mem::take(&mut self.executors));
    }
}
