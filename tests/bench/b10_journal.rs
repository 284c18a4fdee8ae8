// SPDX-License-Identifier: Apache-2.0
//! B10: what the journals add to B1. The product has no switch that turns them off, so the same fleet is there twice: with
//! all state on disk, and with the agents' journals and the controller's state in memory, where a flush costs nothing. The
//! difference is what waiting for the disk adds; what is left in both is forming and writing the records, and the files
//! into which agents write what programs print.

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

const IN_MEMORY: &str = "ours, journals in memory";

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
    let [on_disk, beside] = ["journal", "no-journal"].map(|name| bench.work.join(name));
    let on_disk = start(bench, "journal-disk", &on_disk, &on_disk, None)?;
    let journals = memory.join("journals");
    std::fs::create_dir_all(&journals)?;
    let in_memory = start(bench, "journal-memory", &memory.join("controller"), &beside, Some(&journals))?;
    let runs = bench.runs * TIMES;
    let mut contenders = [contender(OURS, runs, &on_disk), contender(IN_MEMORY, runs, &in_memory)];
    let comparison = Comparison { id: "B10 journal, B1", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[]);
    if let (Some(disk), Some(memory)) = (comparison.series(OURS), comparison.series(IN_MEMORY)) {
        report.at_most("B10 B1 with journals on disk / in memory: wall", disk.wall() / memory.wall(), "times", 1.1);
    }
    Ok(())
}

fn contender<'a>(name: &'static str, runs: usize, fleet: &'a Fleet) -> Contender<'a> {
    let sides = (&fleet.control, &fleet.nodes);
    Contender::new(name, runs, sides, |_| fleet.controller.exec_all(&["/bin/true"]))
}

fn start(bench: &Bench, name: &str, controller: &Path, agents: &Path, journals: Option<&Path>) -> Result<Fleet> {
    let (control, nodes) = (bench.accounts.group(name)?, bench.accounts.group(&format!("{name}-nodes"))?);
    let controller = Controller::start(&bench.programs, controller, 10, &control)?;
    let empty_controller_bytes = Memory::of(controller.pid())?.proportional;
    let mut prepared = agents::prepare(&controller, agents, bench.nodes)?;
    if let Some(journals) = journals {
        prepared = prepared.into_iter().map(|machine| machine.with_journal_in(journals)).collect();
    }
    let agents = agents::join_and_run(&bench.programs, &controller, prepared, &nodes)?;
    controller.exec_all(&["/bin/true"])?;
    Ok(Fleet { agents, controller, control, nodes, empty_controller_bytes })
}
