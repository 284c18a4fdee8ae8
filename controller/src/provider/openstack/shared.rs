// SPDX-License-Identifier: Apache-2.0
//! What the machines of a cluster share: found by tags, made, changed, removed. Whatever is interrupted is finished by
//! doing it again.

use std::collections::BTreeSet;

use windlass_types::cloud::{Rule, SharedKind, SharedReport, SharedSpec, Spread};
use windlass_types::name::ClusterName;

use super::OpenstackProvider;
use super::claim::Marked;
use super::error::{Doing as _, OpenstackError};
use super::resolve::by_name;
use super::rules;
use super::tag::{self, Tag, Tagged};
use crate::openstack::compute::{GroupPolicy, ServerGroup};
use crate::openstack::network::{
    Direction, Filter, Gateway, Network, NewNetwork, NewRouter, NewSecurityGroup, NewSubnet, Part, Port, Router,
    SecurityGroup, Subnet,
};

/// Which ports connect a router with subnets.
const INTERFACES: [&str; 3] =
    ["network:router_interface", "network:router_interface_distributed", "network:ha_router_replicated_interface"];

/// Everything shared that has the tag of a cluster.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) network: Option<Network>,
    pub(super) subnet: Option<Subnet>,
    pub(super) router: Option<Router>,
    pub(super) group: Option<SecurityGroup>,
    pub(super) server_group: Option<ServerGroup>,
}

fn first<T: Tagged>(tag: &Tag, all: Vec<T>) -> Option<T> {
    all.into_iter().find(|thing| tag.is_on(thing))
}

impl Shared {
    /// Everything that can say which controller made it.
    pub(super) fn marked(&self) -> impl Iterator<Item = Marked> {
        let network = self.network.iter().map(|one| Marked::tagged(Part::Network, &one.id, one));
        let subnet = self.subnet.iter().map(|one| Marked::tagged(Part::Subnet, &one.id, one));
        let router = self.router.iter().map(|one| Marked::tagged(Part::Router, &one.id, one));
        let group = self.group.iter().map(|one| Marked::tagged(Part::SecurityGroup, &one.id, one));
        network.chain(subnet).chain(router).chain(group)
    }
}

impl OpenstackProvider {
    /// Looks for what is shared, of which no other controller may have made any.
    pub(super) async fn find_shared(&self, cluster: &ClusterName) -> Result<Shared, OpenstackError> {
        let shared = self.look_for_shared(cluster).await?;
        self.none_is_foreign(cluster, shared.marked())?;
        Ok(shared)
    }

    /// Looks for what is shared, whoever made it.
    pub(super) async fn look_for_shared(&self, cluster: &ClusterName) -> Result<Shared, OpenstackError> {
        let (tag, filter) = (Tag::shared(cluster.clone()), Filter::own());
        let (networks, subnets, routers, groups, server_groups) = tokio::try_join!(
            self.cloud.networks(&filter),
            self.cloud.subnets(&filter),
            self.cloud.routers(&filter),
            self.cloud.security_groups(&filter),
            self.cloud.server_groups()
        )
        .doing(|| format!("look for what the machines of cluster {cluster} share"))?;
        let name = tag::group_name(cluster);
        Ok(Shared {
            network: first(&tag, networks),
            subnet: first(&tag, subnets),
            router: first(&tag, routers),
            group: first(&tag, groups),
            server_group: server_groups.into_iter().find(|group| group.name == name),
        })
    }

    pub(super) async fn report_shared(&self, cluster: &ClusterName) -> Result<Vec<SharedReport>, OpenstackError> {
        let shared = self.find_shared(cluster).await?;
        let mut all = Vec::new();
        let mut report = |id: &str, is, complete| all.push(SharedReport { id: id.to_owned(), is, complete });
        if let Some(network) = &shared.network {
            report(&network.id, SharedSpec::Network, true);
        }
        if let Some(subnet) = &shared.subnet {
            let name_servers = subnet.dns_nameservers.iter().copied().collect();
            report(&subnet.id, SharedSpec::Subnet { cidr: subnet.cidr.clone(), name_servers }, true);
        }
        if let Some(router) = &shared.router {
            let (external, complete) = (self.outside(router).await?, self.is_connected(router, &shared).await?);
            report(&router.id, SharedSpec::Router { external }, complete);
        }
        if let Some(group) = &shared.group {
            report(&group.id, SharedSpec::SecurityGroup { rules: rules::of(group) }, true);
        }
        if let Some(group) = &shared.server_group {
            let spread = if group.is_hard() { Spread::Hard } else { Spread::Soft };
            report(&group.id, SharedSpec::ServerGroup { spread }, true);
        }
        Ok(all)
    }

