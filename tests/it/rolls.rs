// SPDX-License-Identifier: Apache-2.0
//! Rolling over nodes that are models, with the real command line, controller and agents: one after the other, each once,
//! whatever is killed.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_agent::host::fake::ModelPackage;
use windlass_controller::orders::RESTORED;
use windlass_controller::store::{Committed, Store as _, Transaction};
use windlass_tests::bastion::Bastion;
use windlass_tests::dying_store::Moment;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::Answer;
use windlass_tests::wait::{LONG, wait_until};

use super::fleet::are_well;

/// What the model counts when it reboots.
const REBOOT: &str = "reboot";

async fn fleet(bastion: &Bastion, names: &[&str]) -> Vec<ModelledNode> {
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(ModelledNode::start(bastion, name).await);
    }
    are_well(bastion, names.len()).await;
    nodes
}

fn reboots(nodes: &[ModelledNode]) -> BTreeMap<&str, u64> {
    nodes.iter().map(|node| (node.name.as_str(), node.effect(REBOOT))).collect()
}

/// Events of a run, as lines.
fn told(answer: &Answer) -> Vec<&str> {
    answer.stderr.lines().filter_map(|line| line.split_once("  ").map(|(_, said)| said)).collect()
}

#[tokio::test]
async fn nodes_reboot_one_after_the_other_each_once_and_healthy_before_the_next() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2", "node3"]).await;
    let rolled = bastion.words("reboot --rolling --all --yes").await;
    assert_eq!(rolled.code, 0, "{rolled:?}");
    assert_eq!(reboots(&nodes), BTreeMap::from([("node1", 1), ("node2", 1), ("node3", 1)]), "{rolled:?}");
    let told = told(&rolled);
    let leases: Vec<_> =
        told.iter().filter(|said| said.contains("may take") || said.contains("is done with")).collect();
    let order =
        ["may take node1", "done with node1", "may take node2", "done with node2", "may take node3", "done with node3"];
    assert!(leases.len() == 6 && leases.iter().zip(order).all(|(said, wanted)| said.contains(wanted)), "{leases:?}");
    let waits = told.iter().any(|said| said.contains("boot/node2 waits: ") && said.contains("node1"));
    assert!(waits, "nobody says what node2 waits for: {told:?}");
    let shown = bastion.words("run show r1").await.ok();
    assert!(shown.contains("succeeded") && shown.contains("3 of 3 steps done"), "{shown}");
    let listed = bastion.words("run list -o json").await.json();
    assert_eq!(listed["items"][0]["doneCount"], 3, "also of a run that has ended: {listed}");
    are_well(&bastion, 3).await;
    let retried = bastion.words("run retry r1").await;
    assert!(retried.code != 0 && retried.stderr.contains("nothing of run r1 failed"), "{retried:?}");
}

#[tokio::test]
async fn a_hundred_packages_get_the_versions_that_were_shown_and_then_there_is_nothing_to_do() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2"]).await;
    let all = |version: &str| (0..100).map(|n| ModelPackage::new(&format!("package{n:03}"), version)).collect();
    for node in &nodes {
        node.host.change(|node| (node.packages, node.repository) = (all("1-1"), all("2-1")));
    }
    let shown = bastion.words("update packages --all --dry-run").await;
    assert!(shown.code == 0 && shown.stdout.contains("package000.x86_64 1-1 -> 2-1"), "{shown:?}");
    let updated = bastion.words("update packages --all --yes").await;
    assert_eq!(updated.code, 0, "{updated:?}");
    for node in &nodes {
        node.host.change(|node| assert!(node.packages.iter().all(|package| package.version == "2-1"), "{updated:?}"));
    }
    let again = bastion.words("update packages --all --yes").await;
    assert!(again.code == 0 && again.stderr.contains("othing to do"), "{again:?}");
}

