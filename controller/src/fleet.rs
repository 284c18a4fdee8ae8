// SPDX-License-Identifier: Apache-2.0
//! The nodes: what is recorded of each, what its agent last said, and the session it has open.
//!
//! Records and facts are stored, so a restart forgets no node; heartbeats are not, since nobody needs them after a
//! restart. Conclusions about a node ([`conditions`]) are drawn in one place, after every change, and a conclusion that
//! turns is an event.

mod change;
pub mod conditions;
mod node;
mod refresh;
pub mod session;
mod standing;
mod turns;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use tokio::sync::{mpsc, watch};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_types::escape::Quoted;
use windlass_types::event::EventKind;
use windlass_types::fact_path::{FACT_PATHS, is_fact_path};
use windlass_types::facts::{Fact, Subject};
use windlass_types::name::NodeName;
use windlass_types::selector::NodeSelector;
use windlass_types::time::UnixMillis;

pub use node::{KnownFact, NodeRecord, NodeView, Revocation, SessionView, Standing};
pub use turns::Turn;

use crate::clock::Clock;
use crate::events::EventLog;
use crate::pki::Serial;
use crate::store::{Committed, Store, StoreError, Transaction};
use node::{NodeEntry, Session};
use refresh::Refreshes;
use turns::Turns;

const NODES: &str = "nodes/";
const FACTS: &str = "facts/";

/// Messages that may wait for an agent to read them. An agent that lets more gather is not reading.
const WAITING_MESSAGES: usize = 64;

/// More CA certificates than a rotation ever has.
const MOST_AUTHORITIES: usize = 8;

/// A message for an agent; boxed because thousands of idle sessions each reserve room for several.
pub type Downward = Box<v1::ConnectResponse>;

/// The nodes.
#[derive(Debug)]
pub struct Fleet {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    events: Arc<EventLog>,
    clock_skew_limit: Duration,
    nodes: RwLock<BTreeMap<NodeName, Arc<Mutex<NodeEntry>>>>,
    refreshes: Refreshes,
    turns: Turns,
    next_session: std::sync::atomic::AtomicU64,
    turned: watch::Sender<u64>,
}

/// A node that cannot be told anything now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is not connected")]
pub struct NotConnected;

