// SPDX-License-Identifier: Apache-2.0
//! Servers, and what they are made with: flavors and groups; and the volumes attached to them.

mod server;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::{Call, encoded};
use super::client::Client;
use super::error::CloudError;
use super::lenient::or_default;
use super::microversion::Microversion;
use super::secret::Secret;
use super::service::Service;
use super::volume::has;

pub use server::{Address, AttachedVolume, Fault, Server, ServerFlavor, ServerStatus};

/// What a server has.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Flavor {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// Processors.
    #[serde(default, deserialize_with = "or_default")]
    pub vcpus: u32,
    /// Memory, MiB.
    #[serde(default, deserialize_with = "or_default")]
    pub ram: u64,
    /// Root disk, GiB; 0 if it is as large as the image, or must be a volume.
    #[serde(default, deserialize_with = "or_default")]
    pub disk: u64,
}

/// How the servers of a group stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPolicy {
    /// Each on another host, or it is not made.
    AntiAffinity,
    /// Each on another host, as long as there is one.
    SoftAntiAffinity,
}

/// Servers that stand to each other in some way.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ServerGroup {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// The ids of its servers.
    #[serde(default, deserialize_with = "or_default")]
    pub members: Vec<String>,
    /// How they stand to each other, since 2.64.
    #[serde(default, deserialize_with = "or_default")]
    policy: String,
    /// The same, before.
    #[serde(default, deserialize_with = "or_default")]
    policies: Vec<String>,
}

impl ServerGroup {
    /// Whether a server for which there is no other host is not made.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.policies.iter().chain([&self.policy]).any(|policy| policy == "anti-affinity")
    }
}

/// A server to be made.
#[derive(Debug, Clone)]
pub struct NewServer {
    /// What people shall call it, and its host name.
    pub name: String,
    /// The image's id.
    pub image: String,
    /// The flavor's id.
    pub flavor: String,
    /// The ids of its ports, in the order of its interfaces.
    pub ports: Vec<String>,
    /// What cloud-init in it reads, as it is.
    pub user_data: Secret,
    /// Whether it gets that on a disk too, where no network is needed to read it.
    pub config_drive: bool,
    /// What to write to it. It is there from the first moment.
    pub metadata: BTreeMap<String, String>,
    /// The name of a keypair.
    pub keypair: Option<String>,
    /// The id of a group.
    pub group: Option<String>,
    /// Where; by default the cloud chooses.
    pub availability_zone: Option<String>,
    /// A volume for its root disk instead of the host's own disk.
    pub root_volume: Option<RootVolume>,
    /// The ids of volumes that it has from the first moment. They stay when it goes.
    pub volumes: Vec<String>,
}

/// A root disk that is a volume. It is removed with its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootVolume {
    /// GiB.
    pub size: u64,
    /// Its type; by default the cloud's.
    pub volume_type: Option<String>,
}

/// What to do with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerAction {
    /// Switch it on.
    Start,
    /// Switch it off: it is asked first, and after a while not asked any more.
    Stop,
    /// Press its reset button.
    HardReboot,
}

impl ServerAction {
    fn body(self) -> Value {
        match self {
            Self::Start => json!({"os-start": null}),
            Self::Stop => json!({"os-stop": null}),
            Self::HardReboot => json!({"reboot": {"type": "HARD"}}),
        }
    }
}

/// A volume at a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The volume.
    pub volume_id: String,
    /// What the cloud thinks the disk is called there. It is often wrong.
    #[serde(default)]
    pub device: Option<String>,
}

/// Servers.
#[async_trait::async_trait]
pub trait Compute {
    /// The flavors that may be used.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn flavors(&self) -> Result<Vec<Flavor>, CloudError>;

    /// The groups of the project.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn server_groups(&self) -> Result<Vec<ServerGroup>, CloudError>;

    /// Makes a group. Nothing but its name can say whose it is.
    ///
    /// # Errors
    /// If it is refused. [`CloudError::may_be_done`] tells whether to look for it.
    async fn create_server_group(&self, name: &str, policy: GroupPolicy) -> Result<ServerGroup, CloudError>;

    /// Removes a group; one that is not there is removed already.
    ///
    /// # Errors
    /// If it is refused.
    async fn delete_server_group(&self, id: &str) -> Result<(), CloudError>;

