// SPDX-License-Identifier: Apache-2.0
//! `cluster.yaml`: from text to a typed wish. The one place that reads YAML.
//!
//! What is not understood is refused with line and column, never passed over: a misspelt key must not silently mean the
//! default. The reader's budget bounds what a hostile file can cost. Sections beyond the nodes belong to versions that
//! can act on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::{Budget, DuplicateKeyPolicy, MergeKeyPolicy};
use windlass_types::name::{LabelKey, LabelValue, NodeName};

/// A file for a thousand nodes with labels has a few hundred KiB.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// Deeper than any section of ours.
const DEEPEST: usize = 32;

/// The only version so far.
const API_VERSION: &str = "windlass/v1";

/// What a cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    /// Its name.
    pub name: NodeName,
    /// Its nodes, in the order of the file.
    pub nodes: Vec<Node>,
}

/// What a node shall be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Its address, if it shall have a certain one.
    pub address: Option<IpAddr>,
    /// Its labels.
    #[serde(default)]
    pub labels: BTreeMap<LabelKey, LabelValue>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Document {
    api_version: String,
    kind: String,
    metadata: Metadata,
    spec: Body,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: NodeName,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    nodes: Vec<Node>,
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
    #[error("understand the spec: {key} must be {expected}, not {found:?}")]
    Kind {
        /// Which key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A name twice.
    #[error("use the spec: the node {0} is named twice")]
    Twice(NodeName),
}

impl Cluster {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let failed = |source| SpecError::Read { path: path.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
        if text.len() as u64 > LARGEST_FILE_BYTES {
            return Err(SpecError::TooLarge(path.to_owned()));
        }
        Self::parse(&text)
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
            if found != expected {
                return Err(SpecError::Kind { key, expected, found });
            }
        }
        let mut names = BTreeSet::new();
        if let Some(twice) = document.spec.nodes.iter().find(|node| !names.insert(&node.name)) {
            return Err(SpecError::Twice(twice.name.clone()));
        }
        Ok(Self { name: document.metadata.name, nodes: document.spec.nodes })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: windlass/v1
kind: Cluster
metadata: {name: k8s1}
spec:
  nodes:
    - {name: master1, address: 10.0.0.172}
    - name: node1
      labels: {rack: a}
";

    fn refusal(text: &str) -> String {
        Cluster::parse(text).expect_err("a bad spec").to_string()
    }

    #[test]
    fn reads_a_plain_spec() {
        let cluster = Cluster::parse(GOOD).expect("a good spec");
        assert_eq!((cluster.name.as_str(), cluster.nodes.len()), ("k8s1", 2));
    }

    #[test]
    fn names_the_place_of_an_unknown_key_and_of_a_wrong_type() {
        let unknown = refusal(&GOOD.replace("address", "adress"));
        assert!(unknown.contains("line 6") && unknown.contains("adress"), "{unknown}");
        let wrong = refusal(&GOOD.replace("10.0.0.172", "[1]"));
        assert!(wrong.contains("line 6"), "{wrong}");
    }

    #[test]
    fn refuses_another_kind_and_a_name_twice() {
        assert!(refusal(&GOOD.replace("kind: Cluster", "kind: Pod")).contains("kind must be Cluster"));
        assert!(refusal(&GOOD.replace("master1", "node1")).contains("node1 is named twice"));
    }

    #[test]
    fn a27_hostile_yaml_is_refused_with_its_place() {
        let bomb = format!("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n{GOOD}");
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let twice = GOOD.replace("kind: Cluster", "kind: Cluster\nkind: Cluster");
        let merge = GOOD.replace("    - name: node1", "    - <<: {name: node1}");
        let tag = GOOD.replace("kind: Cluster", "kind: !!python/object/apply:os.system [reboot]");
        for text in [&bomb, &deep, &twice, &merge, &tag] {
            let refusal = refusal(text);
            assert!(refusal.contains("line ") && !refusal.contains("line 0"), "{refusal}");
        }
    }

    #[test]
    fn a27_a_huge_file_is_not_even_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cluster.yaml");
        File::create(&path).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
        assert!(matches!(Cluster::read(&path), Err(SpecError::TooLarge(_))));
    }
}
