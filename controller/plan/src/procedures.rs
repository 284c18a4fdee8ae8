// SPDX-License-Identifier: Apache-2.0
//! What to do about one machine: the readable list of cases. [`chain`] has what is done on its node.

mod chain;
mod on_node;
mod shared;

use std::collections::{BTreeMap, BTreeSet};

use windlass_types::cloud::ServerSpec;
use windlass_types::machine::{MachineReport, MachineSpec, PowerState, ProviderKind};
use windlass_types::name::{ClusterName, LabelKey, LabelValue, NodeName};
use windlass_types::time::UnixMillis;

use crate::plan::{Blocked, Note};
use crate::predicate::{Objection, put_aside};
use crate::snapshot::{NodeStatus, Snapshot};
use crate::spec::{ROLE_PREFIX, base_hash, wished_labels};
use crate::step::{PlannedStep, Step};

pub(crate) use on_node::nodes;
pub(crate) use shared::{clearance, shared};

/// A snapshot, of which only this cluster's part can be reached.
pub(crate) struct Known<'a> {
    machines: BTreeMap<&'a NodeName, &'a MachineReport>,
    nodes: BTreeMap<&'a NodeName, &'a NodeStatus>,
    members: BTreeSet<&'a NodeName>,
    snapshot: &'a Snapshot,
}

/// What was decided so far.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) blocked: Vec<Blocked>,
    pub(crate) notes: Vec<Note>,
}

impl Decided {
    fn step(&mut self, step: Step, reason: impl Into<String>) {
        self.steps.push(PlannedStep::new(step, reason));
    }

    /// Leaves a machine as it is, because what it would share with others is not as its spec says.
    pub(crate) fn refuse(&mut self, machine: &MachineSpec, unlike: &str) {
        let reason = format!("what it shares with the others cannot be changed in place: {unlike}");
        let advice = format!("undo that in the spec, or: windlass destroy --cluster {}, then apply", machine.cluster);
        self.block(&machine.name, reason, advice);
    }

    fn block(&mut self, node: &NodeName, reason: impl Into<String>, advice: impl Into<String>) {
        self.blocked.push(Blocked::whole(node.clone(), reason, advice));
    }
}

impl<'a> Known<'a> {
    pub(crate) fn of(snapshot: &'a Snapshot, cluster: &ClusterName) -> Self {
        let ours = snapshot.machines.iter().filter(|machine| machine.cluster.as_ref() == Some(cluster));
        Self {
            machines: ours.map(|machine| (&machine.name, machine)).collect(),
            nodes: snapshot.nodes.iter().map(|node| (&node.name, node)).collect(),
            members: snapshot.members.iter().collect(),
            snapshot,
        }
    }

    /// Every node of this cluster that is there in some form, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'a NodeName> {
        let names: BTreeSet<_> = self.machines.keys().chain(&self.members).copied().collect();
        names.into_iter()
    }

    pub(crate) fn machine(&self, name: &NodeName) -> Option<&'a MachineReport> {
        self.machines.get(name).copied()
    }

    pub(crate) const fn snapshot(&self) -> &'a Snapshot {
        self.snapshot
    }

    /// Whether somebody may still join as this node.
    fn may_join(&self, name: &NodeName, now: UnixMillis) -> bool {
        let mut tokens = self.snapshot.tokens.iter().filter(|token| token.node == *name);
        tokens.any(|token| !token.is_used && token.expires > now)
    }
}

/// What to do about one machine of the spec.
pub(crate) fn machine(
    known: &Known<'_>,
    provider: &ProviderKind,
    wished: &MachineSpec,
    now: UnixMillis,
    decided: &mut Decided,
) {
    let node = known.nodes.get(&wished.name).copied();
    match (provider, known.machine(&wished.name), node) {
        (ProviderKind::Existing, _, None) => {
            decided.step(Step::AdoptMachine { name: wished.name.clone() }, "it is in the spec and has not joined");
        }
        (ProviderKind::Existing, _, Some(node)) => enrolled(node, wished, decided),
        (_, None, None) => {
            create(wished, "it is in the spec, and there is no such machine", decided);
        }
        (_, None, Some(_)) => without_machine(known, wished, decided),
        (_, Some(machine), None) if !machine.complete => {
            create(wished, "its making was interrupted", decided);
        }
        (_, Some(machine), node) => present(known, machine, node, wished, now, decided),
    }
}

