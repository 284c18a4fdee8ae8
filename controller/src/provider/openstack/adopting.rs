// SPDX-License-Identifier: Apache-2.0
//! Taking over servers that somebody else made: what they consist of gets our tag, and nothing else of it is changed but
//! that their ports come into the cluster's security group too, which only lets more in.
//!
//! The server is marked first: a machine that has a server is complete, so whatever is interrupted after that can at worst
//! leave a part unmarked, and never have a second server made. Doing it again finishes it.

use std::collections::BTreeMap;

use windlass_plan::base_hash;
use windlass_types::cloud::{NetworkChoice, SharedSpec};
use windlass_types::escape::Escaped;
use windlass_types::machine::{DiskSpec, MachineSpec};
use windlass_types::name::VolumeName;

use super::error::{Doing as _, OpenstackError};
use super::resolve::{by_name, server_of};
use super::tag::{self, Tag, Tagged};
use super::{OpenstackProvider, gibibytes, is_conflict, standing};
use crate::openstack::compute::{Server, ServerStatus};
use crate::openstack::network::{Filter, FloatingIp, Part, Port};
use crate::openstack::volume::Volume;
use crate::provider::MachineKey;

/// What a root disk that is a volume is called by a cloud.
const ROOT_DEVICES: [&str; 3] = ["/dev/vda", "/dev/sda", "/dev/xvda"];

/// What is said to be a node's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// The server, by its id or name.
    pub server: String,
    /// Volumes by their ids, where it is not clear which is which.
    pub volumes: BTreeMap<VolumeName, String>,
}

/// What would be taken over of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adoption {
    server: Server,
    ports: Vec<Port>,
    floating: Vec<FloatingIp>,
    volumes: Vec<(VolumeName, Volume)>,
    /// What a person should know.
    pub remarks: Vec<String>,
    /// Why it cannot be taken over; empty if it can.
    pub obstacles: Vec<String>,
}

impl Adoption {
    /// What the machine would consist of: of which kind, by which id, and how people call it.
    pub fn parts(&self) -> impl Iterator<Item = (String, &str, String)> {
        let server = [("server".to_owned(), &*self.server.id, self.server.name.clone())];
        let ports = self.ports.iter().map(|port| ("port".to_owned(), &*port.id, addresses(port)));
        let floating =
            self.floating.iter().map(|one| ("floating IP".to_owned(), &*one.id, one.floating_ip_address.to_string()));
        let volume = |(name, volume): &(VolumeName, Volume)| {
            (format!("volume {name}"), format!("{} ({} GiB)", volume.name, volume.size))
        };
        let volumes = self.volumes.iter().map(move |one| {
            let (kind, called) = volume(one);
            (kind, &*one.1.id, called)
        });
        server.into_iter().chain(ports).chain(floating).chain(volumes)
    }

    fn object(&mut self, obstacle: String) {
        self.obstacles.push(obstacle);
    }
}

fn addresses(port: &Port) -> String {
    let all = port.fixed_ips.iter().filter_map(|fixed| fixed.ip_address).map(|address| address.to_string());
    all.collect::<Vec<_>>().join(", ")
}

impl OpenstackProvider {
    /// What a server that is there would be as a machine, and whether it can be.
    ///
    /// # Errors
    /// If the cloud cannot tell, there is no such server, or the spec does not go together.
    pub async fn adoption(&self, spec: &MachineSpec, claimed: &Claimed) -> Result<Adoption, OpenstackError> {
        let what = || format!("look at the server {} for {}", Escaped(&claimed.server), spec.name);
        let own = Filter::own();
        let any = BTreeMap::new();
        let (servers, ports, floating, volumes) = tokio::try_join!(
            self.cloud.servers(&any),
            self.cloud.ports(&own),
            self.cloud.floating_ips(&own),
            self.cloud.volumes(&any)
        )
        .doing(what)?;
        let is_there = |server: &Server| server.status != ServerStatus::Deleted;
        let servers: Vec<_> = servers.into_iter().filter(is_there).collect();
        let server = by_name("server", &claimed.server, servers.iter().cloned(), |one| (&one.id, &one.name))?;
        let ports: Vec<_> = ports.into_iter().filter(|port| port.device_id == server.id).collect();
        let is_its = |one: &FloatingIp| ports.iter().any(|port| one.port_id.as_ref() == Some(&port.id));
        let floating = floating.into_iter().filter(is_its).collect();
        let at_it = |volume: &Volume| volume.attachments.iter().any(|one| one.server_id == server.id);
        let attached: Vec<_> = volumes.into_iter().filter(at_it).collect();
        let (volumes, remarks, obstacles) = Default::default();
        let mut adoption = Adoption { server, ports, floating, volumes, remarks, obstacles };
        belongs_to_nobody_else(&mut adoption, spec, &servers);
        self.fits(&mut adoption, spec).await?;
        choose_volumes(&mut adoption, spec, claimed, attached);
        Ok(adoption)
    }

