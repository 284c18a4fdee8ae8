// SPDX-License-Identifier: Apache-2.0
//! A node inside the test: both halves of the real agent on a model of a machine, which counts what happens to it. Each half
//! has a thread of its own and can be killed by itself: all it has in memory is gone, and the next takes its place; programs
//! go on. When the model reboots nothing goes on, and both halves start in the next boot.
//!
//! - [`half`]: a half of an agent.
//! - [`trap`]: where in a step which half is killed.
//! - [`runner`]: programs of the model, and in which order they changed something.

pub mod half;
pub mod runner;
pub mod trap;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use windlass_agent::config::Config;
use windlass_agent::dial::TcpDial;
use windlass_agent::executor::Executor;
use windlass_agent::executor::mandate::Mandate;
use windlass_agent::front::Front;
use windlass_agent::host::clock::{Clock, SystemClock};
use windlass_agent::host::fake::FakeHost;
use windlass_agent::identity::IdentityStore;
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_agent::journal::watched;
use windlass_agent::local::pipe;
use windlass_proto::v1;
use windlass_proto::v1::token_service_client::TokenServiceClient;
use windlass_types::pin::SpkiPin;

use crate::bastion::Bastion;
use half::{Door, Half};
use runner::{Deed, ModelRunner};
use trap::{Point, Trap, Victim};

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

/// What the halves of an agent need to begin.
#[derive(Debug, Clone)]
struct Machine {
    state_dir: PathBuf,
    agents_at: SocketAddr,
    join_at: SocketAddr,
    host: FakeHost,
    runner: ModelRunner,
    trap: Arc<Trap>,
    door: Door,
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
        let trap = Trap::new(host.clone());
        let (runner, end) = (ModelRunner::new(&host, Arc::clone(&trap)), CancellationToken::new());
        let state_dir = directory.join("state");
        watched::watch(&state_dir.join("journal"), {
            let trap = Arc::clone(&trap);
            move |state, record, moment| trap.recording(state, record, moment)
        });
        let machine =
            Machine { state_dir, agents_at, join_at, host: host.clone(), runner, trap, door: Door::default(), end };
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
        self.machine.runner.lose_power();
    }

    /// How often something happened to the machine.
    #[must_use]
    pub fn effect(&self, what: &str) -> u64 {
        self.host.effects().get(what).copied().unwrap_or(0)
    }

    /// Kills a half of its agent once, at this point of the step of this id.
    pub fn kill_at(&self, victim: Victim, step: &str, point: Point) {
        self.machine.trap.set(victim, step, point);
    }

    /// Lets programs with these words in their command line begin only once others, or none, are held.
    pub fn hold_programs(&self, words: Option<&str>) {
        self.machine.runner.hold(words);
    }

    /// Breaks the machine once, when so much was changed in the step of this id: nothing more can be changed by it.
    pub fn break_in(&self, step: &str, changes: u64) {
        self.machine.trap.set_to_break(step, changes);
    }

    /// Has its front begin anew: it dials at once, however often it did in vain.
    pub fn renew_front(&self) {
        self.machine.trap.renew_front();
    }

    /// How often a half of its agent was killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        self.machine.trap.sprung()
    }

    /// Programs that changed something, numbered in the order in which they did so on all nodes of this process.
    #[must_use]
    pub fn deeds(&self) -> Vec<Deed> {
        self.machine.runner.deeds()
    }
}

impl Drop for ModelledNode {
    fn drop(&mut self) {
        self.switch_off();
        watched::unwatch(&self.machine.state_dir.join("journal"));
    }
}

async fn join_with_token(bastion: &Bastion, directory: &Path, name: &str, join_at: SocketAddr) {
    let request = v1::CreateTokenRequest { node: name.to_owned(), ttl_seconds: 600 };
    let token = TokenServiceClient::new(bastion.channel().await).create_token(request).await;
    let token = token.expect("a token").into_inner();
    std::fs::write(directory.join("token"), token.token).expect("written");
    let plan = JoinPlan {
        controller: join_at.to_string().parse::<Endpoint>().expect("an endpoint"),
        pins: token.ca_pins.iter().map(|pin| pin.parse::<SpkiPin>().expect("a pin")).collect(),
        token_file: directory.join("token"),
        state_dir: directory.join("state"),
        executor_dir: directory.join("state"),
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    join(&plan, &TcpDial::new(join_at.to_string()), &clock, 1).await.expect("it joins");
}

impl Machine {
    /// Agent after agent, boot after boot, until the test ends.
    fn live(self) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (mut executor, mut front) = (self.executor(), self.front());
        loop {
            let boots = self.host.boots();
            match runtime.block_on(self.happens(boots)) {
                Happening::Killed(Victim::Front) => {
                    front.kill();
                    self.trap.is_dead();
                    front = self.front();
                }
                Happening::Killed(Victim::Executor) if self.host.boots() == boots => {
                    executor.kill();
                    executor = self.executor();
                }
                Happening::Killed(Victim::Executor) | Happening::Reboot => {
                    front.kill();
                    executor.kill();
                    self.runner.lose_power();
                    (executor, front) = (self.executor(), self.front());
                }
                Happening::End => {
                    front.kill();
                    return executor.kill();
                }
            }
        }
    }

    /// Waits until something happens to the agent.
    async fn happens(&self, boots: u64) -> Happening {
        let rebooted = async {
            while self.host.boots() == boots {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            biased;
            victim = self.trap.springs() => Happening::Killed(victim),
            () = self.end.cancelled() => Happening::End,
            () = rebooted => Happening::Reboot,
        }
    }

    fn executor(&self) -> Half {
        let (dial, listener) = pipe();
        self.door.leads_to(dial);
        let executor = Executor {
            mandate: Mandate::load(&self.state_dir).expect("it has joined"),
            state_dir: self.state_dir.clone(),
            clock: Arc::new(SystemClock),
            runner: Arc::new(self.runner.clone()),
            host: Arc::new(self.host.clone()),
            seed: self.host.boots(),
            handover: CancellationToken::new(),
            config: Config { state_dir: self.state_dir.clone(), ..Config::default() },
        };
        Half::start(async move { executor.run(listener, CancellationToken::new(), || {}).await.expect("a journal") })
    }

    fn front(&self) -> Half {
        let front = Front {
            identity: IdentityStore::new(&self.state_dir).load().expect("readable").expect("it has joined"),
            state_dir: self.state_dir.clone(),
            executor: Arc::new(self.door.clone()),
            dial: Arc::new(TcpDial::new(self.agents_at.to_string())),
            join_dial: Arc::new(TcpDial::new(self.join_at.to_string())),
            clock: Arc::new(SystemClock),
            host: Arc::new(self.host.clone()),
            seed: self.host.boots(),
            status: watch::Sender::new(String::new()),
            handover: CancellationToken::new(),
        };
        Half::start(front.run(CancellationToken::new()))
    }
}
