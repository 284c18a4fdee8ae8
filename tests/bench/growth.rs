// SPDX-License-Identifier: Apache-2.0
//! How cost grows with the fleet: a command on all of 100, 1,000 and 5,000 agents, and the list of nodes.

use anyhow::Result;

use crate::load::PING;
use crate::measure::{Contender, Series, sample};
use crate::memory::{Memory, count};
use crate::process::run;
use crate::report::Report;
use crate::simulation::Stage;

const RUNS: usize = 5;

/// What one size cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    agents: f64,
    control: f64,
}

/// Measures one size.
///
/// # Errors
/// If an agent does not answer.
pub(crate) fn measure(stage: &Stage, report: &mut Report) -> Result<Size> {
    let agents = stage.simulated.agents;
    stage.controller.exec_all(&[PING])?;
    let exec = series(stage, |_| stage.controller.exec_all(&[PING]))?;
    let list = series(stage, |_| run(&mut stage.controller.windlass(&["get", "nodes"])).map(drop))?;
    report.value(format!("growth {agents}: command on all, wall"), exec.wall(), "s");
    let each = exec.control_cpu() / count(agents) * 1e6;
    report.value(format!("growth {agents}: command on all, controller and CLI, per agent"), each, "us");
    let name = format!("growth {agents}: windlass get nodes, wall");
    if agents == 1000 {
        report.at_most(name, list.wall(), "s", 0.1);
    } else {
        report.value(name, list.wall(), "s");
    }
    let memory = Memory::of(stage.controller.pid())?.proportional - stage.empty_controller_bytes;
    report.value(format!("growth {agents}: controller memory per agent"), memory / count(agents) / 1024.0, "KiB");
    Ok(Size { agents: count(agents), control: exec.control_cpu() })
}

fn series(stage: &Stage, work: impl FnMut(usize) -> Result<()>) -> Result<Series> {
    let mut contender = Contender::new("ours", RUNS, (&stage.control, &stage.nodes), work);
    let mut series = Series::default();
    for round in 0..RUNS {
        series.add(sample(&mut contender, round)?);
    }
    Ok(series)
}

/// Compares neighbours: 1 is linear.
pub(crate) fn compare(sizes: &[Size], report: &mut Report) {
    for pair in sizes.windows(2) {
        let [small, large] = pair else { continue };
        let growth = (large.control / small.control) / (large.agents / small.agents);
        let name = format!("growth {} to {}: cost per agent", small.agents, large.agents);
        // A tenth for what the machine does besides.
        report.at_most(name, growth, "times", 1.1);
    }
}