    /// Takes a server over, as it was looked at.
    ///
    /// # Errors
    /// If the cloud refuses something. What was done stays; doing it again does the rest.
    pub async fn adopt(
        &self,
        spec: &MachineSpec,
        adoption: &Adoption,
        shared: &[SharedSpec],
    ) -> Result<(), OpenstackError> {
        let key = MachineKey::of(spec);
        let turn = self.turn(&key);
        let _turn = turn.lock().await;
        let metadata = tag::of_adopted(spec, base_hash(spec));
        let id = &adoption.server.id;
        self.cloud.describe_server(id, &metadata).await.doing(|| format!("mark the server {id} as {key}"))?;
        for (name, volume) in &adoption.volumes {
            let marked = self.cloud.describe_volume(&volume.id, &tag::of_volume(&key, name)).await;
            marked.doing(|| format!("mark the volume {} as {name} of {key}", volume.id))?;
        }
        for port in &adoption.ports {
            self.mark(Part::Port, &port.id, port, &key).await?;
        }
        for address in &adoption.floating {
            self.mark(Part::FloatingIp, &address.id, address, &key).await?;
        }
        self.let_in(&key, &adoption.ports, shared).await
    }

    /// Adds our tags to those that are there.
    async fn mark(&self, part: Part, id: &str, thing: &impl Tagged, key: &MachineKey) -> Result<(), OpenstackError> {
        let ours = Tag::of(key).tags();
        let theirs = thing.tags().iter().filter(|tag| !ours.contains(tag));
        let all: Vec<_> = theirs.cloned().chain(ours.iter().cloned()).collect();
        self.cloud.set_tags(part, id, &all).await.doing(|| format!("mark the {part} {id} as {key}'s"))
    }

    /// Has the cluster's security group count for the ports too.
    async fn let_in(&self, key: &MachineKey, ports: &[Port], shared: &[SharedSpec]) -> Result<(), OpenstackError> {
        for wanted in shared.iter().filter(|wanted| matches!(wanted, SharedSpec::SecurityGroup { .. })) {
            self.make_shared(&key.cluster, wanted).await?;
        }
        let Some(group) = self.find_shared(&key.cluster).await?.group else { return Ok(()) };
        for port in ports.iter().filter(|port| !port.security_groups.contains(&group.id)) {
            let groups: Vec<_> = port.security_groups.iter().chain([&group.id]).cloned().collect();
            match self.cloud.set_security_groups(&port.id, &groups).await {
                // Without port security everything comes in already.
                Err(error) if is_conflict(&error) => {}
                set => set.doing(|| format!("put the port {} of {key} into the cluster's security group", port.id))?,
            }
        }
        Ok(())
    }

    /// Whether the server is as the spec says.
    async fn fits(&self, adoption: &mut Adoption, spec: &MachineSpec) -> Result<(), OpenstackError> {
        let (wanted, resolved) = (server_of(spec)?, self.resolve(spec).await?);
        match &adoption.server.status {
            ServerStatus::Build | ServerStatus::Error => {
                adoption.object(format!("the server is {}", standing(&adoption.server)));
            }
            _ => {}
        }
        let flavor = &adoption.server.flavor;
        let has = flavor.original_name.as_ref().or(flavor.id.as_ref()).cloned().unwrap_or_default();
        if has != resolved.flavor.name && has != resolved.flavor.id {
            adoption.object(format!("its flavor is {}, and the spec says {}", Escaped(&has), wanted.flavor));
        }
        if adoption.server.image.as_ref().is_some_and(|image| *image != resolved.image.id) {
            adoption.remarks.push(format!("it was made from another image than {}; it stays as it is", spec.image));
        }
        match &wanted.network {
            NetworkChoice::Own => {
                adoption
                    .object("the spec gives the cluster a network of its own: name the server's in `network`".into());
            }
            NetworkChoice::Existing(name) => {
                let network = self.network(name).await?;
                is_in(adoption, &network, name, wanted.address);
            }
        }
        match (&wanted.floating, adoption.floating.is_empty()) {
            (Some(_), true) => adoption.object("the spec gives it a floating IP, and it has none".into()),
            (None, false) => adoption.remarks.push("it keeps its floating IP, of which the spec says nothing".into()),
            (Some(_), false) | (None, true) => {}
        }
        Ok(())
    }
}

fn is_in(adoption: &mut Adoption, network: &str, name: &str, address: Option<std::net::Ipv4Addr>) {
    let inside: Vec<_> = adoption.ports.iter().filter(|port| port.network_id == network).collect();
    let has = |address: std::net::Ipv4Addr| {
        inside.iter().any(|port| port.fixed_ips.iter().any(|fixed| fixed.ip_address == Some(address.into())))
    };
    let obstacle = match address {
        _ if inside.is_empty() => Some(format!("it has no port of this project in the network {}", Escaped(name))),
        Some(address) if !has(address) => {
            Some(format!("it has not the address {address} in the network {}", Escaped(name)))
        }
        _ => None,
    };
    adoption.obstacles.extend(obstacle);
}

