// SPDX-License-Identifier: Apache-2.0
//! The servers of a Terraform state, with the volumes and addresses that belong to them. Every resource of the state is
//! accounted for: what becomes of it, in words.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::terraform::Resource;

const SERVER: &str = "openstack_compute_instance_v2";

/// A server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// How Terraform calls it.
    pub address: String,
    /// The cloud's id of it.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The name of its flavor, or its id.
    pub flavor: String,
    /// The name of its image, or its id, if it was made from one.
    pub image: Option<String>,
    /// The name of its network, or its id.
    pub network: Option<String>,
    /// Its address there.
    pub fixed: Option<Ipv4Addr>,
    /// The external network of its floating IP, where that is known; `None` if it has none.
    pub floating: Option<String>,
    /// Its security groups.
    pub security_groups: Vec<String>,
    /// Its keypair.
    pub keypair: Option<String>,
    /// Where in the cloud it is.
    pub zone: Option<String>,
    /// The groups of Ansible it is in, by kubespray's `metadata.kubespray_groups`.
    pub groups: Vec<String>,
    /// Its volumes.
    pub volumes: Vec<Volume>,
    /// What of the state goes over with it besides its volumes, as Terraform calls it.
    pub goes_over: Vec<String>,
}

/// A volume at a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// How the configuration calls it, as `docker`.
    pub called: String,
    /// The cloud's id of it.
    pub id: String,
    /// GiB.
    pub size: u64,
    /// Its type, if it has one.
    pub volume_type: Option<String>,
    /// What of the state is the volume, and that it is attached, as Terraform calls it.
    pub resources: Vec<String>,
}

/// What becomes of a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// How Terraform calls it.
    pub address: String,
    /// What becomes of it.
    pub what: String,
}

/// What a state has of servers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Servers {
    /// Those that become machines.
    pub servers: Vec<Server>,
    /// What becomes of every resource, in the order of the state.
    pub fates: Vec<Fate>,
}

/// Finds them.
#[must_use]
pub fn find(resources: &[Resource]) -> Servers {
    let managed = || resources.iter().filter(|resource| !resource.is_data);
    let is_node = |resource: &&Resource| resource.kind == SERVER && !is_bastion(resource);
    let mut servers: Vec<Server> = managed().filter(is_node).map(server).collect();
    let mut fates: BTreeMap<&str, String> = BTreeMap::new();
    for server in &servers {
        let address = managed().find(|resource| resource.address == server.address).map(|found| &*found.address);
        fates.extend(address.map(|address| (address, format!("becomes the machine of {}", server.name))));
    }
    for resource in managed() {
        let owner = match resource.kind.as_str() {
            "openstack_compute_volume_attach_v2" => attached(resource, &mut servers, resources),
            "openstack_compute_floatingip_associate_v2" | "openstack_networking_floatingip_associate_v2" => {
                floats(resource, &mut servers, resources)
            }
            "openstack_networking_floatingip_v2" | "openstack_compute_floatingip_v2" => {
                floats_by_itself(resource, &mut servers, resources)
            }
            "openstack_networking_port_v2" => port_of(resource, &mut servers),
            _ => Vec::new(),
        };
        fates.extend(owner);
    }
    let fate = |resource: &Resource| Fate {
        address: resource.address.clone(),
        what: fates.remove(&*resource.address).unwrap_or_else(|| left(resource)),
    };
    let fates = resources.iter().map(fate).collect();
    Servers { servers, fates }
}

fn groups(resource: &Resource) -> Vec<String> {
    let all = resource.text("metadata.kubespray_groups").unwrap_or_default();
    all.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned).collect()
}

/// A machine that is there to be logged in through, and no node.
fn is_bastion(resource: &Resource) -> bool {
    groups(resource).iter().any(|group| group == "bastion")
}

fn server(resource: &Resource) -> Server {
    let text = |path: &str| resource.text(path);
    let fixed = text("network.0.fixed_ip_v4").or_else(|| text("access_ip_v4"));
    // Made from a volume, the provider of Terraform writes a sentence there.
    let image = text("image_name").filter(|name| !name.starts_with("Attempt to boot from volume"));
    Server {
        address: resource.address.clone(),
        id: text("id").unwrap_or_default(),
        name: text("name").unwrap_or_default(),
        flavor: text("flavor_name").or_else(|| text("flavor_id")).unwrap_or_default(),
        image: image.or_else(|| text("image_id").filter(|id| !id.starts_with("Attempt"))),
        network: text("network.0.name").or_else(|| text("network.0.uuid")),
        fixed: fixed.and_then(|address| address.parse().ok()),
        floating: None,
        security_groups: resource.texts("security_groups"),
        keypair: text("key_pair"),
        zone: text("availability_zone"),
        groups: groups(resource),
        volumes: Vec::new(),
        goes_over: vec![resource.address.clone()],
    }
}

type Fates<'a> = Vec<(&'a str, String)>;

