// SPDX-License-Identifier: Apache-2.0
//! B7: the controller is killed with 2,000 agents connected and a job under way on each; how long until they are back and
//! answer, and whether a job is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::time::Instant;

use crate::load::{HOLD, PING};
use crate::measure::median;
use crate::memory::count;
use crate::process::pause;
use crate::report::{Report, progress};
use crate::simulation::Stage;

/// Each takes ten seconds.
const RUNS: usize = 3;

/// The longest an agent waits between attempts, twice.
const PATIENCE: Duration = Duration::from_secs(40);

/// Measures it.
///
/// # Errors
/// If agents do not come back at all.
pub(crate) fn run_bench(stage: &mut Stage, report: &mut Report) -> Result<()> {
    let (mut most, mut all, mut lost) = (Vec::new(), Vec::new(), 0.0);
    for round in 0..RUNS {
        let (first, second) = once(stage, &mut lost)?;
        progress(&format!("  back {}: {first:.3} s, all answer: {second:.3} s", round + 1));
        most.push(first);
        all.push(second);
    }
    let agents = stage.simulated.agents;
    report.value(format!("B7 99 % of {agents} agents are back (median of {RUNS})"), median(most), "s");
    let answered = median(all);
    report.at_most(format!("B7 all {agents} are back and answered a command"), answered, "s", 2.5);
    report.value("B7 efficiency: computed floor / ours", count(agents) * 0.75e-3 / 2.0 / answered, "");
    report.at_most("B7 jobs under way that were lost", lost, "jobs", 0.0);
    Ok(())
}

/// Seconds until most are back, and until all have answered.
fn once(stage: &mut Stage, lost: &mut f64) -> Result<(f64, f64)> {
    let agents = stage.simulated.agents;
    // Its exit code says that the job goes on.
    let job = stage.controller.windlass(&["exec", "--all", "--detach", "--", HOLD]).output()?;
    let job = String::from_utf8(job.stdout)?.trim().to_owned();
    ensure!(!job.is_empty(), "no job was made");
    pause(Duration::from_secs(1));
    stage.controller.kill();
    stage.simulated.wait_gone(PATIENCE)?;
    let begun = Instant::now();
    stage.controller.start_again(&stage.control)?;
    stage.simulated.wait(agents - agents / 100, PATIENCE)?;
    let most = begun.elapsed().as_secs_f64();
    stage.simulated.wait(agents, PATIENCE)?;
    stage.controller.exec_all(&[PING])?;
    let all = begun.elapsed().as_secs_f64();
    *lost += not_done(stage, &job)?;
    Ok((most, all))
}

/// Nodes on which the job did not end well.
fn not_done(stage: &Stage, job: &str) -> Result<f64> {
    let mut attach = stage.controller.windlass(&["attach", job, "-o", "json"]);
    let output = attach.output().context("follow the job")?;
    if output.status.success() {
        return Ok(0.0);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let done = text.matches("\"exit_code\": 0").count();
    progress(&format!("  job {job}: {}: {done} done", output.status));
    Ok(count(stage.simulated.agents.saturating_sub(done)))
}