    /// How the external network is called to which a router leads: as it was asked for, if it still is that one.
    async fn outside(&self, router: &Router) -> Result<String, OpenstackError> {
        let Some(gateway) = &router.external_gateway_info else { return Ok("nowhere".to_owned()) };
        let networks = self.cloud.external_networks().await.doing(|| "list external networks".to_owned())?;
        let network = networks.into_iter().find(|network| network.id == gateway.network_id);
        let is_it = |asked: &&str| {
            *asked == gateway.network_id || network.as_ref().is_some_and(|network| network.name == **asked)
        };
        if let Some(asked) = tag::outside_of(router).filter(is_it) {
            return Ok(asked.to_owned());
        }
        Ok(network.map_or_else(|| gateway.network_id.clone(), |network| network.name))
    }

    async fn is_connected(&self, router: &Router, shared: &Shared) -> Result<bool, OpenstackError> {
        let Some(subnet) = &shared.subnet else { return Ok(false) };
        let ports = self.interfaces(&router.id).await?;
        Ok(ports.iter().any(|port| port.fixed_ips.iter().any(|fixed| fixed.subnet_id == subnet.id)))
    }

    async fn interfaces(&self, router: &str) -> Result<Vec<Port>, OpenstackError> {
        let ports =
            self.cloud.ports(&Filter::any().device(router)).await.doing(|| format!("look at router {router}"))?;
        Ok(ports.into_iter().filter(|port| INTERFACES.contains(&port.device_owner.as_str())).collect())
    }

    /// Makes one thing, finishes it, or changes it.
    pub(super) async fn make_shared(&self, cluster: &ClusterName, wanted: &SharedSpec) -> Result<(), OpenstackError> {
        let shared = self.find_shared(cluster).await?;
        match wanted {
            SharedSpec::Network => self.make_network(cluster, shared).await,
            SharedSpec::Subnet { cidr, name_servers } => {
                self.make_subnet(cluster, shared, cidr, name_servers.iter().copied().collect()).await
            }
            SharedSpec::Router { external } => self.make_router(cluster, shared, external).await,
            SharedSpec::SecurityGroup { rules } => self.make_group(cluster, shared, rules).await,
            SharedSpec::ServerGroup { spread } => self.make_server_group(cluster, shared, *spread).await,
        }
    }

    async fn make_network(&self, cluster: &ClusterName, shared: Shared) -> Result<(), OpenstackError> {
        let tag = self.shared_tag(cluster);
        let new = NewNetwork { name: tag.name(), description: tag.description() };
        let network = match shared.network {
            Some(network) => network,
            None => {
                let find = || async { Ok(self.find_shared(cluster).await?.network) };
                self.made(|| format!("make the network of cluster {cluster}"), self.cloud.create_network(&new), find)
                    .await?
            }
        };
        self.write_tags(Part::Network, &network.id, &tag.tags()).await
    }

    async fn make_subnet(
        &self,
        cluster: &ClusterName,
        shared: Shared,
        cidr: &str,
        dns_nameservers: Vec<std::net::IpAddr>,
    ) -> Result<(), OpenstackError> {
        let tag = self.shared_tag(cluster);
        let network = shared.network.ok_or_else(|| not_prepared(cluster, SharedKind::Network))?;
        let new = NewSubnet {
            name: tag.name(),
            description: tag.description(),
            network_id: network.id,
            ip_version: 4,
            cidr: cidr.to_owned(),
            dns_nameservers,
        };
        let subnet = match shared.subnet {
            Some(subnet) => subnet,
            None => {
                let find = || async { Ok(self.find_shared(cluster).await?.subnet) };
                self.made(|| format!("make the subnet of cluster {cluster}"), self.cloud.create_subnet(&new), find)
                    .await?
            }
        };
        self.write_tags(Part::Subnet, &subnet.id, &tag.tags()).await
    }

    async fn make_router(&self, cluster: &ClusterName, shared: Shared, outside: &str) -> Result<(), OpenstackError> {
        let tag = self.shared_tag(cluster);
        let subnet = shared.subnet.as_ref().ok_or_else(|| not_prepared(cluster, SharedKind::Subnet))?;
        let external = self.external_network(outside).await?;
        let new = NewRouter {
            name: tag.name(),
            description: tag.description(),
            external_gateway_info: Some(Gateway { network_id: external, external_fixed_ips: Vec::new() }),
        };
        let router = match &shared.router {
            Some(router) => router.clone(),
            None => {
                let find = || async { Ok(self.find_shared(cluster).await?.router) };
                self.made(|| format!("make the router of cluster {cluster}"), self.cloud.create_router(&new), find)
                    .await?
            }
        };
        self.write_tags(Part::Router, &router.id, &tag::of_router(&tag, outside)).await?;
        if self.is_connected(&router, &shared).await? {
            return Ok(());
        }
        let find = || async { Ok(self.is_connected(&router, &shared).await?.then_some(())) };
        let connect = self.cloud.add_router_interface(&router.id, &subnet.id);
        self.made(|| format!("connect the router and the subnet of cluster {cluster}"), connect, find).await
    }

