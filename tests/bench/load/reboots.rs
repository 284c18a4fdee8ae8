// SPDX-License-Identifier: Apache-2.0
//! Models that reboot: the agent ends with all it has in memory, the machine is down for its time, and an agent starts in
//! the next boot. How many are down is counted here, at every change, so that nothing falls between two looks.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use windlass_agent::host::fake::FakeHost;
use windlass_agent::jobs::fake::{FakeRunner, Script};

use super::{COUNT_EVERY, Node};
use crate::b9_rolling::down_times;
use crate::process::pause;
use crate::report::progress;

/// What happened to all models of the process.
#[derive(Debug, Default)]
struct Counts {
    connected: AtomicUsize,
    down: AtomicUsize,
    most_down: AtomicUsize,
    reboots: AtomicUsize,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Reboots {
    /// The most that were down at any moment: from the order to reboot until the agent is connected again.
    pub(crate) most_down: usize,
    /// Reboots.
    pub(crate) reboots: usize,
}

fn path(count_file: &Path) -> PathBuf {
    count_file.with_extension("reboots")
}

impl Reboots {
    /// As the process has written it down.
    ///
    /// # Errors
    /// If it has not.
    pub(crate) fn read(count_file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path(count_file)).context("read how many models were down")?;
        let numbers: Vec<usize> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [most_down, reboots] = numbers[..] else { anyhow::bail!("{text:?} is not two numbers") };
        Ok(Self { most_down, reboots })
    }
}

/// Runs the models and writes down what happens to them.
///
/// # Errors
/// If that cannot be written.
pub(super) async fn live(nodes: Vec<Node>, count_file: &Path) -> Result<()> {
    let counts = Arc::new(Counts::default());
    let times = down_times(nodes.len());
    for node in nodes {
        let down_time = times.get(node.number).copied().unwrap_or_default();
        let machine = Machine::new(node, down_time, Arc::clone(&counts));
        std::thread::spawn(move || machine.live());
    }
    let mut written = (usize::MAX, Reboots::default());
    loop {
        let load = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        let reboots = Reboots { most_down: load(&counts.most_down), reboots: load(&counts.reboots) };
        let now = (load(&counts.connected), reboots);
        if now != written {
            let text = format!("{} {}\n", reboots.most_down, reboots.reboots);
            tokio::fs::write(path(count_file), text).await?;
            tokio::fs::write(count_file, now.0.to_string()).await?;
            written = now;
        }
        tokio::time::sleep(COUNT_EVERY).await;
    }
}

/// One model, for all of its boots.
struct Machine {
    node: Node,
    host: FakeHost,
    runner: FakeRunner,
    goes_down: Arc<Notify>,
    down_time: Duration,
    counts: Arc<Counts>,
}

impl Machine {
    fn new(node: Node, down_time: Duration, counts: Arc<Counts>) -> Self {
        let host = FakeHost::new(&node.name);
        let goes_down = Arc::new(Notify::new());
        let runner = FakeRunner::new({
            let (host, goes_down, counts) = (host.clone(), Arc::clone(&goes_down), Arc::clone(&counts));
            move |argv| {
                let boots = host.node().boots;
                let scripted = host.run(argv);
                if host.node().boots != boots {
                    counts.went_down();
                    goes_down.notify_one();
                }
                Script { stdout: scripted.stdout.into_bytes(), code: scripted.exit_code, ..Script::default() }
            }
        });
        Self { node, host, runner, goes_down, down_time, counts }
    }

    /// Boot after boot. A runtime of its own for each, because its end is the end of all that the agent has begun.
    fn live(self) {
        let mut was_down = false;
        loop {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return progress(&format!("a model cannot boot: {error}")),
            };
            runtime.block_on(self.boot(was_down));
            runtime.shutdown_background();
            self.runner.lose_power();
            was_down = true;
            pause(self.down_time);
        }
    }

    /// One boot, until the machine goes down.
    async fn boot(&self, was_down: bool) {
        let agent = self.node.agent(self.host.clone(), Arc::new(self.runner.clone()));
        let mut status = agent.status.subscribe();
        let counts = Arc::clone(&self.counts);
        let counted = tokio::spawn(async move {
            let connected = status.wait_for(|status| status == "connected").await.is_ok();
            if connected && was_down {
                counts.down.fetch_sub(1, Ordering::SeqCst);
            }
            counts.connected.fetch_add(1, Ordering::SeqCst);
        });
        tokio::spawn(agent.run(CancellationToken::new()));
        self.goes_down.notified().await;
        // It was connected, for somebody told it to reboot.
        drop(counted.await);
        self.counts.connected.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Counts {
    fn went_down(&self) {
        let down = self.down.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_down.fetch_max(down, Ordering::SeqCst);
        self.reboots.fetch_add(1, Ordering::SeqCst);
    }
}
