// SPDX-License-Identifier: Apache-2.0
//! Nodes that come back connected and not well: nobody goes on with them before they are.

use windlass_agent::host::fake::ModelPackage;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::{ModelledNode, WATCHED_SERVICE};

use super::fleet::shows;

const OLD: &str = "6.1-1.x86_64";
const NEW: &str = "6.2-1.x86_64";
const REBOOT: &str = "reboot";

/// Two nodes with an old kernel; the newer one makes the first node ill.
async fn fleet(bastion: &Bastion) -> [ModelledNode; 2] {
    let nodes = [ModelledNode::start(bastion, "node1").await, ModelledNode::start(bastion, "node2").await];
    for node in &nodes {
        node.host.change(|node| {
            let kernel = |version| ModelPackage::new("kernel-lt", version);
            node.packages = vec![kernel("6.1-1")];
            node.repository = ["6.1-1", "6.2-1"].map(kernel).into();
            (node.running_kernel, node.default_kernel) = (OLD.to_owned(), Some(OLD.to_owned()));
            node.kernels = vec![OLD.to_owned()];
        });
    }
    nodes[0].host.change(|node| node.sick_kernels = vec![NEW.to_owned()]);
    shows(bastion, "status", "2 nodes, all healthy").await;
    nodes
}

/// Somebody mends what made it ill. Its agent looks every minute, and is asked for now.
async fn mend(bastion: &Bastion, node: &ModelledNode) {
    node.host.change(|node| node.services.iter_mut().for_each(|service| "active".clone_into(&mut service.active)));
    bastion.words("get nodes --refresh").await;
}

fn kernels(node: &ModelledNode) -> [String; 2] {
    let now = node.host.node();
    [now.running_kernel, now.default_kernel.unwrap_or_default()]
}

#[tokio::test]
async fn a_node_that_is_ill_after_its_reboot_is_held_and_the_next_one_stays_up_until_it_is_well() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion).await;
    nodes[0].host.change(|node| node.sick_kernels = vec![OLD.to_owned()]);
    assert_eq!(bastion.words("reboot --rolling --all --yes --detach").await.code, 7);
    shows(&bastion, "status", &format!("{WATCHED_SERVICE} is failed")).await;
    shows(&bastion, "run show r1", "holds node1").await;
    shows(&bastion, "run show r1", "waits: 1 down or in hand, and 1 may be: node1").await;
    assert_eq!((nodes[0].effect(REBOOT), nodes[1].effect(REBOOT)), (1, 0));
    mend(&bastion, &nodes[0]).await;
    bastion.words("run attach r1").await.done();
    assert_eq!((nodes[0].effect(REBOOT), nodes[1].effect(REBOOT)), (1, 1));
}

#[tokio::test]
async fn a_kernel_with_which_a_node_is_ill_does_not_become_the_default_whoever_asks_for_it() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion).await;
    let ill = format!("{WATCHED_SERVICE} is failed");
    assert_eq!(bastion.words("upgrade kernel --all --channel elrepo-lt --yes --detach").await.code, 7);
    shows(&bastion, "status", &ill).await;
    assert_eq!(kernels(&nodes[0]), [NEW, OLD], "it is on trial");
    bastion.words("run stop r1").await.done();
    shows(&bastion, "run show r1", "by root@localhost: ").await;
    bastion.words("node release node1 --reason seen").await.done();
    // It runs what is wished, and only that it stays is left to do.
    assert_eq!(bastion.words("upgrade kernel node1 --channel elrepo-lt --yes --detach").await.code, 7);
    shows(&bastion, "run show r2", "running    confirm-kernel/node1").await;
    assert_eq!(kernels(&nodes[0]), [NEW, OLD], "it is still on trial");
    mend(&bastion, &nodes[0]).await;
    bastion.words("run attach r2").await.done();
    assert_eq!(kernels(&nodes[0]), [NEW, NEW]);
    assert_eq!(kernels(&nodes[1]), [OLD, OLD], "its turn never came");
}
