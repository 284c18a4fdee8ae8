// SPDX-License-Identifier: Apache-2.0
//! Nodes on models for tests of runs, and waiting for what a command says about them.

use windlass_agent::host::fake::ModelPackage;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::{LONG, wait_until};

/// Holds up a package transaction of the model.
pub(super) const TRANSACTION: Option<&str> = Some("dnf -C -y");

/// Waits until a command says this.
pub(super) async fn shows(bastion: &Bastion, words: &str, said: &str) {
    wait_until(said, LONG, || async { bastion.words(words).await.stdout.contains(said) }).await;
}

/// Waits until all of so many nodes are healthy.
pub(super) async fn are_well(bastion: &Bastion, count: usize) {
    let all = if count == 1 { "1 node, healthy".to_owned() } else { format!("{count} nodes, all healthy") };
    shows(bastion, "status", &all).await;
}

/// A package of a node is out of date.
pub(super) fn outdate(node: &ModelledNode) {
    node.host.change(|node| {
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    });
}

/// Healthy nodes with a package that is out of date.
pub(super) async fn outdated(bastion: &Bastion, names: &[&str]) -> Vec<ModelledNode> {
    let mut nodes = Vec::new();
    for name in names {
        let node = ModelledNode::start(bastion, name).await;
        outdate(&node);
        nodes.push(node);
    }
    are_well(bastion, names.len()).await;
    nodes
}
