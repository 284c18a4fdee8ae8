// SPDX-License-Identifier: Apache-2.0
//! Networks and what belongs to them, to be made. What is `None` is left to the cloud.

use std::net::IpAddr;

use serde::Serialize;

use super::parts::{AddressPair, Direction, EtherType, FixedIp, Gateway};

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewNetwork {
    /// What people shall call it.
    pub name: String,
    /// What to write to it. It is there from the first moment.
    pub description: String,
}

/// A subnet to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewSubnet {
    /// What people shall call it.
    pub name: String,
    /// What to write to it. It is there from the first moment.
    pub description: String,
    /// In which network.
    pub network_id: String,
    /// 4 or 6.
    pub ip_version: u8,
    /// Its addresses.
    pub cidr: String,
    /// The name servers that it tells.
    pub dns_nameservers: Vec<IpAddr>,
}

/// A router to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRouter {
    /// What people shall call it.
    pub name: String,
    /// What to write to it. It is there from the first moment.
    pub description: String,
    /// Where it leads outside, if anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_gateway_info: Option<Gateway>,
}

/// A port to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPort {
    /// What people shall call it.
    pub name: String,
    /// What to write to it. It is there from the first moment.
    pub description: String,
    /// In which network.
    pub network_id: String,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixed_ips: Vec<FixedIp>,
    /// The ids of its security groups. None means none here, and not the project's default.
    pub security_groups: Vec<String>,
    /// What else may come from it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_address_pairs: Vec<AddressPair>,
}

/// A security group to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewSecurityGroup {
    /// What people shall call it.
    pub name: String,
    /// What to write to it. It is there from the first moment.
    pub description: String,
}

/// A rule to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRule {
    /// Whose rule.
    pub security_group_id: String,
    /// Which way.
    pub direction: Direction,
    /// Which kind of addresses.
    pub ethertype: EtherType,
    /// As `tcp`; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The first port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_min: Option<u16>,
    /// The last port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_range_max: Option<u16>,
    /// From or to which addresses; without it and without a group, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ip_prefix: Option<String>,
    /// From or to the servers of which group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_group_id: Option<String>,
    /// What to write to it.
    pub description: String,
}

/// A floating IP to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewFloatingIp {
    /// Of which external network.
    pub floating_network_id: String,
    /// To which port it shall lead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_id: Option<String>,
    /// What to write to it. It is there from the first moment.
    pub description: String,
}
