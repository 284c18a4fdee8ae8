// SPDX-License-Identifier: Apache-2.0
//! `provider.openstack`: servers of a cloud, and what the planner and the provider take from it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Deserialize;
use windlass_types::cloud::{
    NetworkChoice, Ports, RootVolume, Rule, RuleSource, ServerSpec, SharedSpec, Spread, Traffic,
};
use windlass_types::machine::Protocol;
use windlass_types::name::{CloudName, NodeName};

use super::document::Node;
use super::value::{NETWORK_PATTERN, Network};

/// Servers of an OpenStack cloud.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Openstack {
    /// The cloud, as clouds.yaml on the controller's machine calls it; `envvars` for the OS_* variables of an openrc file
    /// with which the controller was started.
    #[schemars(with = "String", regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"))]
    pub cloud: CloudName,
    /// The image of the root disk, by its name or id.
    #[schemars(length(min = 1))]
    pub image: String,
    /// The network of the servers, by its name or id, if one is there. Exactly one of this and `ownNetwork`.
    #[serde(default)]
    pub network: Option<String>,
    /// A network made for this cluster.
    #[serde(default)]
    pub own_network: Option<OwnNetwork>,
    /// Which servers have an address outside.
    #[serde(default, rename = "floatingIPs")]
    pub floating_ips: Option<FloatingIps>,
    /// What may come to the servers from elsewhere than from each other. By default nothing.
    #[serde(default)]
    pub open: Vec<Opening>,
    /// Security groups that are there and that the servers are in besides the cluster's own.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// How the servers are spread over hosts: `soft` as far as there are enough, `hard` strictly. By default the cloud
    /// chooses.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("enum" = ["soft", "hard"]))]
    pub spread: Option<Spread>,
    /// A keypair that is there and that the servers take.
    #[serde(default)]
    pub keypair: Option<String>,
    /// The availability zone; by default the cloud chooses.
    #[serde(default)]
    pub zone: Option<String>,
    /// Root disks are volumes of the size that each node says as `disk`.
    #[serde(default)]
    pub root_volume: Option<SpecRootVolume>,
    /// Networks whose addresses may come from the servers besides their own, as those of pods.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub allowed_addresses: Vec<Network>,
}

/// A network made for a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct OwnNetwork {
    /// Its addresses; by default 10.0.0.0/24.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = NETWORK_PATTERN))]
    pub cidr: Network,
    /// The external network into which it leads; without it, it leads nowhere.
    #[serde(default)]
    pub external: Option<String>,
    /// The name servers of its machines; by default the cloud's.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub name_servers: Vec<IpAddr>,
}

/// Which servers have an address outside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FloatingIps {
    /// The external network they are of, by its name or id.
    #[schemars(length(min = 1))]
    pub network: String,
    /// The nodes that have one.
    #[schemars(with = "Vec<String>")]
    pub nodes: Vec<NodeName>,
}

/// What may come to servers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Opening {
    /// The port, or the first of several.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// The last port of several.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub to: Option<u16>,
    /// `tcp` or `udp`; by default `tcp`.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::protocol")]
    pub protocol: Protocol,
    /// From which addresses, such as 203.0.113.0/24. 0.0.0.0/0 is everybody.
    pub from: String,
}

/// Root disks that are volumes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpecRootVolume {
    /// Their type; by default the cloud's.
    #[serde(default, rename = "type")]
    pub volume_type: Option<String>,
}

/// What the nodes of a Kubernetes cluster with etcd and gluster say to each other, by protocol and ports.
const BETWEEN_NODES: [(Protocol, u16, u16); 7] = [
    // The API server.
    (Protocol::Tcp, 6443, 6443),
    // etcd: clients, peers.
    (Protocol::Tcp, 2379, 2380),
    // The kubelet; controller manager and scheduler, which only their own node asks, are not here.
    (Protocol::Tcp, 10250, 10250),
    // Services of type NodePort, which load balancers on other nodes use.
    (Protocol::Tcp, 30000, 32767),
    // Pods of other nodes, in flannel's VXLAN.
    (Protocol::Udp, 8472, 8472),
    // glusterd and its management.
    (Protocol::Tcp, 24007, 24008),
    // Bricks, one port each.
    (Protocol::Tcp, 49152, 49664),
];

impl Openstack {
    /// What the machines share.
    #[must_use]
    pub fn shared(&self) -> Vec<SharedSpec> {
        let own = self.own_network.iter().flat_map(|own| {
            let subnet = SharedSpec::Subnet {
                cidr: own.cidr.to_string(),
                name_servers: own.name_servers.iter().copied().collect(),
            };
            let router = own.external.clone().map(|external| SharedSpec::Router { external });
            [SharedSpec::Network, subnet].into_iter().chain(router)
        });
        let group = SharedSpec::SecurityGroup { rules: self.rules() };
        let server_group = self.spread.map(|spread| SharedSpec::ServerGroup { spread });
        own.chain([group]).chain(server_group).collect()
    }

    fn rules(&self) -> BTreeSet<Rule> {
        let traffic = |protocol, first, last| match protocol {
            Protocol::Tcp => Traffic::Tcp(Ports { first, last }),
            Protocol::Udp => Traffic::Udp(Ports { first, last }),
        };
        let between = BETWEEN_NODES.iter().map(|(protocol, first, last)| traffic(*protocol, *first, *last));
        let between = between.chain([Traffic::Icmp]).map(|traffic| Rule { from: RuleSource::Nodes, traffic });
        let opened = self.open.iter().map(|opening| Rule {
            from: RuleSource::Addresses(opening.from.clone()),
            traffic: traffic(opening.protocol, opening.port, opening.to.unwrap_or(opening.port)),
        });
        between.chain(opened).collect()
    }

    /// What a node's server has.
    #[must_use]
    pub fn server(&self, node: &Node) -> ServerSpec {
        let floating = self.floating_ips.as_ref().filter(|floating| floating.nodes.contains(&node.name));
        ServerSpec {
            flavor: node.flavor.clone().unwrap_or_default(),
            network: self.network.clone().map_or(NetworkChoice::Own, NetworkChoice::Existing),
            address: node.address,
            floating: floating.map(|floating| floating.network.clone()),
            security_groups: self.security_groups.clone(),
            grouped: self.spread.is_some(),
            keypair: self.keypair.clone(),
            zone: self.zone.clone(),
            root_volume: self.root_volume.as_ref().map(|volume| RootVolume { volume_type: volume.volume_type.clone() }),
            allowed_addresses: self.allowed_addresses.iter().map(ToString::to_string).collect(),
        }
    }
}
