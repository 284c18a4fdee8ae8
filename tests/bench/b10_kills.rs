// SPDX-License-Identifier: Apache-2.0
//! B10: a steady stream of journalled steps, of jobs and of runs, and a controller that is killed again and again. Then
//! the models' own books are opened: is anything missing, did anything happen twice?

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;
use windlass_types::action::Argv;

use crate::bench::Bench;
use crate::load::Models;
use crate::load::ledger::{PARAMETERS, TICK, parameter};
use crate::memory::count;
use crate::ours::Caller;
use crate::process::{pause, run};
use crate::report::{Report, progress};
use crate::simulation::Stage;
use crate::spec::{apply, head};

const NODES: usize = 100;

const KILLS: usize = 20;

const SEED: u64 = 10;

/// One job on all nodes each time.
const JOB_EVERY: Duration = Duration::from_secs(1);

/// Milliseconds from the start of a controller until it is killed: long enough for its nodes to come back, or not quite.
const LIVES: std::ops::Range<u64> = 300..4000;

/// All that is begun ends within this once nobody kills any more.
const PATIENCE: Duration = Duration::from_secs(180);

/// Between attempts of who finds no controller.
const AGAIN: Duration = Duration::from_millis(200);

/// What was asked for while the controller was killed. Each job runs a program with a word of its own.
#[derive(Debug, Default)]
struct Asked {
    /// Words of jobs that the controller has said it has.
    jobs: BTreeSet<String>,
    /// Words of jobs of which it had no time to say so. It has them or not, but never in part.
    perhaps: BTreeSet<String>,
    /// Specs that were applied, one after the other.
    specs: usize,
}

/// Measures it.
///
/// # Errors
/// If the fleet does not come, or does not come back.
pub(crate) fn run_bench(bench: &Bench, report: &mut Report) -> Result<()> {
    let nodes = bench.nodes.min(NODES);
    let mut stage = Stage::start(bench, "b10", Models::Counting)?;
    stage.grow(nodes)?;
    let begun = Instant::now();
    let asked = ask_and_kill(bench, &mut stage, nodes)?;
    until_all_jobs_ended(&stage.controller.caller())?;
    let seconds = begun.elapsed().as_secs_f64();
    let found = stage.simulated.ledger()?;
    let done = found.values().sum::<usize>();
    let (jobs, perhaps) = (asked.jobs.len(), asked.perhaps.len());
    report.note(format!("B10: {jobs} jobs, {perhaps} more without an answer, {} specs, {KILLS} kills", asked.specs));
    report.value("B10 steps in all", count(done), "steps");
    report.at_least("B10 journalled steps, with all kills", count(done) / seconds, "per s", count(nodes));
    let is_begun = |job: &&String| (0..nodes).any(|node| found.contains_key(&tick(node, job)));
    let jobs = asked.jobs.iter().chain(asked.perhaps.iter().filter(is_begun));
    let of_jobs = jobs.flat_map(|job| (0..nodes).map(move |node| tick(node, job)));
    let of_runs = (1..=asked.specs).flat_map(|round| settings(nodes, round));
    let lost = of_jobs.chain(of_runs).filter(|step| !found.contains_key(step));
    let lost = lost.inspect(|step| progress(&format!("  lost: {step}"))).count();
    report.at_most("B10 steps lost", count(lost), "steps", 0.0);
    let again = found.iter().filter(|(_, times)| **times > 1);
    let twice = again.inspect(|(step, times)| progress(&format!("  {times} times: {step}"))).count();
    report.at_most("B10 steps executed twice", count(twice), "steps", 0.0);
    told_by_runs(&stage.controller.caller(), &found, report)
}

/// Kills the controller while jobs and runs go on.
fn ask_and_kill(bench: &Bench, stage: &mut Stage, nodes: usize) -> Result<Asked> {
    let over = AtomicBool::new(false);
    let caller = stage.controller.caller();
    let spec = bench.work.join("steps.yaml");
    thread::scope(|scope| {
        let jobs = scope.spawn(|| ask_for_jobs(&caller, &over));
        let runs = scope.spawn(|| apply_again_and_again(&caller, &spec, nodes, &over));
        let result = kill_again_and_again(stage);
        over.store(true, Ordering::SeqCst);
        let (jobs, runs) = (jobs.join().ok(), runs.join().ok());
        result?;
        let asked = jobs.context("the thread of the jobs ended badly")??;
        Ok(Asked { specs: runs.context("the thread of the runs ended badly")??, ..asked })
    })
}