    /// Makes a server and gives its id. It is not there yet when this returns.
    ///
    /// # Errors
    /// If it is refused. [`CloudError::may_be_done`] tells whether to look for it.
    async fn create_server(&self, new: &NewServer) -> Result<String, CloudError>;

    /// One server, if it is there.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn server(&self, id: &str) -> Result<Option<Server>, CloudError>;

    /// Those with all of this metadata.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn servers(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<Server>, CloudError>;

    /// Adds metadata to a server; what has another key stays.
    ///
    /// # Errors
    /// If there is no such server, or it is refused.
    async fn describe_server(&self, id: &str, metadata: &BTreeMap<String, String>) -> Result<(), CloudError>;

    /// Removes a server; one that is not there is removed already. It may still be there for a while.
    ///
    /// # Errors
    /// If it is refused.
    async fn delete_server(&self, id: &str) -> Result<(), CloudError>;

    /// Does something with a server. It is not done yet when this returns.
    ///
    /// # Errors
    /// If it is refused: a conflict, where it is so already or something else is being done with it.
    async fn act_on_server(&self, id: &str, action: ServerAction) -> Result<(), CloudError>;

    /// The last lines of a server's console, or all that is kept.
    ///
    /// # Errors
    /// If there is no such server, or it has no console, as before it was first on.
    async fn server_console(&self, id: &str, lines: Option<u32>) -> Result<String, CloudError>;

    /// The volumes that are attached to a server, or being attached.
    ///
    /// # Errors
    /// If there is no such server.
    async fn attachments(&self, server: &str) -> Result<Vec<Attachment>, CloudError>;

    /// Attaches a volume. It is not there yet when this returns.
    ///
    /// # Errors
    /// If it is refused. [`CloudError::may_be_done`] tells whether to look for it.
    async fn attach_volume(&self, server: &str, volume: &str) -> Result<(), CloudError>;
}

#[async_trait::async_trait]
impl Compute for Client {
    async fn flavors(&self) -> Result<Vec<Flavor>, CloudError> {
        self.all(Call::get(COMPUTE, "/flavors/detail"), "flavors").await
    }

    async fn server_groups(&self) -> Result<Vec<ServerGroup>, CloudError> {
        self.all(Call::get(COMPUTE, "/os-server-groups"), "server_groups").await
    }

    async fn create_server_group(&self, name: &str, policy: GroupPolicy) -> Result<ServerGroup, CloudError> {
        let one = self.compute_version().await?.is_some_and(|version| version >= Microversion::GROUP_POLICY);
        let group =
            if one { json!({"name": name, "policy": policy}) } else { json!({"name": name, "policies": [policy]}) };
        self.one(&Call::post(COMPUTE, "/os-server-groups", json!({"server_group": group})), "server_group").await
    }

    async fn delete_server_group(&self, id: &str) -> Result<(), CloudError> {
        self.remove(&Call::delete(COMPUTE, format!("/os-server-groups/{}", encoded(id)))).await
    }

    async fn create_server(&self, new: &NewServer) -> Result<String, CloudError> {
        let user_data = Secret::new(STANDARD.encode(new.user_data.reveal()));
        let body = body(new, &user_data, self.compute_version().await?)?;
        // The service repeats what it does not like, and in user-data is a token.
        let call = Call::post(COMPUTE, "/servers", body).hiding(user_data).hiding(new.user_data.clone());
        let created: Created = self.one(&call, "server").await?;
        Ok(created.id)
    }

    async fn server(&self, id: &str) -> Result<Option<Server>, CloudError> {
        self.maybe(&Call::get(COMPUTE, path(id, "")), "server").await
    }

    async fn servers(&self, metadata: &BTreeMap<String, String>) -> Result<Vec<Server>, CloudError> {
        // The service takes a question for metadata from administrators, and from others takes no notice of it.
        let all: Vec<Server> = self.all(Call::get(COMPUTE, "/servers/detail"), "servers").await?;
        Ok(all.into_iter().filter(|server| has(&server.metadata, metadata)).collect())
    }

