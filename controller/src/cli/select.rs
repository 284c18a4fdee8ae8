// SPDX-License-Identifier: Apache-2.0
//! Which nodes: names, labels, facts, or all.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use windlass_proto::v1;
use windlass_types::name::{LabelKey, LabelValue, NodeName};

use super::completion::node_names;
use super::failure::{Cause, Failure};

/// Labels and facts that chosen nodes have.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct FilterArgs {
    /// Only nodes with this label; may be given again, all must match
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// Only nodes with this fact, such as os.id=centos or disks.0.rotational=false; may be given again, all must match
    #[arg(long = "fact", value_name = "PATH=VALUE", value_parser = fact)]
    pub(crate) facts: Vec<(String, String)>,
}

/// Nodes to act on. Nothing is ever done to all nodes by omission.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ChoiceArgs {
    /// Names of nodes
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    pub(crate) nodes: Vec<String>,
    /// All nodes that are not revoked
    #[arg(long, conflicts_with = "nodes")]
    pub(crate) all: bool,
    /// Filters
    #[command(flatten)]
    pub(crate) filter: FilterArgs,
}

impl ChoiceArgs {
    /// The choice as the controller takes it.
    ///
    /// # Errors
    /// If nothing was chosen.
    pub(crate) fn selector(&self) -> Result<v1::NodeSelector, Failure> {
        selector(self.all, &self.nodes, &self.filter)
    }
}

/// The choice as the controller takes it.
///
/// # Errors
/// If nothing was chosen.
pub(crate) fn selector(all: bool, nodes: &[String], filter: &FilterArgs) -> Result<v1::NodeSelector, Failure> {
    if !all && nodes.is_empty() && filter.labels.is_empty() && filter.facts.is_empty() {
        return Err(Failure::new(Cause::Usage, "choose nodes")
            .because("no node was chosen")
            .advise("name nodes, or choose by -l KEY=VALUE or --fact PATH=VALUE, or say --all"));
    }
    Ok(v1::NodeSelector {
        all,
        names: nodes.to_vec(),
        labels: unique("label", &filter.labels)?,
        facts: unique("fact", &filter.facts)?,
    })
}

fn unique(what: &str, pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Failure> {
    let mut map = BTreeMap::new();
    for (key, value) in pairs {
        if map.insert(key.clone(), value.clone()).is_some_and(|other| other != *value) {
            return Err(Failure::new(Cause::Usage, "choose nodes")
                .because(format!("the {what} {key} cannot have two values at once"))
                .advise("run the command once for each value"));
        }
    }
    Ok(map)
}

/// Reads a node name.
///
/// # Errors
/// If it is none.
pub(crate) fn node_name(text: &str) -> Result<String, String> {
    NodeName::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

/// Reads `KEY=VALUE`.
///
/// # Errors
/// If there is no `=` or one of the two breaks a rule.
pub(crate) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is written KEY=VALUE")?;
    let key = LabelKey::new(key).map_err(|error| error.to_string())?;
    let value = LabelValue::new(value).map_err(|error| error.to_string())?;
    Ok((key.as_str().to_owned(), value.as_str().to_owned()))
}

fn fact(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((path, value)) if !path.is_empty() && path.split('.').all(|part| !part.is_empty()) => {
            Ok((path.to_owned(), value.to_owned()))
        }
        _ => Err("a fact is written PATH=VALUE with dots in the path, such as os.id=centos".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_choice_never_means_the_whole_fleet() {
        let failure = ChoiceArgs::default().selector().expect_err("nothing chosen");
        assert_eq!(failure.exit().code(), 64);
        assert!(failure.advice.contains("--all"), "{failure}");
    }

    #[test]
    fn labels_and_facts_are_read() {
        assert_eq!(label("role=worker"), Ok(("role".into(), "worker".into())));
        assert_eq!(fact("os.id=centos"), Ok(("os.id".into(), "centos".into())));
        assert_eq!(fact("kernel.running=a=b"), Ok(("kernel.running".into(), "a=b".into())));
        for text in ["role", "=x", "role=a b", "role=", "ro le=x", "a=\u{1b}[31m"] {
            assert!(label(text).is_err(), "{text:?}");
        }
        for text in ["os.id", "=x", ".id=x", "os.=x", "os..id=x"] {
            assert!(fact(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_label_cannot_have_two_values() {
        let filter = FilterArgs { labels: vec![("a".into(), "1".into()), ("a".into(), "2".into())], facts: vec![] };
        assert!(selector(false, &[], &filter).is_err());
    }
}
