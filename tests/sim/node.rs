// SPDX-License-Identifier: Apache-2.0
//! One simulated machine with the real agent on it: it joins once it has a token, then runs. Its disk is a directory that
//! outlives every crash.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use turmoil::net::TcpStream;
use windlass_agent::both::Agent;
use windlass_agent::config::Config;
use windlass_agent::dial::{Dial, Io};
use windlass_agent::identity::IdentityStore;
use windlass_agent::join::{Endpoint, JoinPlan, join};
use windlass_types::name::NodeName;
use windlass_types::pin::SpkiPin;

use crate::bastion::{AGENT_PORT, BASTION, JOIN_PORT};
use crate::clock::SimClock;
use crate::machine::Machine;

/// How often a machine looks whether it was given a token.
const LOOK_FOR_TOKEN: Duration = Duration::from_millis(250);

/// How long a machine whose joining failed waits before it boots the agent again.
const AFTER_FAILED_JOIN: Duration = Duration::from_secs(2);

/// One machine.
#[derive(Debug)]
pub(crate) struct Node {
    /// Its name, also in the network.
    pub(crate) name: NodeName,
    /// Its wall clock.
    pub(crate) clock: Arc<SimClock>,
    /// Its programs.
    pub(crate) machine: Machine,
    /// Its disk.
    pub(crate) directory: PathBuf,
    seed: u64,
}

/// Dials a port of the bastion over the simulated network.
struct SimDial(u16);

#[async_trait::async_trait]
impl Dial for SimDial {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        Ok(Box::new(TcpStream::connect((BASTION, self.0)).await?))
    }
}

impl Node {
    pub(crate) fn new(index: usize, seed: u64, root: &std::path::Path) -> Arc<Self> {
        let name = NodeName::new(format!("node{index:02}")).expect("a valid name");
        let directory = root.join(name.as_str());
        std::fs::create_dir_all(&directory).expect("a directory of its own");
        let seed = seed.wrapping_mul(1000).wrapping_add(u64::try_from(index).expect("few"));
        let machine = Machine::new(name.as_str(), seed);
        Arc::new(Self { name, clock: Arc::default(), machine, directory, seed })
    }

    /// Puts a token on the machine, as a person or cloud-init would.
    pub(crate) fn give_token(&self, token: &str, pins: &[String]) {
        std::fs::write(self.directory.join("pins"), pins.join("\n")).expect("room for pins");
        std::fs::write(self.token_file(), token).expect("room for a token");
    }

    /// Where the agent keeps what it must remember.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    fn token_file(&self) -> PathBuf {
        self.directory.join("token")
    }

    /// Everything the machine does from the start of the agent on.
    pub(crate) async fn live(self: Arc<Self>) -> turmoil::Result {
        let store = IdentityStore::new(&self.state_dir());
        let identity = loop {
            if let Some(identity) = store.load()? {
                break identity;
            }
            self.join().await;
        };
        let agent = Agent {
            dial: Arc::new(SimDial(AGENT_PORT)),
            join_dial: Arc::new(SimDial(JOIN_PORT)),
            runner: Arc::new(self.machine.clone()),
            host: Arc::new(self.machine.host.clone()),
            status: watch::Sender::new(String::new()),
            handover: CancellationToken::new(),
            seed: self.seed,
            config: Config { state_dir: self.state_dir(), ..Config::default() },
            clock: Arc::<SimClock>::clone(&self.clock),
            identity,
        };
        agent.run(CancellationToken::new()).await?;
        Ok(())
    }

    async fn join(&self) {
        let Ok(pins) = std::fs::read_to_string(self.directory.join("pins")) else {
            return tokio::time::sleep(LOOK_FOR_TOKEN).await;
        };
        let pins = pins.lines().map(|pin| pin.parse::<SpkiPin>().expect("the controller's pin"));
        let plan = JoinPlan {
            controller: format!("{BASTION}:{JOIN_PORT}").parse::<Endpoint>().expect("an endpoint"),
            pins: pins.collect(),
            token_file: self.token_file(),
            state_dir: self.state_dir(),
            executor_dir: self.state_dir(),
        };
        let clock: Arc<dyn windlass_agent::host::clock::Clock> = Arc::<SimClock>::clone(&self.clock);
        if let Err(error) = join(&plan, &SimDial(JOIN_PORT), &clock, self.seed).await {
            crate::trace::line(|| format!("{} could not join: {}", self.name, error.chain()));
            tokio::time::sleep(AFTER_FAILED_JOIN).await;
        }
    }
}
