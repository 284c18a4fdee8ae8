// SPDX-License-Identifier: Apache-2.0
//! B3: ten commands on every node, each on all of them before the next begins, every one in the journals.

use anyhow::Result;

use crate::b1_fan_out::spawn_true;
use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, FLOOR, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::report::Report;

const STEPS: usize = 10;

/// Each takes Ansible two minutes.
const SLOW_RUNS: usize = 2;

/// Measures it.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let (floor, idle) = (bench.accounts.group("floor")?, bench.accounts.group("floor-nodes")?);
    let ten = || (0..STEPS).try_for_each(|_| fleet.controller.exec_all(&["/bin/true"]));
    let nodes = bench.nodes;
    let mut contenders = vec![
        Contender::new(FLOOR, bench.runs, (&floor, &idle), move |_| (0..STEPS).try_for_each(|_| spawn_true(nodes))),
        Contender::new(OURS, bench.runs, (&fleet.control, &fleet.nodes), |_| ten()),
    ];
    if let Some(rivals) = rivals
        && let Some((ansible, group)) = &rivals.ansible
    {
        contenders.push(Contender::new("ansible", SLOW_RUNS, (group, &rivals.nodes), |_| ansible.ten_steps()));
    }
    let comparison = Comparison { id: "B3", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[Wanted { rival: "ansible", ratio: 150.0 }]);
    if let Some(ours) = comparison.series(OURS) {
        report.at_most("B3 ours: wall", ours.wall(), "s", 0.7);
    }
    Ok(())
}
