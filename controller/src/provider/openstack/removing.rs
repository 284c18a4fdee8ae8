// SPDX-License-Identifier: Apache-2.0
//! Removing what has our tag: the server first, then what it was made with. What is gone already is passed over.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::try_join_all;

use super::error::{Doing as _, OpenstackError};
use super::patience::Stands;
use super::{OpenstackProvider, is_conflict};
use crate::openstack::network::Part;
use crate::openstack::volume::{Volume, VolumeStatus};
use crate::provider::MachineKey;

impl OpenstackProvider {
    /// Removes a machine with all that was made for it.
    pub(super) async fn remove(&self, key: &MachineKey) -> Result<(), OpenstackError> {
        let parts = self.parts(key).await?;
        try_join_all(parts.servers.iter().map(|server| self.remove_server(key, &server.id))).await?;
        let volumes = try_join_all(parts.volumes.iter().map(|volume| self.remove_volume(key, volume)));
        let network = async {
            for address in &parts.floating {
                let what = || format!("remove the floating IP {} of {key}", address.floating_ip_address);
                self.remove_part(Part::FloatingIp, &address.id, what).await?;
            }
            for port in &parts.ports {
                self.remove_part(Part::Port, &port.id, || format!("remove the port {} of {key}", port.id)).await?;
            }
            Ok(())
        };
        tokio::try_join!(volumes, network).map(drop)
    }

    /// Removes a server and waits until it is gone.
    pub(super) async fn remove_server(&self, key: &MachineKey, id: &str) -> Result<(), OpenstackError> {
        let what = || format!("remove the server {id} of {key}");
        self.cloud.delete_server(id).await.doing(what)?;
        let ask = || async {
            match self.cloud.server(id).await.doing(what)? {
                Some(server) if server.status != crate::openstack::compute::ServerStatus::Deleted => {
                    Ok(Stands::NotYet(super::standing(&server)))
                }
                Some(_) | None => Ok(Stands::Done(())),
            }
        };
        self.patience.until(what, ask).await
    }

    /// Removes a volume as soon as it is attached to nothing, and waits until it is gone: it counts until then.
    async fn remove_volume(&self, key: &MachineKey, volume: &Volume) -> Result<(), OpenstackError> {
        let id = &volume.id;
        let what = || format!("remove the volume {} ({id}) of {key}", volume.name);
        let is_asked = AtomicBool::new(false);
        let ask = || async {
            let Some(volume) = self.cloud.volume(id).await.doing(what)? else { return Ok(Stands::Done(())) };
            let is_free = matches!(volume.status, VolumeStatus::Available | VolumeStatus::Error);
            if is_free && !is_asked.load(Ordering::Relaxed) {
                match self.cloud.delete_volume(id).await {
                    Err(error) if is_conflict(&error) => {}
                    removed => {
                        removed.doing(what)?;
                        is_asked.store(true, Ordering::Relaxed);
                    }
                }
            }
            match volume.status {
                VolumeStatus::ErrorDeleting => {
                    Err(OpenstackError::Stuck { what: what(), state: super::word(&volume.status) })
                }
                other => Ok(Stands::NotYet(super::word(&other))),
            }
        };
        self.patience.until(what, ask).await
    }

    /// Removes something of a network. While something else still uses it, as one that goes a moment later, it is tried
    /// again.
    pub(super) async fn remove_part(
        &self,
        part: Part,
        id: &str,
        what: impl Fn() -> String + Sync,
    ) -> Result<(), OpenstackError> {
        let refused = AtomicU32::new(0);
        let ask = || async {
            match self.cloud.delete_part(part, id).await {
                Err(error) if is_conflict(&error) && refused.fetch_add(1, Ordering::Relaxed) < MOST_REFUSALS => {
                    Ok(Stands::NotYet(error.to_string()))
                }
                removed => removed.doing(&what).map(Stands::Done),
            }
        };
        self.patience.until(&what, ask).await
    }
}

/// Ports of a server are gone seconds after it. What is in the way for longer is somebody else's.
const MOST_REFUSALS: u32 = 12;
