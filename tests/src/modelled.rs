// SPDX-License-Identifier: Apache-2.0
//! A node of the test: both halves of the real agent, each a process that can be killed by itself, on a model of a machine
//! inside the test, which counts what happens to it. Programs of the machine go on when a half is killed; when the model
//! reboots nothing goes on, and both halves start in the next boot.
//!
//! - [`model`]: answers what the halves ask of their machine; [`question`]: what they ask.
//! - [`trap`]: where in a step which half is killed.
//! - [`programs`]: programs of the model, and in which order they changed something.

pub mod model;
pub mod programs;
pub mod question;
pub mod trap;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use windlass_agent::dial::TcpDial;
use windlass_agent::host::clock::{Clock, SystemClock};
use windlass_agent::host::fake::FakeHost;
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_controller::client::{Target, connect};
use windlass_proto::v1;
use windlass_proto::v1::token_service_client::TokenServiceClient;
use windlass_types::facts::ServiceState;
use windlass_types::pin::SpkiPin;

use crate::bastion::Bastion;
use crate::controller::Controller;
use crate::process::{Running, command, program};
use model::Model;
use programs::{Deed, Programs};
use question::Beginning;
use trap::{Point, Trap, Victim};

/// What is in the directory of a node.
const STATE: &str = "state";
const MODEL: &str = "model.sock";
const EXECUTOR: &str = "executor.sock";

/// What its agent is told to watch: without it, nobody calls the node healthy.
pub const WATCHED_SERVICE: &str = "kubelet.service";

/// How often is looked whether the model was rebooted.
const LOOK: Duration = Duration::from_millis(5);

/// Where a controller is found, whatever it is, and where its nodes have their directories.
#[derive(Debug, Clone)]
pub struct Whereabouts {
    directory: PathBuf,
    socket: PathBuf,
    agents_at: SocketAddr,
    join_at: SocketAddr,
}

impl From<&Bastion> for Whereabouts {
    fn from(bastion: &Bastion) -> Self {
        let (agents_at, join_at) = bastion.listeners();
        Self { directory: bastion.path(""), socket: bastion.path("windlass.sock"), agents_at, join_at }
    }
}

impl From<&Controller> for Whereabouts {
    fn from(controller: &Controller) -> Self {
        let at = controller.listeners();
        let (directory, socket) = (controller.directory().to_owned(), controller.socket());
        Self { directory, socket, agents_at: at.agents, join_at: at.join }
    }
}

/// A node of the test.
#[derive(Debug)]
pub struct ModelledNode {
    /// Its name.
    pub name: String,
    /// The machine.
    pub host: FakeHost,
    machine: Machine,
    life: Option<std::thread::JoinHandle<()>>,
}

/// What the halves of an agent need to begin.
#[derive(Debug, Clone)]
struct Machine {
    directory: PathBuf,
    agents_at: SocketAddr,
    join_at: SocketAddr,
    model: Model,
    /// Where the front finds the executor, also while that is dead.
    door: Arc<UnixListener>,
    end: CancellationToken,
}

/// What happens to an agent.
enum Happening {
    /// The machine went down.
    Reboot,
    /// A half was killed.
    Killed(Victim),
    /// The test ends.
    End,
}

impl ModelledNode {
    /// A node that has joined this controller and runs.
    ///
    /// # Panics
    /// If it cannot join.
    pub async fn start(controller: impl Into<Whereabouts>, name: &str) -> Self {
        let controller = controller.into();
        let directory = controller.directory.join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        join_with_token(&controller, &directory, name).await;
        let Whereabouts { agents_at, join_at, .. } = controller;
        let host = FakeHost::new(name);
        host.change(|node| {
            let [unit, active, sub] = [WATCHED_SERVICE, "active", "running"].map(str::to_owned);
            node.services.push(ServiceState { unit, active, sub });
        });
        let trap = Trap::new(host.clone());
        let (programs, told) = (Programs::new(&host, Arc::clone(&trap)), Arc::default());
        let model = Model { host: host.clone(), programs, trap, told };
        let door = Arc::new(UnixListener::bind(directory.join(EXECUTOR)).expect("a socket"));
        let machine = Machine { directory, agents_at, join_at, model, door, end: CancellationToken::new() };
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

    /// Its machine loses power: nothing of it goes on.
    pub fn lose_power(&mut self) {
        self.switch_off();
        self.host.lose_power();
        self.machine.model.programs.lose_power();
    }

    /// How often something happened to the machine.
    #[must_use]
    pub fn effect(&self, what: &str) -> u64 {
        self.host.effects().get(what).copied().unwrap_or(0)
    }

    /// Kills a half of its agent once, at this point of the step of this id.
    pub fn kill_at(&self, victim: Victim, step: &str, point: Point) {
        self.machine.model.trap.set(victim, step, point);
    }

    /// Lets programs with these words in their command line begin only once others, or none, are held.
    pub fn hold_programs(&self, words: Option<&str>) {
        self.machine.model.programs.hold(words);
    }

    /// Waits until one of them was to begin.
    pub async fn until_program_is_held(&self) {
        self.machine.model.programs.until_holding().await;
    }

    /// Breaks the machine once, when so much was changed in the step of this id: nothing more can be changed by it.
    pub fn break_in(&self, step: &str, changes: u64) {
        self.machine.model.trap.set_to_break(step, changes);
    }

    /// Has its front begin anew: it dials at once, however often it did in vain.
    pub fn renew_front(&self) {
        self.machine.model.trap.renew_front();
    }

    /// How often a half of its agent was killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.machine.model.trap.sprung()
    }

