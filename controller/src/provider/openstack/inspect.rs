// SPDX-License-Identifier: Apache-2.0
//! What a person wants to know of a cloud before trusting it with machines: as whom it is used, which services answer,
//! what there is to choose from, how much is left, and what was made under a tag of ours and is nobody's here.

use std::collections::{BTreeMap, BTreeSet};

use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::name::{ClusterName, NodeName};

use super::claim::{Kind, Marked};
use super::{OpenstackProvider, tag};
use crate::openstack::compute::Server;
use crate::openstack::error::CloudError;
use crate::openstack::network::{Filter, Part};
use crate::openstack::quota::Quota;
use crate::openstack::service::Service;
use crate::openstack::volume::Volume;

/// More names than this help nobody.
const MOST_NAMES: usize = 12;

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub name: String,
    /// Whether it is well.
    pub ok: bool,
    /// What was found.
    pub detail: String,
    /// What to do if it is not well.
    pub advice: String,
}

impl Finding {
    fn well(name: &str, detail: String) -> Self {
        Self { name: name.to_owned(), ok: true, detail, advice: String::new() }
    }

    fn of(name: &str, answer: Result<String, CloudError>) -> Self {
        match answer {
            Ok(detail) => Self::well(name, detail),
            Err(error) => Self {
                name: name.to_owned(),
                ok: false,
                detail: ErrorChain(&error).to_string(),
                advice: error.advice().to_owned(),
            },
        }
    }
}

/// The nodes that this controller knows, by their clusters.
pub type KnownNodes = BTreeMap<ClusterName, BTreeSet<NodeName>>;

impl OpenstackProvider {
    /// Looks at everything. Where the cloud cannot be entered, that is all there is to say.
    pub async fn inspect(&self, known: &KnownNodes) -> Vec<Finding> {
        let account = self.cloud.account().await.map(|account| {
            let roles = account.roles.iter().map(|role| Escaped(role).to_string()).collect::<Vec<_>>();
            let (user, project) = (Escaped(&account.user).to_string(), Escaped(&account.project).to_string());
            format!("{user} in project {project}, roles {}", roles.join(", "))
        });
        let account = Finding::of("account", account);
        if !account.ok {
            return vec![account];
        }
        let mut all = vec![account];
        for service in [Service::Compute, Service::Image, Service::Network, Service::BlockStorage] {
            all.push(Finding::of(&service.to_string(), self.cloud.address(service).await));
        }
        all.extend(self.choices().await);
        all.extend(self.quotas().await);
        all.push(self.orphans(known).await);
        all
    }

    /// What there is to choose from.
    async fn choices(&self) -> [Finding; 4] {
        let (flavors, images, networks, types) = tokio::join!(
            self.cloud.flavors(),
            self.cloud.all_images(),
            self.cloud.external_networks(),
            self.cloud.volume_types()
        );
        let flavor = |flavor: &crate::openstack::compute::Flavor| {
            format!("{} ({} cpus, {} MiB, {} GiB)", Escaped(&flavor.name), flavor.vcpus, flavor.ram, flavor.disk)
        };
        [
            Finding::of("flavors", flavors.map(|all| list(all.iter().map(flavor)))),
            Finding::of("images", images.map(|all| list(all.iter().map(|image| Escaped(&image.name).to_string())))),
            Finding::of("outside", networks.map(|all| list(all.iter().map(|one| Escaped(&one.name).to_string())))),
            Finding::of("volume types", types.map(|all| list(all.iter().map(|one| Escaped(&one.name).to_string())))),
        ]
    }

    async fn quotas(&self) -> [Finding; 3] {
        let (compute, network, volume) =
            tokio::join!(self.cloud.compute_quotas(), self.cloud.network_quotas(), self.cloud.volume_quotas());
        let of = |name: &str, quotas: Result<Vec<Quota>, CloudError>| {
            let full: Vec<_> =
                quotas.iter().flatten().filter(|quota| quota.left() == Some(0)).map(|quota| quota.of.clone()).collect();
            let mut finding = Finding::of(name, quotas.map(|quotas| list(quotas.iter().filter_map(quota))));
            if !full.is_empty() {
                finding.ok = false;
                finding.advice =
                    format!("nothing is left of {}: remove some, or have the quota raised", full.join(", "));
            }
            finding
        };
        [of("compute quota", compute), of("network quota", network), of("volume quota", volume)]
    }

