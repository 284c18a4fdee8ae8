// SPDX-License-Identifier: Apache-2.0
//! What there is of a cluster's machines in a cloud, found by tags, and how a machine is reported.

use std::collections::BTreeSet;

use windlass_types::cloud::{MachinePart, PartKind};
use windlass_types::escape::Escaped;
use windlass_types::machine::{DiskReport, MachineReport, PowerState};
use windlass_types::name::{ClusterName, DiskSerial, MachineId, NodeName};
use windlass_types::time::UnixMillis;

use super::claim::{Kind, Marked};
use super::error::{Doing as _, OpenstackError};
use super::tag::{self, Tag};
use crate::openstack::Cloud;
use crate::openstack::compute::{Server, ServerStatus};
use crate::openstack::network::{Filter, FloatingIp, Part, Port};
use crate::openstack::volume::Volume;
use crate::provider::MachineKey;

/// What a guest sees of a volume's id: virtio shows no more.
const SERIAL_LENGTH: usize = 20;

/// Everything in a cloud that has the tag of a machine of a cluster.
#[derive(Debug, Default)]
pub(super) struct Seen {
    servers: Vec<(NodeName, Server)>,
    volumes: Vec<(NodeName, Volume)>,
    ports: Vec<(NodeName, Port)>,
    floating: Vec<(NodeName, FloatingIp)>,
}

/// What there is of one machine. More than one of a kind was made by somebody else with our tag, or by two of us at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) servers: Vec<Server>,
    pub(super) volumes: Vec<Volume>,
    pub(super) ports: Vec<Port>,
    pub(super) floating: Vec<FloatingIp>,
}

impl Seen {
    /// Looks.
    pub(super) async fn of(cloud: &dyn Cloud, cluster: &ClusterName) -> Result<Self, OpenstackError> {
        let (metadata, filter) = (Tag::shared(cluster.clone()).metadata(), Filter::own());
        let (servers, volumes, ports, floating) = tokio::try_join!(
            cloud.servers(&metadata),
            cloud.volumes(&metadata),
            cloud.ports(&filter),
            cloud.floating_ips(&filter)
        )
        .doing(|| format!("look for machines of cluster {cluster}"))?;
        let ours = |(of, node): (ClusterName, Option<NodeName>)| node.filter(|_| of == *cluster);
        let port = |port: Port| Some((tag::read(&port).and_then(ours)?, port));
        let floats = |address: FloatingIp| Some((tag::read(&address).and_then(ours)?, address));
        let server = |server: Server| Some((tag::node_in(&server.metadata)?, server));
        let volume = |volume: Volume| Some((tag::node_in(&volume.metadata)?, volume));
        let is_there = |server: &Server| server.status != ServerStatus::Deleted;
        Ok(Self {
            servers: servers.into_iter().filter(is_there).filter_map(server).collect(),
            volumes: volumes.into_iter().filter_map(volume).collect(),
            ports: ports.into_iter().filter_map(port).collect(),
            floating: floating.into_iter().filter_map(floats).collect(),
        })
    }

    /// Everything, with which controller made it.
    pub(super) fn marked(&self) -> impl Iterator<Item = Marked> {
        let servers =
            self.servers.iter().map(|(_, one)| Marked::new(Kind::Server, &one.id, tag::uid_in(&one.metadata)));
        let volumes =
            self.volumes.iter().map(|(_, one)| Marked::new(Kind::Volume, &one.id, tag::uid_in(&one.metadata)));
        let ports = self.ports.iter().map(|(_, one)| Marked::tagged(Part::Port, &one.id, one));
        let floating = self.floating.iter().map(|(_, one)| Marked::tagged(Part::FloatingIp, &one.id, one));
        servers.chain(volumes).chain(ports).chain(floating)
    }

    /// The nodes of which there is something.
    fn nodes(&self) -> BTreeSet<&NodeName> {
        let (servers, volumes) = (self.servers.iter().map(|(node, _)| node), self.volumes.iter().map(|(node, _)| node));
        let (ports, floating) = (self.ports.iter().map(|(node, _)| node), self.floating.iter().map(|(node, _)| node));
        servers.chain(volumes).chain(ports).chain(floating).collect()
    }

    /// What there is of one of them.
    pub(super) fn parts(&self, node: &NodeName) -> Parts {
        fn of<T: Clone>(node: &NodeName, all: &[(NodeName, T)]) -> Vec<T> {
            all.iter().filter(|(of, _)| of == node).map(|(_, thing)| thing.clone()).collect()
        }
        Parts {
            servers: of(node, &self.servers),
            volumes: of(node, &self.volumes),
            ports: of(node, &self.ports),
            floating: of(node, &self.floating),
        }
    }

    /// Every machine.
    pub(super) fn reports(&self, cluster: &ClusterName) -> Vec<MachineReport> {
        let key = |node: &NodeName| MachineKey::new(cluster.clone(), node.clone());
        self.nodes().into_iter().filter_map(|node| self.parts(node).report(&key(node))).collect()
    }
}

