// SPDX-License-Identifier: Apache-2.0
//! `windlass node`: labels, quarantine, and the end of trust.

use std::collections::BTreeMap;
use std::io::Write as _;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::LabelKey;

use super::completion::node_names;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::select::{label, node_name};
use super::suggest::near_node;

/// What to do with a node.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeArgs {
    /// Set labels (KEY=VALUE) and remove labels (KEY-)
    #[command(
        after_help = "Examples:\n  windlass node label node1 tier=front rack=r12\n  windlass node label node1 rack-"
    )]
    Label(LabelArgs),
    /// Leave a node alone: no run takes it down any more
    Quarantine(QuarantineArgs),
    /// End a node's quarantine, and take it from the run that holds it
    Release(ReleaseArgs),
    /// End the trust in a node: its connections are closed, its certificates refused
    Revoke(RevokeArgs),
    /// Revoke a node and forget it; its name is free again
    Remove(RemoveArgs),
}

/// One change of a label.
#[derive(Debug, Clone, PartialEq, Eq)]
enum LabelChange {
    Set(String, String),
    Remove(String),
}

/// Arguments of `node label`.
#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// KEY=VALUE sets a label, KEY- removes it
    #[arg(value_name = "LABEL", required = true, value_parser = label_change)]
    changes: Vec<LabelChange>,
}

/// Arguments of `node quarantine`.
#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// Why, for whoever meets it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Arguments of `node release`.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// Why, for the record; needed if a run holds it
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

/// Arguments of `node revoke`.
#[derive(Debug, Args)]
pub(crate) struct RevokeArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Arguments of `node remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn label_change(text: &str) -> Result<LabelChange, String> {
    if let Some(key) = text.strip_suffix('-').filter(|_| !text.contains('=')) {
        let key = LabelKey::new(key).map_err(|error| error.to_string())?;
        return Ok(LabelChange::Remove(key.as_str().to_owned()));
    }
    label(text).map(|(key, value)| LabelChange::Set(key, value)).map_err(|why| format!("{why}; KEY- removes a label"))
}

/// Does it.
///
/// # Errors
/// If it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: NodeArgs) -> Result<Exit, Failure> {
    match arguments {
        NodeArgs::Label(arguments) => set_labels(context, arguments).await,
        NodeArgs::Quarantine(arguments) => quarantine(context, arguments).await,
        NodeArgs::Release(arguments) => release(context, arguments).await,
        NodeArgs::Revoke(arguments) => revoke(context, arguments).await,
        NodeArgs::Remove(arguments) => remove(context, arguments).await,
    }
}

async fn set_labels(context: &Context, arguments: LabelArgs) -> Result<Exit, Failure> {
    let node = arguments.node;
    let (mut set, mut remove) = (BTreeMap::new(), Vec::new());
    for change in arguments.changes {
        match change {
            LabelChange::Set(key, value) => drop(set.insert(key, value)),
            LabelChange::Remove(key) => remove.push(key),
        }
    }
    let answer = context.nodes().await?.label_node(v1::LabelNodeRequest { node: node.clone(), set, remove }).await;
    let labels = match answer {
        Ok(answer) => answer.into_inner().node.unwrap_or_default().labels,
        Err(status) => {
            let failure = Failure::call(format!("label {node}"), &status);
            return Err(near_node(context, failure, &[node]).await);
        }
    };
    let mut out = context.terminal.out();
    for (key, value) in &labels {
        writeln!(out, "{}={}", Escaped(key), Escaped(value))?;
    }
    out.flush()?;
    if labels.is_empty() {
        context.terminal.say(format_args!("{} has no labels now", Escaped(&node)));
    }
    Ok(Exit::Done)
}

async fn quarantine(context: &Context, arguments: QuarantineArgs) -> Result<Exit, Failure> {
    let QuarantineArgs { node, reason } = arguments;
    let request = v1::QuarantineNodeRequest { node: node.clone(), reason };
    if let Err(status) = context.nodes().await?.quarantine_node(request).await {
        let failure = Failure::call(format!("quarantine {node}"), &status);
        return Err(near_node(context, failure, &[node]).await);
    }
    let mut out = context.terminal.out();
    writeln!(out, "{node} is quarantined: no run begins on it; to end that: windlass node release {node}")?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn release(context: &Context, arguments: ReleaseArgs) -> Result<Exit, Failure> {
    let ReleaseArgs { node, reason } = arguments;
    let answer = context.nodes().await?.release_node(v1::ReleaseNodeRequest { node: node.clone(), reason }).await;
    let released = match answer {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            let failure = Failure::call(format!("release {node}"), &status);
            return Err(near_node(context, failure, &[node]).await);
        }
    };
    let mut out = context.terminal.out();
    if released.was_quarantined {
        writeln!(out, "{node} is quarantined no longer")?;
    }
    if !released.run.is_empty() {
        writeln!(out, "run {} holds {node} no longer; see that it is well: windlass status", Escaped(&released.run))?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

async fn revoke(context: &Context, arguments: RevokeArgs) -> Result<Exit, Failure> {
    let node = arguments.node;
    let question = format!("revoke {node}? It can come back only by joining again.");
    context.terminal.confirm(&question, arguments.yes)?;
    let request = v1::RevokeNodeRequest { node: node.clone(), reason: arguments.reason };
    match context.nodes().await?.revoke_node(request).await {
        Ok(answer) => {
            let closed = answer.into_inner().closed_connections;
            let mut out = context.terminal.out();
            writeln!(out, "{node} is revoked; open connections closed: {closed}")?;
            writeln!(out, "to forget it: windlass node remove {node}")?;
            out.flush()?;
            Ok(Exit::Done)
        }
        Err(status) => {
            let failure = Failure::call(format!("revoke {node}"), &status);
            Err(near_node(context, failure, &[node]).await)
        }
    }
}

async fn remove(context: &Context, arguments: RemoveArgs) -> Result<Exit, Failure> {
    let node = arguments.node;
    let question = format!("remove {node}? It is revoked and everything known about it is forgotten.");
    context.terminal.confirm(&question, arguments.yes)?;
    match context.nodes().await?.remove_node(v1::RemoveNodeRequest { node: node.clone() }).await {
        Ok(_) => {
            let mut out = context.terminal.out();
            writeln!(out, "{node} is removed; to add it again: windlass token create {node}")?;
            out.flush()?;
            Ok(Exit::Done)
        }
        Err(status) => {
            let failure = Failure::call(format!("remove {node}"), &status);
            Err(near_node(context, failure, &[node]).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailing_dash_removes_a_label() {
        assert_eq!(label_change("rack-"), Ok(LabelChange::Remove("rack".into())));
        assert_eq!(label_change("rack=r-1"), Ok(LabelChange::Set("rack".into(), "r-1".into())));
        assert_eq!(label_change("rack=r-"), Ok(LabelChange::Set("rack".into(), "r-".into())));
        for text in ["rack", "-", "=", "ra ck-"] {
            assert!(label_change(text).is_err(), "{text:?}");
        }
    }
}