    async fn describe_server(&self, id: &str, metadata: &BTreeMap<String, String>) -> Result<(), CloudError> {
        let call = Call::post(COMPUTE, path(id, "/metadata"), json!({"metadata": metadata})).safe();
        self.send(&call).await.map(|_| ())
    }

    async fn delete_server(&self, id: &str) -> Result<(), CloudError> {
        self.remove(&Call::delete(COMPUTE, path(id, ""))).await
    }

    async fn act_on_server(&self, id: &str, action: ServerAction) -> Result<(), CloudError> {
        self.send(&Call::post(COMPUTE, path(id, "/action"), action.body())).await.map(|_| ())
    }

    async fn server_console(&self, id: &str, lines: Option<u32>) -> Result<String, CloudError> {
        let asked = lines.map_or_else(|| json!({}), |lines| json!({"length": lines}));
        // It only reads, whatever its method.
        let call = Call::post(COMPUTE, path(id, "/action"), json!({"os-getConsoleOutput": asked})).safe();
        self.one(&call, "output").await
    }

    async fn attachments(&self, server: &str) -> Result<Vec<Attachment>, CloudError> {
        self.one(&Call::get(COMPUTE, path(server, VOLUMES)), "volumeAttachments").await
    }

    async fn attach_volume(&self, server: &str, volume: &str) -> Result<(), CloudError> {
        let body = json!({"volumeAttachment": {"volumeId": volume}});
        self.send(&Call::post(COMPUTE, path(server, VOLUMES), body)).await.map(|_| ())
    }
}

const COMPUTE: Service = Service::Compute;

/// The volumes of a server, after its path.
const VOLUMES: &str = "/os-volume_attachments";

#[derive(Deserialize)]
struct Created {
    id: String,
}

fn path(server: &str, rest: &str) -> String {
    format!("/servers/{}{rest}", encoded(server))
}

fn body(new: &NewServer, user_data: &Secret, version: Option<Microversion>) -> Result<Value, CloudError> {
    let ports: Vec<_> = new.ports.iter().map(|port| json!({"port": port})).collect();
    let mut server = json!({
        "name": new.name,
        "flavorRef": new.flavor,
        "networks": ports,
        "user_data": user_data.reveal(),
        "config_drive": new.config_drive,
        "metadata": new.metadata,
    });
    let mut disks = match &new.root_volume {
        Some(volume) => vec![root(&new.image, volume, version)?],
        None => {
            server["imageRef"] = json!(new.image);
            vec![local_root(&new.image)]
        }
    };
    disks.extend(new.volumes.iter().map(|volume| attached(volume)));
    // Without it, the image alone says what the disks are: the oldest way, which every cloud knows.
    if new.root_volume.is_some() || !new.volumes.is_empty() {
        server["block_device_mapping_v2"] = json!(disks);
    }
    let optional = [("key_name", &new.keypair), ("availability_zone", &new.availability_zone)];
    for (name, value) in optional.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        server[name] = json!(value);
    }
    Ok(match &new.group {
        Some(group) => json!({"server": server, "os:scheduler_hints": {"group": group}}),
        None => json!({"server": server}),
    })
}

fn local_root(image: &str) -> Value {
    json!({
        "boot_index": 0,
        "uuid": image,
        "source_type": "image",
        "destination_type": "local",
        "delete_on_termination": true,
    })
}

fn attached(volume: &str) -> Value {
    json!({
        "boot_index": -1,
        "uuid": volume,
        "source_type": "volume",
        "destination_type": "volume",
        "delete_on_termination": false,
    })
}

fn root(image: &str, volume: &RootVolume, version: Option<Microversion>) -> Result<Value, CloudError> {
    let mut root = json!({
        "boot_index": 0,
        "uuid": image,
        "source_type": "image",
        "destination_type": "volume",
        "volume_size": volume.size,
        "delete_on_termination": true,
    });
    if let Some(kind) = &volume.volume_type {
        if version.is_none_or(|version| version < Microversion::VOLUME_TYPE) {
            return Err(CloudError::TooOld {
                service: COMPUTE,
                what: "choose the type of a server's root volume",
                needed: Microversion::VOLUME_TYPE,
                has: version.map_or_else(|| "none".to_owned(), |version| version.to_string()),
            });
        }
        root["volume_type"] = json!(kind);
    }
    Ok(root)
}