/// A volume, and that it is attached.
fn attached<'a>(attachment: &'a Resource, servers: &mut [Server], all: &'a [Resource]) -> Fates<'a> {
    let (of, id) = (attachment.text("instance_id"), attachment.text("volume_id"));
    let Some(server) = servers.iter_mut().find(|server| Some(&server.id) == of.as_ref()) else { return Vec::new() };
    let is_it = |one: &&Resource| one.kind.starts_with("openstack_blockstorage_volume_v") && one.text("id") == id;
    let Some(volume) = all.iter().find(is_it) else {
        return vec![(&*attachment.address, format!("left: the volume at {} is not in this state", server.name))];
    };
    let both = [attachment, volume];
    server.volumes.push(Volume {
        called: volume.name.clone(),
        id: id.unwrap_or_default(),
        size: volume.text("size").and_then(|size| size.parse().ok()).unwrap_or(0),
        volume_type: volume.text("volume_type"),
        resources: both.into_iter().filter(|one| !one.is_data).map(|one| one.address.clone()).collect(),
    });
    both.map(|resource| (&*resource.address, format!("goes over with {}", server.name))).into()
}

/// A floating IP that a resource of its own leads to a server or port.
fn floats<'a>(lead: &'a Resource, servers: &mut [Server], all: &'a [Resource]) -> Fates<'a> {
    let to = lead.text("instance_id").or_else(|| server_of_port(&lead.text("port_id")?, servers, all));
    let Some(server) = servers.iter_mut().find(|server| Some(&server.id) == to.as_ref()) else { return Vec::new() };
    let address = lead.text("floating_ip");
    let is_it = |one: &&Resource| one.kind.ends_with("_floatingip_v2") && one.text("address") == address;
    let floating = all.iter().find(is_it);
    server.floating = Some(floating.and_then(|one| one.text("pool")).unwrap_or_default());
    let over = [Some(lead), floating.filter(|one| !one.is_data)];
    server.goes_over.extend(over.iter().flatten().map(|resource| resource.address.clone()));
    over.into_iter().flatten().map(|one| (&*one.address, format!("goes over with {}", server.name))).collect()
}

/// A floating IP that says itself where it leads.
fn floats_by_itself<'a>(floating: &'a Resource, servers: &mut [Server], all: &'a [Resource]) -> Fates<'a> {
    let port = floating.text("port_id").and_then(|port| server_of_port(&port, servers, all));
    let to = floating.text("instance_id").or(port);
    let fixed = floating.text("fixed_ip").and_then(|address| address.parse().ok());
    let is_its = |server: &&mut Server| Some(&server.id) == to.as_ref() || (fixed.is_some() && server.fixed == fixed);
    let Some(server) = servers.iter_mut().find(is_its) else { return Vec::new() };
    server.floating = Some(floating.text("pool").unwrap_or_default());
    if !server.goes_over.contains(&floating.address) {
        server.goes_over.push(floating.address.clone());
    }
    vec![(&*floating.address, format!("goes over with {}", server.name))]
}

fn port_of<'a>(port: &'a Resource, servers: &mut [Server]) -> Fates<'a> {
    let device = port.text("device_id");
    let Some(server) = servers.iter_mut().find(|server| Some(&server.id) == device.as_ref()) else { return Vec::new() };
    server.goes_over.push(port.address.clone());
    vec![(&*port.address, format!("goes over with {}", server.name))]
}

fn server_of_port(port: &str, servers: &[Server], all: &[Resource]) -> Option<String> {
    let by_port = all.iter().find(|one| one.kind.ends_with("_port_v2") && one.text("id").as_deref() == Some(port));
    let device = by_port.and_then(|port| port.text("device_id"));
    let of_server = all.iter().find(|one| one.kind == SERVER && one.text("network.0.port").as_deref() == Some(port));
    let id = device.or_else(|| of_server?.text("id"))?;
    servers.iter().any(|server| server.id == id).then_some(id)
}

/// Why something stays Terraform's.
fn left(resource: &Resource) -> String {
    let why = match resource.kind.as_str() {
        _ if resource.is_data => return "nothing: Terraform only looked it up".to_owned(),
        SERVER => "it is a bastion, and no node",
        kind if kind.contains("_network_v2") || kind.contains("_subnet") || kind.contains("_router") => {
            "the machines stay in this network"
        }
        kind if kind.contains("_secgroup") => "the machines stay in it, and get another",
        kind if kind.contains("_keypair") => "it stays at its servers",
        kind if kind.contains("_servergroup") => "servers stay in it, new ones would not come into it",
        kind if kind.contains("_volume") => "it is attached to none of these servers",
        kind if kind.contains("_floatingip") => "it leads to none of these servers",
        kind if kind.contains("_port") => "it is none of these servers'",
        _ => "Windlass has nothing of this kind",
    };
    format!("left with Terraform: {why}")
}
