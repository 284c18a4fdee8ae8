// SPDX-License-Identifier: Apache-2.0
//! `windlass-agent front`, `executor` and `run`: puts the halves together from the real world and tells systemd how they
//! are.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::prctl;
use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_types::error_chain::ErrorChain;

use super::{RunArguments, failure, seed};
use crate::both::Agent;
use crate::config::{Config, JobRunner};
use crate::dial::TcpDial;
use crate::durable_file;
use crate::executor::Executor;
use crate::executor::mandate::Mandate;
use crate::front::Front;
use crate::host::RealHost;
use crate::host::clock::{Clock, SystemClock};
use crate::host::transient_unit::TransientUnits;
use crate::identity::{Identity, IdentityStore};
use crate::jobs::process_group::ProcessGroups;
use crate::jobs::runner::Runner;
use crate::local::UnixDial;

/// Something in the configuration or the state must be changed (EX_CONFIG).
const EXIT_CONFIG: u8 = 78;

/// What of a half ended it.
type Ended = Result<(), String>;

/// Runs the front until SIGTERM or SIGINT.
pub(super) async fn front(arguments: RunArguments) -> ExitCode {
    let signals = Signals::default();
    ended(run_front(arguments, &signals).await)
}

async fn run_front(arguments: RunArguments, signals: &Signals) -> Ended {
    let config = config(arguments)?;
    let identity = identity(&config.state_dir)?;
    signals.listen()?;
    tracing::info!(node = %identity.node, controller = %identity.agent_endpoint, "front started");
    let status = watch::Sender::new("connecting".to_owned());
    tokio::spawn(tell_systemd(status.subscribe(), signals.shutdown.clone()));
    let front = Front {
        dial: Arc::new(TcpDial::new(identity.agent_endpoint.clone())),
        join_dial: Arc::new(TcpDial::new(identity.join_endpoint.clone())),
        executor: Arc::new(UnixDial(config.executor_socket)),
        state_dir: config.state_dir,
        clock: Arc::new(SystemClock),
        host: Arc::new(RealHost::default()),
        seed: seed(),
        status,
        handover: signals.handover.clone(),
        identity,
    };
    front.run(signals.shutdown.clone()).await;
    Ok(())
}

/// Runs the executor until SIGTERM or SIGINT.
pub(super) async fn executor(arguments: RunArguments) -> ExitCode {
    let signals = Signals::default();
    ended(run_executor(arguments, &signals).await)
}

async fn run_executor(arguments: RunArguments, signals: &Signals) -> Ended {
    let config = config(arguments)?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let mandate = Mandate::load(&config.executor_state_dir).map_err(|error| text(&error))?;
    let listener = listener(&config.executor_socket)?;
    signals.listen()?;
    tracing::info!(node = %mandate.node, "executor started");
    let status = watch::Sender::new("waiting for orders".to_owned());
    let executor = Executor {
        mandate,
        state_dir: config.executor_state_dir.clone(),
        runner: runner(config.jobs, &clock).await?,
        host: Arc::new(RealHost::default()),
        seed: seed(),
        handover: signals.handover.clone(),
        config,
        clock,
    };
    let ready = || drop(tokio::spawn(tell_systemd(status.subscribe(), signals.shutdown.clone())));
    executor.run(listener, signals.shutdown.clone(), ready).await.map_err(|error| text(&error))
}

/// Runs both halves until SIGTERM or SIGINT.
pub(super) async fn both(arguments: RunArguments) -> ExitCode {
    let signals = Signals::default();
    ended(run_both(arguments, &signals).await)
}

async fn run_both(arguments: RunArguments, signals: &Signals) -> Ended {
    let config = config(arguments)?;
    let identity = identity(&config.state_dir)?;
    signals.listen()?;
    tracing::info!(node = %identity.node, controller = %identity.agent_endpoint, "agent started");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let status = watch::Sender::new("connecting".to_owned());
    tokio::spawn(tell_systemd(status.subscribe(), signals.shutdown.clone()));
    let agent = Agent {
        dial: Arc::new(TcpDial::new(identity.agent_endpoint.clone())),
        join_dial: Arc::new(TcpDial::new(identity.join_endpoint.clone())),
        runner: runner(config.jobs, &clock).await?,
        host: Arc::new(RealHost::default()),
        seed: seed(),
        status,
        handover: signals.handover.clone(),
        identity,
        config,
        clock,
    };
    agent.run(signals.shutdown.clone()).await.map_err(|error| text(&error))
}

fn ended(ended: Ended) -> ExitCode {
    notify(&[NotifyState::Stopping]);
    ended.map_or_else(|text| failure(EXIT_CONFIG, &text), |()| ExitCode::SUCCESS)
}

