// SPDX-License-Identifier: Apache-2.0
//! A small world for tests: machines, nodes, and what becomes of them when a plan is carried out.

use std::collections::BTreeMap;

use windlass_types::cloud::SharedReport;
use windlass_types::machine::{
    AccelChoice, DiskReport, DiskSpec, MachineReport, MachineRole, MachineSpec, PortForward, PowerState, Protocol,
    ProviderKind,
};
use windlass_types::name::on_node::BootId;
use windlass_types::name::{ClusterName, MachineId, NodeName, VolumeName};
use windlass_types::node_step::NodeStep;
use windlass_types::survey::{Found, KernelDue};
use windlass_types::time::UnixMillis;

use crate::spec::{base_hash, disk_serial, wished_labels};
use crate::{ClusterSpec, NodeStatus, Plan, Policy, Snapshot, Step, TokenStatus};

pub(crate) const NOW: UnixMillis = UnixMillis(1_000_000);

pub(crate) fn cluster() -> ClusterName {
    ClusterName::new("k8s1").expect("a name")
}

pub(crate) fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

pub(crate) fn machine(node: &str) -> MachineSpec {
    let volume = VolumeName::new("docker").expect("a name");
    let last: u8 = node.trim_start_matches("node").parse().unwrap_or(9);
    let serial = disk_serial(&cluster(), &name(node), &volume);
    MachineSpec {
        cluster: cluster(),
        name: name(node),
        address: Some(format!("10.0.0.{}/24", 100 + last).parse().expect("an address")),
        image: "/images/guest.qcow2".into(),
        cpus: 2,
        memory_bytes: 2 << 30,
        root_disk_bytes: 0,
        data_disks: vec![DiskSpec { name: volume, size_bytes: 1 << 30, serial: Some(serial), volume_type: None }],
        forwards: vec![PortForward {
            host_address: [127, 0, 0, 1].into(),
            host_port: 6440 + u16::from(last),
            guest_port: 6443,
            protocol: Protocol::Tcp,
        }],
        accel: AccelChoice::Auto,
        server: None,
        roles: vec![MachineRole::Worker],
        labels: BTreeMap::new(),
    }
}

pub(crate) fn spec(nodes: &[&str]) -> ClusterSpec {
    let machines = nodes.iter().map(|node| machine(node)).collect();
    ClusterSpec { name: cluster(), provider: ProviderKind::Qemu, machines, shared: Vec::new(), wishes: BTreeMap::new() }
}

pub(crate) fn empty() -> Snapshot {
    Snapshot::default()
}

pub(crate) fn plan_of(world: &Snapshot, nodes: &[&str]) -> Plan {
    crate::plan(world, &spec(nodes), &Policy::default(), NOW)
}

fn disk_report(disk: &DiskSpec) -> DiskReport {
    let serial = disk.serial.clone().expect("an example's serial is its spec's");
    DiskReport { name: disk.name.clone(), size_bytes: disk.size_bytes, serial }
}

pub(crate) fn report(spec: &MachineSpec) -> MachineReport {
    MachineReport {
        id: MachineId::new(format!("{}.{}", spec.cluster, spec.name)).expect("an id"),
        name: spec.name.clone(),
        cluster: Some(spec.cluster.clone()),
        power: PowerState::On,
        note: None,
        complete: true,
        adopted: false,
        disks: spec.data_disks.iter().map(disk_report).collect(),
        parts: Vec::new(),
        addresses: Vec::new(),
        accel: None,
        created_at: NOW,
        spec_hash: Some(base_hash(spec)),
        spec: Some(Box::new(spec.clone())),
    }
}

pub(crate) fn joined(spec: &MachineSpec) -> NodeStatus {
    NodeStatus {
        name: spec.name.clone(),
        is_connected: true,
        is_healthy: true,
        is_revoked: false,
        reason: String::new(),
        labels: wished_labels(spec),
    }
}

/// A machine that is made and has joined.
pub(crate) fn add(world: &mut Snapshot, node: &str) {
    enter(world, &machine(node));
}

fn enter(world: &mut Snapshot, spec: &MachineSpec) {
    world.machines.retain(|machine| machine.name != spec.name || machine.cluster.as_ref() != Some(&spec.cluster));
    world.machines.push(report(spec));
    world.nodes.push(joined(spec));
    world.members.push(spec.name.clone());
}

