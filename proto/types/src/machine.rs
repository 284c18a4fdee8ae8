// SPDX-License-Identifier: Apache-2.0
//! Machines: what one shall be ([`MachineSpec`]), what its provider says exists ([`MachineReport`]), and how far a new one
//! has come ([`MachineStage`]).
//!
//! A provider makes machines and knows nothing of why; whoever plans knows no provider. Both speak these words.

mod address;
mod provider;
mod stage;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use address::{LanAddress, NotALanAddress};
pub use provider::{ProviderKind, UnknownProvider};
pub use stage::MachineStage;

use crate::cloud::{MachinePart, ServerSpec};
use crate::digest::Sha256Digest;
use crate::name::{ClusterName, DiskSerial, LabelKey, LabelValue, MachineId, NodeName, VolumeName};
use crate::time::UnixMillis;

/// How a local machine's processor shall be made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccelChoice {
    /// KVM where it really works, else emulation.
    #[default]
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Emulation,
}

/// How a machine's processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accel {
    /// By the host's own processor.
    Kvm,
    /// By a program, some ten times slower.
    Emulation,
}

impl fmt::Display for Accel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kvm => "kvm",
            Self::Emulation => "emulation",
        })
    }
}

/// What a node's machine is for. Part of its labels too, as `role/NAME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineRole {
    /// Kubernetes' control plane.
    ControlPlane,
    /// Runs pods.
    Worker,
    /// Member of etcd.
    Etcd,
    /// Holds gluster bricks.
    Gluster,
}

impl MachineRole {
    /// Every role, in the order they are shown.
    pub const ALL: [Self; 4] = [Self::ControlPlane, Self::Worker, Self::Etcd, Self::Gluster];

    /// Its text in a spec.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Worker => "worker",
            Self::Etcd => "etcd",
            Self::Gluster => "gluster",
        }
    }
}

impl fmt::Display for MachineRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a machine shall be. Everything a provider needs to make it, apart from its user-data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// The cluster it belongs to: the tag it is found by.
    pub cluster: ClusterName,
    /// Its name: host name, node name.
    pub name: NodeName,
    /// Its address on the cluster's own network, if it shall have a certain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<LanAddress>,
    /// Image of the root disk: a file's path, or a provider's name for it.
    pub image: String,
    /// Processors.
    pub cpus: u32,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Root disk, bytes; 0 for as large as the image.
    pub root_disk_bytes: u64,
    /// Further disks, empty at first, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data_disks: Vec<DiskSpec>,
    /// Ports of the host that lead into the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwards: Vec<PortForward>,
    /// How its processor shall be made.
    #[serde(default)]
    pub accel: AccelChoice,
    /// What it has of a cloud, if one makes it. How many processors and how much memory it has is the cloud's to say then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<Box<ServerSpec>>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<MachineRole>,
    /// Labels of its node.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

/// A data disk that a machine shall have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskSpec {
    /// Its name in the spec.
    pub name: VolumeName,
    /// Bytes.
    pub size_bytes: u64,
    /// What the machine sees as its serial; unique in the cluster. `None` where the provider gives it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<DiskSerial>,
    /// Which of a cloud's types of volumes; by default the cloud's own choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
}

/// A port of the host that leads into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortForward {
    /// Address on the host, usually loopback.
    pub host_address: IpAddr,
    /// Port on the host.
    pub host_port: u16,
    /// Port in the machine.
    pub guest_port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Transport of a forwarded port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Whether a machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PowerState {
    /// It runs.
    On,
    /// It is there and does not run.
    Off,
    /// The provider cannot tell.
    Unknown,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Unknown => "unknown",
        })
    }
}

/// What a provider says exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineReport {
    /// The provider's id of it; another machine of the same name has another.
    pub id: MachineId,
    /// Its name.
    pub name: NodeName,
    /// The cluster whose tag it has; `None` if it has no tag of ours, and then it is none of our business.
    pub cluster: Option<ClusterName>,
    /// Whether it runs.
    pub power: PowerState,
    /// What is out of order with it, in words, as far as the provider knows: why it is off, or stands still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Whether its making was carried through. Creating it again finishes what was interrupted.
    pub complete: bool,
    /// Whether it was there before and was taken over: nothing of ours was in it at its first boot.
    #[serde(default)]
    pub adopted: bool,
    /// Its data disks.
    pub disks: Vec<DiskReport>,
    /// What else it consists of, where that has names of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<MachinePart>,
    /// Its addresses, as far as the provider knows.
    pub addresses: Vec<IpAddr>,
    /// How its processor is made, where that is known.
    pub accel: Option<Accel>,
    /// When its making began, by the provider's clock.
    pub created_at: UnixMillis,
    /// The hash of the spec it was made from, as it was given to the provider.
    pub spec_hash: Option<Sha256Digest>,
    /// The spec it was made from, where the provider keeps it, so that a change can be named.
    pub spec: Option<Box<MachineSpec>>,
}

/// A data disk that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskReport {
    /// Its name in the spec it was made from.
    pub name: VolumeName,
    /// Bytes.
    pub size_bytes: u64,
    /// What the machine sees as its serial.
    pub serial: DiskSerial,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_is_read_as_it_was_written() {
        let json = serde_json::json!({
            "cluster": "k8s1", "name": "node1", "address": "10.0.0.171/24", "image": "/lab/guest.qcow2",
            "cpus": 2, "memory_bytes": 2_147_483_648_u64, "root_disk_bytes": 0,
            "data_disks": [{"name": "docker", "size_bytes": 1024, "serial": "docker-1a2b3c4d"}],
            "forwards": [
                {"host_address": "127.0.0.1", "host_port": 6443, "guest_port": 6443, "protocol": "tcp"}
            ],
            "accel": "auto", "roles": ["worker", "etcd"], "labels": {"rack": "a"},
        });
        let spec: MachineSpec = serde_json::from_value(json.clone()).expect("a spec");
        assert_eq!(serde_json::to_value(&spec).expect("JSON"), json);
    }

    #[test]
    fn a_role_is_written_as_it_is_shown() {
        for role in MachineRole::ALL {
            assert_eq!(serde_json::to_value(role).expect("JSON"), role.to_string());
        }
    }

    #[test]
    fn a_serial_fits_into_what_virtio_can_show() {
        assert!(DiskSerial::new("a".repeat(20)).is_ok());
        assert!(DiskSerial::new("a".repeat(21)).is_err() && DiskSerial::new("a b").is_err());
    }
}
