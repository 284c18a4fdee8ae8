// SPDX-License-Identifier: Apache-2.0
//! From names in a spec to what they mean in a cloud.

use std::net::{IpAddr, Ipv4Addr};

use windlass_types::cloud::{NetworkChoice, ServerSpec, SharedKind};
use windlass_types::machine::MachineSpec;
use windlass_types::name::ClusterName;

use super::error::{Doing as _, OpenstackError};
use super::shared::not_prepared;
use super::{OpenstackProvider, gibibytes};
use crate::openstack::compute::Flavor;
use crate::openstack::image::Image;
use crate::openstack::network::{Filter, FixedIp, Subnet};
use crate::provider::MachineKey;

/// What the names in a machine's spec mean.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    pub(super) image: Image,
    pub(super) flavor: Flavor,
    pub(super) security_groups: Vec<String>,
}

/// The only thing with this name or id.
pub(super) fn by_name<T>(
    what: &'static str,
    name: &str,
    all: impl IntoIterator<Item = T>,
    names: impl Fn(&T) -> (&String, &String),
) -> Result<T, OpenstackError> {
    let is_it = |thing: &T| {
        let (id, called) = names(thing);
        id == name || called == name
    };
    let mut found: Vec<T> = all.into_iter().filter(is_it).collect();
    if let Some(nth) = found.iter().position(|thing| names(thing).0 == name) {
        return Ok(found.swap_remove(nth));
    }
    match found.len() {
        0 => Err(OpenstackError::NoSuch { what, name: name.to_owned() }),
        1 => Ok(found.swap_remove(0)),
        _ => {
            let ids: Vec<_> = found.iter().map(|thing| names(thing).0.clone()).collect();
            Err(OpenstackError::Ambiguous { what, name: name.to_owned(), ids: ids.join(", ") })
        }
    }
}

/// What a machine has of a cloud.
pub(super) fn server_of(spec: &MachineSpec) -> Result<&ServerSpec, OpenstackError> {
    spec.server.as_deref().ok_or_else(|| OpenstackError::NotOfACloud(MachineKey::of(spec)))
}

impl OpenstackProvider {
    /// What a machine is made of, and whether that goes together.
    pub(super) async fn resolve(&self, spec: &MachineSpec) -> Result<Resolved, OpenstackError> {
        let server = server_of(spec)?;
        let (images, flavors) = tokio::try_join!(self.cloud.images(&spec.image), self.cloud.flavors())
            .doing(|| format!("look for the image and the flavor of {}", spec.name))?;
        let usable = images.into_iter().filter(|image| image.status == "active");
        let image = by_name("image", &spec.image, usable, |image| (&image.id, &image.name))?;
        let flavor = by_name("flavor", &server.flavor, flavors, |flavor| (&flavor.id, &flavor.name))?;
        fits(&image, &flavor, server.root_volume.as_ref().map(|_| gibibytes(spec.root_disk_bytes)))?;
        let security_groups = self.existing_groups(&server.security_groups).await?;
        if let NetworkChoice::Existing(name) = &server.network {
            self.network(name).await?;
        }
        if let Some(outside) = &server.floating {
            self.external_network(outside).await?;
        }
        Ok(Resolved { image, flavor, security_groups })
    }

    /// The ids of security groups that are there.
    async fn existing_groups(&self, names: &[String]) -> Result<Vec<String>, OpenstackError> {
        if names.is_empty() {
            return Ok(Vec::new());
        }
        let all = self.cloud.security_groups(&Filter::own()).await.doing(|| "list security groups".to_owned())?;
        let id = |name: &String| {
            by_name("security group", name, &all, |group| (&group.id, &group.name)).map(|group| group.id.clone())
        };
        names.iter().map(id).collect()
    }

    /// The id of a network that is there.
    pub(super) async fn network(&self, name: &str) -> Result<String, OpenstackError> {
        let all = self.cloud.networks(&Filter::any()).await.doing(|| "list networks".to_owned())?;
        by_name("network", name, all, |network| (&network.id, &network.name)).map(|network| network.id)
    }

