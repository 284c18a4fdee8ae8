// SPDX-License-Identifier: Apache-2.0
//! Whether a cloud has room for what shall be made: quotas, and what names mean.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use windlass_types::cloud::{Need, SharedSpec};
use windlass_types::machine::MachineSpec;

use super::error::{Doing as _, OpenstackError};
use super::resolve::{Resolved, server_of};
use super::{OpenstackProvider, gibibytes};
use crate::openstack::quota::Quota;
use crate::provider::Wanted;

/// A new security group comes with two rules that let everything out.
const RULES_OF_A_NEW_GROUP: u64 = 2;

/// In a new subnet the router and the cloud's own DHCP have ports.
const PORTS_OF_A_NEW_SUBNET: u64 = 2;

impl OpenstackProvider {
    /// Whether everything could be made, and what that takes of everything that is limited.
    pub(super) async fn has_room(&self, wanted: &Wanted) -> Result<Vec<Need>, OpenstackError> {
        for shared in &wanted.shared {
            if let SharedSpec::Router { external } = shared {
                self.external_network(external).await?;
            }
        }
        let needs = self.needs(wanted).await?;
        let too_much: Vec<_> = needs.iter().filter(|need| need.is_too_much()).cloned().collect();
        if too_much.is_empty() { Ok(needs) } else { Err(OpenstackError::Quota(too_much)) }
    }

    async fn needs(&self, wanted: &Wanted) -> Result<Vec<Need>, OpenstackError> {
        let resolved = try_join_all(wanted.machines.iter().map(|machine| self.resolve(machine))).await?;
        let mut sums = Sums::default();
        wanted.shared.iter().for_each(|shared| sums.shared(shared));
        for (machine, resolved) in wanted.machines.iter().zip(&resolved) {
            sums.machine(machine, resolved)?;
        }
        let (compute, network, volume) =
            tokio::try_join!(self.cloud.compute_quotas(), self.cloud.network_quotas(), self.cloud.volume_quotas())
                .doing(|| "read the project's quotas".to_owned())?;
        let quotas: Vec<Quota> = compute.into_iter().chain(network).chain(volume).collect();
        let left = |of: &str| quotas.iter().find(|quota| quota.of == of).and_then(Quota::left);
        let all = sums.0.into_iter().filter(|(_, needed)| *needed > 0);
        Ok(all.map(|(of, needed)| Need { left: left(of), of: of.to_owned(), needed }).collect())
    }
}

/// How much of everything, as the cloud calls it.
#[derive(Debug, Default)]
struct Sums(BTreeMap<&'static str, u64>);

impl Sums {
    fn add(&mut self, of: &'static str, more: u64) {
        *self.0.entry(of).or_default() += more;
    }

    fn shared(&mut self, shared: &SharedSpec) {
        match shared {
            SharedSpec::Network => self.add("network", 1),
            SharedSpec::Subnet { .. } => {
                self.add("subnet", 1);
                self.add("port", PORTS_OF_A_NEW_SUBNET);
            }
            SharedSpec::Router { .. } => self.add("router", 1),
            SharedSpec::SecurityGroup { rules } => {
                self.add("security_group", 1);
                self.add("security_group_rule", RULES_OF_A_NEW_GROUP + rules.len() as u64);
            }
            SharedSpec::ServerGroup { .. } => self.add("server_groups", 1),
        }
    }

    fn machine(&mut self, machine: &MachineSpec, resolved: &Resolved) -> Result<(), OpenstackError> {
        let server = server_of(machine)?;
        self.add("instances", 1);
        self.add("cores", u64::from(resolved.flavor.vcpus));
        self.add("ram", resolved.flavor.ram);
        self.add("port", 1);
        self.add("floatingip", u64::from(server.floating.is_some()));
        let disks = machine.data_disks.iter().map(|disk| disk.size_bytes);
        for bytes in disks.chain(server.root_volume.as_ref().map(|_| machine.root_disk_bytes)) {
            self.add("volumes", 1);
            self.add("gigabytes", gibibytes(bytes));
        }
        Ok(())
    }
}
