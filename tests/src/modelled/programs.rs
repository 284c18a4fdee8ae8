// SPDX-License-Identifier: Apache-2.0
//! Programs of the model: each ends at once, and whoever asks is told how, whatever became of the agent meanwhile. Each that
//! changes something is written down, numbered across all nodes of the test: what happened before what can be told afterwards.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use windlass_agent::host::fake::FakeHost;
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

/// A program that has ended.
#[derive(Debug, Clone)]
struct Ended {
    code: i32,
    /// What it printed, until somebody has taken it.
    stdout: String,
}

/// Programs of a model.
#[derive(Debug, Clone)]
pub struct Programs {
    host: FakeHost,
    trap: Arc<Trap>,
    known: Arc<Mutex<BTreeMap<JobId, Ended>>>,
    deeds: Arc<Mutex<Vec<Deed>>>,
    /// Part of the words of programs that do not begin for now.
    held: watch::Sender<Option<String>>,
    /// One of them was to begin.
    is_holding: watch::Sender<bool>,
}

impl Programs {
    /// Programs of this machine.
    #[must_use]
    pub fn new(host: &FakeHost, trap: Arc<Trap>) -> Self {
        let (known, deeds) = Default::default();
        Self {
            host: host.clone(),
            trap,
            known,
            deeds,
            held: watch::Sender::new(None),
            is_holding: watch::Sender::new(false),
        }
    }

    /// Programs that changed something.
    #[must_use]
    pub fn deeds(&self) -> Vec<Deed> {
        self.deeds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets programs with these words in their command line begin only once others, or none, are held.
    pub fn hold(&self, words: Option<&str>) {
        self.is_holding.send_replace(false);
        self.held.send_replace(words.map(str::to_owned));
    }

    /// Waits until a program is held.
    pub async fn until_holding(&self) {
        // The sender is beside it.
        drop(self.is_holding.subscribe().wait_for(|is_holding| *is_holding).await);
    }

    /// The machine loses power: nothing runs any more, and nobody knows how it ended.
    pub fn lose_power(&self) {
        self.known().clear();
    }

    /// Runs one. Does not come back to an agent that goes down with the machine, or is killed here.
    pub async fn start(&self, job: JobId, argv: &Argv) {
        let line = argv.to_string();
        let may_begin = |held: &Option<String>| !held.as_ref().is_some_and(|words| line.contains(words));
        if !may_begin(&self.held.borrow()) {
            self.is_holding.send_replace(true);
        }
        // The sender is beside it.
        drop(self.held.subscribe().wait_for(may_begin).await);
        let (before, boots) = (self.effects(), self.host.boots());
        let ended = self.host.run(argv);
        self.known().insert(job, Ended { code: ended.exit_code, stdout: ended.stdout });
        if self.effects() > before {
            let number = DEEDS.fetch_add(1, Ordering::SeqCst);
            self.deeds.lock().unwrap_or_else(PoisonError::into_inner).push(Deed { number, program: line.clone() });
            self.trap.acted().await;
        }
        if self.host.boots() != boots {
            std::future::pending().await
        }
    }

    /// Whether it was run, and the machine has had power since.
    pub fn is_known(&self, job: &JobId) -> bool {
        self.known().contains_key(job)
    }

    /// Its exit code and what it printed, which is told once.
    pub fn ended(&self, job: &JobId) -> Option<(i32, String)> {
        self.known().get_mut(job).map(|ended| (ended.code, std::mem::take(&mut ended.stdout)))
    }

    /// Nobody asks for it again.
    pub fn forget(&self, job: &JobId) {
        self.known().remove(job);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<JobId, Ended>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn effects(&self) -> u64 {
        self.host.effects().values().sum()
    }
}
