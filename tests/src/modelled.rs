// SPDX-License-Identifier: Apache-2.0
//! A node inside the test: the real agent on a model of a machine, which counts what happens to it. When the model reboots,
//! the agent ends with all it has in memory, and one starts in the next boot.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_agent::both::Agent;
use windlass_agent::config::Config;
use windlass_agent::dial::TcpDial;
use windlass_agent::host::clock::{Clock, SystemClock};
use windlass_agent::host::fake::FakeHost;
use windlass_agent::identity::IdentityStore;
use windlass_agent::jobs::fake::FakeRunner;
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_types::pin::SpkiPin;

use crate::bastion::Bastion;

/// How often is looked whether the model was rebooted.
const LOOK: Duration = Duration::from_millis(5);

/// A node inside the test.
#[derive(Debug)]
pub struct ModelledNode {
    /// Its name.
    pub name: String,
    /// The machine.
    pub host: FakeHost,
    machine: Machine,
    life: Option<std::thread::JoinHandle<()>>,
}

/// What an agent needs to begin.
#[derive(Debug, Clone)]
struct Machine {
    state_dir: PathBuf,
    agents_at: SocketAddr,
    join_at: SocketAddr,
    host: FakeHost,
    runner: FakeRunner,
    end: CancellationToken,
}

impl ModelledNode {
    /// A node that has joined and runs.
    ///
    /// # Panics
    /// If it cannot join.
    pub async fn start(bastion: &Bastion, name: &str) -> Self {
        let directory = bastion.path(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let (agents_at, join_at) = bastion.listeners();
        join_with_token(bastion, &directory, name, join_at).await;
        let host = FakeHost::new(name);
        let (runner, end) = (FakeRunner::of(&host), CancellationToken::new());
        let state_dir = directory.join("state");
        let machine = Machine { state_dir, agents_at, join_at, host: host.clone(), runner, end };
        let mut node = Self { name: name.to_owned(), host, machine, life: None };
        node.switch_on();
        node
    }

    /// Its agent runs again.
    pub fn switch_on(&mut self) {
        self.switch_off();
        self.machine.end = CancellationToken::new();
        let machine = self.machine.clone();
        self.life = Some(std::thread::spawn(move || machine.live()));
    }

    /// Nobody hears of it any more. What the model of its machine is stays.
    pub fn switch_off(&mut self) {
        self.machine.end.cancel();
        if let Some(life) = self.life.take() {
            // What it panicked with was printed.
            drop(life.join());
        }
    }

    /// How often something happened to the machine.
    #[must_use]
    pub fn effect(&self, what: &str) -> u64 {
        self.host.effects().get(what).copied().unwrap_or(0)
    }
}

impl Drop for ModelledNode {
    fn drop(&mut self) {
        self.switch_off();
    }
}

async fn join_with_token(bastion: &Bastion, directory: &Path, name: &str, join_at: SocketAddr) {
    let token = bastion.words(&format!("token create {name} -o json")).await.json();
    let text = |key: &str| token[key].as_str().expect("text").to_owned();
    std::fs::write(directory.join("token"), text("token")).expect("written");
    let plan = JoinPlan {
        controller: join_at.to_string().parse::<Endpoint>().expect("an endpoint"),
        pins: vec![text("ca_pin").parse::<SpkiPin>().expect("a pin")],
        token_file: directory.join("token"),
        state_dir: directory.join("state"),
        executor_dir: directory.join("state"),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    join(&plan, &TcpDial::new(join_at.to_string()), &clock, 1).await.expect("it joins");
}

impl Machine {
    /// Boot after boot, until the test ends.
    fn live(self) {
        while !self.end.is_cancelled() {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            let boots = self.host.node().boots;
            let agent = self.agent();
            runtime.spawn(agent.run(CancellationToken::new()));
            runtime.block_on(async {
                while self.host.node().boots == boots && !self.end.is_cancelled() {
                    tokio::time::sleep(LOOK).await;
                }
            });
            runtime.shutdown_background();
            self.runner.lose_power();
        }
    }

    fn agent(&self) -> Agent {
        let identity = IdentityStore::new(&self.state_dir).load().expect("readable").expect("it has joined");
        Agent {
            dial: Arc::new(TcpDial::new(self.agents_at.to_string())),
            join_dial: Arc::new(TcpDial::new(self.join_at.to_string())),
            runner: Arc::new(self.runner.clone()),
            host: Arc::new(self.host.clone()),
            status: watch::Sender::new(String::new()),
            handover: CancellationToken::new(),
            seed: self.host.node().boots,
            config: Config { state_dir: self.state_dir.clone(), ..Config::default() },
            clock: Arc::new(SystemClock),
            identity,
        }
    }
}