fn create(wished: &MachineSpec, reason: &str, decided: &mut Decided) {
    let step = Step::CreateMachine { machine: Box::new(wished.clone()), spec_hash: base_hash(wished) };
    decided.step(step, reason);
}

/// A node whose machine is gone, or which never had one of ours.
fn without_machine(known: &Known<'_>, wished: &MachineSpec, decided: &mut Decided) {
    let name = &wished.name;
    if known.members.contains(name) {
        let reason = "its machine is gone, and was not deleted by Windlass";
        decided.block(name, reason, format!("{} forgets it; then apply makes it anew", destroying(wished)));
        return;
    }
    let reason = "a node of this name has joined already, and has no machine of this cluster";
    decided.block(name, reason, format!("choose another name, or: windlass node remove {name}"));
}

/// A machine that is there.
fn present(
    known: &Known<'_>,
    machine: &MachineReport,
    node: Option<&NodeStatus>,
    wished: &MachineSpec,
    now: UnixMillis,
    decided: &mut Decided,
) {
    let name = &wished.name;
    let anew = needs_making_anew(machine, wished);
    if !anew.is_empty() {
        let reason = format!("cannot be changed in place: {}", anew.join("; "));
        decided.block(name, reason, format!("undo that in the spec, or: {}, then apply", destroying(wished)));
        return;
    }
    // What was taken over never had a token at its first boot: somebody puts the agent on it.
    if node.is_none() && !machine.adopted && !known.may_join(name, now) {
        let reason = "it never joined, and its join token has ended";
        let advice = format!("windlass console {name} --tail 50 may say why; {}, then apply", destroying(wished));
        decided.block(name, reason, advice);
        return;
    }
    let id = machine.id.clone();
    match (machine.power, node) {
        (PowerState::Off, _) => decided.step(Step::StartMachine { name: name.clone(), id }, "it is switched off"),
        (PowerState::On | PowerState::Unknown, None) if machine.adopted => {
            decided.step(Step::AdoptMachine { name: name.clone() }, "it was taken over and has not joined");
        }
        (PowerState::On | PowerState::Unknown, None) => {
            decided.step(Step::AwaitMachine { name: name.clone(), id }, "it is made and has not joined yet");
        }
        (PowerState::On | PowerState::Unknown, Some(_)) => {}
    }
    for disk in wished.data_disks.iter().filter(|disk| !machine.disks.iter().any(|have| have.name == disk.name)) {
        let step = Step::AttachDisk { name: name.clone(), id: machine.id.clone(), disk: disk.clone() };
        decided.step(step, "the spec has this volume, and the machine does not");
    }
    if let Some(node) = node {
        enrolled(node, wished, decided);
    }
}

/// The command that makes room for another machine of this name.
fn destroying(wished: &MachineSpec) -> String {
    format!("windlass destroy --cluster {} --node {}", wished.cluster, wished.name)
}

/// A node that has joined.
fn enrolled(node: &NodeStatus, wished: &MachineSpec, decided: &mut Decided) {
    let name = &wished.name;
    if node.is_revoked {
        let advice = format!("{}, then apply", destroying(wished));
        return decided.block(name, "its certificates were revoked", advice);
    }
    if !node.is_healthy {
        decided.notes.push(Note { node: name.clone(), text: format!("is not healthy: {}", node.reason) });
    }
    let (set, remove) = label_changes(&node.labels, &wished_labels(wished));
    if !set.is_empty() || !remove.is_empty() {
        let step = Step::LabelNode { name: name.clone(), set, remove };
        decided.step(step, "its labels and roles are not those of the spec");
    }
}

/// Labels set by hand stay; labels of roles are the spec's alone.
fn label_changes(
    have: &BTreeMap<LabelKey, LabelValue>,
    wished: &BTreeMap<LabelKey, LabelValue>,
) -> (BTreeMap<LabelKey, LabelValue>, Vec<LabelKey>) {
    let set = wished.iter().filter(|(key, value)| have.get(*key) != Some(*value));
    let lost = have.keys().filter(|key| key.as_str().starts_with(ROLE_PREFIX) && !wished.contains_key(*key));
    (set.map(|(key, value)| (key.clone(), value.clone())).collect(), lost.cloned().collect())
}