fn text(error: &dyn std::error::Error) -> String {
    ErrorChain(error).to_string()
}

/// With one directory for everything if it was named on the command line.
fn config(arguments: RunArguments) -> Result<Config, String> {
    let mut config = Config::load(arguments.config.as_deref()).map_err(|error| text(&error))?;
    if let Some(state_dir) = arguments.state_dir {
        config.executor_state_dir.clone_from(&state_dir);
        config.state_dir = state_dir;
    }
    Ok(config)
}

fn identity(state_dir: &Path) -> Result<Identity, String> {
    let store = IdentityStore::new(state_dir);
    let identity = store.load().map_err(|error| text(&error))?.ok_or_else(|| {
        let directory = state_dir.display();
        format!("this machine has not joined (no identity in {directory}): run `windlass-agent join` first")
    })?;
    store.prepare().map_err(|error| text(&error))?;
    Ok(identity)
}

/// The socket that systemd holds, or one of our own that our own user alone may connect to.
fn listener(path: &Path) -> Result<UnixListener, String> {
    let failed = |error: std::io::Error| format!("listen for the front at {}: {error}", path.display());
    let inherited = listenfd::ListenFd::from_env().take_unix_listener(0).map_err(failed)?;
    let Some(inherited) = inherited else {
        let directory = path.parent().unwrap_or_else(|| Path::new("."));
        durable_file::private_directory(directory).and_then(|()| durable_file::remove(path)).map_err(failed)?;
        return UnixListener::bind(path).map_err(failed);
    };
    inherited.set_nonblocking(true).and_then(|()| UnixListener::from_std(inherited)).map_err(failed)
}

/// What signals ask for.
#[derive(Debug, Default)]
struct Signals {
    /// SIGTERM and SIGINT: end.
    shutdown: CancellationToken,
    /// SIGHUP: leave when there is nothing in hand; systemd starts the next.
    handover: CancellationToken,
}

impl Signals {
    fn listen(&self) -> Result<(), String> {
        let failed = |error: std::io::Error| format!("listen for signals: {error}");
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut hang_up = signal(SignalKind::hangup()).map_err(failed)?;
        let (shutdown, handover) = (self.shutdown.clone(), self.handover.clone());
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                tracing::info!("another is to take over; waiting for a moment with nothing in hand");
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
}

/// Ready at once: whether the controller can be reached is a matter of status, not of a failed start. The watchdog is fed
/// from the one thread that does everything, so a stuck half is restarted.
async fn tell_systemd(status: watch::Receiver<String>, shutdown: CancellationToken) {
    let pause = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    shutdown.run_until_cancelled(tell(status, pause, notify)).await;
}

/// The watchdog has a rhythm of its own: a half that tries in vain to connect has a new status every few seconds.
async fn tell(mut status: watch::Receiver<String>, pause: Option<Duration>, notify: impl Fn(&[NotifyState<'_>])) {
    notify(&[NotifyState::Ready]);
    let mut watchdog = pause.map(tokio::time::interval);
    loop {
        let text = status.borrow_and_update().clone();
        notify(&[NotifyState::Status(&text)]);
        let is_due = async {
            match &mut watchdog {
                Some(watchdog) => drop(watchdog.tick().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = status.changed() => if changed.is_err() { return },
            () = is_due => notify(&[NotifyState::Watchdog]),
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
    if wish == JobRunner::ProcessGroup || (wish == JobRunner::Auto && !TransientUnits::are_possible()) {
        return Ok(process_groups(clock));
    }
    match TransientUnits::connect(Arc::clone(clock)).await {
        Ok(units) => Ok(Arc::new(units)),
        Err(error) if wish == JobRunner::Auto => {
            let error = text(&error);
            tracing::warn!(%error, "programs run as process groups: how they end is not known if the agent restarts meanwhile");
            Ok(process_groups(clock))
        }
        Err(error) => Err(format!("run jobs as systemd units, as the configuration says: {}", text(&error))),
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
    async fn the_watchdog_is_fed_however_often_the_status_changes() {
        let status = watch::Sender::new(String::new());
        let fed = Cell::new(0);
        let count = |states: &[NotifyState<'_>]| {
            fed.set(fed.get() + states.iter().filter(|state| matches!(state, NotifyState::Watchdog)).count());
        };
        let changes = async {
            for second in 0..60 {
                tokio::time::sleep(Duration::from_secs(1)).await;
                status.send_replace(format!("not connected for {second} s"));
            }
        };
        tokio::select! {
            () = tell(status.subscribe(), Some(Duration::from_secs(15)), count) => {}
            () = changes => {}
        }
        assert!(fed.get() >= 4, "{}", fed.get());
    }
}
