// SPDX-License-Identifier: Apache-2.0
//! B8: what waiting costs: memory of the controller per agent, idle and after large transfers; memory, processor time and
//! size of an agent.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::b5_files::random;
use crate::bench::{Bench, Fleet, SshRivals};
use crate::memory::{Memory, count};
use crate::ours::agents::BULK_PATH;
use crate::process::{Daemon, pause};
use crate::report::{Report, progress};
use crate::simulation::Stage;

const KIB: f64 = 1024.0;
const MB: f64 = 1e6;

/// Long enough for six heartbeats and one look at all facts.
const IDLE: Duration = Duration::from_secs(60);

/// What is copied to each agent.
const BULK_BYTES: u64 = 100_000_000;

/// Copies at once.
const AT_ONCE: usize = 10;

/// Connections of ssh that wait, and agents that wait.
///
/// # Errors
/// If a process cannot be read.
pub(crate) fn agents(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let idle = if bench.quick { IDLE / 2 } else { IDLE };
    let before = (fleet.nodes.cpu_seconds(), fleet.control.cpu_seconds());
    pause(idle);
    let agents = count(fleet.agents.len());
    let share = (fleet.nodes.cpu_seconds() - before.0) / agents / idle.as_secs_f64() * 100.0;
    let [front, executor] = fleet.agents.pids().map(|pids| Memory::mean_of(&pids));
    // What both share of the program is counted twice: the kernel counts it so too.
    report.at_most("B8 agent, both halves: resident", (front.resident + executor.resident) / MB, "MB", 12.0);
    report.at_most("B8 agent, both halves: private", (front.private + executor.private) / MB, "MB", 2.0);
    report.value("B8 agent, front: resident", front.resident / MB, "MB");
    report.value("B8 agent, both halves: proportional", (front.proportional + executor.proportional) / MB, "MB");
    report.at_most("B8 agent: idle, share of a core", share, "%", 0.005);
    let control = (fleet.control.cpu_seconds() - before.1) / idle.as_secs_f64() * 100.0;
    report.value(format!("B8 controller: {agents} idle agents, share of a core"), control, "%");
    #[expect(clippy::cast_precision_loss, reason = "a file of petabytes is not")]
    let size = fs::metadata(&bench.programs.agent)?.len() as f64;
    report.at_most("B8 agent: static binary", size / MB, "MB", 9.0);
    if let Some((_, group)) = rivals.and_then(|rivals| rivals.ansible.as_ref()) {
        let mux = Memory::mean_of(&group.pids());
        report.value("B8 ssh: open connection, controlling side, proportional", mux.proportional / MB, "MB");
    }
    Ok(())
}

/// A large file to every agent; what the controller still holds afterwards.
///
/// # Errors
/// If a copy fails.
pub(crate) fn after_transfers(bench: &Bench, fleet: &Fleet, report: &mut Report) -> Result<()> {
    let file = bench.work.join("bulk-large");
    fs::write(&file, random(BULK_BYTES)?)?;
    let pid = fleet.controller.pid();
    let before = Memory::of(pid)?.proportional;
    let nodes: Vec<usize> = (0..fleet.agents.len()).collect();
    for some in nodes.chunks(AT_ONCE) {
        let copies: Vec<_> = some.iter().map(|node| copy(bench, fleet, *node)).collect::<Result<_>>()?;
        for mut copy in copies {
            while !copy.has_ended() {
                pause(Duration::from_millis(5));
            }
        }
        let log = fs::read_to_string(bench.work.join("cp.log")).unwrap_or_default();
        fleet.agents.require_bulk_size(some, BULK_BYTES).context(log)?;
        fleet.agents.remove_bulk();
    }
    pause(Duration::from_secs(5));
    let agents = count(fleet.agents.len());
    let after = Memory::of(pid)?.proportional;
    progress(&format!("  controller: {:.1} MB before, {:.1} MB after", before / MB, after / MB));
    let held = (after - fleet.empty_controller_bytes) / agents / KIB;
    report.at_most("B8 controller: per agent after 100 MB to each", held, "KiB", 80.0);
    fs::remove_file(file)?;
    Ok(())
}

fn copy(bench: &Bench, fleet: &Fleet, node: usize) -> Result<Daemon> {
    let mut cp = fleet.controller.windlass(&["cp"]);
    cp.arg(bench.work.join("bulk-large")).arg(format!("node{node}:{BULK_PATH}"));
    Daemon::start(&mut cp, &bench.work.join("cp.log"))
}

/// Thousands of sessions that wait; the controller was started with them known, so nothing of their joining is in it.
///
/// # Errors
/// If the controller cannot be read.
pub(crate) fn controller(stage: &Stage, quick: bool, report: &mut Report) -> Result<()> {
    pause(if quick { IDLE / 3 } else { IDLE / 2 });
    let agents = stage.simulated.agents;
    ensure!(stage.simulated.connected() == agents, "not every agent is connected");
    let memory = Memory::of(stage.controller.pid())?.proportional - stage.empty_controller_bytes;
    report.at_most(format!("B8 controller: per idle agent, of {agents}"), memory / count(agents) / KIB, "KiB", 40.0);
    Ok(())
}
