// SPDX-License-Identifier: Apache-2.0
//! Files that are filled in for each node. Templates see the spec and nothing else: no file, no clock, no environment.

use std::collections::BTreeMap;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior};
use serde::Serialize;

use super::Cluster;
use super::document::Node;

/// Steps a template may take: a list of a thousand nodes takes some ten thousand.
const MOST_STEPS: u64 = 500_000;

/// A template that cannot be filled in; names its line.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct BadTemplate {
    text: String,
}

impl From<minijinja::Error> for BadTemplate {
    fn from(error: minijinja::Error) -> Self {
        let line = error.line().map(|line| format!("line {line}: ")).unwrap_or_default();
        let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
        Self { text: format!("{line}{}{detail}", error.kind()) }
    }
}

/// What templates see of a node.
#[derive(Debug, Serialize)]
struct NodeView {
    name: String,
    address: Option<String>,
    roles: Vec<String>,
    labels: BTreeMap<String, String>,
}

/// Fills in templates for the nodes of a cluster. What all of them see is made once.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    cluster: Value,
    nodes: Value,
}

impl Templates {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_fuel(Some(MOST_STEPS));
        let mut syntax = SyntaxConfig::builder();
        syntax.keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true);
        environment.set_syntax(syntax.build().expect("the default marks differ from each other"));
        let nodes: Vec<_> = cluster.body.nodes.value.iter().map(|node| view(&node.value)).collect();
        let cluster = Value::from_pairs([("name", Value::from(cluster.name.as_str()))]);
        Self { environment, cluster, nodes: Value::from(Serde(nodes)) }
    }

    pub(super) fn fill(&self, node: &Node, template: &str) -> Result<String, BadTemplate> {
        let node = Value::from(Serde(view(node)));
        let seen = [("node", node), ("nodes", self.nodes.clone()), ("cluster", self.cluster.clone())];
        Ok(self.environment.render_str(template, Value::from_pairs(seen))?)
    }
}

fn view(node: &Node) -> NodeView {
    NodeView {
        name: node.name.to_string(),
        address: node.address.map(|address| address.to_string()),
        roles: node.roles.iter().map(|role| role.as_str().to_owned()).collect(),
        labels: node.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    }
}
