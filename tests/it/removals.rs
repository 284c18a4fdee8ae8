// SPDX-License-Identifier: Apache-2.0
//! Nodes that leave a cluster: each is removed under its lease, when it may go down, and not beside another that is down. With
//! a whole cluster nobody is left to be asked for.

use windlass_controller::store::{Change, Transaction};
use windlass_tests::bastion::Bastion;
use windlass_tests::dying_store::Moment;
use windlass_tests::fake_provider::Guest;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::Answer;
use windlass_tests::wait::{LONG, wait_until};

use super::fleet::{TRANSACTION, outdate, shows};

/// A cluster of node1 and so on, on machines of the provider's.
async fn cluster(bastion: &Bastion, count: usize) -> Vec<ModelledNode> {
    let names: Vec<_> = (1..=count).map(|nth| format!("node{nth}")).collect();
    names.iter().for_each(|name| bastion.provider.behave(name, Guest::Elsewhere));
    let spec: Vec<_> = names.iter().map(|name| format!("{{name: {name}}}")).collect();
    let spec = bastion.spec(&spec.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(bastion.words(&format!("apply -f {spec} --yes --detach")).await.code, 7);
    let mut nodes = Vec::new();
    for name in &names {
        wait_until("a machine", LONG, || async { bastion.provider.is_on(name) }).await;
        nodes.push(ModelledNode::start(bastion, name).await);
    }
    bastion.words("run attach r1").await.done();
    nodes
}

/// Everything but node1 is taken out of the spec.
fn shrinks(bastion: &Bastion) -> String {
    format!("apply -f {} --confirm k8s1", bastion.spec(&["{name: node1}"]))
}

/// Who went when, as it was told.
fn order(told: &Answer) -> Vec<&str> {
    let words = ["may take", "is deleted", "is done with"];
    let lines = told.stderr.lines().filter_map(|line| line.split_once("  ").map(|(_, said)| said));
    lines.filter(|said| words.iter().any(|word| said.contains(word))).collect()
}

fn one_after_the_other(told: &Answer, nodes: &[&str]) {
    let order = order(told);
    let expected = nodes.iter().flat_map(|node| {
        [format!("may take {node} down"), format!("machine of {node} is deleted"), format!("is done with {node}")]
    });
    let expected: Vec<_> = expected.collect();
    let is_so = order.len() == expected.len() && order.iter().zip(&expected).all(|(said, word)| said.contains(word));
    assert!(is_so, "{order:?} and not {expected:?}");
}

async fn nobody_holds_anything(bastion: &Bastion) {
    // How the nodes are that stay is another question.
    let status = bastion.words("status -o json").await.stdout;
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    assert_eq!(status["holds"], serde_json::json!([]));
}

#[tokio::test]
async fn nodes_that_left_the_spec_go_one_after_the_other_and_not_beside_one_that_is_down() {
    let bastion = Bastion::start().await;
    let mut nodes = cluster(&bastion, 3).await;
    nodes[0].switch_off();
    shows(&bastion, "status", "1 of 3 nodes not healthy").await;
    let begun = bastion.words(&format!("{} --detach", shrinks(&bastion))).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    assert!(begun.stderr.contains("Turn by turn, never more than 1 node down at once"), "{begun:?}");
    let waiting = async || bastion.words("run show r2").await.stdout.matches("1 down or in hand").count();
    wait_until("both to wait", LONG, async || waiting().await == 2).await;
    assert_eq!(bastion.provider.names(), ["node1", "node2", "node3"]);
    nodes[0].switch_on();
    let ended = bastion.words("run attach r2").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    one_after_the_other(&ended, &["node2", "node3"]);
    assert_eq!(bastion.provider.names(), ["node1"]);
    assert_eq!(bastion.words("get nodes -o name").await.ok(), "node1\n");
    nobody_holds_anything(&bastion).await;
}

#[tokio::test]
async fn a_node_is_not_removed_while_another_run_has_one_down() {
    let bastion = Bastion::start().await;
    let nodes = cluster(&bastion, 2).await;
    outdate(&nodes[0]);
    nodes[0].hold_programs(TRANSACTION);
    assert_eq!(bastion.words("update packages node1 --yes --detach").await.code, 7);
    shows(&bastion, "run show r2", "running    packages/node1").await;
    let begun = bastion.words("destroy --cluster k8s1 --node node2 --confirm k8s1 --detach").await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(&bastion, "run show r3", "1 down or in hand").await;
    assert_eq!(bastion.provider.names(), ["node1", "node2"]);
    nodes[0].hold_programs(None);
    bastion.words("run attach r3").await.done();
    bastion.words("run attach r2").await.done();
    assert_eq!(bastion.provider.names(), ["node1"]);
}

#[tokio::test]
async fn broken_nodes_can_be_removed_and_hold_up_each_other_only_while_that_is_done() {
    let bastion = Bastion::start().await;
    let mut nodes = cluster(&bastion, 4).await;
    nodes[2..].iter_mut().for_each(ModelledNode::switch_off);
    shows(&bastion, "status", "2 of 4 nodes not healthy").await;
    let removed = bastion.words(&shrinks(&bastion)).await;
    assert_eq!(removed.code, 0, "{removed:?}");
    // What is not well goes first: beside it node2 could not go.
    one_after_the_other(&removed, &["node3", "node4", "node2"]);
    assert_eq!(bastion.provider.names(), ["node1"]);
}

#[tokio::test]
async fn a_whole_cluster_is_destroyed_at_once_and_asks_nobody() {
    let bastion = Bastion::start().await;
    let mut nodes = cluster(&bastion, 3).await;
    nodes[0].switch_off();
    shows(&bastion, "status", "1 of 3 nodes not healthy").await;
    bastion.words("node quarantine node2 --reason smoke").await.done();
    let destroyed = bastion.words("destroy --cluster k8s1 --confirm k8s1").await;
    assert_eq!(destroyed.code, 0, "{destroyed:?}");
    let deleted = order(&destroyed);
    assert!(deleted.len() == 3 && deleted.iter().all(|said| said.contains("is deleted")), "{deleted:?}");
    assert!(bastion.provider.names().is_empty());
    nobody_holds_anything(&bastion).await;
}

#[tokio::test]
async fn a_node_that_was_put_aside_is_removed_only_when_it_is_released() {
    let bastion = Bastion::start().await;
    let _nodes = cluster(&bastion, 2).await;
    bastion.words("node quarantine node2 --reason smoke").await.done();
    let destroy = "destroy --cluster k8s1 --node node2 --confirm k8s1";
    bastion.words(destroy).await.assert_refused(4, "node2 is in quarantine: smoke", "windlass node release node2");
    assert_eq!(bastion.provider.names(), ["node1", "node2"]);
    bastion.words("node release node2").await.done();
    bastion.words(destroy).await.done();
    assert_eq!(bastion.provider.names(), ["node1"]);
}

#[tokio::test]
async fn a_node_that_cannot_be_removed_is_held_and_no_other_goes_until_somebody_tries_again() {
    let bastion = Bastion::start().await;
    let _nodes = cluster(&bastion, 3).await;
    bastion.provider.refuse_deletion(true);
    let failed = bastion.words(&shrinks(&bastion)).await;
    assert!(failed.code == 1 && failed.stderr.contains("run r2 has failed and still holds node2"), "{failed:?}");
    assert_eq!(bastion.provider.names(), ["node1", "node2", "node3"]);
    bastion.provider.refuse_deletion(false);
    bastion.words("run retry r2").await.done();
    assert_eq!(bastion.provider.names(), ["node1"]);
    nobody_holds_anything(&bastion).await;
}

/// A write by which the removal of node2 goes on.
type Write = fn(&Change) -> bool;

const WRITES: [(&str, Write); 4] = [
    ("the lease", |change| matches!(change, Change::Put(key, _) if key == "leases/node2")),
    ("the revocation", |change| matches!(change, Change::Put(key, _) if key == "nodes/node2")),
    ("the removal", |change| matches!(change, Change::Delete(key) if key == "nodes/node2")),
    ("the result", |change| {
        matches!(change, Change::Put(key, value)
            if key == "run-steps/r2/delete/node2" && String::from_utf8_lossy(value).contains("\"done\""))
    }),
];

#[tokio::test]
async fn a_removal_whose_controller_is_killed_is_brought_to_its_end_under_the_lease_it_has() {
    for (what, is_it) in WRITES {
        let mut bastion = Bastion::start().await;
        let mut nodes = cluster(&bastion, 2).await;
        let is_write = move |transaction: &Transaction| transaction.changes.iter().any(is_it);
        bastion.store().die_when(is_write, Moment::After);
        let mut apply = bastion.command(&format!("{} --detach", shrinks(&bastion)));
        let apply = tokio::spawn(async move { windlass_tests::process::run(&mut apply).await });
        assert!(tokio::time::timeout(LONG, async { bastion.store().died().await }).await.is_ok(), "{what}: it lives");
        bastion.kill9().await;
        drop(apply.await);
        // Whoever asked now would wait.
        nodes[0].switch_off();
        bastion.restart().await;
        let ended = bastion.words("run attach r2").await;
        assert_eq!((ended.code, bastion.provider.names()), (0, vec!["node1".to_owned()]), "{what}: {ended:?}");
        let granted = order(&ended).iter().filter(|said| said.contains("may take")).count();
        assert!(granted <= 1, "{what}: {ended:?}");
        assert_eq!(bastion.words("get nodes -o name").await.ok(), "node1\n", "{what}");
        nobody_holds_anything(&bastion).await;
    }
}
