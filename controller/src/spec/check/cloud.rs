// SPDX-License-Identifier: Apache-2.0
//! What goes together in a spec whose machines are servers of a cloud, and what belongs there alone.

use std::net::IpAddr;

use serde_saphyr::Spanned;
use windlass_types::name::NodeName;

use super::{Checked, Contradiction};
use crate::spec::document::{Body, Node};
use crate::spec::openstack::{Opening, Openstack};
use crate::spec::value::Size;

const GIB: u64 = 1 << 30;

pub(super) fn check(body: &Body, openstack: &Openstack) -> Checked {
    let place = body.provider.defined;
    the_cloud(openstack).map_err(|contradiction| contradiction.at(place))?;
    if body.packages.repositories.is_empty() {
        return Err(Contradiction::NoRepository.at(place));
    }
    for Spanned { value, defined, .. } in &body.nodes.value {
        node(value, openstack).map_err(|contradiction| contradiction.at(*defined))?;
    }
    if let Some(floating) = &openstack.floating_ips {
        let is_there = |name: &NodeName| body.nodes.value.iter().any(|node| node.value.name == *name);
        if let Some(nobody) = floating.nodes.iter().find(|name| !is_there(name)) {
            return Err(Contradiction::FloatingNobody(nobody.clone()).at(place));
        }
    }
    match (body.volumes().find(|(_, volume)| !is_whole(volume.size)), &body.volumes) {
        (Some((name, _)), Some(volumes)) => Err(Contradiction::NotWholeGib(name.to_string()).at(volumes.defined)),
        _ => Ok(()),
    }
}

const fn is_whole(size: Size) -> bool {
    size.bytes().is_multiple_of(GIB)
}

fn the_cloud(openstack: &Openstack) -> Result<(), Contradiction> {
    if openstack.network.is_some() == openstack.own_network.is_some() {
        return Err(Contradiction::CloudNetwork);
    }
    let names = [
        ("image", Some(&openstack.image)),
        ("network", openstack.network.as_ref()),
        ("floatingIPs.network", openstack.floating_ips.as_ref().map(|floating| &floating.network)),
        ("ownNetwork.external", openstack.own_network.as_ref().and_then(|own| own.external.as_ref())),
        ("keypair", openstack.keypair.as_ref()),
        ("zone", openstack.zone.as_ref()),
    ];
    if let Some((what, _)) = names.into_iter().find(|(_, name)| name.is_some_and(|name| name.trim().is_empty())) {
        return Err(Contradiction::CloudName(what));
    }
    openstack.open.iter().try_for_each(opening)
}

fn opening(opening: &Opening) -> Result<(), Contradiction> {
    let last = opening.to.unwrap_or(opening.port);
    if opening.port == 0 || last < opening.port {
        return Err(Contradiction::OpenPorts(opening.port, last));
    }
    if is_network(&opening.from) { Ok(()) } else { Err(Contradiction::OpenFrom(opening.from.clone())) }
}

/// Whether a text is a network of either kind, written as a cloud writes it back.
fn is_network(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else { return false };
    let (Ok(address), Ok(prefix)) = (address.parse::<IpAddr>(), prefix.parse::<u8>()) else { return false };
    let (bits, length) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let behind = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
    prefix <= length && bits & behind == 0 && text == format!("{address}/{prefix}")
}

fn node(node: &Node, openstack: &Openstack) -> Result<(), Contradiction> {
    let name = || node.name.clone();
    if node.flavor.as_ref().is_none_or(|flavor| flavor.trim().is_empty()) {
        return Err(Contradiction::NoFlavor(name()));
    }
    let chosen =
        [("cpus", node.cpus.is_some()), ("memory", node.memory.is_some()), ("forwards", !node.forwards.is_empty())];
    if let Some((what, _)) = chosen.into_iter().find(|(_, is_chosen)| *is_chosen) {
        return Err(Contradiction::NotOfACloud(name(), what));
    }
    if node.disk.is_some() != openstack.root_volume.is_some() {
        return Err(Contradiction::RootVolume(name()));
    }
    if node.disk.is_some_and(|disk| !is_whole(disk)) {
        return Err(Contradiction::NotWholeGib(format!("root of {}", node.name)));
    }
    match (node.address, openstack.own_network.as_ref().map(|own| own.cidr)) {
        (Some(address), Some(cidr)) if !cidr.contains(address) => {
            Err(Contradiction::AddressElsewhere(name(), address, cidr))
        }
        _ => Ok(()),
    }
}

/// Whether nothing is said that only clouds have.
pub(super) fn nothing_of_a_cloud(body: &Body) -> Checked {
    if let Some(node) = body.nodes.value.iter().find(|node| node.value.flavor.is_some()) {
        return Err(Contradiction::FlavorAlone(node.value.name.clone()).at(node.defined));
    }
    match (body.volumes().find(|(_, volume)| volume.volume_type.is_some()), &body.volumes) {
        (Some((name, _)), Some(volumes)) => Err(Contradiction::TypeAlone(name.to_string()).at(volumes.defined)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_network;

    #[test]
    fn a_network_is_written_as_a_cloud_writes_it_back() {
        for network in ["0.0.0.0/0", "203.0.113.0/24", "10.0.0.7/32", "::/0", "2001:db8::/32"] {
            assert!(is_network(network), "{network}");
        }
        for other in ["", "everybody", "10.0.0.7", "10.0.0.7/24", "10.0.0.0/33", "10.0.0.0/024", "2001:DB8::/32"] {
            assert!(!is_network(other), "{other}");
        }
    }
}