/// Differences for which a machine would have to be made anew, in words.
fn needs_making_anew(machine: &MachineReport, wished: &MachineSpec) -> Vec<String> {
    let mut found = Vec::new();
    if machine.spec_hash.is_some_and(|hash| hash != base_hash(wished)) {
        found.extend(machine.spec.as_ref().map(|made| differences(made, wished)).unwrap_or_default());
        if found.is_empty() {
            found.push("it was made from another spec".to_owned());
        }
    }
    for disk in &machine.disks {
        match wished.data_disks.iter().find(|wished| wished.name == disk.name) {
            None => found.push(format!("the volume {} is no longer in the spec", disk.name)),
            Some(wished) if wished.size_bytes != disk.size_bytes => {
                found.push(format!("size of the volume {}", disk.name));
            }
            Some(_) => {}
        }
    }
    found
}

fn differences(made: &MachineSpec, wished: &MachineSpec) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, old: String, new: String| {
        if old != new {
            found.push(format!("{what} {old} to {new}"));
        }
    };
    let address = |spec: &MachineSpec| spec.address.map_or_else(|| "none".to_owned(), |address| address.to_string());
    let forwards = |spec: &MachineSpec| {
        let ports = spec.forwards.iter().map(|f| format!("{}:{}/{}", f.host_port, f.guest_port, f.protocol));
        ports.collect::<Vec<_>>().join(",")
    };
    let mebibytes = |bytes: u64| format!("{} MiB", bytes >> 20);
    compare("image", made.image.clone(), wished.image.clone());
    compare("address", address(made), address(wished));
    let server = |spec: &MachineSpec| spec.server.clone().map(|server| *server);
    if let (Some(made), Some(wished)) = (server(made), server(wished)) {
        let address = |server: &ServerSpec| or_none(server.address.map(|address| address.to_string()));
        compare("address", address(&made), address(&wished));
        compare("flavor", made.flavor, wished.flavor);
        compare("external network", or_none(made.floating), or_none(wished.floating));
        compare("keypair", or_none(made.keypair), or_none(wished.keypair));
        compare("security groups", made.security_groups.join(","), wished.security_groups.join(","));
    }
    compare("cpus", made.cpus.to_string(), wished.cpus.to_string());
    compare("memory", mebibytes(made.memory_bytes), mebibytes(wished.memory_bytes));
    compare("disk", mebibytes(made.root_disk_bytes), mebibytes(wished.root_disk_bytes));
    compare("forwards", forwards(made), forwards(wished));
    found
}

fn or_none(text: Option<String>) -> String {
    text.unwrap_or_else(|| "none".to_owned())
}

/// Why a node shall be no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parting {
    /// It is no longer in the spec.
    LeftSpec,
    /// It was named, and others stay.
    Named,
    /// All of its cluster goes.
    Whole,
}

impl Parting {
    const fn reason(self) -> &'static str {
        match self {
            Self::LeftSpec => "it is no longer in the spec",
            Self::Named | Self::Whole => "its destruction was asked for",
        }
    }
}

/// What to do about a node that shall be no more. One that has joined goes down with it: that is done under its lease, and not
/// while it is put aside, unless nothing of its cluster is left that anybody could miss it for.
pub(crate) fn removal(known: &Known<'_>, name: &NodeName, parting: Parting, decided: &mut Decided) {
    let asks = parting != Parting::Whole;
    if asks && let Some(reason) = known.snapshot.quarantined.get(name) {
        let Objection { reason, advice, .. } = put_aside(name, reason);
        return decided.block(name, reason, advice);
    }
    let step = match known.machine(name) {
        Some(machine) => {
            let MachineReport { id, disks, parts, .. } = machine.clone();
            Step::DeleteMachine { name: name.clone(), id, disks, parts }
        }
        None => Step::ForgetNode { name: name.clone() },
    };
    let lease = asks && known.nodes.contains_key(name);
    decided.steps.push(PlannedStep { lease, ..PlannedStep::new(step, parting.reason()) });
}
