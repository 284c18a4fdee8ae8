// SPDX-License-Identifier: Apache-2.0
//! `windlass-agent run`: puts the agent together from the real world and tells systemd how it is.

use std::process::ExitCode;
use std::sync::Arc;

use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_types::error_chain::ErrorChain;

use super::{RunArguments, failure, seed};
use crate::config::{Config, JobRunner};
use crate::dial::TcpDial;
use crate::front::Agent;
use crate::host::RealHost;
use crate::host::clock::{Clock, SystemClock};
use crate::host::transient_unit::TransientUnits;
use crate::identity::IdentityStore;
use crate::jobs::process_group::ProcessGroups;
use crate::jobs::runner::Runner;

/// Something in the configuration or the state must be changed (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

/// Runs the agent until SIGTERM or SIGINT.
pub(super) async fn run(arguments: RunArguments) -> ExitCode {
    let agent = match prepare(arguments).await {
        Ok(agent) => agent,
        Err(text) => return failure(EXIT_CONFIG, &text),
    };
    let shutdown = CancellationToken::new();
    if let Err(error) = end_on_signals(&shutdown, &agent.handover) {
        return failure(1, &format!("listen for signals: {error}"));
    }
    tracing::info!(node = %agent.identity.node, controller = %agent.identity.agent_endpoint, "agent started");
    tokio::spawn(tell_systemd(agent.status.subscribe(), shutdown.clone()));
    let ended = agent.run(shutdown).await;
    notify(&[NotifyState::Stopping]);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(EXIT_CONFIG, &ErrorChain(&error).to_string()),
    }
}

async fn prepare(arguments: RunArguments) -> Result<Agent, String> {
    let text = |error: &dyn std::error::Error| ErrorChain(error).to_string();
    let mut config = Config::load(arguments.config.as_deref()).map_err(|error| text(&error))?;
    if let Some(state_dir) = arguments.state_dir {
        config.state_dir = state_dir;
    }
    let store = IdentityStore::new(&config.state_dir);
    let identity = store.load().map_err(|error| text(&error))?.ok_or_else(|| {
        let directory = config.state_dir.display();
        format!("this machine has not joined (no identity in {directory}): run `windlass-agent join` first")
    })?;
    store.prepare().map_err(|error| text(&error))?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Ok(Agent {
        dial: Arc::new(TcpDial::new(identity.agent_endpoint.clone())),
        join_dial: Arc::new(TcpDial::new(identity.join_endpoint.clone())),
        runner: runner(config.jobs, &clock).await?,
        host: Arc::new(RealHost::default()),
        status: watch::Sender::new("connecting".to_owned()),
        handover: CancellationToken::new(),
        seed: seed(),
        identity,
        config,
        clock,
    })
}

/// SIGTERM and SIGINT end the agent, SIGHUP asks it to leave when it has no job in hand: systemd starts the next.
fn end_on_signals(shutdown: &CancellationToken, handover: &CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hang_up = signal(SignalKind::hangup())?;
    let (shutdown, handover) = (shutdown.clone(), handover.clone());
    tokio::spawn(async move {
        while hang_up.recv().await.is_some() {
            tracing::info!("another agent is to take over; waiting for a moment without a job");
            handover.cancel();
        }
    });
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending; jobs that run go on");
        shutdown.cancel();
    });
    Ok(())
}

/// Ready at once: whether the controller can be reached is a matter of status, not of a failed start. The watchdog is fed
/// from the one thread that does everything, so a stuck agent is restarted.
async fn tell_systemd(mut status: watch::Receiver<String>, shutdown: CancellationToken) {
    notify(&[NotifyState::Ready]);
    let pause = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    loop {
        let text = status.borrow_and_update().clone();
        notify(&[NotifyState::Status(&text)]);
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = async { tokio::time::sleep(pause.unwrap_or_default()).await }, if pause.is_some() => {
                notify(&[NotifyState::Watchdog]);
            }
            () = shutdown.cancelled() => return,
        }
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// A host that should run units but cannot still runs jobs, and says what that gives up.
async fn runner(wish: JobRunner, clock: &Arc<dyn Clock>) -> Result<Arc<dyn Runner>, String> {
    let groups = || Ok::<Arc<dyn Runner>, String>(Arc::new(ProcessGroups::new(Arc::clone(clock))));
    if wish == JobRunner::ProcessGroup || (wish == JobRunner::Auto && !TransientUnits::are_possible()) {
        return groups();
    }
    match TransientUnits::connect(Arc::clone(clock)).await {
        Ok(units) => Ok(Arc::new(units)),
        Err(error) if wish == JobRunner::Auto => {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(%error, "jobs run as process groups: how they end is not known if the agent restarts meanwhile");
            groups()
        }
        Err(error) => Err(format!("run jobs as systemd units, as the configuration says: {}", ErrorChain(&error))),
    }
}