pub(crate) fn token(node: &str, expires: UnixMillis) -> TokenStatus {
    TokenStatus { node: name(node), expires, is_used: false }
}

/// What the world is like when every step has worked.
pub(crate) fn carried_out(plan: &Plan, spec: &ClusterSpec, mut world: Snapshot) -> Snapshot {
    for planned in &plan.steps {
        let ours = |machine: &&mut MachineReport| {
            machine.cluster == plan.cluster && Some(&machine.name) == planned.step.node()
        };
        match &planned.step {
            Step::CreateMachine { machine, .. } => enter(&mut world, machine),
            Step::AwaitMachine { name, .. } | Step::AdoptMachine { name } => join(&mut world, spec, name),
            Step::StartMachine { name, .. } => {
                world.machines.iter_mut().filter(ours).for_each(|machine| machine.power = PowerState::On);
                join(&mut world, spec, name);
            }
            Step::AttachDisk { disk, .. } => {
                let new = disk_report(disk);
                world.machines.iter_mut().filter(ours).for_each(|machine| machine.disks.push(new.clone()));
            }
            Step::LabelNode { name, set, remove } => {
                for node in world.nodes.iter_mut().filter(|node| node.name == *name) {
                    node.labels.retain(|key, _| !remove.contains(key));
                    node.labels.extend(set.clone());
                }
            }
            Step::DeleteMachine { name, id, .. } => {
                world.machines.retain(|machine| machine.id != *id);
                forget(&mut world, name);
            }
            Step::ForgetNode { name } => forget(&mut world, name),
            Step::PrepareCloud { shared } => {
                world.shared.retain(|report| !shared.iter().any(|wished| wished.kind() == report.is.kind()));
                let made =
                    shared.iter().map(|is| SharedReport { id: is.kind().to_string(), is: is.clone(), complete: true });
                world.shared.extend(made);
            }
            Step::ClearCloud { .. } => world.shared.clear(),
            Step::OnNode { node, step } => done(&mut world, node, step),
        }
    }
    world
}

fn join(world: &mut Snapshot, spec: &ClusterSpec, name: &NodeName) {
    let machine = spec.machines.iter().find(|machine| machine.name == *name).expect("a machine of the spec");
    if !world.nodes.iter().any(|node| node.name == *name) {
        world.nodes.push(joined(machine));
        world.members.push(name.clone());
    }
}

fn forget(world: &mut Snapshot, name: &NodeName) {
    world.nodes.retain(|node| node.name != *name);
    world.members.retain(|member| member != name);
}

/// What a node says of itself once a step is done there.
fn done(world: &mut Snapshot, node: &NodeName, step: &NodeStep) {
    let survey = world.surveys.get_mut(node).expect("it was planned for");
    match step {
        NodeStep::ApplySetting { .. } => {
            // They are brought about in their order.
            let due = survey.settings.iter_mut().find(|found| matches!(found, Found::Due { .. }));
            *due.expect("what was planned was due") = Found::AsWished;
        }
        NodeStep::RepairPackages => survey.interrupted = None,
        NodeStep::ChangePackages(_) => survey.packages = Some(Found::AsWished),
        NodeStep::Boot { once, .. } => {
            survey.boot_id = BootId::new("b-2").expect("an id");
            survey.reboot_reasons.clear();
            survey.outdated_services.clear();
            survey.kernels.running = once.clone().or(survey.kernels.default.clone()).expect("one of them");
        }
        NodeStep::ConfirmKernel { release } => survey.kernels.default = Some(release.clone()),
        NodeStep::RestartServices { .. } => survey.outdated_services.clear(),
        NodeStep::PruneKernels { .. } => survey.kernel = Some(Found::AsWished),
        NodeStep::Survey(_) | NodeStep::InstallKernel { .. } | NodeStep::Hook { .. } => {}
    }
    let kernels = &survey.kernels;
    let is_there = |due: &KernelDue| kernels.running == due.release && kernels.default.as_ref() == Some(&due.release);
    if matches!(&survey.kernel, Some(Found::Due { due }) if due.prune.is_empty() && is_there(due)) {
        survey.kernel = Some(Found::AsWished);
    }
}
