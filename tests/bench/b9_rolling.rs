// SPDX-License-Identifier: Apache-2.0
//! B9: forty nodes reboot, at most four at a time. A reboot takes a node a time from one list, the same for all
//! contenders: our nodes are models whose agents die and come back, Ansible's are ssh servers that do.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::account::Group;
use crate::bench::Bench;
use crate::compare::{Comparison, OURS, Wanted};
use crate::load::reboots::Reboots;
use crate::load::{Models, count_file};
use crate::measure::{Contender, interleave};
use crate::memory::count;
use crate::process::run;
use crate::report::Report;
use crate::rival::ansible::Ansible;
use crate::rival::rebooting::Rebooting;
use crate::simulation::{Stage, left_out};

const NODES: usize = 40;

const AT_ONCE: usize = 4;

/// Each takes more than half a minute.
const RUNS: usize = 3;

/// Each takes Ansible minutes.
const SLOW_RUNS: usize = 2;

/// Seconds that nodes are down, on average.
const MEAN: f64 = 3.0;

/// Standard deviation over mean.
const VARIATION: f64 = 0.5;

const SEED: u64 = 9;

/// How long each node is down when it reboots: lognormal, drawn once and for ever, then stretched to the mean exactly.
pub(crate) fn down_times(nodes: usize) -> Vec<Duration> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let sigma = (1.0 + VARIATION * VARIATION).ln().sqrt();
    let mut normal = || (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos();
    let drawn: Vec<f64> = (0..nodes).map(|_| (sigma * normal()).exp()).collect();
    let stretch = MEAN * count(nodes) / drawn.iter().sum::<f64>();
    drawn.into_iter().map(|time| Duration::from_secs_f64(time * stretch)).collect()
}

/// Measures it.
///
/// # Errors
/// If ours cannot be measured.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<()> {
    let nodes = bench.nodes.min(NODES);
    let times = down_times(nodes);
    let longest = times.iter().max().copied().unwrap_or_default().as_secs_f64();
    let floor = times.iter().map(Duration::as_secs_f64).sum::<f64>() / count(AT_ONCE);
    report.value("B9 sum of down times / nodes at once", floor, "s");
    report.value("B9 longest down time", longest, "s");
    let mut stage = Stage::start(bench, "b9", Models::Rebooting)?;
    stage.grow(nodes)?;
    let (group, servers) = (bench.accounts.group("b9-ansible")?, bench.accounts.group("b9-sshd")?);
    let theirs = match bench.quick {
        true => None,
        false => {
            rival(bench, &times, (&group, &servers)).inspect_err(|error| report.not_measured("B9 ansible", error)).ok()
        }
    };
    let mut contenders = vec![Contender::new(OURS, RUNS, (&stage.control, &stage.nodes), |_| roll(&stage))];
    if let Some((ansible, machines)) = &theirs {
        let sides = (&group, &servers);
        contenders.push(Contender::new("ansible", SLOW_RUNS, sides, |_| play(ansible, machines)));
    }
    let comparison = Comparison { id: "B9", results: interleave(&mut contenders) };
    drop(contenders);
    comparison.report(report, &[Wanted { rival: "ansible", ratio: 2.5 }]);
    if let Some(ours) = comparison.series(OURS) {
        report.at_most("B9 ours: wall", ours.wall(), "s", 1.1 * floor + longest);
        report.value("B9 efficiency: sum of down times / nodes at once / ours", floor / ours.wall(), "");
    }
    let counted = as_counted(&stage, nodes * RUNS, report);
    left_out(report, "B9 nodes down", counted);
    Ok(())
}

fn roll(stage: &Stage) -> Result<()> {
    let at_once = AT_ONCE.to_string();
    let rolling = ["reboot", "--rolling", "--all", "--max-unavailable", &at_once, "--yes"];
    run(&mut stage.controller.windlass(&rolling)).map(drop)
}

fn play(ansible: &Ansible, machines: &Rebooting) -> Result<()> {
    let before = machines.boots();
    ansible.play("reboot", &machines.playbook(AT_ONCE))?;
    let (reboots, nodes) = (machines.boots() - before, machines.sshd.hosts.len());
    ensure!(reboots == nodes, "{reboots} reboots of {nodes} nodes");
    Ok(())
}

/// Ansible and its nodes.
fn rival(bench: &Bench, times: &[Duration], (group, servers): (&Group, &Group)) -> Result<(Ansible, Rebooting)> {
    let machines = Rebooting::start(&bench.work.join("b9-ssh"), times, servers)?;
    let ansible = Ansible::install(&bench.cache, &bench.work.join("b9-rival"), &machines.sshd)?;
    let entered = group.enter()?;
    ansible.command_true()?;
    drop(entered);
    Ok((ansible, machines))
}

/// What the models say of it.
fn as_counted(stage: &Stage, wanted: usize, report: &mut Report) -> Result<()> {
    let found = Reboots::read(&count_file(stage.simulated.directory(), 0))?;
    report.at_most("B9 ours: most nodes down at any moment", count(found.most_down), "nodes", count(AT_ONCE));
    let wrong = count(wanted.abs_diff(found.reboots));
    report.at_most(format!("B9 ours: reboots too many or too few, of {wanted}"), wrong, "reboots", 0.0);
    Ok(())
}
