// SPDX-License-Identifier: Apache-2.0
//! Networks and what belongs to them, as the service describes them.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::openstack::lenient::or_default;

/// A kind of thing that belongs to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// A network.
    Network,
    /// A subnet.
    Subnet,
    /// A router.
    Router,
    /// A port.
    Port,
    /// A security group.
    SecurityGroup,
    /// A rule of a security group. It has no tags.
    Rule,
    /// A floating IP.
    FloatingIp,
}

impl Part {
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::Network => "/networks",
            Self::Subnet => "/subnets",
            Self::Router => "/routers",
            Self::Port => "/ports",
            Self::SecurityGroup => "/security-groups",
            Self::Rule => "/security-group-rules",
            Self::FloatingIp => "/floatingips",
        }
    }

    pub(super) const fn one(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Subnet => "subnet",
            Self::Router => "router",
            Self::Port => "port",
            Self::SecurityGroup => "security_group",
            Self::Rule => "security_group_rule",
            Self::FloatingIp => "floatingip",
        }
    }

    pub(super) const fn many(self) -> &'static str {
        match self {
            Self::Network => "networks",
            Self::Subnet => "subnets",
            Self::Router => "routers",
            Self::Port => "ports",
            Self::SecurityGroup => "security_groups",
            Self::Rule => "security_group_rules",
            Self::FloatingIp => "floatingips",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SecurityGroup => "security group",
            Self::Rule => "rule",
            Self::FloatingIp => "floating IP",
            Self::Network | Self::Subnet | Self::Router | Self::Port => self.one(),
        })
    }
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Network {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Whether it leads outside.
    #[serde(default, rename = "router:external", deserialize_with = "or_default")]
    pub external: bool,
    /// The ids of its subnets.
    #[serde(default, deserialize_with = "or_default")]
    pub subnets: Vec<String>,
    /// The largest packet, bytes.
    #[serde(default)]
    pub mtu: Option<u32>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subnet {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// The network it is in.
    pub network_id: String,
    /// Its addresses.
    pub cidr: String,
    /// The way out, if there is one.
    #[serde(default)]
    pub gateway_ip: Option<IpAddr>,
    /// Whether the cloud gives out addresses there.
    #[serde(default, deserialize_with = "or_default")]
    pub enable_dhcp: bool,
    /// The name servers that it tells.
    #[serde(default, deserialize_with = "or_default")]
    pub dns_nameservers: Vec<IpAddr>,
}

/// A router.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Router {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Where it leads outside.
    #[serde(default)]
    pub external_gateway_info: Option<Gateway>,
}

/// Where a router leads outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// An external network.
    pub network_id: String,
    /// Its addresses there, from which those behind it are seen; the cloud chooses them.
    #[serde(default, skip_serializing)]
    pub external_fixed_ips: Vec<OutsideAddress>,
}

/// An address of a router outside.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OutsideAddress {
    /// Which.
    pub ip_address: IpAddr,
}

/// A port: an interface of a server or router, or one that waits for a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Whether it works, `ACTIVE` or `DOWN`.
    #[serde(default, deserialize_with = "or_default")]
    pub status: String,
    /// The network it is in.
    #[serde(default, deserialize_with = "or_default")]
    pub network_id: String,
    /// Its hardware address.
    #[serde(default, deserialize_with = "or_default")]
    pub mac_address: String,
    /// Its addresses.
    #[serde(default, deserialize_with = "or_default")]
    pub fixed_ips: Vec<FixedIp>,
    /// The server or router that has it; empty if none.
    #[serde(default, deserialize_with = "or_default")]
    pub device_id: String,
    /// What kind of thing has it, as `compute:nova`.
    #[serde(default, deserialize_with = "or_default")]
    pub device_owner: String,
    /// The ids of its security groups.
    #[serde(default, deserialize_with = "or_default")]
    pub security_groups: Vec<String>,
    /// What else may come from it.
    #[serde(default, deserialize_with = "or_default")]
    pub allowed_address_pairs: Vec<AddressPair>,
}

/// An address of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedIp {
    /// In which subnet.
    pub subnet_id: String,
    /// Which; by default the cloud chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address: Option<IpAddr>,
}

/// Addresses that may come from a port though they are not its own, such as those of pods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressPair {
    /// An address, or many as `10.244.0.0/16`.
    pub ip_address: String,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SecurityGroup {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Its rules.
    #[serde(default, rename = "security_group_rules", deserialize_with = "or_default")]
    pub rules: Vec<Rule>,
}

/// Into a server, or out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Into it.
    Ingress,
    /// Out of it.
    Egress,
}

/// Which kind of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EtherType {
    /// IPv4.
    #[serde(rename = "IPv4")]
    V4,
    /// IPv6.
    #[serde(rename = "IPv6")]
    V6,
}

/// A rule of a security group: what is let through.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Whose rule.
    pub security_group_id: String,
    /// Which way.
    pub direction: Direction,
    /// Which kind of addresses.
    pub ethertype: EtherType,
    /// As `tcp`; `None` for all.
    #[serde(default)]
    pub protocol: Option<String>,
    /// The first port, or a type of ICMP.
    #[serde(default)]
    pub port_range_min: Option<u16>,
    /// The last port, or a code of ICMP.
    #[serde(default)]
    pub port_range_max: Option<u16>,
    /// From or to which addresses.
    #[serde(default)]
    pub remote_ip_prefix: Option<String>,
    /// From or to the servers of which group.
    #[serde(default)]
    pub remote_group_id: Option<String>,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
}

/// A floating IP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct FloatingIp {
    /// Its id.
    pub id: String,
    /// The address outside.
    pub floating_ip_address: IpAddr,
    /// The address to which it leads.
    #[serde(default)]
    pub fixed_ip_address: Option<IpAddr>,
    /// The port to which it leads.
    #[serde(default)]
    pub port_id: Option<String>,
    /// The external network it is of.
    #[serde(default, deserialize_with = "or_default")]
    pub floating_network_id: String,
    /// What was written to it when it was made.
    #[serde(default, deserialize_with = "or_default")]
    pub description: String,
    /// What was written to it afterwards.
    #[serde(default, deserialize_with = "or_default")]
    pub tags: Vec<String>,
}
