// SPDX-License-Identifier: Apache-2.0
//! A server as the service describes it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::openstack::lenient::{or_default, reference};

/// How a server is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ServerStatus {
    /// Being made.
    Build,
    /// On.
    Active,
    /// Off.
    #[serde(rename = "SHUTOFF")]
    ShutOff,
    /// Being rebooted.
    Reboot,
    /// Being reset.
    HardReboot,
    /// Asleep in the host's memory.
    Paused,
    /// Asleep on the host's disk.
    Suspended,
    /// Removed a moment ago.
    Deleted,
    /// It could not be made, or something else went wrong: its fault tells.
    #[default]
    Error,
    /// Something else, in the service's word.
    #[serde(untagged)]
    Other(String),
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Server {
    /// Its id.
    pub id: String,
    /// What people call it.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// How it is.
    pub status: ServerStatus,
    /// What is being done with it, in the service's word.
    #[serde(default, rename = "OS-EXT-STS:task_state")]
    pub task: Option<String>,
    /// What was written to it.
    #[serde(default, deserialize_with = "or_default")]
    pub metadata: BTreeMap<String, String>,
    /// Its addresses by the names of networks.
    #[serde(default, deserialize_with = "or_default")]
    pub addresses: BTreeMap<String, Vec<Address>>,
    /// When it first ran, as the service writes it; `None` if it never did.
    #[serde(default, rename = "OS-SRV-USG:launched_at")]
    pub launched_at: Option<String>,
    /// What went wrong, if something did.
    #[serde(default)]
    pub fault: Option<Fault>,
    /// The image's id; `None` if it boots from a volume.
    #[serde(default, deserialize_with = "reference")]
    pub image: Option<String>,
    /// The name of its flavor, or its id where the service is older than 2.47.
    #[serde(default)]
    pub flavor: ServerFlavor,
    /// Its volumes.
    #[serde(default, rename = "os-extended-volumes:volumes_attached", deserialize_with = "or_default")]
    pub volumes: Vec<AttachedVolume>,
    /// When it was made, as the service writes it.
    #[serde(default, deserialize_with = "or_default")]
    pub created: String,
}

/// What a server was made with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerFlavor {
    /// The flavor's name, since 2.47.
    pub original_name: Option<String>,
    /// The flavor's id, before.
    pub id: Option<String>,
}

/// An address of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Address {
    /// The address.
    pub addr: IpAddr,
    /// Whether it floats: it is not known to the server itself then.
    #[serde(default, rename = "OS-EXT-IPS:type", deserialize_with = "floats")]
    pub floating: bool,
    /// The hardware address of its interface.
    #[serde(default, rename = "OS-EXT-IPS-MAC:mac_addr")]
    pub mac: Option<String>,
}

fn floats<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.as_deref() == Some("floating"))
}

/// What went wrong with a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Fault {
    /// As a status of HTTP.
    #[serde(default, deserialize_with = "or_default")]
    pub code: u16,
    /// In the service's words, as `No valid host was found.`
    #[serde(default, deserialize_with = "or_default")]
    pub message: String,
}

/// A volume of a server.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AttachedVolume {
    /// The volume.
    pub id: String,
    /// Whether it is removed with the server.
    #[serde(default, deserialize_with = "or_default")]
    pub delete_on_termination: bool,
}
