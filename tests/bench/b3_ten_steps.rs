// SPDX-License-Identifier: Apache-2.0
//! B3: ten steps on every node, every one in the journals: as ten commands, each on all nodes before the next begins; and
//! as one run of ten steps per node, planned and proven by the nodes. The rivals run ten commands, which is less.

use anyhow::Result;

use crate::account::Group;
use crate::b1_fan_out::spawn_true;
use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, FLOOR, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::memory::count;
use crate::report::Report;
use crate::rival::ansible::Ansible;
use crate::spec::Files;

const STEPS: usize = 10;

const MITOGEN: &str = "ansible with mitogen";

const WANTED: &[Wanted] = &[Wanted { rival: "ansible", ratio: 150.0 }, Wanted { rival: MITOGEN, ratio: 60.0 }];

/// The contender that is a run.
const AS_RUN: &str = "ours, as a run";

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
    let files = Files { spec: bench.work.join("ten.yaml"), count: STEPS };
    let with_mitogen = rivals.and_then(|rivals| mitogen(bench, rivals, report));
    let mut contenders = vec![
        Contender::new(FLOOR, bench.runs, (&floor, &idle), move |_| (0..STEPS).try_for_each(|_| spawn_true(nodes))),
        Contender::new(OURS, bench.runs, (&fleet.control, &fleet.nodes), |_| ten()),
        Contender::new(AS_RUN, bench.runs, (&fleet.control, &fleet.nodes), |_| files.apply(&fleet.controller.caller()))
            .preparing(|round| files.write(nodes, &format!("round {round}"))),
    ];
    if let Some(rivals) = rivals
        && let Some((ansible, group)) = &rivals.ansible
    {
        contenders.push(Contender::new("ansible", SLOW_RUNS, (group, &rivals.nodes), |_| ansible.ten_steps()));
    }
    if let (Some(rivals), Some((ansible, group))) = (rivals, &with_mitogen) {
        contenders.push(Contender::new(MITOGEN, SLOW_RUNS, (group, &rivals.nodes), |_| ansible.ten_steps()));
    }
    let comparison = Comparison { id: "B3", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, WANTED);
    if let Some(ours) = comparison.series(OURS) {
        report.at_most("B3 ours: wall", ours.wall(), "s", 0.7);
    }
    as_run(&comparison, nodes, report);
    Ok(())
}

/// The rivals over the run.
fn as_run(comparison: &Comparison<'_>, nodes: usize, report: &mut Report) {
    let Some(run) = comparison.series(AS_RUN) else { return };
    report.value("B3 as a run: wall per step", run.wall() / count(STEPS * nodes) * 1e3, "ms");
    for Wanted { rival, ratio } in WANTED {
        let Some(theirs) = comparison.series(rival) else { continue };
        report.at_least(format!("B3 {rival} / ours, as a run: wall"), theirs.wall() / run.wall(), "times", *ratio);
    }
}

/// Ansible with mitogen, if it can be installed.
fn mitogen(bench: &Bench, rivals: &SshRivals, report: &mut Report) -> Option<(Ansible, Group)> {
    let installed = Ansible::install_with_mitogen(&bench.cache, &bench.work, &rivals.sshd);
    let with_group = installed.and_then(|ansible| Ok((ansible, bench.accounts.group("mitogen")?)));
    with_group.inspect_err(|error| report.not_measured("B3 mitogen", error)).ok()
}
