// SPDX-License-Identifier: Apache-2.0
//! Kills a half of the agent at a chosen point of a chosen step, as kill -9 does: what it has in memory is lost in that
//! moment, what it wrote is there, and programs that it started go on. Or lets the machine break in that step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use windlass_agent::host::fake::{FakeHost, Moment};
use windlass_agent::journal::{JournalState, Order, Record};
use windlass_types::action::Action;
use windlass_types::node_step::NodeStep;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Victim {
    /// The half that talks to the controller. It is dead before the executor, which goes on, does what comes next.
    Front,
    /// The half that does things.
    Executor,
}

/// A point of a step, as the executor sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Point {
    /// The order has come, and nothing is written down.
    BeforeIntent,
    /// It is written down that from now on something may change, and nothing has.
    AfterIntent,
    /// The first thing was changed, and nobody knows.
    InAct,
    /// Everything was changed, and the result is not written down.
    AfterAct,
    /// The result is written down, and the controller does not know it.
    AfterResult,
}

/// What a trap does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Jaws {
    /// It kills.
    Kill(Victim, Point),
    /// It breaks the machine after so many changes of this step.
    Break(u64),
}

/// Why nothing can be changed on a machine that is broken.
pub const BROKEN: &str = "the disk cannot be written";

/// Where the agent of one node is killed.
#[derive(Debug)]
pub struct Trap {
    host: FakeHost,
    set: Mutex<Option<(String, Jaws)>>,
    springs: [Notify; 2],
    sprung: AtomicU64,
    /// Fronts that are dead.
    dead: watch::Sender<u64>,
}

impl Trap {
    /// Without a step yet.
    #[must_use]
    pub fn new(host: FakeHost) -> Arc<Self> {
        let (set, springs, sprung) = Default::default();
        Arc::new(Self { host, set, springs, sprung, dead: watch::Sender::new(0) })
    }

    /// Kills once, at this point of the step of this id.
    pub fn set(&self, victim: Victim, step: &str, point: Point) {
        *self.lock() = Some((step.to_owned(), Jaws::Kill(victim, point)));
    }

    /// Breaks the machine once, when so much was changed in the step of this id, until that has ended.
    pub fn set_to_break(&self, step: &str, changes: u64) {
        *self.lock() = Some((step.to_owned(), Jaws::Break(changes)));
    }

    /// How often it killed.
    #[must_use]
    pub fn sprung(&self) -> u64 {
        self.sprung.load(Ordering::SeqCst)
    }

    /// Waits until it kills, and tells whom.
    pub async fn springs(&self) -> Victim {
        let [front, executor] = &self.springs;
        tokio::select! {
            () = front.notified() => Victim::Front,
            () = executor.notified() => Victim::Executor,
            () = self.host.killed() => {
                *self.lock() = None;
                self.sprung.fetch_add(1, Ordering::SeqCst);
                Victim::Executor
            }
        }
    }

    /// Has the front begin anew.
    pub fn renew_front(&self) {
        self.springs[0].notify_one();
    }

    /// The front is dead.
    pub fn is_dead(&self) {
        self.dead.send_modify(|dead| *dead += 1);
    }

    /// The executor is here. Does not come back if it is killed here.
    pub async fn at(&self, step: &str, is_at: Point) {
        let set = self.lock().clone();
        let Some((_, jaws)) = set.filter(|(set, _)| set == step) else { return };
        match (jaws, is_at) {
            (Jaws::Kill(victim, point), is_at) if point == is_at => self.spring(victim).await,
            // Files that it places; programs that it runs come to `acted`.
            (Jaws::Kill(Victim::Executor, Point::InAct), Point::AfterIntent) => self.host.kill_at(1, Moment::After),
            (Jaws::Break(changes), Point::AfterIntent) => self.host.break_after(changes, BROKEN),
            (Jaws::Break(_), Point::AfterAct) => {
                *self.lock() = None;
                self.host.mend();
            }
            (Jaws::Kill(..) | Jaws::Break(_), _) => {}
        }
    }

    /// A program has changed something. Does not come back if the executor is killed here.
    pub async fn acted(&self) {
        if self.host.is_doomed() {
            self.host.spare();
            self.spring(Victim::Executor).await;
        }
    }

    async fn spring(&self, victim: Victim) {
        *self.lock() = None;
        self.sprung.fetch_add(1, Ordering::SeqCst);
        let [front, executor] = &self.springs;
        match victim {
            Victim::Front => {
                let mut dead = self.dead.subscribe();
                front.notify_one();
                // The sender is beside it.
                drop(dead.changed().await);
            }
            Victim::Executor => {
                executor.notify_one();
                std::future::pending().await
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<(String, Jaws)>> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where in which step the executor is when its journal gets this record now, or has got it.
#[must_use]
pub fn place(state: &JournalState, record: &Record, moment: Moment) -> Option<(String, Point)> {
    let of = |job| state.job(job).map(|(order, _)| order);
    let (order, point) = match (record, moment) {
        (Record::Accepted(order), Moment::Before) => (order, Point::BeforeIntent),
        // A question changes nothing: it is intended once it is accepted.
        (Record::Accepted(order), Moment::After) if is_question(order) => (order, Point::AfterIntent),
        (Record::Intended { job, .. }, Moment::After) => (of(job)?, Point::AfterIntent),
        (Record::Ended { job, .. }, Moment::Before) => (of(job)?, Point::AfterAct),
        (Record::Ended { job, .. }, Moment::After) => (of(job)?, Point::AfterResult),
        _ => return None,
    };
    Some((step_of(order)?.to_owned(), point))
}

fn is_question(order: &Order) -> bool {
    matches!(&order.action, Action::Step(step) if matches!(step.step, NodeStep::Survey(_)))
}

/// The id of the step that an order is.
fn step_of(order: &Order) -> Option<&str> {
    match &order.action {
        Action::Step(step) => Some(step.id.as_str()),
        Action::Exec(_) | Action::PutFile { .. } | Action::GetFile { .. } => None,
    }
}
