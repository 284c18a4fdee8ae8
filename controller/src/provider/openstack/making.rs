// SPDX-License-Identifier: Apache-2.0
//! Making a machine: its port, its address outside, its volumes, and its server last of all. So a server that is there is a
//! machine that is complete, and whatever came before it is used again.

use futures_util::future::try_join_all;
use windlass_types::cloud::SharedKind;
use windlass_types::machine::{DiskSpec, MachineReport, MachineSpec};

use super::error::{Doing as _, OpenstackError};
use super::patience::Stands;
use super::resolve::{Resolved, server_of};
use super::seen::{Parts, fault};
use super::shared::not_prepared;
use super::tag;
use super::{OpenstackProvider, gibibytes};
use crate::openstack::compute::{NewServer, RootVolume, ServerStatus};
use crate::openstack::network::{AddressPair, NewFloatingIp, NewPort, Part, Port};
use crate::openstack::secret::Secret;
use crate::openstack::volume::{NewVolume, Volume, VolumeStatus};
use crate::provider::{MachineKey, NewMachine};

impl OpenstackProvider {
    /// Makes a machine, or finishes one.
    pub(super) async fn make(&self, new: &NewMachine) -> Result<MachineReport, OpenstackError> {
        let key = MachineKey::of(&new.spec);
        let parts = self.parts(&key).await?;
        let server = match parts.living() {
            Some(server) => server.id.clone(),
            None => {
                // None of them ever worked: they are what is left of an attempt.
                try_join_all(parts.servers.iter().map(|server| self.remove_server(&key, &server.id))).await?;
                self.make_parts(&key, new, &parts).await?
            }
        };
        self.until_active(&key, &server).await?;
        self.parts(&key).await?.report(&key).ok_or(OpenstackError::NoMachine(key))
    }

    async fn make_parts(&self, key: &MachineKey, new: &NewMachine, parts: &Parts) -> Result<String, OpenstackError> {
        let spec = &new.spec;
        let resolved = self.resolve(spec).await?;
        let port = self.port(key, spec, &resolved, parts).await?;
        let volumes = try_join_all(spec.data_disks.iter().map(|disk| self.volume(key, disk, parts)));
        let ((), volumes) = tokio::try_join!(self.floating(key, spec, &port, parts), volumes)?;
        let volumes = volumes.into_iter().map(|volume| volume.id).collect();
        self.server(key, new, &resolved, &port, volumes).await
    }

    /// Its interface: with a fixed address, it keeps that when the server is made anew.
    async fn port(
        &self,
        key: &MachineKey,
        spec: &MachineSpec,
        resolved: &Resolved,
        parts: &Parts,
    ) -> Result<Port, OpenstackError> {
        let (server, tag) = (server_of(spec)?, self.tag(key));
        let port = match parts.ports.first() {
            Some(port) => port.clone(),
            None => {
                let (network_id, fixed_ips) = self.place(&key.cluster, server).await?;
                let own = self.find_shared(&key.cluster).await?.group;
                let own = own.ok_or_else(|| not_prepared(&key.cluster, SharedKind::SecurityGroup))?;
                let pair = |network: &String| AddressPair { ip_address: network.clone() };
                let new = NewPort {
                    name: tag.name(),
                    description: tag.description(),
                    network_id,
                    fixed_ips,
                    security_groups: resolved.security_groups.iter().cloned().chain([own.id]).collect(),
                    allowed_address_pairs: server.allowed_addresses.iter().map(pair).collect(),
                };
                let find = || async { Ok(self.parts(key).await?.ports.into_iter().next()) };
                self.made(|| format!("make the port of {key}"), self.cloud.create_port(&new), find).await?
            }
        };
        self.write_tags(Part::Port, &port.id, &tag.tags()).await?;
        Ok(port)
    }

    /// Its address outside.
    async fn floating(
        &self,
        key: &MachineKey,
        spec: &MachineSpec,
        port: &Port,
        parts: &Parts,
    ) -> Result<(), OpenstackError> {
        let Some(outside) = &server_of(spec)?.floating else { return Ok(()) };
        let tag = self.tag(key);
        let address = match parts.floating.first() {
            Some(address) => address.clone(),
            None => {
                let new = NewFloatingIp {
                    floating_network_id: self.external_network(outside).await?,
                    port_id: Some(port.id.clone()),
                    description: tag.description(),
                };
                let find = || async { Ok(self.parts(key).await?.floating.into_iter().next()) };
                self.made(|| format!("make the floating IP of {key}"), self.cloud.create_floating_ip(&new), find)
                    .await?
            }
        };
        self.write_tags(Part::FloatingIp, &address.id, &tag.tags()).await?;
        if address.port_id.as_deref() != Some(&port.id) {
            let led = self.cloud.associate_floating_ip(&address.id, Some(&port.id)).await;
            led.doing(|| format!("lead the floating IP {} to {key}", address.floating_ip_address))?;
        }
        Ok(())
    }

