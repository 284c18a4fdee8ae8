// SPDX-License-Identifier: Apache-2.0
//! Nodes that are away when their turn comes, orders that were given up, nodes that are removed while a run holds them, and
//! a state that cannot be written for a while.

use std::time::Duration;

use windlass_agent::host::fake::Node;
use windlass_controller::store::{Change, Transaction};
use windlass_tests::bastion::Bastion;
use windlass_tests::dying_store::Moment;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::LONG;
use windlass_types::facts::ServiceState;

use super::fleet::{TRANSACTION, outdated, shows};

fn version(node: &ModelledNode) -> String {
    node.host.node().packages[0].version.clone()
}

#[tokio::test]
async fn nodes_that_are_away_are_skipped_although_as_many_are_away_as_may_be_down() {
    let bastion = Bastion::start().await;
    let mut nodes = outdated(&bastion, &["node1", "node2", "node3"]).await;
    nodes[0].hold_programs(TRANSACTION);
    let begun = bastion.words("update packages --all --unreachable skip --yes --detach").await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(&bastion, "run show r1", "running    packages/node1").await;
    nodes[1..].iter_mut().for_each(ModelledNode::switch_off);
    shows(&bastion, "status", "2 of 3 nodes not healthy").await;
    nodes[0].hold_programs(None);
    let ended = bastion.words("run attach r1").await;
    assert!(ended.code == 3 && ended.stderr.contains("is skipped: node3 is not connected"), "{ended:?}");
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["2-1", "1-1", "1-1"]);
}

/// Three nodes, of which two are at work and the third goes away before its turn.
async fn goes_away_before_its_turn(bastion: &Bastion, rule: &str) -> Vec<ModelledNode> {
    let mut nodes = outdated(bastion, &["node1", "node2", "node3"]).await;
    nodes[..2].iter().for_each(|node| node.hold_programs(TRANSACTION));
    let update = format!("update packages --all --max-unavailable 2 --unreachable {rule} --yes --detach");
    assert_eq!(bastion.words(&update).await.code, 7);
    shows(bastion, "run show r1", "running    packages/node1").await;
    shows(bastion, "run show r1", "running    packages/node2").await;
    nodes[2].switch_off();
    shows(bastion, "status", "1 of 3 nodes not healthy").await;
    nodes[..2].iter().for_each(|node| node.hold_programs(None));
    nodes
}

#[tokio::test]
async fn a_node_that_is_away_at_its_turn_is_skipped_if_the_rules_say_so_and_comes_in_with_a_retry() {
    let bastion = Bastion::start().await;
    let mut nodes = goes_away_before_its_turn(&bastion, "skip").await;
    let ended = bastion.words("run attach r1").await;
    assert!(ended.code == 3 && ended.stderr.contains("is skipped: node3 is not connected"), "{ended:?}");
    let shown = bastion.words("run show r1").await.ok();
    assert!(shown.contains("do: `windlass run retry r1` when it is back"), "{shown}");
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["2-1", "2-1", "1-1"]);
    nodes[2].switch_on();
    shows(&bastion, "status", "3 nodes, all healthy").await;
    bastion.words("run retry r1").await.done();
    assert_eq!(version(&nodes[2]), "2-1");
}

#[tokio::test]
async fn a_node_that_is_away_at_its_turn_fails_the_run_if_the_rules_say_so() {
    let bastion = Bastion::start().await;
    let nodes = goes_away_before_its_turn(&bastion, "fail").await;
    let ended = bastion.words("run attach r1").await;
    assert!(ended.code == 3 && ended.stderr.contains("failed: node3 is not connected"), "{ended:?}");
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["2-1", "2-1", "1-1"]);
}

const SERVICES: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {existing: {}}\n  \
                        nodes: [{name: node1}, {name: node2}]\n  settings: {services: {tuned.service: on}}\n  \
                        policy: {RULE, parallel: 1}\n";

fn with_tuned(node: &mut Node) {
    let text = str::to_owned;
    node.services.push(ServiceState { unit: text("tuned.service"), active: text("inactive"), sub: text("dead") });
}

