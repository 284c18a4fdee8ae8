// SPDX-License-Identifier: Apache-2.0
//! meta-data and network-config of a local machine, for the NoCloud data source.

use std::collections::BTreeMap;

use serde::Serialize;
use windlass_types::machine::LanAddress;
use windlass_types::name::{MachineId, NodeName};

/// How the interface that leads out is named in the machine.
pub const UPLINK: &str = "uplink0";

/// How the interface of the cluster's own network is named in the machine.
pub const LAN: &str = "cluster0";

#[derive(Debug, Serialize)]
struct MetaData<'a> {
    #[serde(rename = "instance-id")]
    instance_id: String,
    #[serde(rename = "local-hostname")]
    local_hostname: &'a NodeName,
}

#[derive(Debug, Serialize)]
struct NetworkConfig {
    version: u8,
    ethernets: BTreeMap<&'static str, Ethernet>,
}

#[derive(Debug, Serialize)]
struct Ethernet {
    #[serde(rename = "match")]
    matching: Matching,
    #[serde(rename = "set-name")]
    set_name: &'static str,
    dhcp4: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<LanAddress>,
}

#[derive(Debug, Serialize)]
struct Matching {
    macaddress: String,
}

/// meta-data. Another id means another machine: cloud-init then begins anew.
#[must_use]
pub fn meta_data(id: &MachineId, name: &NodeName) -> String {
    json(&MetaData { instance_id: format!("windlass-{id}"), local_hostname: name })
}

/// network-config, version 2: one interface out by DHCP, one with the machine's address in the cluster.
#[must_use]
pub fn network_config(uplink_mac: &str, lan: Option<(&str, LanAddress)>) -> String {
    let ethernet = |name, mac: &str, addresses: Vec<LanAddress>| Ethernet {
        matching: Matching { macaddress: mac.to_owned() },
        set_name: name,
        dhcp4: addresses.is_empty(),
        addresses,
    };
    let mut ethernets = BTreeMap::from([(UPLINK, ethernet(UPLINK, uplink_mac, Vec::new()))]);
    if let Some((mac, address)) = lan {
        ethernets.insert(LAN, ethernet(LAN, mac, vec![address]));
    }
    json(&NetworkConfig { version: 2, ethernets })
}

fn json(value: &impl Serialize) -> String {
    let text = serde_json::to_string_pretty(value).expect("strings, numbers and lists can be written");
    format!("{text}\n")
}