    async fn make_group(
        &self,
        cluster: &ClusterName,
        shared: Shared,
        wanted: &BTreeSet<Rule>,
    ) -> Result<(), OpenstackError> {
        let tag = self.shared_tag(cluster);
        let new = NewSecurityGroup { name: tag.name(), description: tag.description() };
        let what = || format!("make the security group of cluster {cluster}");
        let group = match shared.group {
            Some(group) => group,
            None => {
                let find = || async { Ok(self.find_shared(cluster).await?.group) };
                self.made(what, self.cloud.create_security_group(&new), find).await?
            }
        };
        self.write_tags(Part::SecurityGroup, &group.id, &tag.tags()).await?;
        let there = rules::of(&group);
        for rule in wanted.difference(&there).filter_map(|rule| rules::to_make(rule, &group.id)) {
            match self.cloud.create_rule(&rule).await {
                Err(error) if super::is_conflict(&error) => {}
                made => drop(made.doing(what)?),
            }
        }
        // What is not wanted goes last, so that nothing that is wanted is ever shut out.
        for rule in group.rules.iter().filter(|rule| rule.direction == Direction::Ingress) {
            if !wanted.contains(&rules::understood(rule)) {
                self.cloud.delete_part(Part::Rule, &rule.id).await.doing(what)?;
            }
        }
        Ok(())
    }

    async fn make_server_group(
        &self,
        cluster: &ClusterName,
        shared: Shared,
        spread: Spread,
    ) -> Result<(), OpenstackError> {
        if shared.server_group.is_some() {
            return Ok(());
        }
        let policy = match spread {
            Spread::Hard => GroupPolicy::AntiAffinity,
            Spread::Soft => GroupPolicy::SoftAntiAffinity,
        };
        let name = tag::group_name(cluster);
        let find = || async { Ok(self.find_shared(cluster).await?.server_group) };
        let make = self.cloud.create_server_group(&name, policy);
        self.made(|| format!("make the server group of cluster {cluster}"), make, find).await.map(drop)
    }

    /// Removes one thing, if it has the cluster's tag.
    pub(super) async fn remove_shared(
        &self,
        cluster: &ClusterName,
        report: &SharedReport,
    ) -> Result<(), OpenstackError> {
        let (kind, id) = (report.is.kind(), &report.id);
        let shared = self.find_shared(cluster).await?;
        let ours = match kind {
            SharedKind::Network => shared.network.as_ref().map(|network| &network.id),
            SharedKind::Subnet => shared.subnet.as_ref().map(|subnet| &subnet.id),
            SharedKind::Router => shared.router.as_ref().map(|router| &router.id),
            SharedKind::SecurityGroup => shared.group.as_ref().map(|group| &group.id),
            SharedKind::ServerGroup => shared.server_group.as_ref().map(|group| &group.id),
        };
        match ours {
            None => return Ok(()),
            Some(ours) if ours != id => {
                return Err(OpenstackError::NotOurs { cluster: cluster.clone(), kind, id: id.clone() });
            }
            Some(_) => {}
        }
        let what = || format!("remove the {kind} {id}");
        match kind {
            SharedKind::ServerGroup => self.cloud.delete_server_group(id).await.doing(what),
            SharedKind::Network => self.remove_part(Part::Network, id, what).await,
            SharedKind::Subnet => self.remove_part(Part::Subnet, id, what).await,
            SharedKind::SecurityGroup => self.remove_part(Part::SecurityGroup, id, what).await,
            SharedKind::Router => {
                for fixed in self.interfaces(id).await?.iter().flat_map(|port| &port.fixed_ips) {
                    self.cloud.remove_router_interface(id, &fixed.subnet_id).await.doing(what)?;
                }
                self.remove_part(Part::Router, id, what).await
            }
        }
    }

    /// An external network by its name or id.
    pub(super) async fn external_network(&self, name: &str) -> Result<String, OpenstackError> {
        let networks = self.cloud.external_networks().await.doing(|| "list external networks".to_owned())?;
        by_name("external network", name, networks, |network| (&network.id, &network.name)).map(|network| network.id)
    }
}

pub(super) fn not_prepared(cluster: &ClusterName, kind: SharedKind) -> OpenstackError {
    OpenstackError::NotPrepared { cluster: cluster.clone(), kind }
}