/// The controller is killed while a node is at work that it need not hold, and while another one waits.
async fn killed_at_work(rule: &str) {
    let mut bastion = Bastion::start().await;
    let spec = bastion.write("cluster.yaml", &SERVICES.replace("RULE", &format!("unreachable: {rule}")));
    let nodes = [ModelledNode::start(&bastion, "node1").await, ModelledNode::start(&bastion, "node2").await];
    shows(&bastion, "status", "2 nodes, all healthy").await;
    for node in &nodes {
        node.host.change(with_tuned);
        node.hold_programs(Some(" enable "));
    }
    let begun = bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(&bastion, "run show r1", "running    set/node1/").await;
    bastion.kill9().await;
    bastion.restart().await;
    nodes.iter().for_each(|node| node.hold_programs(None));
    let ended = bastion.words("run attach r1").await;
    assert_eq!(ended.code, 0, "{rule}: {ended:?}");
}

#[tokio::test]
async fn nodes_that_have_not_dialled_yet_since_the_controller_was_killed_are_neither_skipped_nor_failed() {
    killed_at_work("skip").await;
    killed_at_work("fail").await;
}

#[tokio::test]
async fn a_setting_waits_for_a_node_that_was_quarantined_since_the_plan_and_begins_when_it_is_released() {
    let bastion = Bastion::start().await;
    let spec = bastion.write("cluster.yaml", &SERVICES.replace("RULE", "onFailure: stop"));
    let nodes = [ModelledNode::start(&bastion, "node1").await, ModelledNode::start(&bastion, "node2").await];
    shows(&bastion, "status", "2 nodes, all healthy").await;
    nodes.iter().for_each(|node| node.host.change(with_tuned));
    nodes[0].hold_programs(Some(" enable "));
    let begun = bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(&bastion, "run show r1", "running    set/node1/").await;
    bastion.words("node quarantine node2 --reason smoke").await.done();
    nodes[0].hold_programs(None);
    shows(&bastion, "run show r1", "waits: node2 is in quarantine: smoke").await;
    assert_eq!(nodes[1].effect("enable tuned.service"), 0);
    bastion.words("node release node2").await.done();
    let ended = bastion.words("run attach r1").await;
    assert_eq!((ended.code, nodes[1].effect("enable tuned.service")), (0, 1), "{ended:?}");
}

#[tokio::test]
async fn an_order_that_was_given_up_before_its_node_heard_of_it_is_never_given() {
    let mut bastion = Bastion::start().await;
    let mut nodes = outdated(&bastion, &["node1"]).await;
    // Killed when the order is stored, and before it leaves.
    let is_order = |transaction: &Transaction| {
        transaction.changes.iter().any(|change| {
            matches!(change, Change::Put(key, value)
                if key.starts_with("jobs/") && String::from_utf8_lossy(value).contains("packages/node1"))
        })
    };
    bastion.store().die_when(is_order, Moment::After);
    let mut updating = bastion.command("update packages node1 --yes --detach");
    let updating = tokio::spawn(async move { windlass_tests::process::run(&mut updating).await });
    assert!(tokio::time::timeout(LONG, async { bastion.store().died().await }).await.is_ok(), "it lives");
    nodes[0].switch_off();
    bastion.kill9().await;
    bastion.restart().await;
    drop(updating.await);
    shows(&bastion, "run show r1", "waits until node1 is connected").await;
    bastion.words("run stop r1").await.done();
    shows(&bastion, "run show r1", "by root@localhost: failed").await;
    nodes[0].switch_on();
    shows(&bastion, "status", "1 node, healthy").await;
    bastion.words("exec node1 -- touch /etc/heard").await.done();
    assert_eq!(version(&nodes[0]), "1-1", "nobody waits for it, and another node may be down by now");
    bastion.words("run retry r1").await.done();
    assert_eq!(version(&nodes[0]), "2-1");
}

