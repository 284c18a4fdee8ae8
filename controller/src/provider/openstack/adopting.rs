// SPDX-License-Identifier: Apache-2.0
//! Taking over servers that somebody else made: what they consist of gets our tag, and nothing else of it is changed but
//! that their ports come into the cluster's security group too, which only lets more in.
//!
//! The server is marked first: a machine that has a server is complete, so whatever is interrupted after that can at worst
//! leave a part unmarked, and never have a second server made. Doing it again finishes it.

mod volumes;

use std::collections::BTreeMap;

use windlass_plan::base_hash;
use windlass_types::cloud::{NetworkChoice, SharedSpec};
use windlass_types::escape::Escaped;
use windlass_types::machine::MachineSpec;
use windlass_types::name::{ClusterName, NodeName, VolumeName};

use super::error::{Doing as _, OpenstackError};
use super::resolve::{by_name, server_of};
use super::tag::{self, Tagged};
use super::{OpenstackProvider, is_conflict, standing};
use crate::openstack::compute::{Server, ServerStatus};
use crate::openstack::network::{Filter, FloatingIp, Part, Port};
use crate::openstack::volume::Volume;
use crate::provider::MachineKey;

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
        self.none_is_foreign(&spec.cluster, self.foreign(&spec.cluster).await?.into_iter())?;
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
        volumes::choose(&mut adoption, spec, claimed, attached);
        parts_are_nobody_elses(&mut adoption, spec);
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
        let metadata = tag::of_adopted(&self.tag(&key), spec, base_hash(spec));
        let id = &adoption.server.id;
        self.cloud.describe_server(id, &metadata).await.doing(|| format!("mark the server {id} as {key}"))?;
        for (name, volume) in &adoption.volumes {
            let marked = self.cloud.describe_volume(&volume.id, &tag::of_volume(&self.tag(&key), name)).await;
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
        let mut all = tag::tags_by(thing.tags(), &self.uid);
        let missing: Vec<_> = self.tag(key).tags().into_iter().filter(|tag| !all.contains(tag)).collect();
        all.extend(missing);
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

/// What the server consists of is no other machine's, so that removing that one takes nothing from this.
fn parts_are_nobody_elses(adoption: &mut Adoption, spec: &MachineSpec) {
    let volumes = adoption.volumes.iter().map(|(_, volume)| {
        let owner = tag::cluster_in(&volume.metadata).map(|cluster| (cluster, tag::node_in(&volume.metadata)));
        (format!("the volume {}", Escaped(&volume.id)), owner)
    });
    let ports = adoption.ports.iter().map(|port| (format!("the port {}", Escaped(&port.id)), tag::read(port)));
    let floating = adoption.floating.iter();
    let floating = floating.map(|one| (format!("the floating IP {}", one.floating_ip_address), tag::read(one)));
    let is_this = |owner: &(ClusterName, Option<NodeName>)| *owner == (spec.cluster.clone(), Some(spec.name.clone()));
    let obstacles: Vec<_> = volumes
        .chain(ports)
        .chain(floating)
        .filter_map(|(what, owner)| Some((what, owner.filter(|owner| !is_this(owner))?)))
        .map(|(what, (cluster, node))| match node {
            Some(node) => format!("{what} is {node}'s of cluster {cluster} already"),
            None => format!("{what} is cluster {cluster}'s already"),
        })
        .collect();
    adoption.obstacles.extend(obstacles);
}
