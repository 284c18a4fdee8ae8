// SPDX-License-Identifier: Apache-2.0
//! What operators ask for, as they ask for it: something of nodes, or the spec of the cluster that they are.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Response, Status};
use windlass_plan::Plan;
use windlass_proto::v1;
use windlass_proto::v1::nodes_wish::Wish as Wire;
use windlass_proto::v1::plan_cluster_request::Wish as Spec;
use windlass_proto::v1::plan_service_client::PlanServiceClient;

use super::model::{FILE, HOOKS, PARAMETER, content};
use super::{Rules, SpecWish, What};
use crate::node::Node;
use crate::operator::{Operator, connect};

/// Whoever asks for a plan waits longer than the controller waits for nodes.
const PLAN_WITHIN: Duration = Duration::from_secs(400);

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    /// Something of nodes, whatever cluster they are of.
    Nodes(v1::NodesWish),
    /// The cluster as its spec says.
    Cluster(v1::PlanClusterRequest),
}

/// A plan as it was shown.
pub(crate) struct Shown {
    pub(crate) plan: Plan,
    asked: Asked,
    text: String,
    sha256: Bytes,
}

/// Asks once.
async fn once<T>(ask: impl AsyncFnOnce(Channel) -> Result<Response<T>, Status>) -> Result<T, Status> {
    let lost = |_| Status::unavailable("no answer in time");
    let asked = async {
        let channel = connect().await.map_err(|error| Status::unavailable(error.to_string()))?;
        ask(channel).await
    };
    tokio::time::timeout(PLAN_WITHIN, asked).await.map_err(lost)?.map(Response::into_inner)
}

/// Asks for a plan.
pub(crate) async fn plan(asked: &Asked) -> Result<Shown, Status> {
    let (text, sha256) = match asked.clone() {
        Asked::Nodes(wish) => {
            let request = v1::PlanNodesRequest { wish: Some(wish) };
            let answer = once(async |channel| PlanServiceClient::new(channel).plan_nodes(request).await).await?;
            (answer.plan, answer.sha256)
        }
        Asked::Cluster(request) => {
            let answer = once(async |channel| PlanServiceClient::new(channel).plan_cluster(request).await).await?;
            (answer.plan, answer.sha256)
        }
    };
    let plan = serde_json::from_str(&text).map_err(|error| Status::internal(error.to_string()))?;
    Ok(Shown { plan, asked: asked.clone(), text, sha256 })
}

/// Has a plan carried out; the run, if there is anything to do.
pub(crate) async fn apply(shown: Shown) -> Result<Option<String>, Status> {
    let Shown { asked, text: plan, sha256, .. } = shown;
    let run = match asked {
        Asked::Nodes(wish) => {
            let request = v1::ApplyNodesRequest { wish: Some(wish), plan, sha256 };
            once(async |channel| PlanServiceClient::new(channel).apply_nodes(request).await).await?.run
        }
        Asked::Cluster(request) => {
            let request = v1::ApplyPlanRequest { request: Some(request), plan, sha256, confirmation: String::new() };
            once(async |channel| PlanServiceClient::new(channel).apply_plan(request).await).await?.run
        }
    };
    Ok((!run.is_empty()).then_some(run))
}

impl Operator {
    /// What is asked for: of these nodes, as far as they have joined, or of all if it is the spec of their cluster.
    pub(crate) fn asked(&self, what: What, nodes: &[usize], rules: Rules) -> Asked {
        let some = nodes.iter().filter_map(|index| self.nodes.get(*index));
        let packages = |reboot_if_needed| v1::UpdatePackages { reboot_if_needed, ..v1::UpdatePackages::default() };
        let wish = match what {
            What::Spec(wish) => return spec(wish, &self.ledger.usable_nodes(self.nodes.iter()), rules),
            What::Undo => return self.way_back(some, rules),
            What::Reboot => Wire::Reboot(v1::Reboot { if_needed: false }),
            What::RebootIfNeeded => Wire::Reboot(v1::Reboot { if_needed: true }),
            What::Packages => Wire::Packages(packages(false)),
            What::PackagesAndReboot => Wire::Packages(packages(true)),
            What::Kernel => {
                Wire::Kernel(v1::UpgradeKernel { channel: "elrepo-lt".to_owned(), ..v1::UpgradeKernel::default() })
            }
        };
        of_nodes(wish, self.ledger.usable_nodes(some), rules)
    }

    /// The last transaction undone, of the first of these nodes that has joined: whoever asks has looked at its history.
    fn way_back<'a>(&self, mut nodes: impl Iterator<Item = &'a Arc<Node>>, rules: Rules) -> Asked {
        let node = nodes.find(|node| !self.ledger.usable_nodes(std::iter::once(*node)).is_empty());
        let last = node.map_or(0, |node| node.machine.host.node().history.len());
        // The number 0 would be an update.
        let undo = u32::try_from(last.max(1)).expect("few");
        let names = node.iter().map(|node| node.name.to_string()).collect();
        of_nodes(Wire::Packages(v1::UpdatePackages { undo, ..v1::UpdatePackages::default() }), names, rules)
    }
}

fn of_nodes(wish: Wire, names: Vec<String>, rules: Rules) -> Asked {
    let Rules { max_unavailable, on_failure, unreachable } = rules;
    Asked::Nodes(v1::NodesWish {
        selector: Some(v1::NodeSelector { names, ..v1::NodeSelector::default() }),
        wish: Some(wish),
        max_unavailable,
        on_failure: on_failure.to_owned(),
        unreachable: unreachable.to_owned(),
        ..v1::NodesWish::default()
    })
}

fn spec(wish: SpecWish, names: &[String], rules: Rules) -> Asked {
    let text = text(wish, names, rules);
    let spec = v1::ClusterSpec { text, ..v1::ClusterSpec::default() };
    Asked::Cluster(v1::PlanClusterRequest { wish: Some(Spec::Spec(spec)) })
}

/// What stands in `cluster.yaml`.
fn text(wish: SpecWish, names: &[String], rules: Rules) -> String {
    let SpecWish { value, has_hooks, is_whole } = wish;
    let nodes: Vec<_> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
    let on_failure = match rules.on_failure.split_once(':') {
        None if rules.on_failure.is_empty() => "stop".to_owned(),
        None => rules.on_failure.to_owned(),
        Some((word, most)) => format!("{{{word}: {most}}}"),
    };
    let unreachable = if rules.unreachable.is_empty() { "wait" } else { rules.unreachable };
    let [before, after] = HOOKS;
    let hooks = format!("  hooks: {{before: {{run: [{before}]}}, after: {{run: [{after}]}}}}\n");
    let updates = "  packages: {update: all}\n  kernel: {channel: elrepo-lt}\n";
    format!(
        "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: sim}}\nspec:\n  provider: {{existing: {{}}}}\n  policy: \
         {{maxUnavailable: {}, onFailure: {on_failure}, unreachable: {unreachable}}}\n  nodes: [{}]\n  settings:\n    files: \
         [{{path: {FILE}, content: {:?}}}]\n    sysctls: {{{PARAMETER}: {value}}}\n{}{}",
        rules.max_unavailable,
        nodes.join(", "),
        content(value),
        if has_hooks { hooks.as_str() } else { "" },
        if is_whole { updates } else { "" },
    )
}
