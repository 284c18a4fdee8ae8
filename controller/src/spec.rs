// SPDX-License-Identifier: Apache-2.0
//! `cluster.yaml`: from text to a typed wish. The one place that reads YAML.
//!
//! What is not understood is refused with line and column, never passed over: a misspelt key must not silently mean the
//! default, and a section for which this version has no hands is refused by name. The reader's budget bounds what a
//! hostile file can cost.
//!
//! - [`document`]: the file as it is written; [`schema`] is made from it.
//! - [`value`]: sizes and the like, as people write them.
//! - [`openstack`], [`upkeep`], [`settings`], [`policy`]: sections of it.
//! - [`check`]: what no schema can say.
//! - [`machines`]: what the planner and the providers take from it.
//! - [`wishes`]: what shall become of the nodes; [`template`] fills in files for each.

pub mod check;
pub mod document;
mod later;
pub mod machines;
pub mod openstack;
pub mod policy;
pub mod schema;
pub mod settings;
pub mod template;
pub mod upkeep;
pub mod value;
pub mod wishes;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_saphyr::{Budget, DuplicateKeyPolicy, MergeKeyPolicy};
use windlass_types::name::ClusterName;

pub use check::{Contradiction, Misfit};
use document::{Body, Document};

/// A file for a thousand nodes with labels has a few hundred KiB.
pub const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// Deeper than any section of ours.
const DEEPEST: usize = 32;

/// The only version so far.
const API_VERSION: &str = "windlass/v1";

/// What a cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: ClusterName,
    /// What the file says of it.
    pub body: Body,
}

/// A spec that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Far too large to be honest.
    #[error("read {path}: it is larger than 1 MiB", path = .0.display())]
    TooLarge(PathBuf),
    /// Not what it should be.
    #[error("understand the spec at line {line}, column {column}: {reason}")]
    Syntax {
        /// Counted from 1; 0 if the place is not known.
        line: u64,
        /// Counted from 1; 0 if the place is not known.
        column: u64,
        /// What is wrong.
        reason: String,
    },
    /// Of another version or kind.
    #[error("understand the spec at line {line}: {key} must be {expected}, not {found:?}")]
    Kind {
        /// Counted from 1.
        line: u64,
        /// Which key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Parts that do not go together.
    #[error("use the spec")]
    Contradiction(#[from] Misfit),
}

impl Cluster {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        Self::parse(&text(path)?)
    }

    /// Understands a text.
    ///
    /// # Errors
    /// Names line and column of what is wrong.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let document: Document =
            serde_saphyr::from_str_with_options(text, options()).map_err(|error| syntax(&error))?;
        let required = [("apiVersion", API_VERSION, document.api_version), ("kind", "Cluster", document.kind)];
        for (key, expected, found) in required {
            if found.value != expected {
                let line = found.defined.line();
                return Err(SpecError::Kind { line, key, expected, found: found.value });
            }
        }
        let cluster = Self { name: document.metadata.name, body: document.spec };
        check::check(&cluster.body)?;
        Ok(cluster)
    }
}

/// The text of a spec's file.
///
/// # Errors
/// If it cannot be read, or is far too large.
pub fn text(path: &Path) -> Result<String, SpecError> {
    let failed = |source| SpecError::Read { path: path.to_owned(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE_BYTES {
        return Err(SpecError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

/// No aliases, no merge keys, no key twice: a spec is plain data, and each of these has hidden something before.
fn options() -> serde_saphyr::Options {
    let mut budget = Budget::default();
    budget.max_aliases = 0;
    budget.max_anchors = 0;
    budget.max_depth = DEEPEST;
    budget.flow_nesting_limit = DEEPEST;
    let mut options = serde_saphyr::Options::default();
    options.budget = Some(budget);
    options.duplicate_keys = DuplicateKeyPolicy::Error;
    options.merge_keys = MergeKeyPolicy::Error;
    options
}

fn syntax(error: &serde_saphyr::Error) -> SpecError {
    let place = error.location();
    let number = |read: fn(&serde_saphyr::Location) -> u64| place.as_ref().map_or(0, read);
    SpecError::Syntax {
        line: number(|place| place.line()),
        column: number(|place| place.column()),
        reason: error.without_snippet().to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