/// One server is one machine, and one machine has one server.
fn belongs_to_nobody_else(adoption: &mut Adoption, spec: &MachineSpec, servers: &[Server]) {
    let owner = |server: &Server| Some((tag::cluster_in(&server.metadata)?, tag::node_in(&server.metadata)?));
    let this = (spec.cluster.clone(), spec.name.clone());
    match owner(&adoption.server) {
        Some(other) if other != this => {
            adoption.object(format!("the server is {} of cluster {} already", other.1, other.0));
        }
        Some(_) => adoption.remarks.push("the server is this machine already".into()),
        None => {}
    }
    let other = servers.iter().find(|server| server.id != adoption.server.id && owner(server).as_ref() == Some(&this));
    if let Some(other) = other {
        adoption.object(format!("{} has the server {} already", spec.name, Escaped(&other.id)));
    }
}

/// Which of the volumes at the server is which of the spec: as it was said, as it is marked, as it is called, or because
/// only one has the size. What is not clear is asked for.
fn choose_volumes(adoption: &mut Adoption, spec: &MachineSpec, claimed: &Claimed, attached: Vec<Volume>) {
    let from_image = adoption.server.image.is_some();
    let is_root = |volume: &Volume| {
        let device = volume.attachments.iter().find_map(|one| one.device.as_deref());
        !from_image && device.is_some_and(|device| ROOT_DEVICES.contains(&device))
    };
    let mut left: Vec<Volume> = attached.into_iter().filter(|volume| !is_root(volume)).collect();
    let mut open = Vec::new();
    let is_in_spec = |name: &&VolumeName| spec.data_disks.iter().any(|disk| disk.name == **name);
    let strange = claimed.volumes.keys().filter(|name| !is_in_spec(name));
    adoption.obstacles.extend(strange.map(|name| format!("the spec has no volume {name}")));
    for disk in &spec.data_disks {
        let said = claimed.volumes.get(&disk.name);
        let is_it = |volume: &Volume| match said {
            Some(id) => volume.id == *id,
            None => tag::volume_in(&volume.metadata).as_ref() == Some(&disk.name) || is_called(volume, &disk.name),
        };
        let found: Vec<usize> = (0..left.len()).filter(|&at| is_it(&left[at])).collect();
        match (&found[..], said) {
            ([only], _) => take(adoption, disk, left.swap_remove(*only)),
            ([], Some(id)) => adoption.object(format!("the volume {} is not at the server", Escaped(id))),
            ([], None) => open.push(disk),
            (several, _) => adoption.object(which(spec, disk, several.iter().map(|&at| &left[at]))),
        }
    }
    for disk in open {
        let fitting: Vec<usize> = (0..left.len()).filter(|&at| is_as_large(&left[at], disk)).collect();
        match fitting[..] {
            [only] => take(adoption, disk, left.swap_remove(only)),
            [] => adoption
                .remarks
                .push(format!("no volume at it is {}: apply makes and attaches an empty one", disk.name)),
            _ => adoption.object(which(spec, disk, fitting.iter().map(|&at| &left[at]))),
        }
    }
    let rest = left.iter().map(|volume| {
        format!("the volume {} ({} GiB) is not in the spec and is left alone", Escaped(&volume.id), volume.size)
    });
    adoption.remarks.extend(rest);
}

/// Asks which of several is meant.
fn which<'a>(spec: &MachineSpec, disk: &DiskSpec, among: impl Iterator<Item = &'a Volume>) -> String {
    let ids: Vec<_> = among.map(|volume| Escaped(&volume.id).to_string()).collect();
    let (node, name, ids) = (&spec.name, &disk.name, ids.join(", "));
    format!("which volume is {name}? say it: --volume {node}/{name}=ID, with one of {ids}")
}

fn take(adoption: &mut Adoption, disk: &DiskSpec, volume: Volume) {
    if !is_as_large(&volume, disk) {
        let wanted = gibibytes(disk.size_bytes);
        adoption.object(format!("the volume {} has {} GiB, and the spec says {wanted}", disk.name, volume.size));
    }
    adoption.volumes.push((disk.name.clone(), volume));
}

fn is_as_large(volume: &Volume, disk: &DiskSpec) -> bool {
    volume.size == gibibytes(disk.size_bytes)
}

/// Whether people call a volume so, alone or after whose it is.
fn is_called(volume: &Volume, name: &VolumeName) -> bool {
    let rest = volume.name.strip_suffix(name.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_', '.']))
}
