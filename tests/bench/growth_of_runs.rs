// SPDX-License-Identifier: Apache-2.0
//! How the cost of a run grows with the fleet: one file on all of 100, 1,000 and 5,000 simulated agents, each time with
//! another content, by `windlass apply` of a spec. Every node is asked what it lacks when the plan is made and again when it is
//! applied, then does one journalled step.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};

use crate::bench::Bench;
use crate::load::Models;
use crate::measure::{Contender, Series, sample};
use crate::memory::count;
use crate::process::run;
use crate::report::Report;
use crate::simulation::Stage;
use crate::spec::{apply, head};

const SIZES: [usize; 3] = [100, 1000, 5000];

/// With five thousand nodes each takes many seconds.
const RUNS: usize = 3;

/// A tenth for what the machine does besides.
const MOST_GROWTH: f64 = 1.1;

/// What one size cost, seconds for each node.
#[derive(Debug, Clone, Copy)]
struct Size {
    nodes: usize,
    wall: f64,
    control: f64,
    agents: f64,
}

/// Measures all sizes, each with a fleet of that size, and compares neighbours: 1 is linear.
///
/// # Errors
/// If agents do not come, or a spec cannot be applied.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<()> {
    let mut stage = Stage::start(bench, "runs", Models::Plain)?;
    let specs = Specs { path: bench.work.join("growth.yaml") };
    let mut before: Option<Size> = None;
    for nodes in SIZES {
        stage.grow(nodes)?;
        let size = measure(&stage, &specs, nodes)?;
        report.value(format!("growth {nodes}: apply of one setting, wall per node"), size.wall * 1e3, "ms");
        report.value(
            format!("growth {nodes}: apply of one setting, controller and CLI, per node"),
            size.control * 1e3,
            "ms",
        );
        // They share the processors, so that much of the wall time is theirs.
        report.value(format!("growth {nodes}: the simulated agents, per node"), size.agents * 1e3, "ms");
        if let Some(before) = before {
            let name = format!("growth {} to {nodes}: apply of one setting", before.nodes);
            report.at_most(format!("{name}, wall per node"), size.wall / before.wall, "times", MOST_GROWTH);
            report.at_most(format!("{name}, cost per node"), size.control / before.control, "times", MOST_GROWTH);
        }
        before = Some(size);
    }
    Ok(())
}

fn measure(stage: &Stage, specs: &Specs, nodes: usize) -> Result<Size> {
    let caller = stage.controller.caller();
    // A node that becomes healthy between plan and apply is another than was shown.
    run(&mut caller.windlass(&["status", "--wait"]))?;
    // Whoever is asked for the first time looks at more.
    specs.write(nodes, "the first")?;
    apply(&caller, &specs.path)?;
    let once = |_| {
        let applied = apply(&caller, &specs.path)?;
        ensure!(!applied.is_as_wished, "there was nothing to do:\n{}", applied.said);
        Ok(())
    };
    let sides = (&stage.control, &stage.nodes);
    let mut contender =
        Contender::new("ours", RUNS, sides, once).preparing(|round| specs.write(nodes, &format!("round {round}")));
    let mut series = Series::default();
    for round in 0..RUNS {
        series.add(sample(&mut contender, round)?);
    }
    drop(contender);
    let again = apply(&caller, &specs.path)?;
    ensure!(again.is_as_wished, "something was left to do on {nodes} nodes:\n{}", again.said);
    let (wall, control) = (series.wall() / count(nodes), series.control_cpu() / count(nodes));
    Ok(Size { nodes, wall, control, agents: series.cpu() / count(nodes) - control })
}

/// The spec, with another content each time.
struct Specs {
    path: PathBuf,
}

impl Specs {
    fn write(&self, nodes: usize, round: &str) -> Result<()> {
        let head = head(nodes, "sim");
        let file = format!("{{path: /etc/windlass-growth, content: \"{round} of {nodes}\\n\"}}");
        let text = format!("{head}  settings:\n    files:\n      - {file}\n");
        fs::write(&self.path, text).with_context(|| format!("write {}", self.path.display()))
    }
}
