// SPDX-License-Identifier: Apache-2.0
//! What the controller has stored and told, and what must be true of it: read from the store after every step, not from
//! the controller's memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use windlass_controller::fleet::NodeRecord;
use windlass_controller::jobs::run::JobRecord;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Store as _, Watch, WatchEvent};
use windlass_controller::tokens::TokenRecord;
use windlass_controller::trust::{CertificateRecord, Holder};
use windlass_proto::v1;
use windlass_types::action::Action;
use windlass_types::event::{Event, EventKind};
use windlass_types::name::{JobId, NodeName};
use windlass_types::node_step::StepOrder;
use windlass_types::outcome::Outcome;

use crate::machine::what;
use crate::node::Node;
use crate::runs::book::Book as RunBook;

/// What is known of one disk of the controller.
pub(crate) struct Era {
    pub(crate) disk: Arc<MemoryStore>,
    pub(crate) jobs: BTreeMap<JobId, JobRecord>,
    pub(crate) ends: BTreeMap<(JobId, NodeName), Outcome>,
    pub(crate) nodes: BTreeMap<NodeName, NodeRecord>,
    /// Certificates of each node.
    pub(crate) certificates: BTreeMap<NodeName, BTreeSet<String>>,
    /// What each token was used for.
    uses: BTreeMap<String, Vec<u8>>,
    /// Alarms about an older controller.
    pub(crate) epoch_alarms: usize,
    /// The last stored event.
    pub(crate) stored: u64,
    /// The last event that was seen by whoever follows.
    pub(crate) seen: u64,
    /// Runs and leases.
    pub(crate) book: RunBook,
    watch: Watch,
}

/// What is known of a simulation.
pub(crate) struct Ledger(Mutex<Book>);

struct Book {
    eras: Vec<Era>,
    era: usize,
    /// The jobs of requests that were answered, by era and request: a restored controller may be asked once more.
    requests: BTreeMap<(usize, String), String>,
    revoking: BTreeSet<NodeName>,
    revoked: BTreeMap<NodeName, Duration>,
    broken: Vec<String>,
}

impl Era {
    fn has_job(&self, id: &str) -> bool {
        let stored = self.disk.get(&format!("jobs/{id:0>20}")).now_or_never();
        stored.is_some_and(|stored| stored.is_ok_and(|stored| stored.is_some()))
    }

    fn new(disk: Arc<MemoryStore>) -> Self {
        let watch = disk.watch("");
        let mut era = Self {
            jobs: BTreeMap::new(),
            ends: BTreeMap::new(),
            nodes: BTreeMap::new(),
            certificates: BTreeMap::new(),
            uses: BTreeMap::new(),
            epoch_alarms: 0,
            stored: 0,
            seen: 0,
            book: RunBook::default(),
            watch,
            disk,
        };
        for entry in all(&era.disk) {
            let event = WatchEvent { revision: entry.revision, key: entry.key, value: Some(entry.value) };
            era.take(&event).expect("a copy is as good as its original");
        }
        era.book.is_a_copy();
        era
    }

    /// The program of a job.
    pub(crate) fn what(&self, job: &JobId) -> String {
        match self.jobs.get(job).map(|record| &record.action) {
            Some(Action::Exec(argv)) => what(argv),
            _ => String::new(),
        }
    }

    fn take(&mut self, event: &WatchEvent) -> Result<(), String> {
        let (prefix, rest) = event.key.split_once('/').unwrap_or((&event.key, ""));
        self.book.take(prefix, rest, event.value.as_deref())?;
        let Some(value) = &event.value else { return Ok(()) };
        match prefix {
            "jobs" => {
                let record: JobRecord = json(value)?;
                self.jobs.insert(record.id.clone(), record);
            }
            "job-nodes" => return self.job_node(rest, value),
            "nodes" => {
                let record: NodeRecord = json(value)?;
                self.nodes.insert(record.name.clone(), record);
            }
            "certificates" => {
                let record: CertificateRecord = json(value)?;
                if let Holder::Node(node) = record.holder {
                    self.certificates.entry(node).or_default().insert(rest.to_owned());
                }
            }
            "tokens" => {
                let record: TokenRecord = json(value)?;
                let Some(used) = record.used else { return Ok(()) };
                let before = self.uses.entry(record.id).or_insert_with(|| used.certificate_der.clone());
                if *before != used.certificate_der {
                    return Err(format!("(9) the token of {} has made two certificates", record.node));
                }
            }
            "events" => return self.event(&json(value)?),
            _ => {}
        }
        Ok(())
    }

