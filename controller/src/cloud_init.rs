// SPDX-License-Identifier: Apache-2.0
//! What a new machine reads at its first boot. Pure: from [`FirstBoot`] to text, and nothing is read or asked.
//!
//! User-data is a typed structure written as JSON, which is YAML too: no value can turn into a key. What the machine runs
//! is one script that is the same for every machine ([`FIRST_BOOT_SCRIPT`]); what differs lies in files beside it. The
//! script is a unit of its own, so that a machine that loses its power halfway goes on at its next boot, which cloud-init
//! would not do: it runs once.
//!
//! User-data is not secret. Whatever runs in the machine may read it, in a cloud for the machine's whole life. So the one
//! secret in it, the join token, works once, for one node, for half an hour; and where the provider can, it is removed
//! from what the machine reads as soon as it was used ([`UserData::sealed`]).
//!
//! - [`mark`]: the lines on the console by which the machine tells how far it is.
//! - [`network`]: addresses, for NoCloud.
//! - [`seed`]: the disk on which a local machine finds all this.

mod config;
pub mod mark;
pub mod network;
pub mod seed;

use std::fmt;

use windlass_types::name::NodeName;
use windlass_types::pin::SpkiPin;

use config::CloudConfig;

/// What Nova takes, after base64. Other platforms take more.
const LARGEST_ENCODED_BYTES: usize = 65_535;

/// The package that every node has, unless a spec says otherwise.
pub const AGENT_PACKAGE: &str = "windlass-agent";

/// What the machine runs: the same for every machine.
pub const FIRST_BOOT_SCRIPT: &str = include_str!("cloud_init/first-boot.sh");

/// The unit that runs it.
const FIRST_BOOT_UNIT: &str = include_str!("cloud_init/windlass-first-boot.service");

/// What a machine must know to become a node.
#[derive(Debug, Clone)]
pub struct FirstBoot {
    /// Its name: host name and node name.
    pub name: NodeName,
    /// Where packages come from; only these are asked for the agent.
    pub repositories: Vec<Repository>,
    /// The agent's package.
    pub package: String,
    /// How it joins.
    pub join: JoinOrder,
    /// Keys that may log in with ssh. Without any, sshd is switched off and masked.
    pub ssh_keys: Vec<String>,
}

/// A yum repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Its id in yum's configuration.
    pub id: String,
    /// Where it is.
    pub base_url: String,
    /// The key that its packages are signed with, ASCII-armoured.
    pub key: String,
    /// Its metadata is signed with that key too, and this is checked.
    pub has_signed_metadata: bool,
}

/// How a machine joins.
#[derive(Clone)]
pub struct JoinOrder {
    /// The controller's join listener as the machine reaches it, `HOST:PORT`.
    pub controller: String,
    /// Pins of the controller's CA.
    pub pins: Vec<SpkiPin>,
    /// The one-time token.
    pub token: String,
}

impl fmt::Debug for JoinOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinOrder")
            .field("controller", &self.controller)
            .field("pins", &self.pins)
            .finish_non_exhaustive()
    }
}

/// User-data that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloudInitError {
    /// A value that would mean something else where it is put.
    #[error("write user-data: {what} {value:?} is not usable: {rule}")]
    Value {
        /// Which.
        what: &'static str,
        /// What it is, unless it is secret.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// Nothing to install the agent from.
    #[error("write user-data: there is no repository to install {0} from")]
    NoRepository(String),
    /// Too large.
    #[error("write user-data: it has {encoded} bytes in base64, and a cloud takes {LARGEST_ENCODED_BYTES} at most")]
    TooLarge {
        /// What it has.
        encoded: usize,
    },
}

/// What cloud-init reads as user-data. Holds a secret until it is sealed.
#[derive(Clone, PartialEq, Eq)]
pub struct UserData(String);

impl fmt::Debug for UserData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserData({} bytes)", self.0.len())
    }
}

impl UserData {
    /// For a machine that shall join.
    ///
    /// # Errors
    /// If a value cannot be used, or the whole is too large for a cloud.
    pub fn new(boot: &FirstBoot) -> Result<Self, CloudInitError> {
        check(boot)?;
        let text = config::text(&CloudConfig::first_boot(boot));
        let encoded = text.len().div_ceil(3) * 4;
        if encoded > LARGEST_ENCODED_BYTES {
            return Err(CloudInitError::TooLarge { encoded });
        }
        Ok(Self(text))
    }

    /// For a machine that has joined: its name and nothing else.
    #[must_use]
    pub fn sealed(name: &NodeName) -> Self {
        Self(config::text(&CloudConfig::named(name)))
    }

    /// The text, for the machine alone.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

/// Every value that is put into a file of another format, or into an argument, is plain there.
fn check(boot: &FirstBoot) -> Result<(), CloudInitError> {
    if boot.repositories.is_empty() {
        return Err(CloudInitError::NoRepository(boot.package.clone()));
    }
    for repository in &boot.repositories {
        word("the repository id", &repository.id)?;
        let is_known = ["https://", "http://", "file:///"].iter().any(|scheme| repository.base_url.starts_with(scheme));
        let is_plain = repository.base_url.bytes().all(|byte| byte.is_ascii_graphic());
        let rule = "a URL beginning with https://, http:// or file:///, without spaces";
        demand(is_known && is_plain, "the repository URL", &repository.base_url, rule)?;
        let is_key = repository.key.starts_with("-----BEGIN PGP PUBLIC KEY BLOCK-----") && repository.key.is_ascii();
        demand(is_key, "the repository key", "(not shown)", "an ASCII-armoured public key")?;
    }
    word("the package", &boot.package)?;
    let is_endpoint = boot.join.controller.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte));
    demand(is_endpoint, "the controller's address", &boot.join.controller, "HOST:PORT")?;
    let is_token = !boot.join.token.is_empty() && boot.join.token.bytes().all(|byte| byte.is_ascii_graphic());
    demand(is_token, "the token", "(not shown)", "one word")?;
    for key in &boot.ssh_keys {
        let is_line = !key.is_empty() && key.chars().all(|c| !c.is_control());
        demand(is_line, "the ssh key", key, "one line")?;
    }
    Ok(())
}

fn word(what: &'static str, value: &str) -> Result<(), CloudInitError> {
    let is_word = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte));
    let begins_well = value.starts_with(|c: char| c.is_ascii_alphanumeric());
    demand(is_word && begins_well, what, value, "letters, digits, '.', '_', '+' and '-'")
}

fn demand(holds: bool, what: &'static str, value: &str, rule: &'static str) -> Result<(), CloudInitError> {
    if holds { Ok(()) } else { Err(CloudInitError::Value { what, value: value.to_owned(), rule }) }
}

#[cfg(test)]
mod tests;
