// SPDX-License-Identifier: Apache-2.0
//! Ours: a controller with its journal on, agents as real processes ([`agents`]) or simulated ones ([`simulated`]).

pub(crate) mod agents;
pub(crate) mod simulated;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::account::Group;
use crate::process::{Daemon, command, run, wait_until};

/// A controller on a busy machine starts within this.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What `make build` made.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// `windlass`.
    pub(crate) controller: PathBuf,
    /// `windlass-agent`, the static one.
    pub(crate) agent: PathBuf,
}

impl Programs {
    /// Finds them where `make build` puts them, or takes others.
    ///
    /// # Errors
    /// If they are not built.
    pub(crate) fn find(target: &Path, controller: Option<PathBuf>, agent: Option<PathBuf>) -> Result<Self> {
        let controller = controller.unwrap_or_else(|| target.join("release/windlass"));
        let agent = agent.unwrap_or_else(|| target.join("x86_64-unknown-linux-musl/release/windlass-agent"));
        // Each is started in a directory of its own.
        let found = |program: PathBuf| {
            ensure!(program.exists(), "{} is not there: run `make build` first", program.display());
            std::path::absolute(&program).context("find a program")
        };
        Ok(Self { controller: found(controller)?, agent: found(agent)? })
    }
}

/// A controller that runs.
#[derive(Debug)]
pub(crate) struct Controller {
    programs: Programs,
    directory: PathBuf,
    daemon: Daemon,
    addresses: Addresses,
}

/// Where a controller listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    listen: SocketAddr,
    join: SocketAddr,
    http: SocketAddr,
}

/// An operator who calls over mTLS, whatever becomes of the controller.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    program: PathBuf,
    profile: PathBuf,
}

impl Caller {
    /// The command line.
    pub(crate) fn windlass(&self, arguments: &[&str]) -> Command {
        let mut windlass = command(&self.program);
        windlass.arg("--profile").arg(&self.profile).args(arguments);
        windlass
    }
}

/// What an operator gives to whoever sets up a node.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Token {
    /// The secret.
    pub(crate) token: String,
    /// The CA's pin.
    pub(crate) ca_pin: String,
}

impl Controller {
    /// Starts one with a state directory of its own and makes an operator who calls over mTLS.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(programs: &Programs, directory: &Path, heartbeat_seconds: u64, group: &Group) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let addresses = Addresses { listen: free_address()?, join: free_address()?, http: free_address()? };
        configure(directory, addresses, heartbeat_seconds)?;
        let daemon = launch(programs, directory, group)?;
        let controller = Self { programs: programs.clone(), directory: directory.to_owned(), daemon, addresses };
        controller.wait_ready()?;
        let profile = controller.profile();
        if !profile.exists() {
            run(controller.admin().args(["operator", "create", "bench", "--role", "admin", "--out"]).arg(profile))?;
        }
        Ok(controller)
    }

    /// Kills it without a warning.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill();
    }

    /// Starts it again.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start_again(&mut self, group: &Group) -> Result<()> {
        self.daemon = launch(&self.programs, &self.directory, group)?;
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// If it does not.
    pub(crate) fn wait_ready(&self) -> Result<()> {
        let every = Duration::from_millis(5);
        wait_until("the controller is ready", START_PATIENCE, every, || {
            self.http_get("/readyz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        })
        .with_context(|| format!("see {}", self.directory.join("log").display()))
    }

    /// Changes how often agents send a heartbeat, from its next start.
    ///
    /// # Errors
    /// If the configuration cannot be written.
    pub(crate) fn set_heartbeat(&self, seconds: u64) -> Result<()> {
        configure(&self.directory, self.addresses, seconds)
    }

    /// Where machines join.
    pub(crate) fn join(&self) -> SocketAddr {
        self.addresses.join
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Its socket, where this user is an admin.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    fn profile(&self) -> PathBuf {
        self.directory.join("operator.toml")
    }

    /// The command line, over the socket.
    pub(crate) fn admin(&self) -> Command {
        let mut windlass = command(&self.programs.controller);
        windlass.arg("--socket").arg(self.socket());
        windlass
    }

    /// The command line, over mTLS.
    pub(crate) fn windlass(&self, arguments: &[&str]) -> Command {
        self.caller().windlass(arguments)
    }

    /// Its operator.
    pub(crate) fn caller(&self) -> Caller {
        Caller { program: self.programs.controller.clone(), profile: self.profile() }
    }

    /// Runs a program on every node and waits for all of them.
    ///
    /// # Errors
    /// If it fails on one.
    pub(crate) fn exec_all(&self, argv: &[&str]) -> Result<()> {
        run(self.windlass(&["exec", "--all", "--"]).args(argv)).map(drop)
    }

    /// A token for a node.
    ///
    /// # Errors
    /// If the controller refuses.
    pub(crate) fn token(&self, node: &str) -> Result<Token> {
        let output = run(self.admin().args(["token", "create", node, "-o", "json"]))?;
        serde_json::from_slice(&output.stdout).context("read a token")
    }

    /// Agents that are connected.
    pub(crate) fn connected(&self) -> usize {
        let metrics = self.http_get("/metrics").unwrap_or_default();
        let line = metrics.lines().find_map(|line| line.strip_prefix("windlass_nodes{state=\"connected\"} "));
        line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
    }

    /// Waits for agents.
    ///
    /// # Errors
    /// If they do not come.
    pub(crate) fn wait_connected(&self, nodes: usize, most: Duration) -> Result<()> {
        wait_until("agents connect", most, Duration::from_millis(10), || self.connected() >= nodes)
    }

    fn http_get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.addresses.http)?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }
}

fn configure(directory: &Path, addresses: Addresses, heartbeat_seconds: u64) -> Result<()> {
    let Addresses { listen, join, http } = addresses;
    // All nodes here share one address, so what one address may have has to be more.
    let config = format!(
        "listen = \"{listen}\"\njoin_listen = \"{join}\"\nhttp_listen = \"{http}\"\n\
         state_dir = \"{0}/state\"\nsocket = \"{0}/socket\"\n\
         [limits]\nper_address_unauthenticated = 10000\n[session]\nheartbeat_seconds = {heartbeat_seconds}\n",
        directory.display(),
    );
    fs::write(directory.join("controller.toml"), config).context("write the controller's configuration")
}

fn launch(programs: &Programs, directory: &Path, group: &Group) -> Result<Daemon> {
    let _entered = group.enter()?;
    let mut serve = command(&programs.controller);
    // The log of what every agent does is not part of what is compared.
    // As the unit has it.
    serve.env("MALLOC_ARENA_MAX", "2");
    serve.arg("serve").arg("--config").arg(directory.join("controller.toml")).args(["--log", "warn"]);
    serve.env("WINDLASS_SOCKET", directory.join("socket"));
    let daemon = Daemon::start(&mut serve, &directory.join("log"))?;
    group.watch(daemon.pid());
    Ok(daemon)
}

/// Free now; nobody else here takes ports in between.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
