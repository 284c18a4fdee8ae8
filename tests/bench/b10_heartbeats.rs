// SPDX-License-Identifier: Apache-2.0
//! B10, the half about heartbeats: what 2,000 of them a second cost the controller.

use std::time::Duration;

use anyhow::Result;

use crate::memory::count;
use crate::process::pause;
use crate::report::Report;
use crate::simulation::Stage;

const MEASURED: Duration = Duration::from_secs(20);

/// Measures it; the stage's controller asks for one heartbeat a second.
///
/// # Errors
/// If agents are missing.
pub(crate) fn run_bench(stage: &Stage, report: &mut Report) -> Result<()> {
    let agents = stage.simulated.agents;
    // Facts and the first heartbeats after a reconnect are not what is measured.
    pause(Duration::from_secs(8));
    stage.simulated.wait(agents, Duration::from_secs(1))?;
    let before = stage.control.cpu_seconds();
    pause(MEASURED);
    let used = stage.control.cpu_seconds() - before;
    let beats = count(agents) * MEASURED.as_secs_f64();
    report.value("B10 controller: processor time per heartbeat", used / beats * 1e6, "us");
    let share = used / MEASURED.as_secs_f64() * 100.0;
    report.at_most(format!("B10 controller: {agents} heartbeats a second, share of a core"), share, "%", 5.0);
    Ok(())
}
