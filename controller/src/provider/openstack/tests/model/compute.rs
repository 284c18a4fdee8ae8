// SPDX-License-Identifier: Apache-2.0
//! Servers, images, volumes and quotas of the model.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Model, State, conflict, from, refused};
use crate::openstack::access::Access;
use crate::openstack::compute::{
    Attachment, Compute, Flavor, GroupPolicy, NewServer, Server, ServerAction, ServerGroup, ServerStatus,
};
use crate::openstack::error::CloudError;
use crate::openstack::identity::Account;
use crate::openstack::image::{Image, Images};
use crate::openstack::quota::{Quota, Quotas};
use crate::openstack::refusal::Kind;
use crate::openstack::service::Service;
use crate::openstack::volume::{NewVolume, Volume, VolumeStatus, VolumeType, Volumes};

type Answer<T> = Result<T, CloudError>;

fn has(metadata: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| metadata.get(key) == Some(value))
}

fn attach(state: &mut State, server: &str, volume: &str) -> Answer<()> {
    let volume = state.volumes.iter_mut().find(|known| known.id == volume);
    let volume = volume.ok_or_else(|| refused(Kind::NotFound, 404, "no such volume"))?;
    if volume.status != VolumeStatus::Available {
        return Err(conflict("the volume is not available"));
    }
    volume.status = VolumeStatus::InUse;
    volume.attachments = vec![from(json!({"server_id": server}))];
    Ok(())
}

#[async_trait::async_trait]
impl Compute for Model {
    async fn flavors(&self) -> Answer<Vec<Flavor>> {
        let flavor = |name: &str, ram: u64| from(json!({"id": name, "name": name, "vcpus": 1, "ram": ram, "disk": 20}));
        Ok(vec![flavor("tiny", 128), flavor("small", 2048)])
    }

    async fn server_groups(&self) -> Answer<Vec<ServerGroup>> {
        Ok(self.state().server_groups.clone())
    }

    async fn create_server_group(&self, name: &str, policy: GroupPolicy) -> Answer<ServerGroup> {
        self.change(format!("server group {name}"), |state| {
            let id = state.id("server-group");
            let group: ServerGroup = from(json!({"id": id, "name": name, "policy": policy}));
            state.server_groups.push(group.clone());
            Ok(group)
        })
        .await
    }

    async fn delete_server_group(&self, id: &str) -> Answer<()> {
        self.change(format!("no {id}"), |state| {
            state.server_groups.retain(|group| group.id != id);
            Ok(())
        })
        .await
    }

    async fn create_server(&self, new: &NewServer) -> Answer<String> {
        self.change(format!("server {}", new.name), |state| {
            let id = state.id("server");
            let status = if state.failing.is_some() { "ERROR" } else { "ACTIVE" };
            let fault = state.failing.as_ref().map(|why| json!({"code": 500, "message": why}));
            new.volumes.iter().try_for_each(|volume| attach(state, &id, volume))?;
            for port in state.ports.iter_mut().filter(|port| new.ports.contains(&port.id)) {
                port.device_id = id.clone();
            }
            state.servers.push(from(json!({
                "id": id, "name": new.name, "status": status, "metadata": new.metadata, "fault": fault,
                "created": "2026-11-26T05:00:00Z",
            })));
            Ok(id)
        })
        .await
    }

    async fn server(&self, id: &str) -> Answer<Option<Server>> {
        Ok(self.state().servers.iter().find(|server| server.id == id).cloned())
    }

    async fn servers(&self, metadata: &BTreeMap<String, String>) -> Answer<Vec<Server>> {
        Ok(self.state().servers.iter().filter(|server| has(&server.metadata, metadata)).cloned().collect())
    }

    async fn describe_server(&self, id: &str, metadata: &BTreeMap<String, String>) -> Answer<()> {
        self.change(format!("metadata of {id}"), |state| {
            let server = state.servers.iter_mut().find(|server| server.id == id);
            let server = server.ok_or_else(|| refused(Kind::NotFound, 404, "no such server"))?;
            server.metadata.extend(metadata.clone());
            Ok(())
        })
        .await
    }

    async fn delete_server(&self, id: &str) -> Answer<()> {
        self.change(format!("no {id}"), |state| {
            state.servers.retain(|server| server.id != id);
            state.ports.iter_mut().filter(|port| port.device_id == id).for_each(|port| port.device_id.clear());
            for volume in &mut state.volumes {
                if volume.attachments.iter().any(|attachment| attachment.server_id == id) {
                    volume.attachments.clear();
                    volume.status = VolumeStatus::Available;
                }
            }
            Ok(())
        })
        .await
    }

