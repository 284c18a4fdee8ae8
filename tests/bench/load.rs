// SPDX-License-Identifier: Apache-2.0
//! A process that is many agents: joins those that have not joined, then runs them all until it is ended. How many are
//! connected is in a file, because asking the controller would be part of what is measured.
//!
//! - [`ledger`]: what models have been told to do, for those who count. [`reboots`]: models that reboot.

pub(crate) mod ledger;
pub(crate) mod reboots;

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
use windlass_agent::identity::{Identity, IdentityStore};
use windlass_agent::jobs::fake::{FakeRunner, Script};
use windlass_agent::jobs::runner::Runner;
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_controller::client::{Calls, Target, connect};
use windlass_proto::v1;
use windlass_proto::v1::token_service_client::TokenServiceClient;
use windlass_types::action::Argv;

/// Joins under way at once, per process.
const JOINS: usize = 16;

/// How often counts are written if they changed.
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
    /// What is beneath them.
    #[arg(long, value_enum, default_value = "plain")]
    models: Models,
}

/// What is beneath the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Models {
    /// Programs end at once, or hold.
    Plain,
    /// So they do, and each that changes something is written down.
    Counting,
    /// Machines that reboot.
    Rebooting,
}

impl Models {
    /// The word for it on the command line.
    pub(crate) fn word(self) -> String {
        clap::ValueEnum::to_possible_value(&self).map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// The program whose model runs for [`HOLD_FOR`]; all others end at once.
pub(crate) const HOLD: &str = "hold";

/// The program of a command that costs nothing but to be told.
pub(crate) const PING: &str = "ping";

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
    let nodes: Vec<Node> = joins.try_collect().await?;
    drop(channel);
    let path = count_file(&arguments.directory, arguments.from);
    if arguments.models == Models::Rebooting {
        return reboots::live(nodes, &path).await;
    }
    let ledger = match arguments.models {
        Models::Counting => Some(ledger::Ledger::open(&arguments.directory, arguments.from)?),
        Models::Plain | Models::Rebooting => None,
    };
    let connected = Arc::new(AtomicUsize::new(0));
    for node in nodes {
        let host = FakeHost::new(&node.name);
        let runner = match &ledger {
            Some(ledger) => ledger.runner(&host, &node.name),
            None => plain(&host),
        };
        let agent = node.agent(host, Arc::new(runner));
        tokio::spawn(count(agent.status.subscribe(), Arc::clone(&connected)));
        tokio::spawn(agent.run(CancellationToken::new()));
    }
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

/// Tools of the operating system, which steps ask and use, do to the model what they do; programs of the benchmark do nothing.
fn plain(host: &FakeHost) -> FakeRunner {
    let host = host.clone();
    FakeRunner::new(move |argv: &Argv| match argv.program() {
        HOLD => Script { takes: HOLD_FOR, ..Script::default() },
        PING => Script::default(),
        _ => {
            let scripted = host.run(argv);
            Script { stdout: scripted.stdout.into_bytes(), code: scripted.exit_code, ..Script::default() }
        }
    })
}

/// A node that has joined.
#[derive(Debug, Clone)]
struct Node {
    number: usize,
    name: String,
    state_dir: PathBuf,
    identity: Identity,
}

impl Node {
    /// Its agent, not yet running, on this model.
    fn agent(&self, host: FakeHost, runner: Arc<dyn Runner>) -> Agent {
        Agent {
            dial: Arc::new(TcpDial::new(self.identity.agent_endpoint.clone())),
            join_dial: Arc::new(TcpDial::new(self.identity.join_endpoint.clone())),
            config: Config { state_dir: self.state_dir.clone(), ..Config::default() },
            host: Arc::new(host),
            runner,
            status: watch::Sender::new(String::new()),
            handover: CancellationToken::new(),
            seed: self.number as u64,
            identity: self.identity.clone(),
            clock: Arc::new(SystemClock),
        }
    }
}

/// Joins unless it has joined already.
async fn enrol(arguments: &LoadArguments, channel: Calls, number: usize) -> Result<Node> {
    let name = format!("sim{number}");
    let state_dir = arguments.directory.join(&name);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = IdentityStore::new(&state_dir);
    if store.load()?.is_none() {
        let plan = plan(arguments, channel, &name, &state_dir).await?;
        join(&plan, &TcpDial::new(&arguments.join), &clock, number as u64).await?;
    }
    let identity = store.load()?.context("joined without an identity")?;
    Ok(Node { number, name, state_dir, identity })
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
