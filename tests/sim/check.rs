// SPDX-License-Identifier: Apache-2.0
//! What must hold, whatever happens. The numbers are those of the list in `main.rs`.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use windlass_agent::identity::IdentityStore;
use windlass_agent::journal::Journal;
use windlass_controller::server::Controller;
use windlass_types::action::Action;
use windlass_types::name::JobId;
use windlass_types::outcome::Ending;

use crate::copies::{Landed, is_there};
use crate::ledger::{Era, Ledger};
use crate::node::Node;
use crate::trace;

/// Orders that were on their way when a node was revoked may still be carried out, but not for longer than a connection
/// without an answer lives.
const LAST_ORDERS: Duration = Duration::from_secs(35);

thread_local! {
    /// Panics in this thread, that is in this simulation: its tasks catch them.
    pub(crate) static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// Looks at everything after every step.
pub(crate) struct Checker {
    nodes: Vec<Arc<Node>>,
    ledger: Arc<Ledger>,
    positions: BTreeMap<usize, (u64, u64)>,
    /// Nodes that had obeyed a newer epoch when the older controller came back, and how often they had done anything.
    obeyed_newer: BTreeMap<usize, usize>,
    alarms_before: usize,
    broken: Vec<String>,
    landed: Landed,
    /// Nodes that have been seen with an identity.
    joined: BTreeSet<usize>,
    /// Whether certificates are renewed in this simulation.
    renews: bool,
}

impl Checker {
    pub(crate) fn new(nodes: Vec<Arc<Node>>, ledger: Arc<Ledger>, renews: bool) -> Self {
        Self {
            nodes,
            ledger,
            positions: BTreeMap::new(),
            obeyed_newer: BTreeMap::new(),
            alarms_before: 0,
            broken: Vec::new(),
            landed: Landed::default(),
            joined: BTreeSet::new(),
            renews,
        }
    }

    /// Everything that can be seen at any moment.
    pub(crate) fn after_step(&mut self, now: Duration) -> Result<(), String> {
        let mut broken = self.ledger.catch_up();
        broken.append(&mut self.broken);
        broken.extend(self.done_twice());
        broken.extend(self.too_many_at_work(now));
        broken.extend(self.at_work_after_revocation());
        broken.extend(self.ledger.with_era(|era| self.landed.wrong(era)));
        broken.extend(self.certificate_from_nowhere());
        if PANICS.get() > 0 {
            broken.push("(10) something panicked".to_owned());
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    fn done_twice(&self) -> Option<String> {
        self.nodes.iter().find_map(|node| {
            let started = node.machine.started();
            let mut seen = BTreeSet::new();
            let twice = started.iter().find(|program| !seen.insert(program.what.clone()))?;
            Some(format!("(1) {} did {} twice: {started:?}", node.name, twice.what))
        })
    }

    fn certificate_from_nowhere(&self) -> Option<String> {
        if self.renews {
            return None;
        }
        self.ledger.with_era(|era| {
            let many = era.certificates.iter().find(|(_, certificates)| certificates.len() > 1)?;
            Some(format!("(9) {} has {} certificates and has renewed none", many.0, many.1.len()))
        })
    }

    /// Looks at the identity that a node would begin with now.
    fn identity_of(&mut self, index: usize) {
        let node = &self.nodes[index];
        match IdentityStore::new(&node.state_dir()).load() {
            Ok(Some(identity)) if identity.node == node.name => drop(self.joined.insert(index)),
            Ok(None) if !self.joined.contains(&index) => {}
            Ok(_) => self.broken.push(format!("(12) {} has lost its identity", node.name)),
            Err(error) => self.broken.push(format!("(12) {}: {error}", node.name)),
        }
    }

    /// A revoked node is not waited for: nobody can tell it to stop, nor hear when it has.
    fn too_many_at_work(&self, now: Duration) -> Option<String> {
        let gone = self.ledger.being_revoked();
        self.ledger.with_era(|era| {
            era.jobs.values().filter(|job| job.batch > 0).find_map(|job| {
                let what = era.what(&job.id);
                let at_work: Vec<_> = self
                    .nodes
                    .iter()
                    .filter(|node| node.machine.is_at_work(&what, now) && !gone.contains(&node.name))
                    .collect();
                let names: Vec<_> = at_work.iter().map(|node| node.name.as_str()).collect();
                (names.len() > job.batch as usize).then(|| format!("(6) job {}: {names:?} at work at once", job.id))
            })
        })
    }

    fn at_work_after_revocation(&self) -> Option<String> {
        self.ledger.revocations().into_iter().find_map(|(name, revoked)| {
            let node = self.nodes.iter().find(|node| node.name == name)?;
            let late = node.machine.started().into_iter().find(|program| program.at > revoked + LAST_ORDERS)?;
            Some(format!("(8) {name} was revoked at {revoked:?} and did {late:?}"))
        })
    }

    /// Reads how far a node's agent has obeyed; it must never go back.
    pub(crate) fn position_of(&mut self, index: usize) -> (u64, u64) {
        self.identity_of(index);
        let node = &self.nodes[index];
        let path = node.state_dir().join("journal");
        if !path.exists() {
            return (0, 0);
        }
        let position = match Journal::open(&path) {
            Ok(journal) => journal.state().position(),
            Err(error) => {
                self.broken.push(format!("{}: the journal cannot be read: {error}", node.name));
                return (0, 0);
            }
        };
        let before = self.positions.insert(index, position).unwrap_or_default();
        if position < before {
            self.broken.push(format!("(7) {} had obeyed {before:?}, now {position:?}", node.name));
        }
        position
    }

    /// An older controller comes back.
    pub(crate) fn old_controller_begins(&mut self) {
        let newer: Vec<_> = (0..self.nodes.len()).filter(|index| self.position_of(*index).0 > 1).collect();
        self.obeyed_newer = newer.into_iter().map(|index| (index, self.nodes[index].machine.starts())).collect();
        self.alarms_before = self.ledger.with_era(|era| era.epoch_alarms);
    }

    /// And goes again: nobody who had obeyed a newer one may have done anything for it, and it must have been told.
    pub(crate) fn old_controller_ends(&mut self, faulty: &BTreeSet<usize>) {
        for index in std::mem::take(&mut self.obeyed_newer).into_keys() {
            let node = &self.nodes[index];
            if node.machine.times("job-101") > 0 {
                self.broken.push(format!("(7) {} obeyed an older controller", node.name));
            }
            let alarms = self.ledger.with_era(|era| era.epoch_alarms);
            if !faulty.contains(&index) && alarms == self.alarms_before {
                self.broken.push(format!("(7) {} met an older controller and there is no alarm", node.name));
            }
        }
    }

    /// Nodes that ought to be connected and are not.
    pub(crate) fn missing(&self, controller: Option<&Controller>) -> Vec<String> {
        let Some(controller) = controller else { return vec!["the controller".to_owned()] };
        let views = controller.fleet.list(None, usize::MAX);
        let mut missing: Vec<_> = views
            .iter()
            .filter(|view| view.record.revoked.is_none() && view.session.is_none())
            .map(|view| view.record.name.to_string())
            .collect();
        let known = |node: &Arc<Node>| views.iter().any(|view| view.record.name == node.name);
        missing.extend(
            self.nodes.iter().filter(|node| self.ledger.era() == 0 && !known(node)).map(|node| node.name.to_string()),
        );
        missing
    }

    /// What is not over yet.
    pub(crate) fn unfinished(&self, controller: Option<&Controller>) -> Vec<String> {
        self.ledger.with_era(|era| {
            let jobs = era.jobs.values().filter(|job| !job.state.is_final()).map(|job| {
                let open = job.nodes.iter().filter(|node| !era.ends.contains_key(&(job.id.clone(), (*node).clone())));
                format!("job {} waits for {:?}", job.id, open.map(ToString::to_string).collect::<Vec<_>>())
            });
            let behind = controller.is_some_and(|controller| controller.events.durable() > era.seen);
            jobs.chain(behind.then(|| format!("the follower is at {}", era.seen))).collect()
        })
    }

    /// Everything that must hold once all is well again.
    pub(crate) fn at_the_end(&mut self, was_restored: bool) -> Result<(), String> {
        for index in 0..self.nodes.len() {
            self.position_of(index);
        }
        self.tell_outcomes();
        let mut broken = std::mem::take(&mut self.broken);
        let answered = self.ledger.answered();
        self.ledger.with_era(|era| {
            for id in answered {
                if !era.jobs.keys().any(|job| job.as_str() == id) {
                    broken.push(format!("(2) job {id} was answered and is gone"));
                }
            }
            for job in era.jobs.keys() {
                broken.extend(self.job_is_told_truly(era, job, was_restored));
            }
        });
        let most = self.ledger.with_era(|era| era.certificates.values().map(BTreeSet::len).max().unwrap_or(0));
        if self.renews && most < 2 {
            broken.push("nothing was renewed: this simulation shows nothing".to_owned());
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    /// Adds to the course of events how every job ended.
    pub(crate) fn tell_outcomes(&self) {
        self.ledger.with_era(|era| {
            trace::line(|| format!("{} events, {} nodes", era.stored, era.nodes.len()));
            era.ends.iter().for_each(|((job, node), outcome)| {
                trace::line(|| format!("job {job} ({}) on {node}: {}", era.what(job), outcome.ending));
            });
        });
    }

    fn job_is_told_truly(&self, era: &Era, job: &JobId, was_restored: bool) -> Vec<String> {
        let what = era.what(job);
        let mut broken = Vec::new();
        for name in &era.jobs[job].nodes {
            let Some(outcome) = era.ends.get(&(job.clone(), name.clone())) else {
                broken.push(format!("(2) job {job} is over and has no outcome for {name}"));
                continue;
            };
            let action = &era.jobs[job].action;
            if !matches!(action, Action::Exec(_)) {
                if outcome.ending.is_success() && !is_there(action) {
                    broken.push(format!("(2, 11) job {job} on {name} is told as done, and the file is not there"));
                }
                continue;
            }
            let times = self.nodes.iter().find(|node| node.name == *name).map_or(0, |node| node.machine.times(&what));
            let not_begun = matches!(outcome.ending, Ending::Refused { .. } | Ending::Unreachable | Ending::Skipped);
            // What was done in the time a restore forgot is not known to the restored controller.
            let is_lie = (outcome.ending.is_success() && times != 1) || (not_begun && times != 0 && !was_restored);
            if is_lie {
                broken
                    .push(format!("(2) job {job} on {name} is told as {}, but was done {times} times", outcome.ending));
            }
        }
        broken
    }
}
