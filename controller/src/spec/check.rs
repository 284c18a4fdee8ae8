// SPDX-License-Identifier: Apache-2.0
//! What no schema can say: that the parts of a spec go together.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use windlass_types::name::NodeName;

use super::document::{Body, Node, Qemu};
use super::value::{Network, Size};

/// Less does not boot.
const LEAST_MEMORY: Size = Size::mebibytes(256);

/// Ports below this need root.
const LEAST_HOST_PORT: u16 = 1024;

/// virtio-scsi and the names of files allow more; nobody has asked for more.
const MOST_VOLUMES: usize = 16;

/// Parts of a spec that do not go together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// No provider, or two.
    #[error("provider has exactly one of qemu and existing")]
    Provider,
    /// No nodes.
    #[error("there are no nodes")]
    NoNodes,
    /// A name twice.
    #[error("the node {0} is named twice")]
    NodeTwice(NodeName),
    /// An address twice.
    #[error("the address {1} of {0} is another node's")]
    AddressTwice(NodeName, Ipv4Addr),
    /// An address from elsewhere.
    #[error("the address {1} of {0} is not one of a machine in the network {2}")]
    AddressElsewhere(NodeName, Ipv4Addr, Network),
    /// A port twice.
    #[error("the port {1} of the controller's machine is forwarded twice, the second time by {0}")]
    PortTwice(NodeName, u16),
    /// A port that only root may open.
    #[error("the port {1} that {0} forwards is below 1024, and qemu does not run as root")]
    PortOfRoot(NodeName, u16),
    /// Something of a machine that Windlass does not make.
    #[error("{1} of {0} cannot be chosen: machines of the provider existing are as they are")]
    NotOurs(NodeName, &'static str),
    /// Volumes for machines that Windlass does not make.
    #[error("volumes cannot be made for machines of the provider existing")]
    VolumesNotOurs,
    /// Too little.
    #[error("{0} has less than 256MiB memory")]
    TooLittleMemory(NodeName),
    /// Too many.
    #[error("there are more than 16 volumes")]
    TooManyVolumes,
    /// No processors, or more than any machine has.
    #[error("{0} has 1 to 256 cpus")]
    Cpus(NodeName),
    /// A relative path: the controller has no folder of yours.
    #[error("provider.qemu.image is a path on the controller's machine that begins with / or ~/")]
    Image,
    /// A limit that would stop everything.
    #[error("policy.parallel is 1 to 1000")]
    Parallel,
    /// A repository with an unusable name or address.
    #[error("the repository {0:?} needs a name of a-z, 0-9 and '-', a url, and a gpgKey")]
    Repository(String),
    /// A repository twice.
    #[error("the repository {0} is named twice")]
    RepositoryTwice(String),
    /// Nothing to install the agent from.
    #[error("packages.repositories is empty: new machines install the agent from them")]
    NoRepository,
}

/// Looks at what the reader let pass.
///
/// # Errors
/// The first contradiction.
pub fn check(body: &Body) -> Result<(), Contradiction> {
    if body.nodes.is_empty() {
        return Err(Contradiction::NoNodes);
    }
    if !(1..=1000).contains(&body.policy.parallel) {
        return Err(Contradiction::Parallel);
    }
    if body.volumes.len() > MOST_VOLUMES {
        return Err(Contradiction::TooManyVolumes);
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = body.nodes.iter().find(|node| !names.insert(&node.name)) {
        return Err(Contradiction::NodeTwice(twice.name.clone()));
    }
    let mut addresses = BTreeSet::new();
    for (node, address) in body.nodes.iter().filter_map(|node| Some((node, node.address?))) {
        if !addresses.insert(address) {
            return Err(Contradiction::AddressTwice(node.name.clone(), address));
        }
    }
    repositories(body)?;
    match (&body.provider.qemu, &body.provider.existing) {
        (Some(qemu), None) => made_here(body, qemu),
        (None, Some(_)) => existing(body),
        (Some(_), Some(_)) | (None, None) => Err(Contradiction::Provider),
    }
}

fn repositories(body: &Body) -> Result<(), Contradiction> {
    let mut names = BTreeSet::new();
    for repository in &body.packages.repositories {
        let name = &repository.name;
        let is_plain = !name.is_empty()
            && name.len() <= 63
            && !name.starts_with('-')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let schemes = ["http://", "https://", "ftp://", "file://"];
        let has_url = schemes.iter().any(|scheme| repository.url.strip_prefix(scheme).is_some_and(|r| !r.is_empty()));
        if !is_plain || !has_url || repository.gpg_key.is_empty() {
            return Err(Contradiction::Repository(name.chars().take(63).collect()));
        }
        if !names.insert(name) {
            return Err(Contradiction::RepositoryTwice(name.clone()));
        }
    }
    Ok(())
}

fn made_here(body: &Body, qemu: &Qemu) -> Result<(), Contradiction> {
    let path = qemu.image.strip_prefix('~').unwrap_or(&qemu.image);
    if !path.starts_with('/') || path.len() < 2 {
        return Err(Contradiction::Image);
    }
    if body.packages.repositories.is_empty() {
        return Err(Contradiction::NoRepository);
    }
    let mut ports = BTreeSet::new();
    for node in &body.nodes {
        machine(node, qemu)?;
        for forward in &node.forwards {
            if forward.host < LEAST_HOST_PORT || forward.guest == 0 {
                return Err(Contradiction::PortOfRoot(node.name.clone(), forward.host));
            }
            if !ports.insert((forward.protocol, forward.host)) {
                return Err(Contradiction::PortTwice(node.name.clone(), forward.host));
            }
        }
    }
    Ok(())
}

fn machine(node: &Node, qemu: &Qemu) -> Result<(), Contradiction> {
    if node.memory.is_some_and(|memory| memory < LEAST_MEMORY) {
        return Err(Contradiction::TooLittleMemory(node.name.clone()));
    }
    if node.cpus.is_some_and(|cpus| !(1..=256).contains(&cpus)) {
        return Err(Contradiction::Cpus(node.name.clone()));
    }
    if let Some(address) = node.address {
        let is_usable = windlass_types::machine::LanAddress::new(address, qemu.network.prefix()).is_ok();
        if !is_usable || !qemu.network.contains(address) {
            return Err(Contradiction::AddressElsewhere(node.name.clone(), address, qemu.network));
        }
    }
    Ok(())
}

fn existing(body: &Body) -> Result<(), Contradiction> {
    if !body.volumes.is_empty() {
        return Err(Contradiction::VolumesNotOurs);
    }
    for node in &body.nodes {
        let chosen = [
            ("cpus", node.cpus.is_some()),
            ("memory", node.memory.is_some()),
            ("disk", node.disk.is_some()),
            ("forwards", !node.forwards.is_empty()),
        ];
        if let Some((what, _)) = chosen.into_iter().find(|(_, is_chosen)| *is_chosen) {
            return Err(Contradiction::NotOurs(node.name.clone(), what));
        }
    }
    Ok(())
}