#[tokio::test]
async fn a_node_that_is_removed_is_held_by_nobody_and_the_next_of_its_name_is_free() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1"]).await;
    nodes[0].break_in("packages/node1", 0);
    let failed = bastion.words("update packages node1 --yes").await;
    assert_eq!(failed.code, 1, "{failed:?}");
    shows(&bastion, "status", "node1 is held by run r1").await;
    bastion.words("node remove node1 --yes").await.done();
    assert_eq!(bastion.words("status -o json").await.json()["holds"], serde_json::json!([]));
}

#[tokio::test]
async fn a_run_whose_state_cannot_be_written_rests_says_so_and_goes_on_when_it_can() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1", "node2"]).await;
    nodes[0].hold_programs(TRANSACTION);
    assert_eq!(bastion.words("update packages --all --yes --detach").await.code, 7);
    shows(&bastion, "run show r1", "running    packages/node1").await;
    bastion.store().set_full(true);
    let stopped = bastion.words("run pause r1").await;
    assert!(stopped.code != 0 && stopped.stderr.contains("free some space"), "{stopped:?}");
    nodes[0].hold_programs(None);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(version(&nodes[1]), "1-1", "nothing begins that is not recorded");
    bastion.store().set_full(false);
    let ended = bastion.words("run attach r1").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["2-1", "2-1"]);
}

#[tokio::test]
async fn a_run_that_shall_pause_after_a_failure_is_paused_when_the_controller_is_killed_in_that_moment() {
    let mut bastion = Bastion::start().await;
    let spec = bastion.write("cluster.yaml", &SERVICES.replace("RULE", "onFailure: pause"));
    let nodes = [ModelledNode::start(&bastion, "node1").await, ModelledNode::start(&bastion, "node2").await];
    shows(&bastion, "status", "2 nodes, all healthy").await;
    nodes.iter().for_each(|node| node.host.change(with_tuned));
    nodes[0].break_in("set/node1/service:tuned.service", 0);
    let is_failure = |transaction: &Transaction| {
        transaction.changes.iter().any(|change| {
            matches!(change, Change::Put(key, value)
                if key.starts_with("run-steps/") && String::from_utf8_lossy(value).contains("\"failed\""))
        })
    };
    bastion.store().die_when(is_failure, Moment::After);
    let begun = bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    assert!(tokio::time::timeout(LONG, async { bastion.store().died().await }).await.is_ok(), "it lives");
    bastion.kill9().await;
    bastion.restart().await;
    shows(&bastion, "status", "2 nodes, all healthy").await;
    shows(&bastion, "run show r1", "paused").await;
    assert_eq!(nodes[1].effect("enable tuned.service"), 0, "nothing more begins");
    bastion.words("run retry r1").await.done();
}

#[tokio::test]
async fn a_node_whose_repositories_do_not_answer_holds_nobody_else_up() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1", "node2"]).await;
    nodes[1].host.change(|node| node.repositories_are_down = true);
    let updated = bastion.words("update packages --all --unreachable skip --yes").await;
    assert!(updated.code == 3 && updated.stderr.contains("node2: cannot be asked, and is skipped"), "{updated:?}");
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["2-1", "1-1"]);
    nodes[1].host.change(|node| node.repositories_are_down = false);
    let due = bastion.words("update packages --all --dry-run --detailed-exitcode").await;
    assert_eq!(due.code, 2, "{due:?}");
    bastion.words("update packages --all --yes").await.done();
    let none = bastion.words("update packages --all --dry-run --detailed-exitcode").await;
    assert_eq!((version(&nodes[1]).as_str(), none.code), ("2-1", 0), "{none:?}");
}

#[tokio::test]
async fn a_run_is_known_by_its_own_id_only() {
    let bastion = Bastion::start().await;
    let _nodes = outdated(&bastion, &["node1"]).await;
    bastion.words("update packages node1 --yes").await.done();
    bastion.words("run show r1").await.done();
    for words in ["run show r01", "run stop r01", "run retry r01"] {
        bastion.words(words).await.assert_refused(1, "there is no run r01", "windlass run list");
    }
}
