// SPDX-License-Identifier: Apache-2.0
//! Nodes, as lists show them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::condition::ConditionKind;
use windlass_types::facts::Fact;
use windlass_types::time::UnixMillis;

use super::facts::{Facts, value};
use super::{Listed, utc, utc_unless_never};
use crate::cli::table::Cell;
use crate::cli::terminal::Tone;
use crate::duration::Age;

/// The one word that says how a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeStatus {
    /// Connected and well.
    Healthy,
    /// Connected; something it watches is not well.
    Unhealthy,
    /// The agent has no session.
    Disconnected,
    /// Trusted no longer.
    Revoked,
}

impl NodeStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::Disconnected => "disconnected",
            Self::Revoked => "revoked",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Healthy => Tone::Good,
            Self::Unhealthy | Self::Disconnected => Tone::Bad,
            Self::Revoked => Tone::Faint,
        }
    }
}

/// One condition of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ConditionView {
    /// Which.
    pub(crate) kind: ConditionKind,
    /// Whether it holds.
    pub(crate) holds: bool,
    /// Why.
    pub(crate) reason: String,
    /// Since when.
    pub(crate) since: String,
    #[serde(skip)]
    pub(crate) since_millis: UnixMillis,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct NodeView {
    /// Its name.
    pub(crate) name: String,
    /// How it is, in one word.
    pub(crate) status: NodeStatus,
    /// What else should be known: `reboot-needed`, `clock-skewed`.
    pub(crate) flags: Vec<ConditionKind>,
    /// Why no run may take it down; absent when it is not in quarantine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quarantine: Option<String>,
    /// Operators' labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Every condition.
    pub(crate) conditions: Vec<ConditionView>,
    /// Version of the agent program.
    pub(crate) agent_version: String,
    /// Where the agent connects from; absent when it is not connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// When it joined.
    pub(crate) joined_at: String,
    /// When the controller last heard of it.
    pub(crate) last_seen_at: Option<String>,
    /// Serial number of its newest certificate.
    pub(crate) certificate_serial: String,
    /// When that certificate ends.
    pub(crate) certificate_not_after: String,
    /// The node's clock minus the controller's, milliseconds.
    pub(crate) clock_offset_millis: i64,
    /// Load average of one minute, from the last heartbeat.
    pub(crate) load_one: f64,
    /// Memory available, bytes, from the last heartbeat.
    pub(crate) memory_available_bytes: u64,
    /// What is known about it.
    pub(crate) facts: Facts,
    #[serde(skip)]
    pub(crate) last_seen: UnixMillis,
    #[serde(skip)]
    pub(crate) joined: UnixMillis,
    #[serde(skip)]
    pub(crate) certificate_end: UnixMillis,
}

impl From<v1::Node> for NodeView {
    fn from(node: v1::Node) -> Self {
        let conditions: Vec<_> = node.conditions.iter().filter_map(condition).collect();
        let mut facts = Facts::default();
        for known in node.facts {
            // A subject that only a newer agent knows is left out.
            if let Some(Ok(fact)) = known.fact.map(Fact::try_from) {
                facts.insert(known.age_millis / 1000, fact);
            }
        }
        Self {
            name: node.name,
            status: status(&conditions),
            flags: flags(&conditions),
            quarantine: None,
            labels: node.labels,
            conditions,
            agent_version: node.agent_version,
            address: Some(node.address).filter(|address| !address.is_empty()),
            joined_at: utc(UnixMillis(node.joined_unix_millis)),
            last_seen_at: utc_unless_never(UnixMillis(node.last_seen_unix_millis)),
            certificate_serial: node.certificate_serial,
            certificate_not_after: utc(UnixMillis(node.certificate_not_after_unix_millis)),
            clock_offset_millis: node.clock_offset_millis,
            load_one: f64::from(node.load_one_centi) / 100.0,
            memory_available_bytes: u64::from(node.memory_available_mebibytes) << 20,
            facts,
            last_seen: UnixMillis(node.last_seen_unix_millis),
            joined: UnixMillis(node.joined_unix_millis),
            certificate_end: UnixMillis(node.certificate_not_after_unix_millis),
        }
    }
}

fn condition(wire: &v1::NodeCondition) -> Option<ConditionView> {
    let kind = match wire.kind() {
        v1::ConditionKind::Unspecified => return None,
        v1::ConditionKind::Connected => ConditionKind::Connected,
        v1::ConditionKind::Healthy => ConditionKind::Healthy,
        v1::ConditionKind::RebootNeeded => ConditionKind::RebootNeeded,
        v1::ConditionKind::ClockSkewed => ConditionKind::ClockSkewed,
        v1::ConditionKind::Revoked => ConditionKind::Revoked,
    };
    let since = UnixMillis(wire.since_unix_millis);
    Some(ConditionView { kind, holds: wire.holds, reason: wire.reason.clone(), since: utc(since), since_millis: since })
}