    /// Programs that changed something, numbered in the order in which they did so on all nodes of this process.
    #[must_use]
    pub fn deeds(&self) -> Vec<Deed> {
        self.machine.model.programs.deeds()
    }
}

impl Drop for ModelledNode {
    fn drop(&mut self) {
        self.switch_off();
    }
}

async fn join_with_token(controller: &Whereabouts, directory: &Path, name: &str) {
    let (join_at, target) = (controller.join_at, Target::Socket(controller.socket.clone()));
    let operator = connect(&target).await.expect("connected").channel;
    let request = v1::CreateTokenRequest { node: name.to_owned(), ttl_seconds: 600 };
    let token = TokenServiceClient::new(operator).create_token(request).await.expect("a token").into_inner();
    std::fs::write(directory.join("token"), token.token).expect("written");
    let plan = JoinPlan {
        controller: join_at.to_string().parse::<Endpoint>().expect("an endpoint"),
        pins: token.ca_pins.iter().map(|pin| pin.parse::<SpkiPin>().expect("a pin")).collect(),
        token_file: directory.join("token"),
        state_dir: directory.join(STATE),
        executor_dir: directory.join(STATE),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    join(&plan, &TcpDial::new(join_at.to_string()), &clock, 1).await.expect("it joins");
}

impl Machine {
    /// Agent after agent, boot after boot, until the test ends.
    fn live(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let socket = self.directory.join(MODEL);
            let _absent = std::fs::remove_file(&socket);
            let listener = tokio::net::UnixListener::bind(socket).expect("a socket");
            tokio::select! {
                () = self.model.clone().serve(listener) => {}
                () = self.boots() => {}
            }
        });
    }

    async fn boots(&self) {
        let (mut executor, mut front) = (self.half(Victim::Executor), self.half(Victim::Front));
        loop {
            let boots = self.model.host.boots();
            match self.happens(boots).await {
                Happening::Killed(Victim::Front) => {
                    front.kill9().await;
                    self.model.trap.is_dead();
                    front = self.half(Victim::Front);
                }
                Happening::Killed(Victim::Executor) if self.model.host.boots() == boots => {
                    executor.kill9().await;
                    executor = self.half(Victim::Executor);
                }
                Happening::Killed(Victim::Executor) | Happening::Reboot => {
                    front.kill9().await;
                    executor.kill9().await;
                    self.model.programs.lose_power();
                    (executor, front) = (self.half(Victim::Executor), self.half(Victim::Front));
                }
                Happening::End => {
                    front.kill9().await;
                    return executor.kill9().await;
                }
            }
        }
    }

    /// Waits until something happens to the agent.
    async fn happens(&self, boots: u64) -> Happening {
        let rebooted = async {
            while self.model.host.boots() == boots {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            victim = self.model.trap.springs() => Happening::Killed(victim),
            () = self.end.cancelled() => Happening::End,
            () = rebooted => Happening::Reboot,
        }
    }

    /// Starts a half.
    fn half(&self, half: Victim) -> Running {
        let at = |name: &str| self.directory.join(name);
        let beginning = Beginning {
            half,
            state_dir: at(STATE),
            model: at(MODEL),
            executor: at(EXECUTOR),
            agents_at: self.agents_at,
            join_at: self.join_at,
            seed: self.model.host.boots(),
        };
        let mut process = command(program("windlass-half"), &self.directory);
        process.arg(serde_json::to_string(&beginning).expect("JSON"));
        if half == Victim::Executor {
            process.stdin(Stdio::from(OwnedFd::from(self.door.try_clone().expect("a descriptor"))));
        }
        Running::start(&mut process, &at("log"))
    }
}
