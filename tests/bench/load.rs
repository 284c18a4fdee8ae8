// SPDX-License-Identifier: Apache-2.0
//! A process that is many agents: joins those that have not joined, then runs them all until it is ended. How many are
//! connected is in a file, because asking the controller would be part of what is measured.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_agent::both::Agent;
use windlass_agent::config::Config;
use windlass_agent::dial::TcpDial;
use windlass_agent::host::clock::{Clock, SystemClock};
use windlass_agent::host::fake::FakeHost;
use windlass_agent::identity::IdentityStore;
use windlass_agent::jobs::fake::{FakeRunner, Script};
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_controller::client::{Calls, Target, connect};
use windlass_proto::v1;
use windlass_proto::v1::token_service_client::TokenServiceClient;

/// Joins under way at once, per process.
const JOINS: usize = 16;

/// How often the count is written if it changed.
const COUNT_EVERY: Duration = Duration::from_millis(5);

/// Which agents, of which controller.
#[derive(Debug, clap::Args)]
pub(crate) struct LoadArguments {
    /// The controller's socket.
    #[arg(long)]
    socket: PathBuf,
    /// The controller's join listener.
    #[arg(long)]
    join: String,
    /// Where the agents' state is kept.
    #[arg(long)]
    directory: PathBuf,
    /// The first agent's number.
    #[arg(long)]
    from: usize,
    /// The number after the last agent's.
    #[arg(long)]
    to: usize,
}

/// The program whose model runs for [`HOLD_FOR`]; all others end at once.
pub(crate) const HOLD: &str = "hold";

/// Longer than a controller is away when it is killed and started again.
const HOLD_FOR: Duration = Duration::from_secs(4);

/// Where a process says how many of its agents are connected.
pub(crate) fn count_file(directory: &Path, from: usize) -> PathBuf {
    directory.join(format!("connected-{from}"))
}

/// Runs the agents.
///
/// # Errors
/// If they cannot join.
pub(crate) fn run(arguments: &LoadArguments) -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(hold(arguments))
}

async fn hold(arguments: &LoadArguments) -> Result<()> {
    let channel = connect(&Target::Socket(arguments.socket.clone())).await?.channel;
    let numbers = futures_util::stream::iter(arguments.from..arguments.to);
    let joins = numbers.map(|number| enrol(arguments, channel.clone(), number)).buffer_unordered(JOINS);
    let agents: Vec<Agent> = joins.try_collect().await?;
    drop(channel);
    let connected = Arc::new(AtomicUsize::new(0));
    for agent in agents {
        tokio::spawn(count(agent.status.subscribe(), Arc::clone(&connected)));
        tokio::spawn(agent.run(CancellationToken::new()));
    }
    let path = count_file(&arguments.directory, arguments.from);
    let mut written = usize::MAX;
    loop {
        let now = connected.load(Ordering::Relaxed);
        if now != written {
            tokio::fs::write(&path, now.to_string()).await?;
            written = now;
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

async fn count(mut status: watch::Receiver<String>, connected: Arc<AtomicUsize>) {
    let mut was = false;
    while status.changed().await.is_ok() {
        let is = *status.borrow_and_update() == "connected";
        match (was, is) {
            (false, true) => connected.fetch_add(1, Ordering::Relaxed),
            (true, false) => connected.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
        was = is;
    }
}

/// Joins unless it has joined already; the agent, not yet running.
async fn enrol(arguments: &LoadArguments, channel: Calls, number: usize) -> Result<Agent> {
    let name = format!("sim{number}");
    let state_dir = arguments.directory.join(&name);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = IdentityStore::new(&state_dir);
    if store.load()?.is_none() {
        let plan = plan(arguments, channel, &name, &state_dir).await?;
        join(&plan, &TcpDial::new(&arguments.join), &clock, number as u64).await?;
    }
    let identity = store.load()?.context("joined without an identity")?;
    let play = |argv: &windlass_types::action::Argv| {
        let is_hold = argv.as_slice().first().is_some_and(|program| program == HOLD);
        Script { takes: if is_hold { HOLD_FOR } else { Duration::ZERO }, ..Script::default() }
    };
    Ok(Agent {
        dial: Arc::new(TcpDial::new(identity.agent_endpoint.clone())),
        join_dial: Arc::new(TcpDial::new(identity.join_endpoint.clone())),
        config: Config { state_dir, ..Config::default() },
        host: Arc::new(FakeHost::new(&name)),
        runner: Arc::new(FakeRunner::new(play)),
        status: watch::Sender::new(String::new()),
        handover: CancellationToken::new(),
        seed: number as u64,
        identity,
        clock,
    })
}

async fn plan(arguments: &LoadArguments, channel: Calls, name: &str, state_dir: &Path) -> Result<JoinPlan> {
    let request = v1::CreateTokenRequest { node: name.to_owned(), ttl_seconds: 1800 };
    let token = TokenServiceClient::new(channel).create_token(request).await?.into_inner();
    std::fs::create_dir_all(state_dir)?;
    let token_file = arguments.directory.join(format!("{name}.token"));
    let file = std::fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&token_file)?;
    std::io::Write::write_all(&mut &file, token.token.as_bytes())?;
    let pins = token.ca_pins.iter().map(|pin| pin.parse()).collect::<Result<_, _>>()?;
    Ok(JoinPlan {
        controller: arguments.join.parse::<Endpoint>()?,
        pins,
        token_file,
        executor_dir: state_dir.to_owned(),
        state_dir: state_dir.to_owned(),
    })
}
