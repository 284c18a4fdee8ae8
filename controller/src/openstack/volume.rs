// SPDX-License-Identifier: Apache-2.0
//! Volumes: disks that are there without a server.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::call::{Call, encoded};
use super::client::Client;
use super::error::CloudError;
use super::lenient::or_default;
use super::service::Service;

/// How a volume is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeStatus {
    /// Being made.
    Creating,
    /// There, and attached to nothing.
    Available,
    /// Chosen by a server that will attach it.
    Reserved,
    /// Being attached.
    Attaching,
    /// Attached.
    InUse,
    /// Being detached.
    Detaching,
    /// Being removed.
    Deleting,
    /// It could not be made.
    #[default]
    Error,
    /// It could not be removed.
    #[serde(rename = "error_deleting")]
    ErrorDeleting,
    /// Something else, in the service's word.
    #[serde(untagged)]
    Other(String),
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Volume {
    /// Its id. The first 20 characters are the serial of the disk in a server.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// How it is.
    pub status: VolumeStatus,
    /// GiB.
    #[serde(default, deserialize_with = "or_default")]
    pub size: u64,
    /// Its type, if it has one.
    #[serde(default)]
    pub volume_type: Option<String>,
    /// What was written to it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: BTreeMap<String, String>,
    /// Where it is attached.
    #[serde(default, deserialize_with = "or_default")]
    pub attachments: Vec<VolumeAttachment>,
}

/// Where a volume is attached.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeAttachment {
    /// To which server.
    #[serde(default, deserialize_with = "or_default")]
    pub server_id: String,
    /// What the cloud thinks the disk is called there. It is often wrong.
    #[serde(default)]
    pub device: Option<String>,
}

/// A volume to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct NewVolume {
    /// What people shall call it.
    pub name: String,
    /// GiB.
    pub size: u64,
    /// Its type; by default the cloud's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_type: Option<String>,
    /// Where; by default the cloud chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,
    /// What to write to it. It is there from the first moment.
    pub metadata: BTreeMap<String, String>,
}

/// A type of volumes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct VolumeType {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
}

/// Volumes.
#[async_trait::async_trait]
pub trait Volumes {
    /// The types there are.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn volume_types(&self) -> Result<Vec<VolumeType>, CloudError>;

    /// Makes a volume. It is not there yet when this returns.
    ///
    /// # Errors
    /// If it is refused. [`CloudError::may_be_done`] tells whether to look for it.
    async fn create_volume(&self, new: &NewVolume) -> Result<Volume, CloudError>;

    /// One volume, if it is there.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn volume(&self, id: &str) -> Result<Option<Volume>, CloudError>;

    /// Those with all of this metadata.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn volumes(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<Volume>, CloudError>;

    /// Adds metadata to a volume; what has another key stays.
    ///
    /// # Errors
    /// If there is no such volume, or it is refused.
    async fn describe_volume(&self, id: &str, metadata: &BTreeMap<String, String>) -> Result<(), CloudError>;

    /// Removes a volume; one that is not there is removed already. It may still be there for a while.
    ///
    /// # Errors
    /// If it is refused, as while it is attached.
    async fn delete_volume(&self, id: &str) -> Result<(), CloudError>;
}

#[async_trait::async_trait]
impl Volumes for Client {
    async fn volume_types(&self) -> Result<Vec<VolumeType>, CloudError> {
        self.all(Call::get(Service::BlockStorage, "/types"), "volume_types").await
    }

    async fn create_volume(&self, new: &NewVolume) -> Result<Volume, CloudError> {
        self.one(&Call::post(Service::BlockStorage, "/volumes", json!({"volume": new})), "volume").await
    }

    async fn volume(&self, id: &str) -> Result<Option<Volume>, CloudError> {
        self.maybe(&Call::get(Service::BlockStorage, path(id)), "volume").await
    }

    async fn volumes(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<Volume>, CloudError> {
        // The service could choose itself, but each release takes the question in another form.
        let all: Vec<Volume> = self.all(Call::get(Service::BlockStorage, "/volumes/detail"), "volumes").await?;
        Ok(all.into_iter().filter(|volume| has(&volume.metadata, metadata)).collect())
    }

    async fn describe_volume(&self, id: &str, metadata: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let path = format!("{}/metadata", path(id));
        self.send(&Call::post(Service::BlockStorage, path, json!({"metadata": metadata})).safe()).await.map(|_| ())
    }

    async fn delete_volume(&self, id: &str) -> Result<(), CloudError> {
        self.remove(&Call::delete(Service::BlockStorage, path(id))).await
    }
}

fn path(id: &str) -> String {
    format!("/volumes/{}", encoded(id))
}

/// Whether metadata has all that is wanted.
pub(super) fn has(metadata: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| metadata.get(key) == Some(value))
}
