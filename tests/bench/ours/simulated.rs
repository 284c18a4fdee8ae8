// SPDX-License-Identifier: Apache-2.0
//! Agents of which hundreds share a process: the agent's own library over real mTLS, with a model of a node beneath it
//! instead of this machine. The other half of this file's work is in [`crate::load`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Controller;
use crate::account::Group;
use crate::load::Models;
use crate::process::{Daemon, command, wait_until};

/// Agents per process: many enough to be cheap, few enough to share the processors evenly.
const PER_PROCESS: usize = 250;

/// Thousands of joins where everything shares two processors.
const COME_PATIENCE: Duration = Duration::from_secs(300);

/// Simulated agents; more can be added.
#[derive(Debug)]
pub(crate) struct Simulated {
    directory: PathBuf,
    models: Models,
    processes: Vec<Daemon>,
    firsts: Vec<usize>,
    /// How many there are.
    pub(crate) agents: usize,
}

impl Simulated {
    /// None yet; their state is kept below the directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub(crate) fn new(directory: &Path, models: Models) -> Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), models, processes: Vec::new(), firsts: Vec::new(), agents: 0 })
    }

    /// Adds agents until there are this many, and waits until all are connected.
    ///
    /// # Errors
    /// If they do not come.
    pub(crate) fn grow(&mut self, controller: &Controller, wanted: usize, group: &Group) -> Result<()> {
        let entered = group.enter()?;
        while self.agents < wanted {
            let to = wanted.min(self.agents + PER_PROCESS);
            self.processes.push(self.spawn(controller, self.agents, to, group)?);
            self.firsts.push(self.agents);
            self.agents = to;
        }
        drop(entered);
        self.wait(wanted, COME_PATIENCE)
    }

    fn spawn(&self, controller: &Controller, from: usize, to: usize, group: &Group) -> Result<Daemon> {
        let mut load = command(std::env::current_exe()?);
        load.arg("load").arg("--socket").arg(controller.socket()).arg("--join").arg(controller.join().to_string());
        load.arg("--directory").arg(&self.directory).args(["--from", &from.to_string(), "--to", &to.to_string()]);
        load.arg("--models").arg(self.models.word());
        let daemon = Daemon::start(&mut load, &self.directory.join("log"))?;
        group.watch(daemon.pid());
        Ok(daemon)
    }

    /// Waits until this many are connected.
    ///
    /// # Errors
    /// If they are not.
    pub(crate) fn wait(&self, wanted: usize, most: Duration) -> Result<()> {
        let come =
            wait_until("simulated agents connect", most, Duration::from_millis(5), || self.connected() >= wanted);
        come.with_context(|| format!("{} are; see {}", self.connected(), self.directory.join("log").display()))
    }

    /// Waits until agents notice that their controller is gone; until then the count is of before.
    ///
    /// # Errors
    /// If they do not.
    pub(crate) fn wait_gone(&self, most: Duration) -> Result<()> {
        let every = Duration::from_millis(1);
        wait_until("simulated agents notice", most, every, || self.connected() < self.agents)
    }

    /// Every program of a change that counting models have started, and how often.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) fn ledger(&self) -> Result<BTreeMap<String, usize>> {
        crate::load::ledger::read(&self.directory, &self.firsts)
    }

    /// Where they keep what they remember, and say how they are.
    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// How many say that they are connected.
    pub(crate) fn connected(&self) -> usize {
        let counts = self.firsts.iter().filter_map(|from| {
            let text = fs::read_to_string(crate::load::count_file(&self.directory, *from)).ok()?;
            text.trim().parse::<usize>().ok()
        });
        counts.sum()
    }
}
