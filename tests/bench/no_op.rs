// SPDX-License-Identifier: Apache-2.0
//! Forty files on every node that are there already: how long it takes to find that nothing is to be done. All nodes share
//! a file system here, so each has its files in a directory of its own, for both contenders.

use anyhow::{Result, ensure};

use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::report::Report;
use crate::spec::{Files, apply};

const FILES: usize = 40;

const CONTENT: &str = "as it shall be";

/// It takes Ansible a quarter of an hour.
const SLOW_RUNS: usize = 1;

/// Measures it.
///
/// # Errors
/// If ours cannot be measured.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let files = Files { spec: bench.work.join("forty.yaml"), count: FILES };
    files.write(bench.nodes, CONTENT)?;
    let contents = files.contents(CONTENT);
    let sides = (&fleet.control, &fleet.nodes);
    let mut first = [Contender::new("ours, all to be done", 1, sides, |_| files.apply(&fleet.controller.caller()))];
    let first = Comparison { id: "no-op", results: interleave(&mut first) };
    first.report(report, &[]);
    fleet.agents.require_settings(&contents)?;
    let mut contenders = vec![Contender::new(OURS, bench.runs, sides, |_| nothing_to_do(fleet, &files))];
    if let Some(rivals) = rivals
        && let Some((ansible, group)) = &rivals.ansible
    {
        ansible.place_files(&rivals.sshd, &contents)?;
        let unchanged = |_| ansible.unchanged_files(&contents);
        contenders.push(Contender::new("ansible", SLOW_RUNS, (group, &rivals.nodes), unchanged));
    }
    let comparison = Comparison { id: "no-op", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[Wanted { rival: "ansible", ratio: 100.0 }]);
    Ok(())
}

fn nothing_to_do(fleet: &Fleet, files: &Files) -> Result<()> {
    let applied = apply(&fleet.controller.caller(), &files.spec)?;
    ensure!(applied.is_as_wished, "there was something to do:\n{}", applied.said);
    Ok(())
}
