// SPDX-License-Identifier: Apache-2.0
//! Machines of a cloud: what a server has beyond what every machine has ([`ServerSpec`]), what the servers of a cluster
//! share ([`SharedSpec`]), and what of both exists ([`MachinePart`], [`SharedReport`]).
//!
//! Names of networks, flavors and the like are the cloud's own: it is asked what they mean, and says so if they mean
//! nothing.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// What a server of a cloud has beyond what every machine has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerSpec {
    /// What it has of processors, memory and disk, by the cloud's name or id for it.
    pub flavor: String,
    /// The network it is in.
    pub network: NetworkChoice,
    /// Its address there; by default the cloud chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The external network of its floating IP, if it shall have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floating: Option<String>,
    /// Security groups that are there and that it is in besides the cluster's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub security_groups: Vec<String>,
    /// Whether it is in the cluster's server group.
    #[serde(default)]
    pub grouped: bool,
    /// A keypair that is there and that it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keypair: Option<String>,
    /// Where in the cloud; by default the cloud chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Whether its root disk is a volume, and of which type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_volume: Option<RootVolume>,
    /// Networks whose addresses may come from it besides its own, as those of its pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<String>,
}

/// A root disk that is a volume. It goes with its server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootVolume {
    /// Its type; by default the cloud's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
}

/// In which network servers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkChoice {
    /// In the cluster's own.
    Own,
    /// In one that is there, by its name or id.
    Existing(String),
}

/// A kind of thing that the servers of a cluster share. A cluster has at most one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedKind {
    /// The cluster's own network.
    Network,
    /// The addresses in it.
    Subnet,
    /// The way out of it.
    Router,
    /// What may come to the servers.
    SecurityGroup,
    /// How the servers are spread over hosts.
    ServerGroup,
}

impl SharedKind {
    /// Every kind, each behind those it needs.
    pub const ALL: [Self; 5] = [Self::Network, Self::Subnet, Self::Router, Self::SecurityGroup, Self::ServerGroup];
}

impl fmt::Display for SharedKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Router => "router",
            Self::SecurityGroup => "security group",
            Self::ServerGroup => "server group",
        })
    }
}

/// Something that the servers of a cluster shall share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum SharedSpec {
    /// The cluster's own network.
    Network,
    /// The addresses in it.
    Subnet {
        /// Which, as `10.0.0.0/24`.
        cidr: String,
        /// The name servers that it tells.
        #[serde(default)]
        name_servers: BTreeSet<IpAddr>,
    },
    /// The way out of it.
    Router {
        /// Into which external network, by its name or id.
        external: String,
    },
    /// What may come to the servers. What goes out of them is not limited.
    SecurityGroup {
        /// All of it.
        rules: BTreeSet<Rule>,
    },
    /// How the servers are spread over hosts.
    ServerGroup {
        /// How.
        spread: Spread,
    },
}

impl SharedSpec {
    /// Which kind of thing it is.
    #[must_use]
    pub const fn kind(&self) -> SharedKind {
        match self {
            Self::Network => SharedKind::Network,
            Self::Subnet { .. } => SharedKind::Subnet,
            Self::Router { .. } => SharedKind::Router,
            Self::SecurityGroup { .. } => SharedKind::SecurityGroup,
            Self::ServerGroup { .. } => SharedKind::ServerGroup,
        }
    }

    /// What a person is told of it besides its kind, a line each.
    #[must_use]
    pub fn particulars(&self) -> Vec<String> {
        match self {
            Self::Network => Vec::new(),
            Self::Subnet { cidr, name_servers } if name_servers.is_empty() => vec![cidr.clone()],
            Self::Subnet { cidr, name_servers } => {
                let all: Vec<_> = name_servers.iter().map(ToString::to_string).collect();
                vec![format!("{cidr}, name servers {}", all.join(", "))]
            }
            Self::Router { external } => vec![format!("out to {external}")],
            Self::SecurityGroup { rules } => rules.iter().map(ToString::to_string).collect(),
            Self::ServerGroup { spread } => vec![spread.to_string()],
        }
    }
}

/// How servers are spread over hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spread {
    /// Each on a host of its own, or it is not made.
    Hard,
    /// Each on a host of its own, as long as there is one.
    Soft,
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hard => "each on a host of its own, or not at all",
            Self::Soft => "each on a host of its own, if there are enough",
        })
    }
}

/// Something that may come to servers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// From where.
    pub from: RuleSource,
    /// What.
    pub traffic: Traffic,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lets in {} from {}", self.traffic, self.from)
    }
}

/// From where something may come.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleSource {
    /// From the other servers of the cluster.
    Nodes,
    /// From these addresses, as `203.0.113.0/24`.
    Addresses(String),
}

impl fmt::Display for RuleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nodes => "the cluster's nodes",
            Self::Addresses(addresses) => addresses,
        })
    }
}

/// What may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Traffic {
    /// ICMP: echo requests and errors.
    Icmp,
    /// TCP to these ports.
    Tcp(Ports),
    /// UDP to these ports.
    Udp(Ports),
    /// Something that no spec of ours asks for and that is there all the same.
    Other,
}

impl fmt::Display for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp => f.pad("icmp"),
            Self::Tcp(ports) => write!(f, "tcp {ports}"),
            Self::Udp(ports) => write!(f, "udp {ports}"),
            Self::Other => f.pad("something else"),
        }
    }
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last; not less.
    pub last: u16,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Something shared that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedReport {
    /// The cloud's id of it.
    pub id: String,
    /// What it is, in the words in which it is wished for.
    pub is: SharedSpec,
    /// Whether its making was carried through.
    #[serde(default)]
    pub complete: bool,
}

/// A thing in the cloud that a machine consists of, apart from its data disks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MachinePart {
    /// What it is.
    pub kind: PartKind,
    /// The cloud's id of it.
    pub id: String,
    /// What people call it: its name, or its address.
    pub name: String,
}

/// What a part of a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// The server itself.
    Server,
    /// Its interface.
    Port,
    /// Its address outside.
    FloatingIp,
}

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server => "server",
            Self::Port => "port",
            Self::FloatingIp => "floating IP",
        })
    }
}

/// How much of something is needed, and how much of it there may still be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Need {
    /// Of what, as the cloud calls it, such as `cores` or `gigabytes`.
    pub of: String,
    /// How much.
    pub needed: u64,
    /// How much there may still be; `None` if that is not limited or not told.
    pub left: Option<u64>,
}

impl Need {
    /// Whether there is too little left.
    #[must_use]
    pub fn is_too_much(&self) -> bool {
        self.left.is_some_and(|left| left < self.needed)
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.left {
            Some(left) => write!(f, "{} {} of {left} left", self.needed, self.of),
            None => write!(f, "{} {}", self.needed, self.of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_as_sentences_and_are_stored_as_they_are() {
        let ports = Ports { first: 2379, last: 2380 };
        let rule = Rule { from: RuleSource::Nodes, traffic: Traffic::Tcp(ports) };
        assert_eq!(rule.to_string(), "lets in tcp 2379-2380 from the cluster's nodes");
        let json = serde_json::to_string(&rule).expect("JSON");
        assert_eq!(serde_json::from_str::<Rule>(&json).expect("a rule"), rule);
    }

    #[test]
    fn a_need_is_too_much_only_where_it_is_known_what_is_left() {
        let need = |left| Need { of: "cores".into(), needed: 4, left };
        assert!(need(Some(3)).is_too_much() && !need(Some(4)).is_too_much() && !need(None).is_too_much());
        assert_eq!(need(Some(3)).to_string(), "4 cores of 3 left");
    }
}
