// SPDX-License-Identifier: Apache-2.0
//! The part with thousands of agents, simulated: growth, B7, B8's controller and B10.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::account::Group;
use crate::bench::Bench;
use crate::load::Models;
use crate::memory::Memory;
use crate::ours::Controller;
use crate::ours::simulated::Simulated;
use crate::report::{Report, progress};
use crate::{b7_reconnect, b8_footprint, b10_heartbeats, growth};

/// Agents of B7, B8 and B10.
const MANY: usize = 2000;

/// The longest wait for agents to notice a controller that went or came.
const PATIENCE: Duration = Duration::from_secs(60);

/// A controller and simulated agents.
#[derive(Debug)]
pub(crate) struct Stage {
    /// The agents; first, so that they end first.
    pub(crate) simulated: Simulated,
    /// The controller.
    pub(crate) controller: Controller,
    /// Counts the controller and the command line.
    pub(crate) control: Group,
    /// Counts the agents.
    pub(crate) nodes: Group,
    /// Memory of the controller before it had a node, bytes.
    pub(crate) empty_controller_bytes: f64,
    /// Where the agents' state is.
    memory_directory: Option<PathBuf>,
}

impl Stage {
    /// A controller and no agents yet; the name is of this stage alone.
    ///
    /// # Errors
    /// If the controller does not start.
    pub(crate) fn start(bench: &Bench, name: &str, models: Models) -> Result<Self> {
        let (control, nodes) = (bench.accounts.group(name)?, bench.accounts.group(&format!("{name}-nodes"))?);
        let controller = Controller::start(&bench.programs, &bench.work.join(name), 10, &control)?;
        let empty_controller_bytes = Memory::of(controller.pid())?.proportional;
        // Thousands of nodes do not share one disk; their journals are in memory where there is a file system for it.
        let memory_directory = in_memory(name);
        let on_disk = bench.work.join(format!("{name}-agents"));
        let simulated = Simulated::new(memory_directory.as_deref().unwrap_or(&on_disk), models)?;
        Ok(Self { simulated, controller, control, nodes, empty_controller_bytes, memory_directory })
    }

    /// Adds agents until there are this many.
    ///
    /// # Errors
    /// If they do not come.
    pub(crate) fn grow(&mut self, agents: usize) -> Result<()> {
        progress(&format!("{agents} simulated agents"));
        self.simulated.grow(&self.controller, agents, &self.nodes)
    }

    fn restart(&mut self, heartbeat_seconds: u64) -> Result<()> {
        self.controller.set_heartbeat(heartbeat_seconds)?;
        self.controller.kill();
        self.simulated.wait_gone(PATIENCE)?;
        self.controller.start_again(&self.control)?;
        self.controller.wait_ready()?;
        self.simulated.wait(self.simulated.agents, PATIENCE)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.nodes.kill();
        if let Some(directory) = &self.memory_directory {
            let _absent = std::fs::remove_dir_all(directory);
        }
    }
}

/// A directory of this process in memory, if there is a file system for it.
pub(crate) fn in_memory(name: &str) -> Option<PathBuf> {
    let memory = Path::new("/dev/shm");
    memory.is_dir().then(|| memory.join(format!("windlass-bench-{}-{name}", std::process::id())))
}

/// Measures all of it.
///
/// # Errors
/// If agents do not come.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut stage = Stage::start(bench, "sim", Models::Plain)?;
    let mut sizes = Vec::new();
    for agents in [100, 1000] {
        stage.grow(agents)?;
        sizes.push(growth::measure(&stage, report)?);
    }
    stage.grow(MANY)?;
    let reconnect = b7_reconnect::run_bench(&mut stage, report);
    left_out(report, "B7", reconnect);
    let memory = b8_footprint::controller(&stage, bench.quick, report);
    left_out(report, "B8 controller", memory);
    let heartbeats = stage.restart(1).and_then(|()| b10_heartbeats::run_bench(&stage, report));
    left_out(report, "B10", heartbeats);
    stage.restart(10)?;
    stage.grow(5000)?;
    sizes.push(growth::measure(&stage, report)?);
    growth::compare(&sizes, report);
    Ok(())
}

/// A benchmark that fails is told, and the others go on.
pub(crate) fn left_out(report: &mut Report, name: &str, result: Result<()>) {
    if let Err(error) = result {
        report.not_measured(name, &error);
    }
}