impl Parts {
    /// The server that works, may come to, or once did: one that has run may hold data, whatever became of it.
    pub(super) fn living(&self) -> Option<&Server> {
        let is_kept = |server: &&Server| server.status != ServerStatus::Error || server.launched_at.is_some();
        self.servers.iter().find(is_kept)
    }

    /// How the machine is reported; `None` if there is nothing of it.
    pub(super) fn report(&self, key: &MachineKey) -> Option<MachineReport> {
        let server = self.living().or_else(|| self.servers.first());
        let (spec_hash, spec) = server.map(|server| tag::spec_in(&server.metadata)).unwrap_or_default();
        Some(MachineReport {
            id: self.id(server)?,
            name: key.name.clone(),
            cluster: Some(key.cluster.clone()),
            power: server.map_or(PowerState::Off, |server| power(&server.status)),
            note: server.and_then(note),
            // The server is made last, when all else is there.
            complete: self.living().is_some(),
            adopted: server.is_some_and(|server| tag::is_adopted(&server.metadata)),
            disks: self.volumes.iter().filter_map(disk).collect(),
            parts: self.named(),
            addresses: self.addresses(server),
            accel: None,
            created_at: server.and_then(created_at).unwrap_or(UnixMillis(0)),
            spec_hash,
            spec,
        })
    }

    fn id(&self, server: Option<&Server>) -> Option<MachineId> {
        let first = self.ports.first().map(|port| format!("port-{}", port.id));
        let or_volume = || self.volumes.first().map(|volume| format!("volume-{}", volume.id));
        let or_address = || self.floating.first().map(|address| format!("floating-ip-{}", address.id));
        let text = server.map(|server| server.id.clone()).or(first).or_else(or_volume).or_else(or_address)?;
        MachineId::new(text).ok()
    }

    fn named(&self) -> Vec<MachinePart> {
        let part = |kind, id: &String, name: String| MachinePart { kind, id: id.clone(), name };
        let servers = self.servers.iter().map(|server| part(PartKind::Server, &server.id, server.name.clone()));
        let ports = self.ports.iter().map(|port| part(PartKind::Port, &port.id, port.name.clone()));
        let floating = self
            .floating
            .iter()
            .map(|address| part(PartKind::FloatingIp, &address.id, address.floating_ip_address.to_string()));
        servers.chain(ports).chain(floating).collect()
    }

    pub(super) fn addresses(&self, server: Option<&Server>) -> Vec<std::net::IpAddr> {
        let of_server = server.into_iter().flat_map(|server| server.addresses.values().flatten()).map(|one| one.addr);
        let of_ports = self.ports.iter().flat_map(|port| port.fixed_ips.iter().filter_map(|fixed| fixed.ip_address));
        let outside = self.floating.iter().map(|address| address.floating_ip_address);
        let mut all = Vec::new();
        for address in of_ports.chain(of_server).chain(outside) {
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

fn power(status: &ServerStatus) -> PowerState {
    match status {
        ServerStatus::Active | ServerStatus::Reboot | ServerStatus::HardReboot => PowerState::On,
        ServerStatus::ShutOff
        | ServerStatus::Paused
        | ServerStatus::Suspended
        | ServerStatus::Error
        | ServerStatus::Deleted => PowerState::Off,
        ServerStatus::Build | ServerStatus::Other(_) => PowerState::Unknown,
    }
}

/// What is out of order with a server, in the cloud's words.
pub(super) fn note(server: &Server) -> Option<String> {
    match &server.status {
        ServerStatus::Error => Some(format!("the cloud reports an error: {}", fault(server))),
        ServerStatus::Paused => Some("is paused".to_owned()),
        ServerStatus::Suspended => Some("is suspended".to_owned()),
        ServerStatus::Other(word) => Some(format!("is {}", Escaped(word))),
        ServerStatus::Build
        | ServerStatus::Active
        | ServerStatus::ShutOff
        | ServerStatus::Reboot
        | ServerStatus::HardReboot
        | ServerStatus::Deleted => None,
    }
}

/// Why a server is in error.
pub(super) fn fault(server: &Server) -> String {
    let words = server.fault.as_ref().map(|fault| Escaped(&fault.message).to_string());
    words.filter(|words| !words.is_empty()).unwrap_or_else(|| "it gives no reason".to_owned())
}

fn disk(volume: &Volume) -> Option<DiskReport> {
    let name = tag::volume_in(&volume.metadata)?;
    Some(DiskReport { name, size_bytes: volume.size << 30, serial: serial(&volume.id)? })
}

/// What a guest sees as the serial of a volume.
pub(super) fn serial(volume: &str) -> Option<DiskSerial> {
    DiskSerial::new(volume.chars().take(SERIAL_LENGTH).collect::<String>()).ok()
}

fn created_at(server: &Server) -> Option<UnixMillis> {
    let moment: jiff::Timestamp = server.created.parse().ok()?;
    Some(UnixMillis(moment.as_millisecond()))
}
