// SPDX-License-Identifier: Apache-2.0
//! getifaddrs(3): the addresses of interfaces.

use std::io;
use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::sys::socket::SockaddrStorage;

/// Interface names with one address in prefix notation each, in the kernel's order.
pub(super) fn interface_addresses() -> io::Result<Vec<(String, String)>> {
    Ok(getifaddrs()?.filter_map(|entry| Some((entry.interface_name.clone(), in_prefix_notation(&entry)?))).collect())
}

fn in_prefix_notation(entry: &InterfaceAddress) -> Option<String> {
    let address = ip(entry.address.as_ref()?)?;
    Some(match entry.netmask.as_ref().and_then(ip) {
        Some(netmask) => format!("{address}/{}", prefix_length(netmask)),
        None => address.to_string(),
    })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

/// How many leading bits of a mask are set.
fn prefix_length(netmask: IpAddr) -> u32 {
    match netmask {
        IpAddr::V4(mask) => mask.to_bits().leading_ones(),
        IpAddr::V6(mask) => mask.to_bits().leading_ones(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_bits_of_a_mask() {
        for (mask, length) in [("255.255.252.0", 22), ("0.0.0.0", 0), ("ffff:ffff:ffff:ffff::", 64)] {
            assert_eq!(prefix_length(mask.parse().unwrap()), length, "{mask}");
        }
    }

    #[test]
    fn finds_the_loopback_of_this_machine() {
        let addresses = interface_addresses().unwrap();
        assert!(addresses.contains(&("lo".to_owned(), "127.0.0.1/8".to_owned())), "{addresses:?}");
    }
}
