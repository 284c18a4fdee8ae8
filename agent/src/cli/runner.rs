// SPDX-License-Identifier: Apache-2.0
//! Who runs the programs of this machine's jobs, as it is configured and as it is possible here.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl;
use tokio::time::Instant;
use windlass_types::error_chain::ErrorChain;

use super::failed::Failed;
use crate::config::JobRunner;
use crate::host::clock::Clock;
use crate::host::transient_unit::{TransientUnits, UnitsUnavailable};
use crate::jobs::process_group::ProcessGroups;
use crate::jobs::runner::Runner;

/// How long the bus may be away at the start, as when it is updated at the same time.
const BUS_PATIENCE: Duration = Duration::from_secs(30);

/// Between two attempts to reach it.
const BUS_PAUSE: Duration = Duration::from_millis(500);

/// Between two looks whether it is there again, once programs run without it.
const BUS_LOOK: Duration = Duration::from_secs(10);

/// Who runs programs.
pub(super) struct Chosen {
    pub(super) runner: Arc<dyn Runner>,
    /// It stands in for systemd, whose bus is away: see [`until_bus`].
    pub(super) stands_in: bool,
}

/// A host that should run units but cannot still runs jobs, and says what that gives up.
pub(super) async fn runner(wish: JobRunner, clock: &Arc<dyn Clock>) -> Result<Chosen, Failed> {
    if wish == JobRunner::ProcessGroup || (wish == JobRunner::Auto && !TransientUnits::are_possible()) {
        return Ok(Chosen { runner: process_groups(clock), stands_in: false });
    }
    match patiently(async || connect(clock).await).await {
        Ok(units) => Ok(Chosen { runner: Arc::new(units), stands_in: false }),
        Err(error) if wish == JobRunner::Auto => {
            let stands_in = matches!(error, UnitsUnavailable::Bus(_));
            let error = ErrorChain(&error).to_string();
            tracing::warn!(%error, "programs run as process groups: how they end is not known if the agent restarts meanwhile");
            Ok(Chosen { runner: process_groups(clock), stands_in })
        }
        Err(error) => {
            let text = format!("run jobs as systemd units, as the configuration says: {}", ErrorChain(&error));
            let is_final = matches!(error, UnitsUnavailable::TooOld(_));
            Err(if is_final { Failed::for_good(text) } else { Failed::for_now(text) })
        }
    }
}

async fn connect(clock: &Arc<dyn Clock>) -> Result<TransientUnits, UnitsUnavailable> {
    TransientUnits::connect(Arc::clone(clock)).await
}

/// Waits until the bus is there. What was begun as units waits for an executor that finds it.
pub(super) async fn until_bus(clock: &Arc<dyn Clock>) {
    looking(async || connect(clock).await).await;
    tracing::info!("the bus is there again: the next executor runs programs as units");
}

async fn looking<T>(connect: impl AsyncFn() -> Result<T, UnitsUnavailable>) {
    loop {
        tokio::time::sleep(BUS_LOOK).await;
        match connect().await {
            Ok(_) => return,
            Err(error) => tracing::debug!(error = %ErrorChain(&error), "the bus is still away"),
        }
    }
}

/// Without the bus a half would do without units for as long as it runs, so it is tried for a while.
async fn patiently<T>(connect: impl AsyncFn() -> Result<T, UnitsUnavailable>) -> Result<T, UnitsUnavailable> {
    let until = Instant::now() + BUS_PATIENCE;
    loop {
        match connect().await {
            Err(UnitsUnavailable::Bus(error)) if Instant::now() < until => {
                tracing::debug!(%error, "the bus cannot be reached yet");
                tokio::time::sleep(BUS_PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// What the sandbox of the agent's unit forbids, it forbids them too.
fn process_groups(clock: &Arc<dyn Clock>) -> Arc<dyn Runner> {
    let is_sandboxed = TransientUnits::are_possible() && prctl::get_no_new_privs().unwrap_or(true);
    if !is_sandboxed {
        return Arc::new(ProcessGroups::new(Arc::clone(clock)));
    }
    tracing::warn!("programs run in the agent's sandbox: steps of runs are not done here");
    Arc::new(ProcessGroups::confined(Arc::clone(clock)))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_bus_that_is_away_for_a_while_is_waited_for() {
        let broken = || zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::NotFound).into());
        let tried = Cell::new(0);
        let connect = async || {
            tried.set(tried.get() + 1);
            if tried.get() < 5 { Err(UnitsUnavailable::Bus(broken())) } else { Ok(()) }
        };
        patiently(connect).await.unwrap();
        let begun = Instant::now();
        assert!(patiently(async || Err::<(), _>(UnitsUnavailable::Bus(broken()))).await.is_err());
        assert!(begun.elapsed() >= BUS_PATIENCE && begun.elapsed() < BUS_PATIENCE * 2);
        tried.set(0);
        looking(connect).await;
        assert_eq!(tried.get(), 5, "and looked for as long as it takes");
        let begun = Instant::now();
        assert!(patiently(async || Err::<(), _>(UnitsUnavailable::TooOld("219".into()))).await.is_err());
        assert_eq!(begun.elapsed(), Duration::ZERO, "that does not pass");
    }
}
