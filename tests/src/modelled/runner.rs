// SPDX-License-Identifier: Apache-2.0
//! Programs of the model. Each that changes something is written down, numbered across all nodes of the process: what
//! happened before what can be told afterwards.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use windlass_agent::host::fake::FakeHost;
use windlass_agent::jobs::fake::FakeRunner;
use windlass_agent::jobs::runner::{NotStarted, Runner, Running};
use windlass_agent::journal::Mark;
use windlass_agent::output::Spool;
use windlass_types::action::Argv;
use windlass_types::name::JobId;

use super::trap::Trap;

static DEEDS: AtomicU64 = AtomicU64::new(0);

/// A program that changed something.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deed {
    /// Rises with every deed of this process.
    pub number: u64,
    /// What was run.
    pub program: String,
}

/// Runs programs of the model.
#[derive(Debug, Clone)]
pub struct ModelRunner {
    programs: FakeRunner,
    host: FakeHost,
    trap: Arc<Trap>,
    deeds: Arc<Mutex<Vec<Deed>>>,
    /// Part of the words of programs that do not begin for now.
    held: watch::Sender<Option<String>>,
}

impl ModelRunner {
    /// Runs them on this machine.
    #[must_use]
    pub fn new(host: &FakeHost, trap: Arc<Trap>) -> Self {
        Self {
            programs: FakeRunner::of(host),
            host: host.clone(),
            trap,
            deeds: Arc::default(),
            held: watch::Sender::new(None),
        }
    }

    /// Programs that changed something.
    #[must_use]
    pub fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets programs with these words in their command line begin only once others, or none, are held.
    pub fn hold(&self, words: Option<&str>) {
        self.held.send_replace(words.map(str::to_owned));
    }

    /// The machine loses power: nothing runs any more.
    pub fn lose_power(&self) {
        self.programs.lose_power();
    }

    fn effects(&self) -> u64 {
        self.host.effects().values().sum()
    }
}

#[async_trait]
impl Runner for ModelRunner {
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        let line = argv.to_string();
        let may_begin = |held: &Option<String>| !held.as_ref().is_some_and(|words| line.contains(words));
        // The sender is beside it.
        drop(self.held.subscribe().wait_for(may_begin).await);
        let before = self.effects();
        let started = self.programs.start(job, argv, spool).await;
        if self.effects() > before {
            let number = DEEDS.fetch_add(1, Ordering::SeqCst);
            let deed = Deed { number, program: argv.to_string() };
            self.deeds.lock().unwrap_or_else(PoisonError::into_inner).push(deed);
            self.trap.acted();
        }
        started
    }

    async fn adopt(&self, job: &JobId, mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        self.programs.adopt(job, mark, spool).await
    }
}