    /// What has a tag of ours and belongs to no cluster or node that this controller knows.
    async fn orphans(&self, known: &KnownNodes) -> Finding {
        let (filter, any) = (Filter::own(), BTreeMap::new());
        let found = tokio::try_join!(
            self.cloud.servers(&any),
            self.cloud.volumes(&any),
            self.cloud.ports(&filter),
            self.cloud.floating_ips(&filter),
            self.cloud.networks(&filter),
            self.cloud.subnets(&filter),
            self.cloud.routers(&filter),
            self.cloud.security_groups(&filter)
        );
        let (servers, volumes, ports, floating, networks, subnets, routers, groups) = match found {
            Ok(found) => found,
            Err(error) => return Finding::of("left over", Err(error)),
        };
        let owners = |metadata: &BTreeMap<String, String>| tag::cluster_in(metadata).zip(Some(tag::node_in(metadata)));
        let server =
            |one: &Server| (owners(&one.metadata), Marked::new(Kind::Server, &one.id, tag::uid_in(&one.metadata)));
        let volume =
            |one: &Volume| (owners(&one.metadata), Marked::new(Kind::Volume, &one.id, tag::uid_in(&one.metadata)));
        let (servers, volumes) = (servers.iter().map(server), volumes.iter().map(volume));
        let ports = ports.iter().map(|one| (tag::read(one), Marked::tagged(Part::Port, &one.id, one)));
        let floating = floating.iter().map(|one| (tag::read(one), Marked::tagged(Part::FloatingIp, &one.id, one)));
        let networks = networks.iter().map(|one| (tag::read(one), Marked::tagged(Part::Network, &one.id, one)));
        let subnets = subnets.iter().map(|one| (tag::read(one), Marked::tagged(Part::Subnet, &one.id, one)));
        let routers = routers.iter().map(|one| (tag::read(one), Marked::tagged(Part::Router, &one.id, one)));
        let groups = groups.iter().map(|one| (tag::read(one), Marked::tagged(Part::SecurityGroup, &one.id, one)));
        let is_known = |(cluster, node): &(ClusterName, Option<NodeName>), marked: &Marked| {
            let is_here = |nodes: &BTreeSet<NodeName>| node.as_ref().is_none_or(|node| nodes.contains(node));
            self.is_of_us(marked.uid.as_deref()) && known.get(cluster).is_some_and(is_here)
        };
        let orphans: Vec<_> = servers
            .chain(volumes)
            .chain(ports)
            .chain(floating)
            .chain(networks)
            .chain(subnets)
            .chain(routers)
            .chain(groups)
            .filter_map(|(owner, marked)| Some((owner.filter(|owner| !is_known(owner, &marked))?, marked)))
            .map(|((cluster, _), marked)| format!("{} {} of cluster {cluster}", marked.kind, Escaped(&marked.id)))
            .collect();
        if orphans.is_empty() {
            return Finding::well("left over", "nothing with a tag of Windlass that is not known here".to_owned());
        }
        Finding {
            name: "left over".to_owned(),
            ok: false,
            detail: list(orphans.into_iter()),
            advice: "if no other controller has them any more, `windlass import cluster -f SPEC` takes over those of \
                     the spec's cluster, and `windlass destroy -f SPEC` removes them"
                .to_owned(),
        }
    }
}

fn quota(quota: &Quota) -> Option<String> {
    let used = quota.used?;
    Some(match quota.limit {
        Some(limit) => format!("{} {used} of {limit}", Escaped(&quota.of)),
        None => format!("{} {used}, no limit", Escaped(&quota.of)),
    })
}

fn list(names: impl Iterator<Item = String>) -> String {
    let mut all: Vec<_> = names.collect();
    let more = all.len().saturating_sub(MOST_NAMES);
    all.truncate(MOST_NAMES);
    match (all.is_empty(), more) {
        (true, _) => "none".to_owned(),
        (false, 0) => all.join(", "),
        (false, more) => format!("{}, and {more} more", all.join(", ")),
    }
}