#[tokio::test]
async fn a_service_is_restarted_after_its_package_was_replaced_and_then_there_is_nothing_to_do() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1"]).await;
    nodes[0].host.advance(Duration::from_secs(60));
    nodes[0].host.change(|node| {
        node.services[0].unit = "words.service".into();
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    });
    let shown = bastion.words("update packages node1 --dry-run").await;
    assert!(shown.code == 0 && shown.stdout.contains("words.service"), "{shown:?}");
    bastion.words("update packages node1 --yes").await.done();
    assert_eq!(nodes[0].effect("restart words.service"), 1);
    let again = bastion.words("update packages node1 --yes").await;
    assert!(again.code == 0 && again.stderr.contains("othing to do"), "{again:?}");
}

#[tokio::test]
async fn a_run_says_that_it_waits_for_a_node_that_is_gone_and_a_stop_gives_that_up() {
    let bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion, &["node1"]).await;
    nodes[0].host.change(|node| {
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    });
    nodes[0].hold_programs(Some("dnf -C -y"));
    assert_eq!(bastion.words("update packages node1 --yes --detach").await.code, 7);
    let shows = async |said: &str| {
        wait_until(said, LONG, || async { bastion.words("run show r1").await.stdout.contains(said) }).await
    };
    shows("running    packages/node1").await;
    nodes[0].switch_off();
    shows("waits until node1 is connected").await;
    bastion.words("run stop r1").await.done();
    shows("how this ended is not known").await;
    shows("holds node1").await;
    nodes[0].hold_programs(None);
    nodes[0].switch_on();
    are_well(&bastion, 1).await;
    bastion.words("run retry r1").await.done();
    shows("by root@localhost: succeeded").await;
    assert_eq!(nodes[0].host.node().packages[0].version, "2-1");
}

#[tokio::test]
async fn packages_are_listed_updated_looked_up_in_the_history_and_put_back() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2"]).await;
    nodes[0].host.change(|node| {
        node.packages = vec![ModelPackage::new("jq", "1-1"), ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "1-1"), ModelPackage::new("words", "2-1")];
    });
    let list = bastion.words("packages list --all --name words").await.ok();
    assert!(list.starts_with("NODE   PACKAGE  VERSION  ARCH\nnode1  words    1-1      x86_64\n"), "{list}");
    let updates = bastion.words("packages updates --all -o json").await.json();
    let update = &updates["items"][0];
    assert_eq!((&update["from"], &update["to"], &update["node"]), (&"1-1".into(), &"2-1".into(), &"node1".into()));
    bastion.words("update packages node1 --yes").await.done();
    let history = bastion.words("packages history node1").await.ok();
    assert!(history.lines().nth(1).is_some_and(|line| line.starts_with("node1  1 ")), "{history}");
    let shown = bastion.words("packages undo node1 1 --dry-run").await;
    assert!(shown.code == 0 && shown.stdout.contains("words.x86_64 2-1 -> 1-1"), "{shown:?}");
    let plan = bastion.words("packages undo node1 1 --dry-run -o json").await.json();
    assert_eq!(plan["plan"]["steps"].as_array().map(Vec::len), Some(1), "{plan}");
    let undone = bastion.words("packages undo node1 1 --yes").await;
    assert_eq!(undone.code, 0, "{undone:?}");
    nodes[0].host.change(|node| assert_eq!(node.packages[1].version, "1-1"));
    let unknown = bastion.words("packages undo node1 77 --yes").await;
    unknown.assert_refused(4, "Transaction ID \"77\" not", "do:");
    let again = bastion.words("packages undo node1 1 --yes").await;
    assert!(again.code == 0 && again.stderr.contains("othing to do"), "{again:?}");
    bastion.words("packages refresh --all").await.done();
}

#[tokio::test]
async fn a_quarantined_node_is_left_out_and_two_go_at_once_if_two_may() {
    let bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2", "node3"]).await;
    bastion.words("node quarantine node2 --reason smoke").await.done();
    let status = bastion.words("status").await;
    assert!(status.code == 3 && status.stdout.contains("node2 is quarantined") && status.stdout.contains("smoke"));
    let rolled = bastion.words("reboot --rolling --all --max-unavailable 2 --yes").await;
    assert_eq!(rolled.code, 3, "what is left out is not success: {rolled:?}");
    assert_eq!(reboots(&nodes), BTreeMap::from([("node1", 1), ("node2", 0), ("node3", 1)]));
    bastion.words("node release node2").await.done();
    bastion.words("reboot node2 --yes").await.done();
    assert_eq!(reboots(&nodes)["node2"], 1);
}