    async fn act_on_server(&self, id: &str, action: ServerAction) -> Answer<()> {
        self.change(format!("{action:?} {id}"), |state| {
            let server = state.servers.iter_mut().find(|server| server.id == id).expect("a server");
            server.status = match (action, &server.status) {
                (ServerAction::Stop, ServerStatus::Active) => ServerStatus::ShutOff,
                (ServerAction::Start, ServerStatus::ShutOff) | (ServerAction::HardReboot, _) => ServerStatus::Active,
                _ => return Err(conflict("it is so already")),
            };
            Ok(())
        })
        .await
    }

    async fn server_console(&self, _id: &str, _lines: Option<u32>) -> Answer<String> {
        Ok("Linux version 5.14\n".into())
    }

    async fn attachments(&self, server: &str) -> Answer<Vec<Attachment>> {
        let state = self.state();
        let is_there = |volume: &&Volume| volume.attachments.iter().any(|attachment| attachment.server_id == server);
        Ok(state.volumes.iter().filter(is_there).map(|volume| from(json!({"volumeId": volume.id}))).collect())
    }

    async fn attach_volume(&self, server: &str, volume: &str) -> Answer<()> {
        self.change(format!("{volume} at {server}"), |state| attach(state, server, volume)).await
    }
}

#[async_trait::async_trait]
impl Access for Model {
    async fn account(&self) -> Answer<Account> {
        Ok(Account {
            user: "operator".into(),
            project_id: "p1".into(),
            project: "windlass".into(),
            roles: vec!["member".into()],
        })
    }

    async fn address(&self, service: Service) -> Answer<String> {
        Ok(format!("https://{service}.example"))
    }
}

#[async_trait::async_trait]
impl Images for Model {
    async fn images(&self, name_or_id: &str) -> Answer<Vec<Image>> {
        let image = json!({
            "id": "image-1", "name": "CentOS-Stream-9", "status": "active", "min_disk": 10, "min_ram": 512,
        });
        Ok(if name_or_id == "CentOS-Stream-9" { vec![from(image)] } else { Vec::new() })
    }

    async fn all_images(&self) -> Answer<Vec<Image>> {
        self.images("CentOS-Stream-9").await
    }
}

#[async_trait::async_trait]
impl Volumes for Model {
    async fn volume_types(&self) -> Answer<Vec<VolumeType>> {
        Ok(Vec::new())
    }

    async fn create_volume(&self, new: &NewVolume) -> Answer<Volume> {
        self.change(format!("volume {}", new.name), |state| {
            let id = state.id("volume");
            let volume: Volume = from(json!({
                "id": id, "name": new.name, "size": new.size, "status": "available", "metadata": new.metadata,
            }));
            state.volumes.push(volume.clone());
            Ok(volume)
        })
        .await
    }

    async fn volume(&self, id: &str) -> Answer<Option<Volume>> {
        Ok(self.state().volumes.iter().find(|volume| volume.id == id).cloned())
    }

    async fn volumes(&self, metadata: &BTreeMap<String, String>) -> Answer<Vec<Volume>> {
        Ok(self.state().volumes.iter().filter(|volume| has(&volume.metadata, metadata)).cloned().collect())
    }

    async fn describe_volume(&self, id: &str, metadata: &BTreeMap<String, String>) -> Answer<()> {
        self.change(format!("metadata of {id}"), |state| {
            let volume = state.volumes.iter_mut().find(|volume| volume.id == id);
            let volume = volume.ok_or_else(|| refused(Kind::NotFound, 404, "no such volume"))?;
            volume.metadata.extend(metadata.clone());
            Ok(())
        })
        .await
    }

    async fn delete_volume(&self, id: &str) -> Answer<()> {
        self.change(format!("no {id}"), |state| {
            if state.volumes.iter().any(|volume| volume.id == id && !volume.attachments.is_empty()) {
                return Err(conflict("the volume is attached"));
            }
            state.volumes.retain(|volume| volume.id != id);
            Ok(())
        })
        .await
    }
}

fn quota(of: &str, used: usize) -> Quota {
    Quota { of: of.into(), limit: Some(10), used: u64::try_from(used).ok() }
}

#[async_trait::async_trait]
impl Quotas for Model {
    async fn compute_quotas(&self) -> Answer<Vec<Quota>> {
        let servers = self.state().servers.len();
        let ram = Quota { of: "ram".into(), limit: None, used: Some(0) };
        Ok(vec![quota("instances", servers), quota("cores", servers), ram])
    }

    async fn network_quotas(&self) -> Answer<Vec<Quota>> {
        Ok(Vec::new())
    }

    async fn volume_quotas(&self) -> Answer<Vec<Quota>> {
        Ok(vec![quota("volumes", self.state().volumes.len())])
    }
}
