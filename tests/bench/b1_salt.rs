// SPDX-License-Identifier: Apache-2.0
//! Salt, by itself: its minions use processor time while they wait, which must not be in what the others are measured by.
//! It has fewer nodes, so everything is per node.

use std::time::Duration;

use anyhow::Result;

use crate::b4_facts::CACHED;
use crate::bench::{Bench, Fleet};
use crate::compare::OURS;
use crate::measure::{Contender, Series, interleave};
use crate::memory::{Memory, count};
use crate::process::{pause, run};
use crate::report::Report;
use crate::rival::salt::Salt;

/// Each takes Salt some seconds.
const SLOW_RUNS: usize = 3;

const IDLE: Duration = Duration::from_secs(20);

/// Measures everything that Salt has a part in: B1, B4, B6, B8.
///
/// # Errors
/// If Salt cannot be installed or started.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, report: &mut Report) -> Result<()> {
    let (control, nodes) = (bench.accounts.group("salt")?, bench.accounts.group("salt-nodes")?);
    let minions = bench.minions;
    let salt = Salt::start(&bench.cache, &bench.work, bench.minions, (&control, &nodes))?;
    report.value(format!("B6 salt: {minions} minions enrolled"), salt.enrolment_seconds, "s");
    let windlass = |arguments: &[&str]| run(&mut fleet.controller.windlass(arguments)).map(drop);
    let ours = (&fleet.control, &fleet.nodes);
    let theirs = (&control, &nodes);
    let mut contenders = [
        Contender::new(OURS, bench.runs, ours, |_| fleet.controller.exec_all(&["/bin/true"])),
        Contender::new("salt", SLOW_RUNS, theirs, |_| salt.run_true()),
        Contender::new(CACHED, bench.runs, ours, |_| windlass(&["get", "nodes", "-o", "json"])),
        Contender::new("salt grains", SLOW_RUNS, theirs, |_| salt.grains()),
    ];
    let results = interleave(&mut contenders);
    drop(contenders);
    let series =
        |name: &str| results.iter().find(|(known, _)| *known == name).and_then(|(_, result)| result.as_ref().ok());
    let per_node = |series: &Series, nodes: usize| series.wall() / count(nodes);
    for (id, our_name, their_name, target) in [("B1", OURS, "salt", Some(80.0)), ("B4", CACHED, "salt grains", None)] {
        let (Some(ours), Some(theirs)) = (series(our_name), series(their_name)) else { continue };
        report.value(format!("{id} {their_name}: wall per node, of {minions}"), per_node(theirs, minions), "s");
        let name = format!("{id} {their_name} / ours: wall per node");
        let ratio = per_node(theirs, minions) / per_node(ours, bench.nodes);
        match target {
            Some(target) => report.at_least(name, ratio, "times", target),
            None => report.value(name, ratio, "times"),
        }
        let ratio = theirs.cpu() / count(minions) / (ours.cpu() / count(bench.nodes));
        report.value(format!("{id} {their_name} / ours: processor time per node"), ratio, "times");
    }
    footprint(&nodes, minions, report);
    Ok(())
}

fn footprint(nodes: &crate::account::Group, minions: usize, report: &mut Report) {
    let before = nodes.cpu_seconds();
    pause(IDLE);
    let share = (nodes.cpu_seconds() - before) / count(minions) / IDLE.as_secs_f64() * 100.0;
    let pids = nodes.pids();
    let processes = count(pids.len()) / count(minions);
    let memory = Memory::mean_of(&pids);
    report.value("B8 salt minion: proportional", memory.proportional * processes / 1e6, "MB");
    report.value("B8 salt minion: resident", memory.resident * processes / 1e6, "MB");
    report.value("B8 salt minion: idle, share of a core", share, "%");
}