#[tokio::test]
async fn a_node_in_hand_elsewhere_and_one_that_is_away_are_waited_for_and_told() {
    let bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion, &["node1", "node2"]).await;
    let planned = bastion.words("reboot --rolling --all --yes --detach --window Mon,Tue,Wed,Thu,Fri,Sat,Sun").await;
    assert!(planned.code != 0 && planned.stderr.contains("a window is"), "{planned:?}");
    drop(nodes.pop());
    wait_until("node2 is away", LONG, || async { bastion.words("status").await.stdout.contains("node2: ") }).await;
    let run = bastion.words("reboot node1 --yes --detach").await;
    assert_eq!(run.code, 7, "{run:?}");
    let waits = || async {
        bastion.words("run show r1").await.stdout.contains("waits: 1 down or in hand, and 1 may be: node2")
    };
    wait_until("it says what it waits for", LONG, waits).await;
    let other = bastion.words("reboot node1 --yes").await;
    other.assert_refused(6, "run r1 is under way", "windlass run attach r1");
    bastion.words("run stop r1").await.done();
    let ended = || async { bastion.words("run show r1").await.stdout.contains("stopped") };
    wait_until("it stops", LONG, ended).await;
    assert_eq!(nodes[0].effect(REBOOT), 0);
    let status = bastion.words("status -o json").await;
    assert!(status.stdout.contains("\"holds\": []"), "{status:?}");
}

/// Begins to reboot nodes, and has them wait for another that is away.
async fn waiting_roll(bastion: &Bastion, nodes: &str) {
    let run = bastion.words(&format!("reboot {nodes} --rolling --on-failure continue:1 --yes --detach")).await;
    assert_eq!(run.code, 7, "{run:?}");
    let waits = || async { bastion.words("run show r1").await.stdout.contains("waits: 1 down or in hand") };
    wait_until("it waits", LONG, waits).await;
}

async fn ends_as(bastion: &Bastion, state: &str) {
    let said = format!("by root@localhost: {state}");
    let ended = || async { bastion.words("run show r1").await.stdout.contains(&said) };
    wait_until(&format!("it has {state}"), LONG, ended).await;
    let status = bastion.words("status -o json").await;
    assert!(status.stdout.contains("\"holds\": []"), "{status:?}");
}

async fn write(bastion: &Bastion, transaction: Transaction) {
    let written = bastion.disk().commit(transaction).await.expect("there is room");
    assert!(matches!(written, Committed::Yes(_)));
}

/// Found by the simulation, `WINDLASS_SIM_SEED=45` and 47 of `one_run_seed`: the run waited for ever for the node that it
/// held itself.
#[tokio::test]
async fn a_node_on_which_nothing_was_begun_is_given_back_and_the_others_go_on() {
    let mut bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion, &["node1", "node2", "node3"]).await;
    drop(nodes.pop());
    waiting_roll(&bastion, "node1 node2").await;
    bastion.kill9().await;
    // By somebody else: the next controller asks the node how it is, and it is not as it was planned for.
    let twice = || vec![ModelPackage::new("words", "1-1"), ModelPackage::new("words", "2-1")];
    nodes[0].host.change(|node| node.packages = twice());
    bastion.restart().await;
    bastion.words("node remove node3 --yes").await.done();
    ends_as(&bastion, "failed").await;
    assert_eq!(reboots(&nodes), BTreeMap::from([("node1", 0), ("node2", 1)]));
    let shown = bastion.words("run show r1").await;
    assert!(shown.stdout.contains("node1 is not as planned"), "{shown:?}");
}

#[tokio::test]
async fn a_node_that_was_started_before_its_turn_is_rebooted_in_its_turn() {
    let mut bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion, &["node1", "node2", "node3"]).await;
    drop(nodes.pop());
    waiting_roll(&bastion, "node1 node2").await;
    bastion.kill9().await;
    nodes[0].host.reboot();
    bastion.restart().await;
    bastion.words("node remove node3 --yes").await.done();
    ends_as(&bastion, "succeeded").await;
    assert_eq!(reboots(&nodes), BTreeMap::from([("node1", 1), ("node2", 1)]));
}

