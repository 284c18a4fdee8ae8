// SPDX-License-Identifier: Apache-2.0
//! Network interfaces.

use windlass_types::facts::NetworkInterface;

use super::{MOST_ENTRIES, Unobservable, attribute};
use crate::host::Observe;

const DIRECTORY: &str = "/sys/class/net";

/// ARPHRD_LOOPBACK of if_arp.h.
const LOOPBACK: &str = "772";

pub(super) fn observe(host: &dyn Observe) -> Result<Vec<NetworkInterface>, Unobservable> {
    let names =
        host.list(DIRECTORY.as_ref()).map_err(|source| Unobservable::Read { path: DIRECTORY.into(), source })?;
    let addresses = host.interface_addresses().map_err(Unobservable::Addresses)?;
    let mut interfaces = Vec::new();
    for name in names.into_iter().take(MOST_ENTRIES) {
        let value = |file: &str| attribute(host, format!("{DIRECTORY}/{name}/{file}"));
        let kind = value("type");
        // Without a type it is no interface: the bonding driver keeps a file among them.
        if kind.is_empty() || kind == LOOPBACK {
            continue;
        }
        let own = addresses.iter().filter(|(interface, _)| *interface == name);
        interfaces.push(NetworkInterface {
            mac: value("address"),
            addresses: own.map(|(_, address)| address.clone()).collect(),
            mtu: value("mtu").parse().unwrap_or_default(),
            up: value("carrier") == "1",
            name,
        });
    }
    Ok(interfaces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn loopback_and_files_among_the_interfaces_are_left_out() {
        let host = FakeHost::new("node1");
        host.change(|node| {
            node.files.insert("/sys/class/net/bonding_masters".into(), "bond0\n".into());
            node.files.insert("/sys/class/net/lo/type".into(), "772\n".into());
        });
        let expected = host.node().interfaces;
        assert_eq!(observe(&host).unwrap(), expected);
        assert!(!expected.is_empty());
    }
}
