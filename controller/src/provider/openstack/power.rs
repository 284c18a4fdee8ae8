// SPDX-License-Identifier: Apache-2.0
//! What is done with a machine that is there: its power, and further disks.

use windlass_types::machine::DiskSpec;

use super::OpenstackProvider;
use super::error::{Doing as _, OpenstackError};
use super::patience::Stands;
use super::seen::Parts;
use super::{is_conflict, standing, tag, word};
use crate::openstack::compute::{Server, ServerAction, ServerStatus};
use crate::openstack::volume::{Volume, VolumeStatus};
use crate::provider::{MachineKey, PowerAction};

impl OpenstackProvider {
    /// The server of a machine.
    pub(super) async fn living(&self, key: &MachineKey) -> Result<(Server, Parts), OpenstackError> {
        let parts = self.parts(key).await?;
        let server = parts.living().or(parts.servers.first()).cloned();
        Ok((server.ok_or_else(|| OpenstackError::NoMachine(key.clone()))?, parts))
    }

    /// Switches a machine and waits until it is so.
    pub(super) async fn switch(&self, key: &MachineKey, action: PowerAction) -> Result<(), OpenstackError> {
        let (server, _) = self.living(key).await?;
        let is_on = server.status == ServerStatus::Active;
        let (act, wanted) = match (action, is_on) {
            (PowerAction::On, true) => return Ok(()),
            (PowerAction::Off, _) if server.status == ServerStatus::ShutOff => return Ok(()),
            (PowerAction::Off, _) => (ServerAction::Stop, ServerStatus::ShutOff),
            (PowerAction::Reset, true) => (ServerAction::HardReboot, ServerStatus::Active),
            (PowerAction::On | PowerAction::Reset, false) => (ServerAction::Start, ServerStatus::Active),
        };
        let what = || format!("switch {key}: {action}");
        match self.cloud.act_on_server(&server.id, act).await {
            // Somebody, or an earlier attempt of ours, does the same.
            Err(error) if is_conflict(&error) || error.may_be_done() => {}
            asked => asked.doing(what)?,
        }
        let ask = || async {
            let server = self.cloud.server(&server.id).await.doing(what)?;
            let server = server.ok_or_else(|| OpenstackError::NoMachine(key.clone()))?;
            // What is still being done with it is not how it will be.
            match server.status == wanted && server.task.is_none() {
                true => Ok(Stands::Done(())),
                false => Ok(Stands::NotYet(standing(&server))),
            }
        };
        self.patience.until(what, ask).await
    }

    /// Gives a machine a further disk.
    pub(super) async fn attach(&self, key: &MachineKey, disk: &DiskSpec) -> Result<(), OpenstackError> {
        let (server, parts) = self.living(key).await?;
        let what = || format!("attach the volume {} to {key}", disk.name);
        let is_it = |volume: &&Volume| tag::volume_in(&volume.metadata).as_ref() == Some(&disk.name);
        let has = || async {
            let attached = self.cloud.attachments(&server.id).await.doing(what)?;
            Ok::<_, OpenstackError>(attached.into_iter().map(|one| one.volume_id).collect::<Vec<_>>())
        };
        let known = parts.volumes.iter().find(is_it).map(|volume| volume.id.clone());
        let id = match known {
            Some(id) if has().await?.contains(&id) => id,
            Some(_) | None => {
                let volume = self.volume(key, disk, &parts).await?;
                let find = || async { Ok(has().await?.contains(&volume.id).then_some(())) };
                self.made(what, self.cloud.attach_volume(&server.id, &volume.id), find).await?;
                volume.id
            }
        };
        let ask = || async {
            let volume = self.cloud.volume(&id).await.doing(what)?;
            let status = volume.map_or(VolumeStatus::Error, |volume| volume.status);
            match status {
                VolumeStatus::InUse => Ok(Stands::Done(())),
                VolumeStatus::Error | VolumeStatus::ErrorDeleting => Err(OpenstackError::Volume {
                    machine: key.clone(),
                    volume: disk.name.clone(),
                    status: word(&status),
                }),
                other => Ok(Stands::NotYet(word(&other))),
            }
        };
        self.patience.until(what, ask).await
    }
}
