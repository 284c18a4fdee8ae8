// SPDX-License-Identifier: Apache-2.0
//! Makes each step of a schedule happen.

use std::sync::Arc;

use futures_util::FutureExt as _;
use windlass_controller::orders::RESTORED;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Store as _, Transaction};

use super::{CONFIRM_AFTER, DESK, World};
use crate::bastion::BASTION;
use crate::ledger::all;
use crate::operator::Wish;
use crate::schedule::Step;

impl World<'_> {
    pub(super) fn perform(&mut self, step: &Step) {
        let era = self.ledger.era();
        match step {
            Step::Enrol(node) => self.wish(Wish::Enrol(*node)),
            Step::Job(wish) => self.wish(Wish::Job { wish: wish.clone(), era }),
            Step::Stop { job } => self.wish(Wish::Stop { job: *job, era }),
            Step::Revoke(node) => self.wish(Wish::Revoke(*node)),
            Step::CrashAgent(node) => self.crash(*node),
            Step::PowerCut(node) => {
                self.crash(*node);
                self.power.cut(*node);
                self.run_checker.lost_power(*node);
            }
            Step::StartAgent(node) => self.start(*node),
            Step::CrashController => self.crash_controller(),
            Step::StartController => self.start_controller(),
            Step::Partition(_) | Step::Deafen(_) | Step::Mute(_) | Step::Hold(_) | Step::Mend(_) => self.link(step),
            Step::LoseOperator => self.sim.partition(DESK, BASTION),
            Step::MendOperator => self.sim.repair(DESK, BASTION),
            Step::Clock { node, hours } => {
                self.clock_was_wrong = true;
                self.faulty.insert(*node);
                self.nodes[*node].clock.jump(hours * 3_600_000);
            }
            Step::ControllerClock { seconds } => {
                self.clock_was_wrong = true;
                self.bastion.clock.jump(seconds * 1000);
            }
            Step::Copy(wish) => self.wish(Wish::Copy { wish: wish.clone(), era }),
            Step::Replay { node, back } => self.bastion.replays.again(&self.nodes[*node].name, *back),
            Step::WatcherLeaves => drop(self.watching.send_replace(false)),
            Step::WatcherReturns => drop(self.watching.send_replace(true)),
            Step::Backup => self.backup = Some(copy(&self.bastion.disk())),
            Step::Restore => self.restore(),
            Step::StartOldController => {
                self.change_disk(self.original.clone());
                self.checker.old_controller_begins();
            }
            Step::StartRestoredController => {
                self.checker.old_controller_ends(&self.faulty);
                self.change_disk(self.restored.clone());
            }
            Step::Run(step) => self.perform_of_runs(step, era),
        }
    }

    pub(super) fn link(&mut self, step: &Step) {
        let node = match step {
            Step::Partition(node) | Step::Deafen(node) | Step::Mute(node) | Step::Hold(node) | Step::Mend(node) => {
                *node
            }
            _ => return,
        };
        let name = self.nodes[node].name.as_str();
        self.faulty.insert(node);
        match step {
            Step::Partition(_) => self.sim.partition(name, BASTION),
            Step::Deafen(_) => self.sim.partition_oneway(BASTION, name),
            Step::Mute(_) => self.sim.partition_oneway(name, BASTION),
            Step::Hold(_) => self.sim.hold(name, BASTION),
            _ => {
                self.sim.release(name, BASTION);
                self.sim.repair(name, BASTION);
            }
        }
    }

    pub(super) fn crash(&mut self, node: usize) {
        self.faulty.insert(node);
        self.sim.crash(self.nodes[node].name.as_str());
        self.checker.position_of(node);
    }

    pub(super) fn start(&mut self, node: usize) {
        if self.power.switch_on(node) && !self.sim.is_host_running(self.nodes[node].name.as_str()) {
            self.sim.bounce(self.nodes[node].name.as_str());
        }
    }

    fn crash_controller(&mut self) {
        self.sim.crash(BASTION);
        self.bastion.died();
    }

    pub(super) fn start_controller(&mut self) {
        if !self.sim.is_host_running(BASTION) {
            self.sim.bounce(BASTION);
        }
    }

    fn change_disk(&mut self, disk: Option<Arc<MemoryStore>>) {
        let disk = disk.expect("a backup is taken before it is restored");
        self.crash_controller();
        self.bastion.insert(Arc::clone(&disk));
        self.ledger.begin_era(&disk);
        self.start_controller();
    }

    fn restore(&mut self) {
        let disk = self.backup.clone().expect("a backup is taken before it is restored");
        put(&disk, Transaction::new().put(RESTORED, "{}"));
        self.original = Some(self.bastion.disk());
        self.restored = Some(disk);
        self.change_disk(self.restored.clone());
        self.confirm_at = Some(self.sim.elapsed() + CONFIRM_AFTER);
    }
}

fn put(disk: &MemoryStore, transaction: Transaction) {
    let committed = disk.commit(transaction).now_or_never().expect("memory never waits");
    let _revision = committed.expect("memory has room");
}

/// A copy, as a backup is one.
fn copy(disk: &MemoryStore) -> Arc<MemoryStore> {
    let copy = MemoryStore::new();
    put(
        &copy,
        all(disk).into_iter().fold(Transaction::new(), |transaction, entry| transaction.put(entry.key, entry.value)),
    );
    copy
}
