// SPDX-License-Identifier: Apache-2.0
//! Nodes that are away when a run is planned: waited for, planned for and brought in when they are back, or named.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_agent::host::fake::ModelPackage;
use windlass_tests::bastion::Bastion;
use windlass_tests::dying_store::Moment;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::Answer;

use super::fleet::shows;

/// What the model counts when it reboots.
const REBOOT: &str = "reboot";

/// Two of the three may be down, one of which is the one that is away.
const ROLL: &str = "reboot --rolling --all --yes --max-unavailable 2";

/// Three nodes, of which the last is away.
async fn fleet(bastion: &Bastion) -> [ModelledNode; 3] {
    let mut nodes = [
        ModelledNode::start(bastion, "node1").await,
        ModelledNode::start(bastion, "node2").await,
        ModelledNode::start(bastion, "node3").await,
    ];
    shows(bastion, "status", "3 nodes, all healthy").await;
    nodes[2].switch_off();
    shows(bastion, "status", "1 of 3 nodes not healthy").await;
    nodes
}

fn reboots(nodes: &[ModelledNode]) -> BTreeMap<&str, u64> {
    nodes.iter().map(|node| (node.name.as_str(), node.effect(REBOOT))).collect()
}

const EACH_ONCE: [(&str, u64); 3] = [("node1", 1), ("node2", 1), ("node3", 1)];

/// Begins the roll, and gives it when nothing is left of it but to wait.
async fn waiting(bastion: &Bastion) -> tokio::task::JoinHandle<Answer> {
    let mut rolling = bastion.command(ROLL);
    let rolling = tokio::spawn(async move { windlass_tests::process::run(&mut rolling).await });
    shows(bastion, "run show r1", "2 of 2 steps done").await;
    rolling
}

#[tokio::test]
async fn a_node_that_was_away_at_planning_is_waited_for_and_has_its_turn_in_the_same_run() {
    let bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion).await;
    let rolling = waiting(&bastion).await;
    let shown = bastion.words("run show r1").await.ok();
    assert!(shown.contains("running") && shown.contains("waits for  node3: it is not connected"), "{shown}");
    let status = bastion.words("status").await;
    assert!(status.stdout.contains("node3 is waited for: it is not connected"), "{status:?}");
    let other = bastion.words("reboot node3 --yes").await;
    assert_ne!(other.code, 0, "it is the first run's: {other:?}");
    nodes[2].switch_on();
    let rolled = rolling.await.expect("it ends");
    assert_eq!(rolled.code, 0, "{rolled:?}");
    for said in ["node3 is waited for: it is not connected", "node3 is back: 1 step is to be done there"] {
        assert!(rolled.stderr.contains(said), "no {said:?} in {rolled:?}");
    }
    assert_eq!(reboots(&nodes), BTreeMap::from(EACH_ONCE));
    let run = bastion.words("run show r1 -o json").await.json();
    assert_eq!((&run["planRevision"], run["steps"].as_array().map(Vec::len)), (&1.into(), Some(3)), "{run}");
}

#[tokio::test]
async fn who_is_given_up_is_named_with_the_command_that_brings_it_in_later() {
    let bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion).await;
    let rolling = waiting(&bastion).await;
    bastion.words("run stop r1").await.done();
    let stopped = rolling.await.expect("it ends");
    stopped.assert_refused(3, "node3 is left out", "windlass run retry r1 when that is over");
    assert_eq!(reboots(&nodes)["node3"], 0);
    bastion.words("node label node3 rack=a").await.done();
    nodes[2].switch_on();
    bastion.words("run retry r1").await.done();
    assert_eq!(reboots(&nodes), BTreeMap::from(EACH_ONCE));
}

#[tokio::test]
async fn a_node_that_is_back_and_put_aside_is_left_out_by_name_and_is_free_again() {
    let bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion).await;
    let rolling = waiting(&bastion).await;
    bastion.words("node quarantine node3 --reason smoke").await.done();
    nodes[2].switch_on();
    let rolled = rolling.await.expect("it ends");
    rolled.assert_refused(3, "node3 is back: it is left as it is: it is in quarantine: smoke", "left as it is: node3");
    bastion.words("node release node3").await.done();
    bastion.words("reboot node3 --yes").await.done();
    assert_eq!(reboots(&nodes), BTreeMap::from(EACH_ONCE));
}