    fn job_node(&mut self, rest: &str, value: &[u8]) -> Result<(), String> {
        let value: serde_json::Value = json(value)?;
        let Some(ended) = value.get("ended") else { return Ok(()) };
        let outcome: Outcome = serde_json::from_value(ended.clone()).map_err(|error| error.to_string())?;
        let (job, node) = rest.split_once('/').ok_or("a key without a node")?;
        let job = JobId::new(job.trim_start_matches('0')).map_err(|error| error.to_string())?;
        let node = NodeName::new(node).map_err(|error| error.to_string())?;
        match self.ends.insert((job.clone(), node.clone()), outcome.clone()) {
            Some(before) if before != outcome => {
                Err(format!("(3) job {job} on {node} had ended with {before:?}, now with {outcome:?}"))
            }
            _ => Ok(()),
        }
    }

    fn event(&mut self, event: &Event) -> Result<(), String> {
        self.epoch_alarms += usize::from(event.kind == EventKind::EpochBehind);
        let before = std::mem::replace(&mut self.stored, event.cursor);
        if event.cursor == before + 1 {
            return Ok(());
        }
        Err(format!("(5) event {} was stored after event {before}", event.cursor))
    }
}

pub(crate) fn json<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, String> {
    serde_json::from_slice(value).map_err(|error| format!("a stored record cannot be read: {error}"))
}

/// Everything on a disk.
pub(crate) fn all(disk: &MemoryStore) -> Vec<windlass_controller::store::Entry> {
    disk.range("", None, usize::MAX).now_or_never().expect("memory never waits").expect("memory can be read")
}

