// SPDX-License-Identifier: Apache-2.0
//! What keeps nodes current, as it is written: packages, kernel, reboots, and what is run around them.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use windlass_plan::RebootWish;
use windlass_types::action::Argv;
use windlass_types::name::on_node::{PackageName, PackageVersion};
use windlass_types::package::UpdateScope;
use windlass_types::survey::KernelChannel;

/// Draining a node of what runs on it may take minutes.
const DEFAULT_HOOK_TIME: Duration = Duration::from_secs(10 * 60);

/// One that is known to boot, besides the one that runs.
const DEFAULT_KEEP: NonZeroU32 = NonZeroU32::MIN;

/// Which packages are kept current.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update(pub UpdateScope);

impl<'de> Deserialize<'de> for Update {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = Update;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("all, security, or a list of packages")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Update, E> {
                match word {
                    "all" => Ok(Update(UpdateScope::All)),
                    "security" => Ok(Update(UpdateScope::Security)),
                    other => Err(E::custom(format_args!("{other:?}: update is all, security, or a list of packages"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, names: A) -> Result<Update, A::Error> {
                let names: Vec<PackageName> = Deserialize::deserialize(SeqAccessDeserializer::new(names))?;
                if names.is_empty() {
                    return Err(A::Error::custom("update names no package: leave it out to leave packages alone"));
                }
                Ok(Update(UpdateScope::Named(names)))
            }
        }

        deserializer.deserialize_any(Words)
    }
}

/// The kernel of every node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Where it comes from: `distribution`, `elrepo-lt`, `elrepo-ml`, or `{package: NAME}`.
    #[schemars(schema_with = "super::schema::channel")]
    pub channel: KernelChannel,
    /// Exactly this version and release; by default the newest.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub version: Option<PackageVersion>,
    /// Old kernels that stay beside the new one; by default 1, which keeps the one before.
    #[serde(default = "default_keep")]
    #[schemars(range(min = 1))]
    pub keep: NonZeroU32,
}

const fn default_keep() -> NonZeroU32 {
    DEFAULT_KEEP
}

/// When nodes reboot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    /// Only into a new kernel.
    Never,
    /// When what runs is not what is installed.
    IfNeeded,
    /// Whenever packages were changed.
    Always,
}

impl From<Reboot> for RebootWish {
    fn from(reboot: Reboot) -> Self {
        match reboot {
            Reboot::Never => Self::Never,
            Reboot::IfNeeded => Self::IfNeeded,
            Reboot::Always => Self::AfterChanges,
        }
    }
}

/// What is run on a node around anything that disrupts it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before the node, or what runs on it, goes down.
    #[serde(default)]
    pub before: Option<Hook>,
    /// After it is back.
    #[serde(default)]
    pub after: Option<Hook>,
}

/// A program that is run on a node. It may be run twice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The program, by its whole path, and its arguments. No shell looks at them.
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub run: Argv,
    /// How long it may take, such as `90s` or `15m`; by default 10m.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = "^([0-9]+[dhms])+$"))]
    pub timeout: HookTime,
}

/// How long a hook may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HookTime(pub Duration);

impl Default for HookTime {
    fn default() -> Self {
        Self(DEFAULT_HOOK_TIME)
    }
}

impl TryFrom<String> for HookTime {
    type Error = crate::duration::NotADuration;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        crate::duration::parse(&text).map(Self)
    }
}