impl Fleet {
    /// Reads all nodes from the store.
    ///
    /// # Errors
    /// If the store cannot be read or holds something else.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        events: Arc<EventLog>,
        clock_skew_limit: Duration,
    ) -> Result<Arc<Self>, FleetError> {
        let mut nodes = BTreeMap::new();
        for entry in store.range(NODES, None, usize::MAX).await? {
            let mut record: NodeRecord = serde_json::from_slice(&entry.value)
                .map_err(|source| FleetError::Record { key: entry.key.clone(), source })?;
            let facts: Facts = match store.get(&format!("{FACTS}{}", record.name)).await? {
                Some(entry) => serde_json::from_slice(&entry.value)
                    .map_err(|source| FleetError::Record { key: entry.key.clone(), source })?,
                None => BTreeMap::new(),
            };
            // The record is stored when somebody changes the node, the facts at every boot.
            if let Some(KnownFact { fact: Fact::Boot(boot), .. }) = facts.get(&Subject::Boot) {
                record.boot_id = Some(boot.boot_id.clone());
            }
            let entry = NodeEntry::new(record, facts, clock.now(), clock_skew_limit);
            nodes.insert(entry.record.name.clone(), Arc::new(Mutex::new(entry)));
        }
        Ok(Arc::new(Self {
            store,
            clock,
            events,
            clock_skew_limit,
            nodes: RwLock::new(nodes),
            refreshes: Refreshes::default(),
            turns: Turns::default(),
            next_session: std::sync::atomic::AtomicU64::new(1),
            turned: watch::channel(0).0,
        }))
    }

    /// Whether a name is free for a new node.
    ///
    /// # Errors
    /// Says what to do if it is not.
    pub fn require_free(&self, name: &NodeName) -> Result<(), Refusal> {
        if self.entry(name).is_none() {
            return Ok(());
        }
        Err(Refusal::new(Reason::AlreadyExists, format!("there is already a node {name}"))
            .advise(format!("choose another name, or forget the old node with `windlass node remove {name}`")))
    }

    /// Takes over a record that is committed. The boot stays as it is known: the node may have connected anew since the
    /// record was read.
    pub fn admit(&self, record: NodeRecord) {
        if let Some(entry) = self.entry(&record.name) {
            let mut entry = lock(&entry);
            let boot_id = entry.record.boot_id.take();
            entry.record = NodeRecord { boot_id, ..record };
            self.conclude(&mut entry);
            if entry.record.revoked.is_some() {
                self.turned.send_modify(|version| *version += 1);
            }
            return;
        }
        let entry = NodeEntry::new(record, BTreeMap::new(), self.clock.now(), self.clock_skew_limit);
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(entry.record.name.clone(), Arc::new(Mutex::new(entry)));
    }

    /// The record of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn record(&self, name: &NodeName) -> Result<NodeRecord, Refusal> {
        self.entry(name).map(|entry| lock(&entry).record.clone()).ok_or_else(|| no_such_node(name))
    }

    /// Everything known of one node; `None` if there is no such node.
    #[must_use]
    pub fn view(&self, name: &NodeName) -> Option<NodeView> {
        self.entry(name).map(|entry| lock(&entry).view())
    }

    /// Everything known of the chosen nodes, by name.
    ///
    /// # Errors
    /// If a chosen name or the path of a fact does not exist.
    pub fn select(&self, selector: &NodeSelector) -> Result<Vec<NodeView>, Refusal> {
        for name in &selector.names {
            self.record(name)?;
        }
        if let Some(path) = selector.facts.keys().find(|path| !is_fact_path(path)) {
            return Err(unknown_fact(path));
        }
        let views = self.entries().into_iter().map(|entry| lock(&entry).view());
        Ok(views.filter(|view| node::is_chosen(view, selector)).collect())
    }

    /// Everything known of every node, by name, beginning after `after`, at most `limit`.
    #[must_use]
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<NodeView> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let rest = nodes.iter().filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        rest.take(limit).map(|(_, entry)| lock(entry).view()).collect()
    }

    /// Forgets a node whose removal is committed.
    pub fn forget(&self, name: &NodeName) {
        self.nodes.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        // Whoever waits for it does so in vain.
        self.turned.send_modify(|version| *version += 1);
    }

    /// Sends something to a node's agent.
    ///
    /// # Errors
    /// If the agent has no session, or does not read what it was sent.
    pub fn send(&self, name: &NodeName, message: v1::connect_response::Message) -> Result<(), NotConnected> {
        self.send_with(name, || message)
    }

    /// Sends what is made at the moment it leaves, so that what is numbered leaves in the order of its numbers.
    ///
    /// # Errors
    /// As [`Fleet::send`]; then nothing was made or it did not leave.
    pub fn send_with(
        &self,
        name: &NodeName,
        message: impl FnOnce() -> v1::connect_response::Message,
    ) -> Result<(), NotConnected> {
        let entry = self.entry(name).ok_or(NotConnected)?;
        let entry = lock(&entry);
        let session = entry.session.as_ref().ok_or(NotConnected)?;
        session.send(message()).map_err(|_| {
            session.ended.cancel();
            NotConnected
        })
    }

    /// The certificate of a node's open session.
    #[must_use]
    pub fn session_serial(&self, name: &NodeName) -> Option<Serial> {
        let entry = self.entry(name)?;
        lock(&entry).session.as_ref().map(|session| session.view.serial)
    }

    /// Asks nodes to observe everything now; returns those that answered in time.
    pub async fn refresh(&self, names: &[NodeName], timeout: Duration) -> Vec<NodeName> {
        let mut refresh = self.refreshes.begin();
        let order = v1::connect_response::Message::Observe(v1::ObserveOrder { request: refresh.id() });
        let asked = names.iter().filter(|name| self.send(name, order.clone()).is_ok()).count();
        refresh.wait(asked, timeout).await
    }

    /// Connected agents.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.entries().iter().filter(|entry| lock(entry).session.is_some()).count()
    }

    /// Over how long so many nodes spread renewals that become due at once: a hundred a second, which is half of what a
    /// small bastion signs; never so little that chance plays no part.
    #[must_use]
    pub fn renewal_spread_millis(&self) -> u32 {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner).len();
        u32::try_from(nodes).unwrap_or(u32::MAX).saturating_mul(10).max(1000)
    }

    /// Tells every connected agent something.
    pub fn broadcast(&self, message: &v1::connect_response::Message) {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        let names: Vec<_> = nodes.keys().cloned().collect();
        drop(nodes);
        for name in names {
            // Who is not connected is told at the beginning of the next session.
            let _not_connected = self.send(&name, message.clone());
        }
    }

    fn begin_session(
        &self,
        name: &NodeName,
        serial: Serial,
        address: SocketAddr,
        hello: &v1::Hello,
    ) -> Result<(Session, mpsc::Receiver<Downward>), Refusal> {
        let entry = self.entry(name).ok_or_else(|| no_such_node(name))?;
        let mut entry = lock(&entry);
        // Its certificate was still good when the gate saw it.
        if entry.record.revoked.is_some() {
            return Err(Refusal::new(Reason::NotTrusted, format!("{name} is revoked")));
        }
        let id = self.next_session.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (outbox, inbox) = mpsc::channel(WAITING_MESSAGES);
        let session = Session::new(id, serial, address, outbox, hello);
        let now = self.clock.now();
        if let Some(old) = entry.session.take() {
            old.ended.cancel();
            if old.view.address.ip() != address.ip() {
                let message = format!("{name} is claimed from {} and from {}", old.view.address.ip(), address.ip());
                self.events.emit(EventKind::NodeContested, Some(name), None, message);
            }
        }
        if entry.record.boot_id.as_ref().is_some_and(|boot_id| *boot_id != hello.boot_id) {
            self.events.emit(EventKind::NodeRebooted, Some(name), None, format!("{name} was rebooted"));
        }
        entry.record.boot_id = Some(hello.boot_id.clone());
        entry.seen(now, hello.unix_millis);
        entry.session = Some(session.clone());
        self.conclude(&mut entry);
        Ok((session, inbox))
    }

    fn end_session(&self, name: &NodeName, id: u64, why: &str) {
        let Some(entry) = self.entry(name) else { return };
        let mut entry = lock(&entry);
        if entry.session.as_ref().is_some_and(|session| session.view.id == id) {
            entry.session = None;
            entry.disconnected_because = why.to_owned();
            self.conclude(&mut entry);
        }
    }

    fn heartbeat(&self, name: &NodeName, heartbeat: &v1::Heartbeat) {
        let Some(entry) = self.entry(name) else { return };
        let mut entry = lock(&entry);
        let now = self.clock.now();
        entry.seen(now, heartbeat.unix_millis);
        entry.load_one_centi = heartbeat.load_one_centi;
        entry.memory_available_mebibytes = heartbeat.memory_available_mebibytes;
        entry.facts_confirmed_at = now.minus(Duration::from_millis(heartbeat.facts_age_millis.into()));
        self.conclude(&mut entry);
    }

    /// Takes an agent's word for whom it trusts.
    fn trusts(&self, name: &NodeName, id: u64, report: &v1::TrustReport) {
        let Some(entry) = self.entry(name) else { return };
        let mut entry = lock(&entry);
        if let Some(session) = entry.session.as_mut().filter(|session| session.view.id == id) {
            session.trusts = report.ca_sha256.iter().take(MOST_AUTHORITIES).map(|digest| digest.to_vec()).collect();
        }
    }

    /// Nodes that are not revoked and have not said, in a session that is open, that they trust all of these.
    #[must_use]
    pub fn not_trusting(&self, ca_der: &[Vec<u8>]) -> Vec<NodeName> {
        let wanted: Vec<_> = ca_der.iter().map(|der| digest(&SHA256, der).as_ref().to_vec()).collect();
        let trusts_all = |session: &Session| wanted.iter().all(|digest| session.trusts.contains(digest));
        let views = self.list(None, usize::MAX).into_iter().filter(|view| view.record.revoked.is_none());
        let names = views.map(|view| view.record.name);
        names
            .filter(|name| self.entry(name).is_some_and(|entry| !lock(&entry).session.as_ref().is_some_and(trusts_all)))
            .collect()
    }

    async fn facts(&self, name: &NodeName, report: v1::FactsReport) -> Result<(), StoreError> {
        let Some(entry) = self.entry(name) else { return Ok(()) };
        let now = self.clock.now();
        let stored = {
            let mut entry = lock(&entry);
            let mut worth_storing = false;
            for fact in report.facts {
                let observed_at = now.minus(Duration::from_millis(fact.age_millis));
                match Fact::try_from(fact) {
                    Ok(known) => {
                        worth_storing |= entry.learn(known, observed_at);
                    }
                    Err(error) => tracing::warn!(node = %name, %error, "a fact was refused"),
                }
            }
            entry.facts_confirmed_at = now;
            self.conclude(&mut entry);
            worth_storing.then(|| serde_json::to_vec(&entry.facts).expect("facts are always JSON"))
        };
        if let Some(value) = stored {
            let _: Committed = self.store.commit(Transaction::new().put(format!("{FACTS}{name}"), value)).await?;
        }
        if report.request != 0 {
            self.refreshes.answered(report.request, name);
        }
        Ok(())
    }

    /// Draws the conclusions about a node anew and tells of those that turned.
    fn conclude(&self, entry: &mut NodeEntry) {
        let news = entry.conclude(self.clock.now(), self.clock_skew_limit);
        if !news.is_empty() {
            self.turned.send_modify(|version| *version += 1);
        }
        for (kind, message) in news {
            self.events.emit(kind, Some(&entry.record.name), None, message);
        }
    }

    async fn save(&self, record: &NodeRecord) -> Result<(), Refusal> {
        let committed = self.store.commit(put(Transaction::new(), record)).await;
        committed.map(|_| ()).map_err(|error| crate::join::store(&error))
    }

    fn entry(&self, name: &NodeName) -> Option<Arc<Mutex<NodeEntry>>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn entries(&self) -> Vec<Arc<Mutex<NodeEntry>>> {
        self.nodes.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// A failure to read the fleet from the store.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("understand the stored record {key}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// Less alike than this and a suggestion confuses more than it helps.
const LEAST_LIKENESS: f64 = 0.8;

/// A path that no fact can have; that of a list is one, too.
fn unknown_fact(path: &str) -> Refusal {
    let likeness = |known: &&&str| strsim::jaro_winkler(path, known);
    let nearest = FACT_PATHS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    let near = nearest.filter(|near| likeness(near) >= LEAST_LIKENESS);
    let near = near.map_or_else(String::new, |near| format!("did you mean {near}? "));
    let subject = path.split('.').next().unwrap_or_default();
    let mut listed: Vec<_> =
        FACT_PATHS.iter().filter(|known| known.split('.').next() == Some(subject)).copied().collect();
    if listed.is_empty() {
        listed = FACT_PATHS.to_vec();
    }
    Refusal::new(Reason::BadRequest, format!("there is no fact {}", Quoted(path)))
        .advise(format!("{near}paths, with a number from 0 for N: {}", listed.join(", ")))
}

fn no_such_node(name: &NodeName) -> Refusal {
    Refusal::new(Reason::NotFound, format!("there is no node {name}")).advise("`windlass get nodes` lists them")
}

fn node_key(name: &NodeName) -> String {
    format!("{NODES}{name}")
}

fn put(transaction: Transaction, record: &NodeRecord) -> Transaction {
    transaction.put(node_key(&record.name), serde_json::to_vec(record).expect("a node record is always JSON"))
}

fn lock(entry: &Mutex<NodeEntry>) -> MutexGuard<'_, NodeEntry> {
    entry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Facts by subject.
pub type Facts = BTreeMap<Subject, KnownFact>;

/// When something was heard last, for those never heard of.
pub const NEVER: UnixMillis = UnixMillis(0);
