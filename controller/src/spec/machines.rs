// SPDX-License-Identifier: Apache-2.0
//! What the planner and the providers take from a spec.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use windlass_plan::spec::disk_serial;
use windlass_plan::{ClusterSpec, Policy};
use windlass_types::machine::{AccelChoice, DiskSpec, LanAddress, MachineRole, MachineSpec, PortForward, ProviderKind};

use super::Cluster;
use super::document::{Node, Qemu};
use super::openstack::Openstack;
use super::value::Size;

/// Two processors: with one, a kubelet and an agent take turns.
const DEFAULT_CPUS: u32 = 2;

/// What Kubernetes' smallest node needs.
const DEFAULT_MEMORY: Size = Size::mebibytes(2048);

/// A home folder that is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the controller has no home folder for {0}: give a path that begins with /")]
pub struct NoHome(String);

impl Cluster {
    /// Who makes the machines.
    #[must_use]
    pub fn provider(&self) -> ProviderKind {
        let provider = &self.body.provider.value;
        match (&provider.qemu, &provider.openstack) {
            (Some(_), _) => ProviderKind::Qemu,
            (None, Some(openstack)) => ProviderKind::Openstack(openstack.cloud.clone()),
            (None, None) => ProviderKind::Existing,
        }
    }

    /// The rules of the spec.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy::from(&self.body.policy)
    }

    /// What the planner plans for, besides what [`Cluster::wishes`] has. `home` is what `~` means on the controller's machine.
    ///
    /// # Errors
    /// If a path begins with `~` and there is no home.
    pub fn machines(&self, home: Option<&str>) -> Result<ClusterSpec, NoHome> {
        let machines =
            self.body.nodes.value.iter().map(|node| self.machine(&node.value, home)).collect::<Result<_, _>>()?;
        let shared = self.body.provider.value.openstack.as_ref().map(Openstack::shared).unwrap_or_default();
        let (name, provider) = (self.name.clone(), self.provider());
        Ok(ClusterSpec { name, provider, machines, shared, wishes: BTreeMap::new() })
    }

    fn machine(&self, node: &Node, home: Option<&str>) -> Result<MachineSpec, NoHome> {
        let qemu = self.body.provider.value.qemu.as_ref();
        let openstack = self.body.provider.value.openstack.as_ref();
        let address = |address: Ipv4Addr| LanAddress::new(address, qemu?.network.prefix()).ok();
        let disks = self.body.volumes().map(|(volume, size)| DiskSpec {
            name: volume.clone(),
            size_bytes: size.size.bytes(),
            // A cloud gives it one itself.
            serial: openstack.is_none().then(|| disk_serial(&self.name, &node.name, volume)),
            volume_type: size.volume_type.clone(),
        });
        let forwards = node.forwards.iter().map(|forward| PortForward {
            host_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host_port: forward.host,
            guest_port: forward.guest,
            protocol: forward.protocol,
        });
        let mut roles: Vec<MachineRole> = node.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        Ok(MachineSpec {
            cluster: self.name.clone(),
            name: node.name.clone(),
            address: node.address.and_then(address),
            image: match (qemu, openstack) {
                (Some(qemu), _) => image(qemu, home)?,
                (None, Some(openstack)) => openstack.image.clone(),
                (None, None) => String::new(),
            },
            // What a cloud's flavor says is not said twice.
            cpus: openstack.map_or(node.cpus.unwrap_or(DEFAULT_CPUS), |_| 0),
            memory_bytes: openstack.map_or(node.memory.unwrap_or(DEFAULT_MEMORY).bytes(), |_| 0),
            root_disk_bytes: node.disk.map_or(0, Size::bytes),
            data_disks: disks.collect(),
            forwards: forwards.collect(),
            accel: qemu.map_or(AccelChoice::Auto, |qemu| qemu.accel),
            server: openstack.map(|openstack| Box::new(openstack.server(node))),
            roles,
            labels: node.labels.clone(),
        })
    }
}

fn image(qemu: &Qemu, home: Option<&str>) -> Result<String, NoHome> {
    match (qemu.image.strip_prefix("~/"), home) {
        (None, _) => Ok(qemu.image.clone()),
        (Some(rest), Some(home)) => Ok(format!("{}/{rest}", home.trim_end_matches('/'))),
        (Some(_), None) => Err(NoHome(qemu.image.clone())),
    }
}
