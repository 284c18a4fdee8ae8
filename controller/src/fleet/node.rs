// SPDX-License-Identifier: Apache-2.0
//! One node: its stored record, what is known of it, and its session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use windlass_proto::v1;
use windlass_types::condition::Condition;
use windlass_types::event::EventKind;
use windlass_types::facts::{Fact, Subject};
use windlass_types::name::{LabelKey, LabelValue, NodeName};
use windlass_types::selector::NodeSelector;
use windlass_types::time::UnixMillis;

use super::conditions::{self, Evidence};
use super::{Downward, Facts, NEVER};
use crate::pki::Serial;

/// Words by which an agent says what it can do; there are a handful.
const MOST_ABILITIES: usize = 32;

/// What is stored of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its name.
    pub name: NodeName,
    /// Operators' labels.
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// When it joined.
    pub joined_at: UnixMillis,
    /// Its newest certificate.
    pub serial: Serial,
    /// Set once its certificates are revoked.
    pub revoked: Option<Revocation>,
    /// The boot it was last heard from.
    pub boot_id: Option<String>,
}

/// Why and when a node was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// When.
    pub at: UnixMillis,
    /// Why.
    pub reason: String,
}

impl NodeRecord {
    pub(super) const fn new(name: NodeName, serial: Serial, joined_at: UnixMillis) -> Self {
        Self { name, labels: BTreeMap::new(), joined_at, serial, revoked: None, boot_id: None }
    }
}

/// A fact and when the node observed it, by the controller's clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownFact {
    /// The fact.
    pub fact: Fact,
    /// When it was last observed.
    pub observed_at: UnixMillis,
}

/// What everybody may know of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    /// Its number.
    pub id: u64,
    /// The certificate it was opened with.
    pub serial: Serial,
    /// Where the agent is.
    pub address: SocketAddr,
    /// The agent's version.
    pub agent_version: String,
    /// What the agent says it can do.
    pub abilities: Vec<String>,
}

/// An open session.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) view: SessionView,
    outbox: mpsc::Sender<Downward>,
    /// SHA-256 of the CA certificates that the agent said it trusts; empty if it said nothing.
    pub(super) trusts: Vec<Vec<u8>>,
    /// Cancelled when the session is over.
    pub(super) ended: CancellationToken,
}

impl Session {
    pub(super) fn new(
        id: u64,
        serial: Serial,
        address: SocketAddr,
        outbox: mpsc::Sender<Downward>,
        hello: &v1::Hello,
    ) -> Self {
        let agent_version = hello.agent_version.chars().take(64).collect();
        let abilities = hello.abilities.iter().take(MOST_ABILITIES).cloned().collect();
        let view = SessionView { id, serial, address, agent_version, abilities };
        Self { view, outbox, trusts: Vec::new(), ended: CancellationToken::new() }
    }

    pub(super) fn send(&self, message: v1::connect_response::Message) -> Result<(), super::NotConnected> {
        let message = Box::new(v1::ConnectResponse { message: Some(message) });
        self.outbox.try_send(message).map_err(|_| super::NotConnected)
    }
}

/// Everything known of a node, as a copy.
#[derive(Debug, Clone)]
pub struct NodeView {
    /// What is stored.
    pub record: NodeRecord,
    /// What its agent observed; an unchanged fact is as old as the last look at it.
    pub facts: Facts,
    /// What is concluded, in the order of [`windlass_types::condition::ConditionKind::ALL`].
    pub conditions: Vec<Condition>,
    /// Its session, if it has one.
    pub session: Option<SessionView>,
    /// When it was last heard of; [`NEVER`] if it was not since the controller started.
    pub last_seen: UnixMillis,
    /// Its clock minus the controller's, milliseconds.
    pub clock_offset_millis: i64,
    /// Load of one minute, hundredths.
    pub load_one_centi: u32,
    /// Memory available, MiB.
    pub memory_available_mebibytes: u32,
}

/// How a node is, without what was observed there.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What is stored.
    pub record: NodeRecord,
    /// What is concluded.
    pub conditions: Vec<Condition>,
    /// It has a session.
    pub is_connected: bool,
}

