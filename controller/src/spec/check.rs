// SPDX-License-Identifier: Apache-2.0
//! What no schema can say: that the parts of a spec go together.

mod cloud;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_saphyr::{Location, Spanned};
use windlass_types::name::NodeName;

use super::document::{Body, Node, PackageRepository, Qemu};
use super::settings::Settings;
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
    #[error("provider has exactly one of qemu, openstack and existing")]
    Provider,
    /// No network, or two.
    #[error("provider.openstack has exactly one of network and ownNetwork")]
    CloudNetwork,
    /// A name that cannot be one.
    #[error("provider.openstack.{0} is empty")]
    CloudName(&'static str),
    /// No flavor.
    #[error("{0} has no flavor, and a cloud makes nothing without one")]
    NoFlavor(NodeName),
    /// Something of a machine that a cloud's flavor says, or that only local machines have.
    #[error("{1} of {0} cannot be chosen: its flavor in the cloud says it, or there is no such thing there")]
    NotOfACloud(NodeName, &'static str),
    /// A root volume without a size, or a size without a root volume.
    #[error("disk of {0} and provider.openstack.rootVolume belong together: neither says anything without the other")]
    RootVolume(NodeName),
    /// A flavor where there are none.
    #[error("flavor of {0} says something only where the provider is openstack")]
    FlavorAlone(NodeName),
    /// A size that a cloud would round.
    #[error("the size of the volume {0} is no whole number of GiB, and a cloud counts in those")]
    NotWholeGib(String),
    /// A type where there are none.
    #[error("type of the volume {0} says something only where the provider is openstack")]
    TypeAlone(String),
    /// An address outside for nobody.
    #[error("floatingIPs names {0}, and there is no such node")]
    FloatingNobody(NodeName),
    /// Something that is opened and is not said rightly.
    #[error("open lets in from {0:?}: say a network such as 203.0.113.0/24, with all bits after its prefix 0")]
    OpenFrom(String),
    /// Ports the wrong way round.
    #[error("open has ports {0} to {1}: the last is not before the first, and 0 is none")]
    OpenPorts(u16, u16),
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
    /// Packages that no update touches, and no update.
    #[error("packages.exclude says nothing without packages.update")]
    ExcludeAlone,
    /// What is in a file is said twice, or not at all.
    #[error("the file {0} has exactly one of content and file")]
    Content(String),
    /// A file twice.
    #[error("the file {0} is named twice")]
    FileTwice(String),
    /// A user twice.
    #[error("the user {0} is named twice")]
    UserTwice(String),
}

/// A contradiction and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {what}")]
pub struct Misfit {
    /// Counted from 1.
    pub line: u64,
    /// Counted from 1.
    pub column: u64,
    /// What does not fit.
    pub what: Contradiction,
}

impl Contradiction {
    fn at(self, place: Location) -> Misfit {
        Misfit { line: place.line(), column: place.column(), what: self }
    }
}

type Checked = Result<(), Misfit>;

/// Looks at what the reader let pass.
///
/// # Errors
/// The first contradiction.
pub fn check(body: &Body) -> Checked {
    let nodes = body.nodes.defined;
    if body.nodes.value.is_empty() {
        return Err(Contradiction::NoNodes.at(nodes));
    }
    if !(1..=1000).contains(&body.policy.parallel.value) {
        return Err(Contradiction::Parallel.at(body.policy.parallel.defined));
    }
    if let Some(volumes) = body.volumes.as_ref().filter(|volumes| volumes.value.len() > MOST_VOLUMES) {
        return Err(Contradiction::TooManyVolumes.at(volumes.defined));
    }
    named_once(body)?;
    repositories(&body.packages.repositories)?;
    let has_update = |node: &Spanned<Node>| matches!(node.value.packages.update, Some(Some(_)));
    let is_alone = body.packages.update.is_none() && !body.nodes.value.iter().any(has_update);
    if let Some(exclude) = body.packages.exclude.as_ref().filter(|_| is_alone) {
        return Err(Contradiction::ExcludeAlone.at(exclude.defined));
    }
    settings(&body.settings)?;
    let provider = &body.provider;
    match (&provider.value.qemu, &provider.value.openstack, &provider.value.existing) {
        (Some(qemu), None, None) => made_here(body, qemu),
        (None, Some(openstack), None) => cloud::check(body, openstack),
        (None, None, Some(_)) => existing(body),
        _ => Err(Contradiction::Provider.at(provider.defined)),
    }?;
    if provider.value.openstack.is_none() { cloud::nothing_of_a_cloud(body) } else { Ok(()) }
}

fn named_once(body: &Body) -> Checked {
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for Spanned { value: node, defined, .. } in &body.nodes.value {
        if !names.insert(&node.name) {
            return Err(Contradiction::NodeTwice(node.name.clone()).at(*defined));
        }
        if let Some(address) = node.address.filter(|address| !addresses.insert(*address)) {
            return Err(Contradiction::AddressTwice(node.name.clone(), address).at(*defined));
        }
    }
    Ok(())
}

fn repositories(repositories: &[Spanned<PackageRepository>]) -> Checked {
    let mut names = BTreeSet::new();
    for Spanned { value: repository, defined, .. } in repositories {
        let name = &repository.name;
        let is_plain = !name.is_empty()
            && name.len() <= 63
            && !name.starts_with('-')
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        let schemes = ["http://", "https://", "ftp://", "file://"];
        let has_url = schemes.iter().any(|scheme| repository.url.strip_prefix(scheme).is_some_and(|r| !r.is_empty()));
        if !is_plain || !has_url || repository.gpg_key.is_empty() {
            return Err(Contradiction::Repository(name.chars().take(63).collect()).at(*defined));
        }
        if !names.insert(name) {
            return Err(Contradiction::RepositoryTwice(name.clone()).at(*defined));
        }
    }
    Ok(())
}

fn settings(settings: &Settings) -> Checked {
    repositories(&settings.repositories)?;
    let (mut paths, mut users) = (BTreeSet::new(), BTreeSet::new());
    for Spanned { value: file, defined, .. } in &settings.files {
        let path = file.path.as_str();
        if file.content.is_some() == file.file.as_ref().is_some_and(|name| !name.is_empty()) {
            return Err(Contradiction::Content(path.to_owned()).at(*defined));
        }
        if !paths.insert(path) {
            return Err(Contradiction::FileTwice(path.to_owned()).at(*defined));
        }
    }
    let twice = settings.users.iter().find(|user| !users.insert(user.value.name.as_str()));
    twice.map_or(Ok(()), |user| Err(Contradiction::UserTwice(user.value.name.to_string()).at(user.defined)))
}

fn made_here(body: &Body, qemu: &Qemu) -> Checked {
    let provider = body.provider.defined;
    let path = qemu.image.strip_prefix('~').unwrap_or(&qemu.image);
    if !path.starts_with('/') || path.len() < 2 {
        return Err(Contradiction::Image.at(provider));
    }
    if body.packages.repositories.is_empty() {
        return Err(Contradiction::NoRepository.at(provider));
    }
    let mut ports = BTreeSet::new();
    for Spanned { value: node, defined, .. } in &body.nodes.value {
        machine(node, qemu).map_err(|contradiction| contradiction.at(*defined))?;
        for forward in &node.forwards {
            if forward.host < LEAST_HOST_PORT || forward.guest == 0 {
                return Err(Contradiction::PortOfRoot(node.name.clone(), forward.host).at(*defined));
            }
            if !ports.insert((forward.protocol, forward.host)) {
                return Err(Contradiction::PortTwice(node.name.clone(), forward.host).at(*defined));
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

fn existing(body: &Body) -> Checked {
    if let Some(volumes) = body.volumes.as_ref().filter(|volumes| !volumes.value.is_empty()) {
        return Err(Contradiction::VolumesNotOurs.at(volumes.defined));
    }
    for Spanned { value: node, defined, .. } in &body.nodes.value {
        let chosen = [
            ("cpus", node.cpus.is_some()),
            ("memory", node.memory.is_some()),
            ("disk", node.disk.is_some()),
            ("forwards", !node.forwards.is_empty()),
        ];
        if let Some((what, _)) = chosen.into_iter().find(|(_, is_chosen)| *is_chosen) {
            return Err(Contradiction::NotOurs(node.name.clone(), what).at(*defined));
        }
    }
    Ok(())
}