    /// A data disk: there, and attached to nothing.
    pub(super) async fn volume(
        &self,
        key: &MachineKey,
        disk: &DiskSpec,
        parts: &Parts,
    ) -> Result<Volume, OpenstackError> {
        let is_it = |volume: &&Volume| tag::volume_in(&volume.metadata).as_ref() == Some(&disk.name);
        if let Some(volume) = parts.volumes.iter().find(is_it) {
            return self.until_available(key, disk, &volume.id).await;
        }
        let new = NewVolume {
            name: format!("{}-{}", self.tag(key).name(), disk.name),
            size: gibibytes(disk.size_bytes),
            volume_type: disk.volume_type.clone(),
            availability_zone: None,
            metadata: tag::of_volume(&self.tag(key), &disk.name),
        };
        let find = || async { Ok(self.parts(key).await?.volumes.into_iter().find(|volume| is_it(&volume))) };
        let what = || format!("make the volume {} of {key}", disk.name);
        let volume = self.made(what, self.cloud.create_volume(&new), find).await?;
        let available = self.until_available(key, disk, &volume.id).await;
        if let Err(OpenstackError::Volume { .. }) = &available {
            // It was made a moment ago and never worked, so nothing is on it.
            self.cloud.delete_volume(&volume.id).await.doing(|| format!("remove the volume {}", volume.id))?;
        }
        available
    }

    async fn until_available(&self, key: &MachineKey, disk: &DiskSpec, id: &str) -> Result<Volume, OpenstackError> {
        let failed =
            |status: String| OpenstackError::Volume { machine: key.clone(), volume: disk.name.clone(), status };
        let ask = || async {
            let volume = self.cloud.volume(id).await.doing(|| format!("look at the volume {id}"))?;
            let volume = volume.ok_or_else(|| failed("gone".to_owned()))?;
            match &volume.status {
                VolumeStatus::Available => Ok(Stands::Done(volume)),
                VolumeStatus::Error | VolumeStatus::ErrorDeleting => Err(failed(super::word(&volume.status))),
                other => Ok(Stands::NotYet(super::word(other))),
            }
        };
        self.patience.until(|| format!("wait for the volume {} of {key}", disk.name), ask).await
    }

    async fn server(
        &self,
        key: &MachineKey,
        new: &NewMachine,
        resolved: &Resolved,
        port: &Port,
        volumes: Vec<String>,
    ) -> Result<String, OpenstackError> {
        let spec = server_of(&new.spec)?;
        let group = match spec.grouped {
            false => None,
            true => {
                let group = self.find_shared(&key.cluster).await?.server_group;
                Some(group.ok_or_else(|| not_prepared(&key.cluster, SharedKind::ServerGroup))?.id)
            }
        };
        let root_volume = spec.root_volume.as_ref().map(|volume| RootVolume {
            size: gibibytes(new.spec.root_disk_bytes),
            volume_type: volume.volume_type.clone(),
        });
        let wanted = NewServer {
            name: key.name.to_string(),
            image: resolved.image.id.clone(),
            flavor: resolved.flavor.id.clone(),
            ports: vec![port.id.clone()],
            user_data: Secret::new(new.user_data.reveal().to_owned()),
            config_drive: true,
            metadata: tag::of_server(&self.tag(key), &new.spec, new.spec_hash),
            keypair: spec.keypair.clone(),
            group,
            availability_zone: spec.zone.clone(),
            root_volume,
            volumes,
        };
        let find = || async { Ok(self.parts(key).await?.living().map(|server| server.id.clone())) };
        self.made(|| format!("make the server of {key}"), self.cloud.create_server(&wanted), find).await
    }

    /// A server that was made works, or is removed again with the cloud's reason told. One that has run is never removed
    /// here.
    async fn until_active(&self, key: &MachineKey, id: &str) -> Result<(), OpenstackError> {
        let ask = || async {
            let server = self.cloud.server(id).await.doing(|| format!("look at the server of {key}"))?;
            let server = server.ok_or_else(|| OpenstackError::NoMachine(key.clone()))?;
            match &server.status {
                ServerStatus::Error => Ok(Stands::Done(Some((fault(&server), server.launched_at.is_some())))),
                ServerStatus::Build | ServerStatus::Other(_) => Ok(Stands::NotYet(super::standing(&server))),
                _ => Ok(Stands::Done(None)),
            }
        };
        match self.patience.until(|| format!("wait for the server of {key}"), ask).await? {
            None => Ok(()),
            Some((fault, has_run)) => {
                if !has_run {
                    self.remove_server(key, id).await?;
                }
                Err(OpenstackError::Fault { machine: key.clone(), fault })
            }
        }
    }
}
