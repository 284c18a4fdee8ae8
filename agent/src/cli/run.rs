// SPDX-License-Identifier: Apache-2.0
//! `windlass-agent front`, `executor` and `run`: puts the halves together from the real world and tells systemd how they
//! are.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::failed::Failed;
use super::runner::{runner, until_bus};
use super::{RunArguments, failure, seed};
use crate::both::Agent;
use crate::config::Config;
use crate::dial::TcpDial;
use crate::durable_file;
use crate::executor::Executor;
use crate::executor::mandate::Mandate;
use crate::front::Front;
use crate::host::RealHost;
use crate::host::clock::{Clock, SystemClock};
use crate::identity::{Identity, IdentityStore};
use crate::local::UnixDial;

/// How a half ended.
type Ended = Result<(), Failed>;

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
    let mandate = Mandate::load(&config.executor_state_dir)?;
    let listener = listener(&config.executor_socket)?;
    signals.listen()?;
    let Some(runner) = signals.shutdown.run_until_cancelled(runner(config.jobs, &clock)).await else { return Ok(()) };
    let runner = runner?;
    tracing::info!(node = %mandate.node, "executor started");
    let (stands_in, bus_clock) = (runner.stands_in, Arc::clone(&clock));
    let makes_room_for_units = async {
        if stands_in {
            until_bus(&bus_clock).await;
            signals.handover.cancel();
        }
        std::future::pending::<Ended>().await
    };
    let status = watch::Sender::new("waiting for orders".to_owned());
    let executor = Executor {
        mandate,
        state_dir: config.executor_state_dir.clone(),
        runner: runner.runner,
        host: Arc::new(RealHost::default()),
        seed: seed(),
        handover: signals.handover.clone(),
        config,
        clock,
    };
    let ready = || drop(tokio::spawn(tell_systemd(status.subscribe(), signals.shutdown.clone())));
    tokio::select! {
        ended = executor.run(listener, signals.shutdown.clone(), ready) => Ok(ended?),
        ended = makes_room_for_units => ended,
    }
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
    let Some(runner) = signals.shutdown.run_until_cancelled(runner(config.jobs, &clock)).await else { return Ok(()) };
    let agent = Agent {
        dial: Arc::new(TcpDial::new(identity.agent_endpoint.clone())),
        join_dial: Arc::new(TcpDial::new(identity.join_endpoint.clone())),
        runner: runner?.runner,
        host: Arc::new(RealHost::default()),
        seed: seed(),
        status,
        handover: signals.handover.clone(),
        identity,
        config,
        clock,
    };
    Ok(agent.run(signals.shutdown.clone()).await?)
}

fn ended(ended: Ended) -> ExitCode {
    notify(&[NotifyState::Stopping]);
    ended.map_or_else(|failed| failure(failed.code, &failed.text), |()| ExitCode::SUCCESS)
}

/// With one directory for everything if it was named on the command line.
fn config(arguments: RunArguments) -> Result<Config, Failed> {
    let mut config = Config::load(arguments.config.as_deref()).map_err(|error| Failed::because(&error, true))?;
    if let Some(state_dir) = arguments.state_dir {
        config.executor_state_dir.clone_from(&state_dir);
        config.state_dir = state_dir;
    }
    Ok(config)
}

fn identity(state_dir: &Path) -> Result<Identity, Failed> {
    IdentityStore::new(state_dir).load()?.ok_or_else(|| {
        let directory = state_dir.display();
        let text = format!("this machine has not joined (no identity in {directory}): run `windlass-agent join` first");
        Failed::for_good(text)
    })
}

/// The socket that systemd holds, or one of our own that our own user alone may connect to.
fn listener(path: &Path) -> Result<UnixListener, Failed> {
    let failed =
        |error: std::io::Error| Failed::for_now(format!("listen for the front at {}: {error}", path.display()));
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
    fn listen(&self) -> Result<(), Failed> {
        let failed = |error: std::io::Error| Failed::for_now(format!("listen for signals: {error}"));
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use windlass_types::name::NodeName;

    use super::*;
    use crate::test_pki::TestCa;

    #[test]
    fn a_front_starts_although_nothing_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let store = IdentityStore::new(dir.path());
        let key = store.pending_key().unwrap();
        let issued = TestCa::new().issue_agent(&key);
        let endpoints = ("bastion:7600".to_owned(), "bastion:7601".to_owned());
        store.save(&Identity::new(NodeName::new("node1").unwrap(), &key, &issued, endpoints).unwrap()).unwrap();
        // In the way of a probe, as a full disk is.
        std::fs::create_dir(dir.path().join(".writable")).unwrap();
        assert_eq!(identity(dir.path()).unwrap().node.as_str(), "node1");
    }

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