impl Ledger {
    pub(crate) fn new(disk: Arc<MemoryStore>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Book {
            eras: vec![Era::new(disk)],
            era: 0,
            requests: BTreeMap::new(),
            revoking: BTreeSet::new(),
            revoked: BTreeMap::new(),
            broken: Vec::new(),
        })))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the disk in use.
    pub(crate) fn era(&self) -> usize {
        self.book().era
    }

    /// Another disk is in use from now on.
    pub(crate) fn begin_era(&self, disk: &Arc<MemoryStore>) {
        let mut book = self.book();
        let known = book.eras.iter().position(|era| Arc::ptr_eq(&era.disk, disk));
        book.era = known.unwrap_or_else(|| {
            book.eras.push(Era::new(Arc::clone(disk)));
            book.eras.len() - 1
        });
    }

    /// Reads what was stored since the last time; what is wrong with it.
    pub(crate) fn catch_up(&self) -> Vec<String> {
        let mut book = self.book();
        let current = book.era;
        let mut broken = std::mem::take(&mut book.broken);
        let era = &mut book.eras[current];
        while let Some(next) = era.watch.next().now_or_never() {
            match next {
                Ok(Some(event)) => broken.extend(era.take(&event).err()),
                Ok(None) | Err(_) => broken.push("the simulation lost sight of the store".to_owned()),
            }
        }
        broken
    }

    /// Looks at the disk in use.
    pub(crate) fn with_era<T>(&self, look: impl FnOnce(&Era) -> T) -> T {
        let book = self.book();
        look(&book.eras[book.era])
    }

    /// Looks at a disk.
    pub(crate) fn with_era_at<T>(&self, era: usize, look: impl FnOnce(&Era) -> T) -> T {
        look(&self.book().eras[era])
    }

    /// Looks at the runs on the disk in use.
    pub(crate) fn with_book<T>(&self, look: impl FnOnce(&mut RunBook) -> T) -> T {
        let mut book = self.book();
        let current = book.era;
        look(&mut book.eras[current].book)
    }

    /// The step that a job orders, and the disk on which it was ordered: a backup has the jobs of its original.
    pub(crate) fn order_of(&self, job: &JobId) -> Option<(usize, StepOrder)> {
        let book = self.book();
        book.eras.iter().enumerate().find_map(|(number, era)| match &era.jobs.get(job)?.action {
            Action::Step(order) => Some((number, StepOrder::clone(order))),
            _ => None,
        })
    }

    /// Every step that a node was ordered to do, each order once, the oldest first.
    pub(crate) fn orders_to(&self, node: &NodeName) -> Vec<StepOrder> {
        let book = self.book();
        let jobs = book.eras.iter().flat_map(|era| &era.jobs).filter(|(_, job)| job.nodes.contains(node));
        let orders = jobs.filter_map(|(id, job)| match &job.action {
            Action::Step(order) => Some(((id.as_str().len(), id.clone()), StepOrder::clone(order))),
            _ => None,
        });
        orders.collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Names of those that have joined and that nobody revokes.
    pub(crate) fn usable_nodes<'a>(&self, nodes: impl Iterator<Item = &'a Arc<Node>>) -> Vec<String> {
        let book = self.book();
        let known = &book.eras[book.era].nodes;
        let usable = nodes.filter(|node| known.contains_key(&node.name) && !book.revoking.contains(&node.name));
        usable.map(|node| node.name.to_string()).collect()
    }

    /// A request for a job was answered.
    pub(crate) fn created(&self, request: &str, id: &str) {
        let mut book = self.book();
        // An answer may arrive after the controller that gave it was replaced by a restored one.
        let is_on_disk = |era: &usize| book.eras[*era].has_job(id);
        let era = (0..book.eras.len()).rev().find(is_on_disk).unwrap_or(book.era);
        let before = book.requests.insert((era, request.to_owned()), id.to_owned());
        if before.as_ref().is_some_and(|before| before != id) {
            book.broken.push(format!("(2) request {request} made job {before:?} and job {id}"));
        }
    }

    /// The job of a request that was answered.
    pub(crate) fn job_of(&self, request: &str) -> Option<String> {
        let book = self.book();
        book.requests.get(&(book.era, request.to_owned())).cloned()
    }

    /// Jobs whose creation the controller on the present disk has answered.
    pub(crate) fn answered(&self) -> Vec<String> {
        let book = self.book();
        let of_era = book.requests.iter().filter(|((era, _), _)| *era == book.era);
        of_era.map(|(_, id)| id.clone()).collect()
    }

    /// Something that must hold does not.
    pub(crate) fn broke(&self, what: String) {
        self.book().broken.push(what);
    }

    /// Somebody wants a node revoked.
    pub(crate) fn revoking(&self, node: &NodeName) {
        self.book().revoking.insert(node.clone());
    }

    /// Nodes that somebody revokes or has revoked.
    pub(crate) fn being_revoked(&self) -> BTreeSet<NodeName> {
        self.book().revoking.clone()
    }

    /// The node's revocation was answered.
    pub(crate) fn revoked(&self, node: &NodeName) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.book().revoked.entry(node.clone()).or_insert(at);
    }

    /// When nodes were revoked.
    pub(crate) fn revocations(&self) -> BTreeMap<NodeName, Duration> {
        self.book().revoked.clone()
    }

    /// Where a follower goes on: the era and the last event it saw.
    pub(crate) fn watched_until(&self) -> (usize, u64) {
        let book = self.book();
        (book.era, book.eras[book.era].seen)
    }

    /// A follower saw an event.
    pub(crate) fn watched(&self, era: usize, event: &v1::Event) {
        let mut book = self.book();
        let before = std::mem::replace(&mut book.eras[era].seen, event.cursor);
        if event.cursor != before + 1 {
            book.broken.push(format!("(5) a follower saw event {} after event {before}", event.cursor));
        }
    }
}
