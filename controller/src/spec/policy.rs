// SPDX-License-Identifier: Apache-2.0
//! Limits for whatever is done to a cluster, as they are written.

use std::fmt;
use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};
use windlass_plan::{OnFailure, Policy, Unreachable, Window};

/// Limits for whatever is done to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[serde(default)]
pub struct SpecPolicy {
    /// Steps under way at once; by default 10.
    #[schemars(with = "u32", range(min = 1, max = 1000))]
    pub parallel: Spanned<u32>,
    /// Nodes that may be down at once, those that are down anyway counted; by default 1.
    #[schemars(range(min = 1))]
    pub max_unavailable: NonZeroU32,
    /// When nodes may go down, such as `Tue 02:00-06:00 America/Vancouver`, or a list of these; by default at any time.
    #[schemars(schema_with = "super::schema::window")]
    pub window: Option<WrittenWindow>,
    /// What becomes of the others when a node fails: `stop`, `pause`, or `{continue: MOST}`; by default `stop`.
    #[schemars(schema_with = "super::schema::on_failure")]
    pub on_failure: WrittenOnFailure,
    /// What becomes of nodes that cannot be asked: `wait`, `skip`, or `fail`; by default `wait`.
    #[schemars(schema_with = "super::schema::unreachable")]
    pub unreachable: Unreachable,
}

impl Default for SpecPolicy {
    fn default() -> Self {
        let Policy { parallel, unreachable, .. } = Policy::default();
        let on_failure = WrittenOnFailure::Stop;
        let parallel = Spanned::new(parallel, Location::UNKNOWN, Location::UNKNOWN);
        Self { parallel, max_unavailable: NonZeroU32::MIN, window: None, on_failure, unreachable }
    }
}

impl From<&SpecPolicy> for Policy {
    fn from(written: &SpecPolicy) -> Self {
        Self {
            parallel: written.parallel.value,
            max_unavailable: written.max_unavailable.get(),
            window: written.window.as_ref().map(|window| window.0.clone()),
            on_failure: match written.on_failure {
                WrittenOnFailure::Stop => OnFailure::Stop,
                WrittenOnFailure::Pause => OnFailure::Pause,
                WrittenOnFailure::Continue(most) => OnFailure::Continue { most },
            },
            unreachable: written.unreachable,
        }
    }
}

/// What becomes of the others when a node fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrittenOnFailure {
    /// No other is begun.
    Stop,
    /// Somebody has to resume.
    Pause,
    /// They go on, until more than so many have failed.
    Continue(u32),
}

/// A window: a text, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenWindow(Window);

impl<'de> Deserialize<'de> for WrittenWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;

        impl<'de> Visitor<'de> for Words {
            type Value = WrittenWindow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a window such as \"Tue 02:00-06:00 America/Vancouver\", or a list of these")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<WrittenWindow, E> {
                text.parse().map(WrittenWindow).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<WrittenWindow, A::Error> {
                let texts: Vec<String> = Deserialize::deserialize(SeqAccessDeserializer::new(texts))?;
                self.visit_str(&texts.join(";"))
            }
        }

        deserializer.deserialize_any(Words)
    }
}