fn kill_again_and_again(stage: &mut Stage) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(SEED);
    for kill in 1..=KILLS {
        let life = Duration::from_millis(random.u64(LIVES));
        pause(life);
        progress(&format!("  kill {kill} of {KILLS}, after {:.1} s", life.as_secs_f64()));
        stage.controller.kill();
        stage.controller.start_again(&stage.control)?;
    }
    stage.controller.wait_ready()?;
    stage.simulated.wait(stage.simulated.agents, PATIENCE)
}

fn ask_for_jobs(caller: &Caller, over: &AtomicBool) -> Result<Asked> {
    let mut asked = Asked::default();
    let mut number = 0;
    while !over.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let job = format!("job{number}");
        number += 1;
        let answer = caller.windlass(&["exec", "--all", "--detach", "--", TICK, &job]).output()?;
        let has_id = !answer.stdout.trim_ascii().is_empty();
        if has_id {
            asked.jobs.insert(job)
        } else {
            asked.perhaps.insert(job)
        };
        pause(JOB_EVERY.saturating_sub(begun.elapsed()));
    }
    Ok(asked)
}

/// Applies one spec after the other; each until nothing is left to do, however often that takes. How many.
fn apply_again_and_again(caller: &Caller, spec: &Path, nodes: usize, over: &AtomicBool) -> Result<usize> {
    let mut round = 0;
    while !over.load(Ordering::SeqCst) {
        round += 1;
        let mut text = head(nodes, "sim") + "  settings:\n    sysctls:\n";
        for number in 0..PARAMETERS {
            writeln!(text, "      {}: {round}", parameter(number))?;
        }
        std::fs::write(spec, text)?;
        let mut give_up = Instant::now() + PATIENCE;
        // A controller that has just come has no node that it could ask.
        while !apply(caller, spec).is_ok_and(|applied| applied.is_as_wished) {
            if !over.load(Ordering::SeqCst) {
                give_up = Instant::now() + PATIENCE;
            }
            ensure!(Instant::now() < give_up, "round {round} of the spec is not applied; see `windlass run list`");
            pause(AGAIN);
        }
    }
    Ok(round)
}

/// Follows every job to its end; what did not end well is told.
fn until_all_jobs_ended(caller: &Caller) -> Result<()> {
    let names = run(&mut caller.windlass(&["get", "jobs", "--newest", "100000", "-o", "name"]))?;
    for name in String::from_utf8_lossy(&names.stdout).lines() {
        let job = name.rsplit('/').next().unwrap_or(name);
        if let Err(error) = run(&mut caller.windlass(&["attach", job])) {
            progress(&format!("  job {job} did not end well: {error:#}"));
        }
    }
    Ok(())
}

/// What the controller says of its runs, and whether it is what happened: a run that it forgot would be missing here.
fn told_by_runs(caller: &Caller, found: &BTreeMap<String, usize>, report: &mut Report) -> Result<()> {
    let listed = run(&mut caller.windlass(&["run", "list", "--newest", "100000", "-o", "json"]))?;
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).context("read the list of runs")?;
    let runs = listed["items"].as_array().context("there is no list of runs")?;
    let succeeded = runs.iter().filter(|run| run["state"] == "succeeded").count();
    report.at_most(
        format!("B10 runs, of {}, that did not succeed", runs.len()),
        count(runs.len() - succeeded),
        "runs",
        0.0,
    );
    let told: u64 = runs.iter().filter_map(|run| run["stepCount"].as_u64()).sum();
    let of_runs = found.iter().filter(|(step, _)| !step.contains(TICK)).map(|(_, times)| times).sum::<usize>();
    let differs = count(of_runs.abs_diff(usize::try_from(told)?));
    report.at_most(format!("B10 steps of runs, of {told} told, more or fewer executed"), differs, "steps", 0.0);
    Ok(())
}

/// The line of the ledger for a job on a node.
fn tick(node: usize, job: &str) -> String {
    format!("sim{node} {TICK} {job}")
}

/// The lines of the ledger for a run.
fn settings(nodes: usize, round: usize) -> impl Iterator<Item = String> {
    let line = move |node: usize, number: usize| {
        let argv = ["sysctl".to_owned(), "-w".to_owned(), format!("{}={round}", parameter(number))];
        Argv::new(argv.into()).map_or_else(|error| error.to_string(), |argv| format!("sim{node} {argv}"))
    };
    (0..nodes).flat_map(move |node| (0..PARAMETERS).map(move |number| line(node, number)))
}
