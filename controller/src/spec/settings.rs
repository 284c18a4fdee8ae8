// SPDX-License-Identifier: Apache-2.0
//! Small things that every node shall have, as they are written.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use serde_saphyr::Spanned;
use windlass_types::action::NodePath;
use windlass_types::name::on_node::{SysctlKey, UnitName, UserName};
use windlass_types::setting::SelinuxMode;

use super::document::PackageRepository;

/// Small things that every node shall have. They are brought about in the order in which they stand here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// Package repositories, on nodes that are there too.
    #[serde(default)]
    #[schemars(with = "Vec<PackageRepository>")]
    pub repositories: Vec<Spanned<PackageRepository>>,
    /// Users.
    #[serde(default)]
    #[schemars(with = "Vec<User>")]
    pub users: Vec<Spanned<User>>,
    /// Files.
    #[serde(default)]
    #[schemars(with = "Vec<File>")]
    pub files: Vec<Spanned<File>>,
    /// Kernel parameters, such as `net.ipv4.ip_forward: 1`.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::sysctls")]
    pub sysctls: BTreeMap<SysctlKey, SysctlValue>,
    /// `off`: no swap. Without it, swap is left alone.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::off")]
    pub swap: Option<Off>,
    /// `on`: the clock follows others. Without it, the clock is left alone.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::on")]
    pub time_sync: Option<On>,
    /// `enforcing` or `permissive`.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::selinux")]
    pub selinux: Option<SelinuxMode>,
    /// Units, each `on` (enabled and running) or `off` (neither).
    #[serde(default)]
    #[schemars(schema_with = "super::schema::services")]
    pub services: BTreeMap<UnitName, Switch>,
}

/// A file. What is in it is either written here or stands in a file beside the spec.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where, on the node.
    #[schemars(with = "String", regex(pattern = "^/."))]
    pub path: NodePath,
    /// What is in it.
    #[serde(default)]
    pub content: Option<String>,
    /// The file with what is in it: from the folder of this spec, or beginning with `/` or `~/`.
    #[serde(default)]
    pub file: Option<String>,
    /// It is a template: `{{ node.name }}` and the like are replaced. By default it is taken as it is.
    #[serde(default)]
    pub template: bool,
    /// Permission bits in octal; by default 0644.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = "^0?[0-7]{3,4}$"))]
    pub mode: Mode,
    /// Whose; by default root.
    #[serde(default = "root")]
    #[schemars(with = "String")]
    pub owner: UserName,
    /// Whose; by default root.
    #[serde(default = "root")]
    #[schemars(with = "String")]
    pub group: UserName,
    /// Its content is not shown in plans.
    #[serde(default)]
    pub secret: bool,
}

/// A user of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct User {
    /// Name.
    #[schemars(with = "String")]
    pub name: UserName,
    /// False: there shall be no such user. The home folder stays.
    #[serde(default = "yes")]
    pub present: bool,
    /// Groups besides their own.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub groups: Vec<UserName>,
    /// All public keys that may log in as this user. Without it, keys are left alone.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub authorized_keys: Option<Vec<PublicKey>>,
    /// May become root without a password.
    #[serde(default)]
    pub sudo: bool,
}

fn root() -> UserName {
    UserName::new("root").expect("a constant")
}

const fn yes() -> bool {
    true
}

/// Permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

/// Text that is no mode.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no mode: three or four octal digits, such as \"0644\"")]
pub struct NotAMode(String);

impl Default for Mode {
    fn default() -> Self {
        Self(0o644)
    }
}

impl TryFrom<String> for Mode {
    type Error = NotAMode;

    fn try_from(text: String) -> Result<Self, NotAMode> {
        let digits = if text.len() == 5 { text.strip_prefix('0').unwrap_or(&text) } else { &text };
        let is_plain = (3..=4).contains(&digits.len()) && digits.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = u32::from_str_radix(digits, 8).ok().filter(|_| is_plain);
        bits.map(Self).ok_or(NotAMode(text))
    }
}

/// A public key, as in `authorized_keys`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PublicKey(pub String);

/// Text that is no public key.
#[derive(Debug, thiserror::Error)]
#[error("a public key is one line with its type and its data, as in authorized_keys(5)")]
pub struct NotAPublicKey;

impl TryFrom<String> for PublicKey {
    type Error = NotAPublicKey;

    fn try_from(text: String) -> Result<Self, NotAPublicKey> {
        let text = text.trim().to_owned();
        let is_one_line = !text.chars().any(char::is_control) && text.split(' ').count() >= 2 && !text.starts_with('#');
        if is_one_line { Ok(Self(text)) } else { Err(NotAPublicKey) }
    }
}

/// The value of a kernel parameter, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SysctlValue(pub String);

/// On or off, with or without quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch(pub bool);

/// Something that can only be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Off;

/// Something that can only be switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct On;

impl<'de> Deserialize<'de> for SysctlValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // As text, whatever it looks like: of 0x10 or 1_000 nothing is made.
        let text = String::deserialize(deserializer)?;
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(D::Error::custom("the value of a kernel parameter is one line that is not empty"));
        }
        Ok(Self(text))
    }
}

impl<'de> Deserialize<'de> for Switch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl Visitor<'_> for Words {
            type Value = Switch;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("on or off")
            }

            fn visit_bool<E: Error>(self, on: bool) -> Result<Switch, E> {
                Ok(Switch(on))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Switch, E> {
                match word {
                    "on" => Ok(Switch(true)),
                    "off" => Ok(Switch(false)),
                    other => Err(E::custom(format_args!("{other:?} is neither on nor off"))),
                }
            }
        }

        deserializer.deserialize_any(Words)
    }
}

impl<'de> Deserialize<'de> for Off {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Switch::deserialize(deserializer)? {
            Switch(false) => Ok(Self),
            Switch(true) => Err(D::Error::custom("it can only be off: leave it out to leave it alone")),
        }
    }
}

impl<'de> Deserialize<'de> for On {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Switch::deserialize(deserializer)? {
            Switch(true) => Ok(Self),
            Switch(false) => Err(D::Error::custom("it can only be on: leave it out to leave it alone")),
        }
    }
}
