// SPDX-License-Identifier: Apache-2.0
//! How machines are connected: each by itself to the host, and those of a cluster to each other.
//!
//! Out goes QEMU's user-mode network, which needs no rights: the machine sees the host's loopback as 10.0.2.2, and nobody
//! sees the machine unless a port is forwarded. The cluster's own network is a multicast group on the host's loopback
//! interface. Who may open sockets on the host can listen there and speak; nothing leaves the host.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use windlass_types::machine::MachineSpec;

/// Ports of the groups: below the range from which the kernel gives out its own.
const FIRST_PORT: u16 = 20_000;
const PORTS: u16 = 10_000;

/// Addresses of a machine's two cards, and the group of its cluster. The same whenever they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Network {
    pub(super) uplink_mac: String,
    pub(super) lan_mac: String,
    pub(super) lan: SocketAddrV4,
}

impl Network {
    /// `place` is where all machines of this controller are: two controllers may both have a cluster of this name.
    pub(super) fn new(place: &Path, spec: &MachineSpec) -> Self {
        let place = place.to_string_lossy();
        let group = hash(&[&place, spec.cluster.as_str()]);
        let mac = |card: &str| {
            let [a, b, c, d, e, ..] = hash(&[&place, spec.cluster.as_str(), spec.name.as_str(), card]);
            // Locally administered, one machine.
            format!("52:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}")
        };
        let port = FIRST_PORT + u16::from_be_bytes([group[3], group[4]]) % PORTS;
        // 239.192.0.0/14 is for use within an organisation (RFC 2365).
        let address = Ipv4Addr::new(239, 192 | group[0] & 3, group[1], group[2]);
        Self { uplink_mac: mac("uplink"), lan_mac: mac("lan"), lan: SocketAddrV4::new(address, port) }
    }
}

fn hash(parts: &[&str]) -> [u8; 32] {
    let digest = digest(&SHA256, parts.join("\0").as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::spec;
    use super::*;

    #[test]
    fn a_machine_keeps_its_addresses_and_shares_none() {
        let node1 = Network::new(Path::new("/s"), &spec("node1"));
        let node2 = Network::new(Path::new("/s"), &spec("node2"));
        assert_eq!(node1, Network::new(Path::new("/s"), &spec("node1")));
        assert_eq!(node1.lan, node2.lan);
        let macs = [&node1.uplink_mac, &node1.lan_mac, &node2.uplink_mac, &node2.lan_mac];
        assert!(macs.iter().enumerate().all(|(index, mac)| !macs[..index].contains(mac)), "{macs:?}");
    }

    #[test]
    fn clusters_of_one_name_in_two_places_do_not_meet() {
        let at = |place: &str| Network::new(Path::new(place), &spec("node1")).lan;
        assert_ne!(at("/a"), at("/b"));
    }
}