    /// The id of the network a machine is in, and where in it its address is, if it shall have a certain one.
    pub(super) async fn place(
        &self,
        cluster: &ClusterName,
        server: &ServerSpec,
    ) -> Result<(String, Vec<FixedIp>), OpenstackError> {
        let network = match &server.network {
            NetworkChoice::Existing(name) => self.network(name).await?,
            NetworkChoice::Own => {
                let own = self.find_shared(cluster).await?.network;
                own.ok_or_else(|| not_prepared(cluster, SharedKind::Network))?.id
            }
        };
        let Some(address) = server.address else { return Ok((network, Vec::new())) };
        let subnets = self.cloud.subnets(&Filter::any().network(&network)).await;
        let subnets = subnets.doing(|| format!("list the subnets of network {network}"))?;
        let subnet = subnets.into_iter().find(|subnet: &Subnet| contains(&subnet.cidr, address));
        let subnet = subnet.ok_or_else(|| OpenstackError::NoSuch {
            what: "subnet of that network with the address",
            name: address.to_string(),
        })?;
        Ok((network, vec![FixedIp { subnet_id: subnet.id, ip_address: Some(IpAddr::V4(address)) }]))
    }
}

/// Whether an image can be the root disk of a flavor; `root_volume` has so many GiB instead.
fn fits(image: &Image, flavor: &Flavor, root_volume: Option<u64>) -> Result<(), OpenstackError> {
    let disk = root_volume.unwrap_or(flavor.disk);
    let too_small = |needs: String, has: String| OpenstackError::TooSmall {
        image: image.name.clone(),
        flavor: flavor.name.clone(),
        needs,
        has,
    };
    if image.min_ram > flavor.ram {
        return Err(too_small(format!("{} MiB memory", image.min_ram), format!("{} MiB", flavor.ram)));
    }
    // A flavor without a disk has one as large as the image.
    if disk != 0 && image.min_disk > disk {
        return Err(too_small(format!("a disk of {} GiB", image.min_disk), format!("{disk} GiB")));
    }
    Ok(())
}

/// Whether an address is in a network, as `10.0.0.0/24`.
fn contains(cidr: &str, address: Ipv4Addr) -> bool {
    let Some((network, prefix)) = cidr.split_once('/') else { return false };
    let (Ok(network), Ok(prefix)) = (network.parse::<Ipv4Addr>(), prefix.parse::<u32>()) else { return false };
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
    prefix <= 32 && u32::from(network) & mask == u32::from(address) & mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_one_thing_or_is_refused_and_an_id_goes_before_names() {
        let all = [("id1", "centos"), ("id2", "centos"), ("centos9", "other")]
            .map(|(id, name)| (id.to_owned(), name.to_owned()));
        let find = |name| by_name("image", name, all.iter(), |(id, name)| (id, name)).map(|found| found.0.clone());
        assert_eq!(find("other").expect("one"), "centos9");
        assert_eq!(find("id2").expect("one"), "id2");
        let ambiguous = find("centos").expect_err("two").to_string();
        assert_eq!(ambiguous, "there are several of image centos: id1, id2");
        assert_eq!(find("debian").expect_err("none").to_string(), "there is no image debian in this project");
    }

    #[test]
    fn an_address_is_in_its_network() {
        let is_in = |cidr, address: &str| contains(cidr, address.parse().expect("an address"));
        assert!(is_in("10.0.0.0/24", "10.0.0.7") && !is_in("10.0.0.0/24", "10.0.1.7") && is_in("0.0.0.0/0", "1.2.3.4"));
        assert!(!is_in("fd00::/64", "10.0.0.7") && !is_in("10.0.0.0", "10.0.0.0") && !is_in("10.0.0.0/99", "10.0.0.1"));
    }
}
