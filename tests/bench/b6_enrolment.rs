// SPDX-License-Identifier: Apache-2.0
//! B6: machines with a token become nodes: key, request, certificate, session, and the first command answered by all.

use anyhow::Result;

use crate::bench::{Bench, Fleet};
use crate::measure::{Contender, Series, sample};
use crate::memory::{Memory, count};
use crate::ours::{Controller, agents};
use crate::report::{Report, progress};

/// Each needs a new controller and new machines.
const RUNS: usize = 3;

/// Measures it and returns the last fleet, for the other benchmarks.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<Fleet> {
    let mut series = Series::default();
    let mut last = None;
    for round in 0..RUNS {
        drop(last.take());
        let (fleet, seconds) = once(bench, round, &mut series)?;
        progress(&format!("  ours {}: {seconds:.3} s", round + 1));
        last = Some(fleet);
    }
    let rate = count(bench.nodes) / series.wall();
    report.value(format!("B6 ours: wall (median of {RUNS})"), series.wall(), "s");
    report.value("B6 ours: processor time per node, both ends", series.cpu() / count(bench.nodes) * 1e3, "ms");
    report.at_least("B6 ours: machines enrolled", rate, "per s", 200.0);
    last.ok_or_else(|| anyhow::anyhow!("no run"))
}

fn once(bench: &Bench, round: usize, series: &mut Series) -> Result<(Fleet, f64)> {
    let (control, nodes) = (bench.accounts.group("ours")?, bench.accounts.group("ours-nodes")?);
    let directory = bench.work.join(format!("ours{round}"));
    let controller = Controller::start(&bench.programs, &directory, 10, &control)?;
    let empty_controller_bytes = Memory::of(controller.pid())?.proportional;
    let prepared = agents::prepare(&controller, &directory, bench.nodes)?;
    let (mut prepared, mut come) = (Some(prepared), None);
    let mut contender = Contender::new("ours", 1, (&control, &nodes), |_| {
        let machines = prepared.take().unwrap_or_default();
        come = Some(agents::join_and_run(&bench.programs, &controller, machines, &nodes)?);
        controller.exec_all(&["/bin/true"])
    });
    let sample = sample(&mut contender, round)?;
    drop(contender);
    series.add(sample);
    let agents = come.ok_or_else(|| anyhow::anyhow!("no agents"))?;
    Ok((Fleet { agents, controller, control, nodes, empty_controller_bytes }, sample.wall))
}