#[tokio::test]
async fn a_run_of_a_backup_does_not_go_on_when_the_controller_is_killed_as_soon_as_it_is_confirmed() {
    let mut bastion = Bastion::start().await;
    let mut nodes = fleet(&bastion, &["node1", "node2"]).await;
    drop(nodes.pop());
    waiting_roll(&bastion, "node1").await;
    bastion.kill9().await;
    write(&bastion, Transaction::new().put(RESTORED, "{}")).await;
    bastion.restart().await;
    bastion.kill9().await;
    // That it is confirmed is all that is stored when it is killed.
    write(&bastion, Transaction::new().delete(RESTORED)).await;
    bastion.restart().await;
    ends_as(&bastion, "stopped").await;
    assert_eq!(nodes[0].effect(REBOOT), 0);
}

#[tokio::test]
async fn a_job_of_a_backup_is_not_ordered_when_the_controller_is_killed_as_soon_as_it_is_confirmed() {
    let mut bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2"]).await;
    nodes[0].hold_programs(Some("touch"));
    assert_eq!(bastion.words("exec --all --batch 1 --detach -- touch /etc/done").await.code, 7);
    bastion.kill9().await;
    write(&bastion, Transaction::new().put(RESTORED, "{}")).await;
    bastion.restart().await;
    bastion.kill9().await;
    write(&bastion, Transaction::new().delete(RESTORED)).await;
    bastion.restart().await;
    nodes[0].hold_programs(None);
    let ended = bastion.words("attach 1").await;
    assert!(ended.code == 3 && ended.stderr.contains("1 of 2 nodes skipped: node2"), "node1 had its order: {ended:?}");
}

/// Kills the controller at one write of a roll over two nodes, lets it come back, and looks at what happened to the nodes.
async fn killed_at(nth: u64, moment: Moment) -> bool {
    let mut bastion = Bastion::start().await;
    let nodes = fleet(&bastion, &["node1", "node2"]).await;
    bastion.store().die_at(nth, moment);
    let mut rolling = bastion.command("reboot --rolling --all --yes");
    let rolling = tokio::spawn(async move { windlass_tests::process::run(&mut rolling).await });
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
    are_well(&bastion, 2).await;
    // Killed before the run was recorded, nothing was begun: the same command again.
    if bastion.words("run list -o name").await.ok().is_empty() {
        bastion.words("reboot --rolling --all --yes").await.done();
    }
    bastion.words("run attach r1").await.done();
    let at = format!("killed {moment:?} write {nth}: {first:?}");
    assert_eq!(reboots(&nodes), BTreeMap::from([("node1", 1), ("node2", 1)]), "{at}");
    assert_eq!(bastion.words("status -o json").await.json()["holds"], serde_json::json!([]), "{at}");
    died
}

/// Every write of the roll, until there are no more.
async fn every_write(first: u64, step: u64, moment: Moment) {
    let mut nth = first;
    while killed_at(nth, moment).await {
        nth += step;
    }
    assert!(nth > 20, "a roll over two nodes has more writes than {nth}");
}

macro_rules! grid {
    ($($name:ident = $first:literal, $moment:ident;)*) => {
        $(#[tokio::test]
        async fn $name() {
            every_write($first, 4, Moment::$moment).await;
        })*
    };
}

grid! {
    a_controller_killed_before_a_write_reboots_no_node_twice_1 = 1, Before;
    a_controller_killed_before_a_write_reboots_no_node_twice_2 = 2, Before;
    a_controller_killed_before_a_write_reboots_no_node_twice_3 = 3, Before;
    a_controller_killed_before_a_write_reboots_no_node_twice_4 = 4, Before;
    a_controller_killed_after_a_write_reboots_no_node_twice_1 = 1, After;
    a_controller_killed_after_a_write_reboots_no_node_twice_2 = 2, After;
    a_controller_killed_after_a_write_reboots_no_node_twice_3 = 3, After;
    a_controller_killed_after_a_write_reboots_no_node_twice_4 = 4, After;
}
