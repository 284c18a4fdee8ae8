// SPDX-License-Identifier: Apache-2.0
//! "Did you mean node12?": the nearest existing name to one that does not exist.

use windlass_proto::refusal::Reason;
use windlass_proto::v1;

use super::context::Context;
use super::failure::{Cause, Failure};

/// Less alike than this and a suggestion confuses more than it helps.
const LEAST_LIKENESS: f64 = 0.8;

/// The most names that are compared.
const MOST_NAMES: u32 = 5_000;

/// Adds a near name to a failure about nodes that do not exist. If the names cannot be had, the failure stays as it is.
pub(crate) async fn near_node(context: &Context, failure: Failure, wanted: &[String]) -> Failure {
    if failure.cause != Cause::Refused(Reason::NotFound) || wanted.is_empty() {
        return failure;
    }
    let Ok(mut client) = context.nodes().await else { return failure };
    let request = v1::ListNodesRequest { selector: None, page_size: MOST_NAMES, page_token: String::new() };
    let Ok(answer) = client.list_nodes(request).await else { return failure };
    let names: Vec<_> = answer.into_inner().nodes.into_iter().map(|node| node.name).collect();
    let near = wanted.iter().filter(|name| !names.contains(name)).find_map(|name| nearest(name, &names));
    match near {
        Some(name) => failure.advise(format!("did you mean {name}? `windlass get nodes` shows all names")),
        None => failure.advise("`windlass get nodes` shows all names"),
    }
}

fn nearest<'a>(wanted: &str, names: &'a [String]) -> Option<&'a str> {
    let likeness = |name: &String| strsim::jaro_winkler(wanted, name);
    let best = names.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    (likeness(best) >= LEAST_LIKENESS).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_nonsense_is_not() {
        let names = ["master1", "node1", "node2"].map(String::from);
        assert_eq!(nearest("ndoe1", &names), Some("node1"));
        assert_eq!(nearest("maste1", &names), Some("master1"));
        assert_eq!(nearest("zzz", &names), None);
        assert_eq!(nearest("node1", &[]), None);
    }
}
