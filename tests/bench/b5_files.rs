// SPDX-License-Identifier: Apache-2.0
//! B5: one mebibyte to every node, when it is new there and when it is there already.

use std::cell::RefCell;
use std::fs;
use std::io::Read as _;

use anyhow::{Context as _, Result};

use crate::bench::{Bench, Fleet, SshRivals};
use crate::compare::{Comparison, OURS, Wanted};
use crate::measure::{Contender, interleave};
use crate::ours::agents::BULK_PATH;
use crate::process::run;
use crate::report::Report;

const BYTES: u64 = 1 << 20;

/// Each takes Ansible half a minute.
const SLOW_RUNS: usize = 2;

/// Random bytes: nothing here may gain by compressing.
///
/// # Errors
/// If the kernel gives none.
pub(crate) fn random(bytes: u64) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open("/dev/urandom")?.take(bytes).read_to_end(&mut content).context("read random bytes")?;
    Ok(content)
}

/// Measures both.
///
/// # Errors
/// If nothing can be measured.
pub(crate) fn run_bench(bench: &Bench, fleet: &Fleet, rivals: Option<&SshRivals>, report: &mut Report) -> Result<()> {
    let (our_file, their_file) = (bench.work.join("bulk-ours"), bench.work.join("bulk-theirs"));
    let content = RefCell::new(Vec::new());
    let renew = || {
        *content.borrow_mut() = random(BYTES)?;
        fs::write(&our_file, &*content.borrow()).context("write a file to copy")
    };
    let destination = format!(":{BULK_PATH}");
    let copy = || run(fleet.controller.windlass(&["cp", "--all"]).arg(&our_file).arg(&destination)).map(drop);
    let sides = (&fleet.control, &fleet.nodes);
    let mut contenders = vec![
        Contender::new(OURS, bench.runs, sides, |_| copy()).preparing(|_| renew()),
        Contender::new("ours, unchanged", bench.runs, sides, |_| copy())
            .preparing(|_| fleet.agents.require_bulk(&content.borrow())),
    ];
    if let Some(rivals) = rivals
        && let Some((ansible, group)) = &rivals.ansible
    {
        let sides = (group, &rivals.nodes);
        let renew = |_| fs::write(&their_file, random(BYTES)?).context("write a file to copy");
        contenders.push(Contender::new("ansible", SLOW_RUNS, sides, |_| ansible.copy(&their_file)).preparing(renew));
        contenders.push(Contender::new("ansible, unchanged", SLOW_RUNS, sides, |_| ansible.copy(&their_file)));
    }
    let comparison = Comparison { id: "B5", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[Wanted { rival: "ansible", ratio: 70.0 }]);
    if let Some(ours) = comparison.series(OURS) {
        report.at_most("B5 ours: wall", ours.wall(), "s", 0.35);
    }
    let Some(unchanged) = comparison.series("ours, unchanged") else { return Ok(()) };
    report.at_most("B5 ours, unchanged: wall", unchanged.wall(), "s", 0.1);
    if let Some(ansible) = comparison.series("ansible, unchanged") {
        let ratio = ansible.wall() / unchanged.wall();
        report.at_least("B5 unchanged: ansible / ours: wall", ratio, "times", 240.0);
    }
    fleet.agents.remove_bulk();
    Ok(())
}
