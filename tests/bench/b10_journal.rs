// SPDX-License-Identifier: Apache-2.0
//! B10: what the journals add to B1. The product has no switch that turns them off, so the same fleet is there twice: with
//! all state on disk, and with all state in memory, where a flush costs nothing. The difference is what waiting for the
//! disk adds; what is left in both is forming and writing the records.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Fleet};
use crate::compare::{Comparison, OURS};
use crate::measure::{Contender, interleave};
use crate::memory::Memory;
use crate::ours::{Controller, agents};
use crate::report::Report;
use crate::simulation::in_memory;

/// A tenth is to be seen through what else the machine does.
const TIMES: usize = 4;

const IN_MEMORY: &str = "ours, state in memory";

/// Measures it.
///
/// # Errors
/// If there is no file system in memory, or a fleet does not come.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<()> {
    let memory = in_memory("journal").context("there is no /dev/shm")?;
    let result = both(bench, &memory, report);
    // What is left there costs memory until the next boot.
    let _absent = std::fs::remove_dir_all(&memory);
    result
}

fn both(bench: &Bench, memory: &Path, report: &mut Report) -> Result<()> {
    let on_disk = start(bench, &bench.work.join("journal"), "journal-disk")?;
    let in_memory = start(bench, memory, "journal-memory")?;
    let runs = bench.runs * TIMES;
    let mut contenders = [contender(OURS, runs, &on_disk), contender(IN_MEMORY, runs, &in_memory)];
    let comparison = Comparison { id: "B10 journal, B1", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[]);
    if let (Some(disk), Some(memory)) = (comparison.series(OURS), comparison.series(IN_MEMORY)) {
        report.at_most("B10 B1 with state on disk / in memory: wall", disk.wall() / memory.wall(), "times", 1.1);
    }
    Ok(())
}

fn contender<'a>(name: &'static str, runs: usize, fleet: &'a Fleet) -> Contender<'a> {
    let sides = (&fleet.control, &fleet.nodes);
    Contender::new(name, runs, sides, |_| fleet.controller.exec_all(&["/bin/true"]))
}

fn start(bench: &Bench, directory: &Path, name: &str) -> Result<Fleet> {
    let (control, nodes) = (bench.accounts.group(name)?, bench.accounts.group(&format!("{name}-nodes"))?);
    let controller = Controller::start(&bench.programs, directory, 10, &control)?;
    let empty_controller_bytes = Memory::of(controller.pid())?.proportional;
    let prepared = agents::prepare(&controller, directory, bench.nodes)?;
    let agents = agents::join_and_run(&bench.programs, &controller, prepared, &nodes)?;
    controller.exec_all(&["/bin/true"])?;
    Ok(Fleet { agents, controller, control, nodes, empty_controller_bytes })
}