/// One node in memory.
#[derive(Debug)]
pub(super) struct NodeEntry {
    pub(super) record: NodeRecord,
    pub(super) facts: Facts,
    pub(super) facts_confirmed_at: UnixMillis,
    pub(super) session: Option<Session>,
    pub(super) disconnected_because: String,
    pub(super) load_one_centi: u32,
    pub(super) memory_available_mebibytes: u32,
    conditions: Vec<Condition>,
    last_seen: UnixMillis,
    clock_offset_millis: i64,
}

impl NodeEntry {
    pub(super) fn new(record: NodeRecord, facts: Facts, now: UnixMillis, clock_skew_limit: Duration) -> Self {
        let last_seen = facts.values().map(|known| known.observed_at).max().unwrap_or(NEVER);
        let mut entry = Self {
            record,
            facts,
            facts_confirmed_at: NEVER,
            session: None,
            disconnected_because: "it has not connected since the controller started".to_owned(),
            load_one_centi: 0,
            memory_available_mebibytes: 0,
            conditions: conditions::unknown(now),
            last_seen,
            clock_offset_millis: 0,
        };
        // What a restart concludes is no news.
        let _no_news = entry.conclude(now, clock_skew_limit);
        entry
    }

    /// The agent was heard of, and its clock said this.
    pub(super) fn seen(&mut self, now: UnixMillis, agent_unix_millis: i64) {
        self.last_seen = now;
        self.clock_offset_millis = UnixMillis(agent_unix_millis).offset_millis(now);
    }

    /// Takes a fact; says whether it is worth storing.
    pub(super) fn learn(&mut self, fact: Fact, observed_at: UnixMillis) -> bool {
        let subject = fact.subject();
        let known = self.facts.get(&subject);
        let changed = known.is_none_or(|known| known.fact != fact);
        self.facts.insert(subject, KnownFact { fact, observed_at });
        changed && subject != Subject::Load
    }

    pub(super) fn conclude(&mut self, now: UnixMillis, clock_skew_limit: Duration) -> Vec<(EventKind, String)> {
        let evidence = Evidence {
            name: &self.record.name,
            revoked: self.record.revoked.as_ref(),
            address: self.session.as_ref().map(|session| session.view.address),
            disconnected_because: &self.disconnected_because,
            facts: &self.facts,
            boot_id: self.record.boot_id.as_deref(),
            clock_offset_millis: self.clock_offset_millis,
            clock_skew_limit,
        };
        conditions::conclude(&mut self.conditions, &evidence, now)
    }

    pub(super) fn standing(&self) -> Standing {
        let (record, conditions) = (self.record.clone(), self.conditions.clone());
        Standing { record, conditions, is_connected: self.session.is_some() }
    }

    pub(super) fn view(&self) -> NodeView {
        let mut facts = self.facts.clone();
        for known in facts.values_mut() {
            known.observed_at = known.observed_at.max(self.facts_confirmed_at);
        }
        NodeView {
            record: self.record.clone(),
            facts,
            conditions: self.conditions.clone(),
            session: self.session.as_ref().map(|session| session.view.clone()),
            last_seen: self.last_seen,
            clock_offset_millis: self.clock_offset_millis,
            load_one_centi: self.load_one_centi,
            memory_available_mebibytes: self.memory_available_mebibytes,
        }
    }
}

/// Whether an operator means this node.
pub(super) fn is_chosen(view: &NodeView, selector: &NodeSelector) -> bool {
    if selector.is_empty() || (selector.names.is_empty() && view.record.revoked.is_some()) {
        return false;
    }
    let named = selector.names.is_empty() || selector.names.contains(&view.record.name);
    named
        && selector.has_labels(&view.record.labels)
        && selector.facts.iter().all(|(path, value)| says(view, path, value))
}

/// Whether a fact, as printed in JSON, has this value at this dotted path, such as `os.id`.
fn says(view: &NodeView, path: &str, wanted: &str) -> bool {
    let (subject, rest) = path.split_once('.').unwrap_or((path, ""));
    let Some(known) = view.facts.values().find(|known| known.fact.subject().as_str() == subject) else { return false };
    let Ok(json) = serde_json::to_value(&known.fact) else { return false };
    let parts = rest.split('.').filter(|part| !part.is_empty());
    let found = parts.fold(json.get("value"), |value, part| match value? {
        serde_json::Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    });
    match found {
        Some(serde_json::Value::String(text)) => text == wanted,
        Some(other) => serde_json::from_str::<serde_json::Value>(wanted).is_ok_and(|wanted| *other == wanted),
        None => false,
    }
}