const PACKAGES: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {existing: {}}\n  \
                        nodes: [{name: node1}, {name: node2}]\n  packages: {update: all}\n  settings:\n    \
                        repositories: [{name: extra, url: http://10.0.2.2/, gpgKey: key.asc}]\n";

fn outdated(node: &ModelledNode) {
    node.host.change(|node| {
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    });
}

fn words(node: &ModelledNode) -> Vec<String> {
    node.host.node().packages.iter().map(ModelPackage::full).collect()
}

#[tokio::test]
async fn a_new_repository_and_a_new_node_and_the_packages_of_both_take_one_apply() {
    let bastion = Bastion::start().await;
    let spec = bastion.write("cluster.yaml", PACKAGES);
    let node1 = ModelledNode::start(&bastion, "node1").await;
    outdated(&node1);
    shows(&bastion, "status", "1 node, healthy").await;
    let planned = bastion.words(&format!("plan -f {spec}")).await.ok();
    for said in ["the rest of node1 is planned after set/node1/", "the rest of node2 is planned after adopt/node2"] {
        assert!(planned.replace("\n    ", " ").contains(said), "no {said:?} in {planned}");
    }
    let mut applying = bastion.command(&format!("apply -f {spec} --yes"));
    let applying = tokio::spawn(async move { windlass_tests::process::run(&mut applying).await });
    shows(&bastion, "run show r1", "done       packages/node1").await;
    let node2 = ModelledNode::start(&bastion, "node2").await;
    outdated(&node2);
    let applied = applying.await.expect("it ends");
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.stderr.contains("node1 was looked at again: 1 step is to be done there"), "{applied:?}");
    let repository = std::path::Path::new("/etc/yum.repos.d/extra.repo");
    for node in [&node1, &node2] {
        assert_eq!(words(node), ["words-2-1.x86_64"], "{applied:?}");
        assert!(node.host.node().files.contains_key(repository));
    }
    let again = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(again.code == 0 && again.stderr.contains("othing to do"), "{again:?}");
    let mut away = node2;
    away.switch_off();
    shows(&bastion, "status", "1 of 2 nodes not healthy").await;
    let nobody = bastion.words(&format!("apply -f {spec} --yes")).await;
    nobody.assert_refused(4, "nothing of it can be done now", "bringing back one that is not connected");
}

/// Kills the controller at one write of a run that grows, lets it come back, and looks at what happened to the nodes.
async fn killed_at(nth: u64, moment: Moment) -> bool {
    let mut bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion).await;
    let rolling = waiting(&bastion).await;
    bastion.store().die_at(nth, moment);
    nodes[2].switch_on();
    let store = bastion.store();
    let died = tokio::select! {
        () = store.died() => true,
        () = async {
            while !rolling.is_finished() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } => false,
    };
    if died {
        bastion.kill9().await;
        bastion.restart().await;
    }
    let first = rolling.await.expect("it ends");
    bastion.words("run attach r1").await.done();
    shows(&bastion, "status", "3 nodes, all healthy").await;
    let at = format!("killed {moment:?} write {nth}: {first:?}");
    assert_eq!(reboots(&nodes), BTreeMap::from(EACH_ONCE), "{at}");
    assert_eq!(bastion.words("status -o json").await.json()["holds"], serde_json::json!([]), "{at}");
    died
}

/// Every write from the return of the node on, until there are no more.
async fn every_write(moment: Moment) {
    let mut nth = 1;
    while killed_at(nth, moment).await {
        nth += 1;
    }
    assert!(nth > 10, "a run that grows by a reboot has more writes than {nth}");
}

#[tokio::test]
async fn a_controller_killed_before_a_write_while_the_run_grows_reboots_no_node_twice() {
    every_write(Moment::Before).await;
}

#[tokio::test]
async fn a_controller_killed_after_a_write_while_the_run_grows_reboots_no_node_twice() {
    every_write(Moment::After).await;
}
