// SPDX-License-Identifier: Apache-2.0
//! A controller as a process, in a directory and on an address of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::atomic::{AtomicU8, Ordering};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;
use windlass_controller::client::{Calls, Target, connect};

use crate::process::{Answer, Running, command, on_tmpfs, program, run};
use crate::wait::{LONG, wait_for};

/// Where a controller listens.
#[derive(Debug, Clone, Copy)]
pub struct Listeners {
    /// For agents and remote operators.
    pub agents: SocketAddr,
    /// For machines that join.
    pub join: SocketAddr,
    /// For health checks.
    pub http: SocketAddr,
}

/// A controller.
#[derive(Debug)]
pub struct Controller {
    directory: TempDir,
    process: Option<Running>,
    listeners: Listeners,
}

/// Each controller of each test process has a loopback address of its own, so that a port it had is still free when it
/// starts again.
fn own_address() -> IpAddr {
    static NEXT: AtomicU8 = AtomicU8::new(0);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let nth = NEXT.fetch_add(1, Ordering::Relaxed) & 0x0f;
    IpAddr::from([127, 128 | (high & 0x07) << 4 | nth, middle, low.max(1)])
}

impl Controller {
    /// Starts a controller with the default configuration.
    pub async fn start() -> Self {
        Self::start_with("").await
    }

    /// Starts a controller with a configuration file.
    ///
    /// # Panics
    /// If it does not come to serve.
    pub async fn start_with(config: &str) -> Self {
        let mut controller = Self::prepared(config);
        controller.restart().await;
        controller
    }

    /// Everything but the process.
    ///
    /// # Panics
    /// If the directory cannot be made.
    #[must_use]
    pub fn prepared(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("controller.toml"), config).expect("written");
        let any = SocketAddr::new(own_address(), 0);
        Self { directory, process: None, listeners: Listeners { agents: any, join: any, http: any } }
    }

    /// Before it is started: virtual machines reach only this one of their host's addresses, as 10.0.2.2.
    pub fn listen_for_guests(&mut self) {
        self.listen_at(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }

    /// Before it is started: where it listens.
    pub fn listen_at(&mut self, address: IpAddr) {
        let any = SocketAddr::new(address, 0);
        self.listeners = Listeners { agents: any, join: any, http: any };
    }

    /// Starts it where it was before.
    ///
    /// # Panics
    /// If it runs, or does not come to serve.
    pub async fn restart(&mut self) {
        self.start_by(self.serve_command()).await;
    }

    /// Starts it with its state on a small filesystem of its own, see [`on_tmpfs`].
    pub async fn start_on_tmpfs(&mut self, options: &str) {
        self.start_by(on_tmpfs(self.serve_command(), &self.state_dir(), options)).await;
    }

    /// Starts it by another command than [`Controller::serve_command`] gives, which becomes that in the end.
    ///
    /// # Panics
    /// If it runs, or does not come to serve.
    pub async fn start_by(&mut self, mut serve: Command) {
        assert!(self.process.is_none(), "it runs");
        let skip = self.log().len();
        let mut process = Running::start(&mut serve, &self.log_path());
        let (listeners, _) = wait_for("the controller serves", LONG, || {
            let log = self.log();
            let ended = process.ended();
            assert!(ended.is_none(), "the controller ended with {ended:?}:\n{}", &log[skip..]);
            std::future::ready(log[skip..].lines().find_map(serving))
        })
        .await;
        self.listeners = listeners;
        self.process = Some(process);
    }

    /// The command that serves this controller's state.
    #[must_use]
    pub fn serve_command(&self) -> Command {
        let mut serve = command(program("windlass"), self.directory.path());
        serve.arg("serve").arg("--config").arg(self.directory.path().join("controller.toml"));
        serve.arg("--state-dir").arg(self.state_dir()).arg("--socket").arg(self.socket());
        serve.arg("--listen").arg(self.listeners.agents.to_string());
        serve.arg("--join-listen").arg(self.listeners.join.to_string());
        serve.arg("--http-listen").arg(self.listeners.http.to_string());
        serve
    }

    /// Kills it.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9().await;
    }

    /// Ends it as the service manager does.
    ///
    /// # Panics
    /// If it does not run.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        process.signal(Signal::SIGTERM);
        process.wait().await
    }

    /// The process.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn process(&self) -> &Running {
        self.process.as_ref().expect("it runs")
    }

    /// Where it listens.
    #[must_use]
    pub fn listeners(&self) -> Listeners {
        self.listeners
    }

    /// The directory that holds everything of this controller and its agents.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its state directory.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Its state directory as the running controller sees it, which may have a filesystem of its own there.
    #[must_use]
    pub fn state_inside(&self) -> PathBuf {
        let Some(process) = &self.process else { return self.state_dir() };
        PathBuf::from(format!("/proc/{}/root{}", process.pid(), self.state_dir().display()))
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("windlass.sock")
    }

    /// The file with everything it logged.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.directory.path().join("controller.log")
    }

    /// Everything it logged.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The lines of its audit log.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let directory = self.state_inside().join("audit");
        let mut text = String::new();
        for entry in std::fs::read_dir(directory).expect("an audit log") {
            text += &std::fs::read_to_string(entry.expect("an entry").path()).expect("readable");
        }
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A connection as an operator of this machine has it.
    ///
    /// # Panics
    /// If there is none.
    pub async fn channel(&self) -> Calls {
        connect(&Target::Socket(self.socket())).await.expect("connected").channel
    }

    /// A command line of an operator on this machine.
    #[must_use]
    pub fn cli_command<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A]) -> Command {
        let mut cli = command(program("windlass"), self.directory.path());
        cli.env("WINDLASS_SOCKET", self.socket()).arg("--no-color").args(arguments);
        cli
    }

    /// Runs a command line of an operator on this machine.
    pub async fn cli<A: AsRef<std::ffi::OsStr>>(&self, arguments: &[A]) -> Answer {
        run(&mut self.cli_command(arguments)).await
    }

    /// Runs words as a command line.
    pub async fn words(&self, words: &str) -> Answer {
        self.cli(&words.split_whitespace().collect::<Vec<_>>()).await
    }

    /// Every event kept, as the command line prints them.
    ///
    /// # Panics
    /// If they cannot be read.
    pub async fn events(&self) -> Vec<Value> {
        let text = self.words("events --since 0 -o json").await.ok();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Waits for an event of this kind whose message contains `words`.
    pub async fn wait_for_event(&self, kind: &str, words: &str) -> Value {
        let what = format!("the event {kind} with {words:?}");
        wait_for(&what, LONG, || async {
            let events = self.events().await;
            events
                .into_iter()
                .find(|event| event["type"] == kind && event["message"].as_str().unwrap_or("").contains(words))
        })
        .await
        .0
    }
}

/// The listeners, if this line of the log says that the controller serves.
fn serving(line: &str) -> Option<Listeners> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = line.get("fields")?;
    let at = |name: &str| fields.get(name)?.as_str()?.parse().ok();
    (fields.get("message")? == "serving").then_some(())?;
    Some(Listeners { agents: at("agents")?, join: at("join")?, http: at("http")? })
}

/// A loopback address to come from: the controller counts failures and connections by address.
#[must_use]
pub fn source(nth: u16) -> IpAddr {
    let [high, low] = nth.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(127, 1 + high, low, 1))
}
