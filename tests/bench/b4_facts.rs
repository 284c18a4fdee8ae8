// SPDX-License-Identifier: Apache-2.0
//! B4: the facts of every node, gathered now, and as they are known already.

use anyhow::Result;

use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::process::run;
use crate::report::Report;

/// Each takes Ansible half a minute.
const SLOW_RUNS: usize = 3;

/// Facts as they are known already.
pub(crate) const CACHED: &str = "ours, cached";

/// Measures both.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let list = |arguments: &[&str]| {
        let mut get = fleet.controller.windlass(&["get", "nodes", "-o", "json"]);
        run(get.args(arguments)).map(drop)
    };
    let sides = (&fleet.control, &fleet.nodes);
    let mut contenders = vec![
        Contender::new(OURS, bench.runs, sides, |_| list(&["--refresh"])),
        Contender::new(CACHED, bench.runs, sides, |_| list(&[])),
    ];
    if let Some(rivals) = rivals
        && let Some((ansible, group)) = &rivals.ansible
    {
        let sides = (group, &rivals.nodes);
        contenders.push(Contender::new("ansible setup", SLOW_RUNS, sides, |_| ansible.setup("")));
        let least = "gather_subset=!all";
        contenders.push(Contender::new("ansible setup !all", SLOW_RUNS, sides, |_| ansible.setup(least)));
    }
    let comparison = Comparison { id: "B4", results: interleave(&mut contenders) };
    drop(contenders);
    let wanted =
        [Wanted { rival: "ansible setup", ratio: 150.0 }, Wanted { rival: "ansible setup !all", ratio: 100.0 }];
    comparison.report(report, &wanted);
    let Some(cached) = comparison.series(CACHED) else { return Ok(()) };
    report.at_most("B4 ours, cached: wall", cached.wall(), "s", 0.015);
    if let Some(live) = comparison.series(OURS) {
        report.at_most("B4 ours: wall", live.wall(), "s", 0.2);
    }
    if let Some(setup) = comparison.series("ansible setup") {
        report.at_least("B4 ansible setup / ours, cached: wall", setup.wall() / cached.wall(), "times", 2000.0);
    }
    Ok(())
}
