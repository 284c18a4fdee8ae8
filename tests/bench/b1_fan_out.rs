// SPDX-License-Identifier: Apache-2.0
//! B1: `/bin/true` on every node, everything warm. B2: what that costs the controlling side per node.
//!
//! The floor is that many `/bin/true` started on all processors by this process and nothing else.

use std::thread;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, FLOOR, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::memory::count;
use crate::process::{command, run};
use crate::report::Report;

const WANTED: &[Wanted] = &[
    Wanted { rival: "ansible", ratio: 150.0 },
    Wanted { rival: "pyinfra", ratio: 24.0 },
    Wanted { rival: "xargs -P32 ssh", ratio: 20.0 },
];

/// Starts that many programs on all processors.
///
/// # Errors
/// If one does not start.
pub(crate) fn spawn_true(nodes: usize) -> Result<()> {
    let threads = thread::available_parallelism()?.get();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                scope.spawn(move || {
                    (worker..nodes).step_by(threads).try_for_each(|_| run(&mut command("/bin/true")).map(drop))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().ok().context("a thread ended badly")?)
    })
}

/// Measures both.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let floor = bench.accounts.group("floor")?;
    let idle = bench.accounts.group("floor-nodes")?;
    let nodes = bench.nodes;
    fleet.controller.exec_all(&["/bin/true"])?;
    let ours = || fleet.controller.exec_all(&["/bin/true"]);
    let mut contenders = vec![
        Contender::new(FLOOR, bench.runs, (&floor, &idle), move |_| spawn_true(nodes)),
        Contender::new(OURS, bench.runs, (&fleet.control, &fleet.nodes), |_| ours()),
    ];
    if let Some(rivals) = rivals {
        if let Some((ansible, group)) = &rivals.ansible {
            let sides = (group, &rivals.nodes);
            contenders.push(Contender::new("ansible", bench.runs, sides, |_| ansible.command_true()));
            contenders.push(Contender::new("ansible raw", bench.runs, sides, |_| ansible.raw_true()));
        }
        if let Some((pyinfra, group)) = &rivals.pyinfra {
            contenders.push(Contender::new("pyinfra", bench.runs, (group, &rivals.nodes), |_| pyinfra.run_true()));
        }
        let sides = (&rivals.plain, &rivals.nodes);
        contenders.push(Contender::new("xargs -P32 ssh", bench.runs, sides, |_| rivals.sshd.run_true()));
    }
    let comparison = Comparison { id: "B1", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, WANTED);
    if let (Some(ours), Some(floor)) = (comparison.series(OURS), comparison.series(FLOOR)) {
        report.at_most("B1 ours: wall", ours.wall(), "s", 0.075);
        report.at_least("B1 efficiency: floor / ours, wall", floor.wall() / ours.wall(), "", 0.6);
    }
    control_cost(&comparison, nodes, report);
    Ok(())
}

fn control_cost(comparison: &Comparison<'_>, nodes: usize, report: &mut Report) {
    let micros = |name| comparison.series(name).map(|series| series.control_cpu() / count(nodes) * 1e6);
    let Some(ours) = micros(OURS) else { return };
    report.at_most("B2 ours: controller and CLI, per node", ours, "us", 80.0);
    if let Some(ansible) = micros("ansible") {
        report.value("B2 ansible: per node", ansible, "us");
        report.at_least("B2 ansible / ours", ansible / ours, "times", 600.0);
    }
    if let Some(pyinfra) = micros("pyinfra") {
        report.value("B2 pyinfra: per node", pyinfra, "us");
        report.at_least("B2 pyinfra / ours", pyinfra / ours, "times", 100.0);
    }
}