fn holds(conditions: &[ConditionView], kind: ConditionKind) -> bool {
    conditions.iter().any(|condition| condition.kind == kind && condition.holds)
}

fn status(conditions: &[ConditionView]) -> NodeStatus {
    if holds(conditions, ConditionKind::Revoked) {
        NodeStatus::Revoked
    } else if !holds(conditions, ConditionKind::Connected) {
        NodeStatus::Disconnected
    } else if holds(conditions, ConditionKind::Healthy) {
        NodeStatus::Healthy
    } else {
        NodeStatus::Unhealthy
    }
}

fn flags(conditions: &[ConditionView]) -> Vec<ConditionKind> {
    let noted = [ConditionKind::RebootNeeded, ConditionKind::ClockSkewed];
    noted.into_iter().filter(|kind| holds(conditions, *kind)).collect()
}

impl NodeView {
    /// Status, quarantine and flags in one word: `healthy,quarantined,reboot-needed`.
    pub(crate) fn status_text(&self) -> String {
        let mut text = self.status.as_str().to_owned();
        if self.quarantine.is_some() {
            text.push_str(",quarantined");
        }
        for flag in &self.flags {
            text.push(',');
            text.push_str(&flag.to_string());
        }
        text
    }

    /// The colour of its status.
    pub(crate) const fn tone(&self) -> Tone {
        let is_noted = self.quarantine.is_some() || !self.flags.is_empty();
        if matches!(self.status, NodeStatus::Healthy) && is_noted { Tone::Warning } else { self.status.tone() }
    }

    /// How long it has been up, by its own clock.
    pub(crate) fn uptime(&self, now: UnixMillis) -> Option<Duration> {
        let node_now = UnixMillis(now.0.saturating_add(self.clock_offset_millis));
        value(&self.facts.boot).map(|boot| node_now.since(boot.booted_at))
    }

    /// How long ago the controller heard of it.
    pub(crate) fn seen(&self, now: UnixMillis) -> Option<Duration> {
        self.last_seen_at.as_ref().map(|_| now.since(self.last_seen))
    }

    /// Whether its agent has a session.
    pub(crate) fn is_connected(&self) -> bool {
        holds(&self.conditions, ConditionKind::Connected)
    }

    fn labels_text(&self) -> String {
        self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    fn memory_text(&self) -> String {
        let total = value(&self.facts.memory).map_or(0, |memory| memory.total_bytes);
        if total == 0 { String::new() } else { super::size(total) }
    }
}

fn optional_age(age: Option<Duration>) -> Cell {
    age.map_or_else(|| Cell::new(""), |age| Cell::new(Age(age)))
}

/// `5.14.0-503.11.1` of `5.14.0-503.11.1.el9_5.x86_64`: the distribution has its own column.
fn short_kernel(release: &str) -> &str {
    let end = release.find(".el").or_else(|| release.rfind(".x86_64"));
    end.map_or(release, |end| &release[..end])
}

impl Listed for NodeView {
    const KIND: &'static str = "Node";

    fn name(&self) -> String {
        windlass_types::escape::Escaped(&self.name).to_string()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let mut header = vec!["NAME", "STATUS", "KERNEL", "OS", "UPTIME", "LOAD", "SEEN"];
        if wide {
            header.extend(["CPU", "MEMORY", "ADDRESS", "AGENT", "CERTIFICATE", "LABELS"]);
        }
        header
    }

    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell> {
        let kernel = value(&self.facts.kernel).map_or("", |kernel| kernel.running.as_str());
        let os = value(&self.facts.os);
        // Both come with the first heartbeat, and no machine has no memory at all.
        let has_load = self.is_connected() && self.memory_available_bytes > 0;
        let load = if has_load { format!("{:.2}", self.load_one) } else { String::new() };
        let mut cells = vec![
            Cell::new(&self.name),
            Cell::new(self.status_text()).toned(self.tone()),
            Cell::new(if wide { kernel } else { short_kernel(kernel) }),
            Cell::new(os.map_or_else(String::new, |os| match wide {
                true if !os.pretty_name.is_empty() => os.pretty_name.clone(),
                _ => format!("{} {}", os.id, os.version_id).trim().to_owned(),
            })),
            optional_age(self.uptime(now)),
            Cell::new(load),
            optional_age(self.seen(now)),
        ];
        if wide {
            cells.extend([
                Cell::new(value(&self.facts.cpu).map_or_else(String::new, |cpu| cpu.logical.to_string())),
                Cell::new(self.memory_text()),
                Cell::new(self.address.as_deref().unwrap_or_default()),
                Cell::new(&self.agent_version),
                Cell::new(Age(self.certificate_end.since(now))),
                Cell::new(self.labels_text()),
            ]);
        }
        cells
    }
}
