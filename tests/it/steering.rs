// SPDX-License-Identifier: Apache-2.0
//! Runs that people steer: paused, let go on, stopped and tried again; by the rules for what becomes of the others when a
//! node fails; which nodes a reboot takes; and waiting until all is well.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::task::JoinHandle;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::{self, Answer};

use super::drift::site;
use super::fleet::{TRANSACTION, outdated, shows};

/// What the model counts when it is updated, and when it reboots.
pub(super) const UPDATE: &str = "install words-2-1.x86_64";
const REBOOT: &str = "reboot";

/// A kernel that is newer than the one that a model runs.
const NEWER: &str = "5.14.0-503.el9.x86_64";

const THREE: [&str; 3] = ["node1", "node2", "node3"];

/// How often it happened on each node.
pub(super) fn times(nodes: &[ModelledNode], effect: &str) -> Vec<u64> {
    nodes.iter().map(|node| node.effect(effect)).collect()
}

/// Updates all nodes, and is held up on the first.
pub(super) async fn held_up(bastion: &Bastion, nodes: &[ModelledNode]) {
    nodes[0].hold_programs(TRANSACTION);
    let begun = bastion.words("update packages --all --yes --detach").await;
    assert_eq!((begun.code, begun.stdout.as_str()), (7, "r1\n"), "{begun:?}");
    nodes[0].until_program_is_held().await;
}

fn begun(bastion: &Bastion, words: &str) -> JoinHandle<Answer> {
    let mut command = bastion.command(words);
    tokio::spawn(async move { process::run(&mut command).await })
}

/// Sees that a text has all of this, one after the other.
#[track_caller]
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let found = rest.split_once(word);
        rest = found.unwrap_or_else(|| panic!("{word:?} is not where it should be in {text}")).1;
    }
}

async fn assert_nobody_holds_anything(bastion: &Bastion) {
    assert_eq!(bastion.words("status -o json").await.json()["holds"], serde_json::json!([]));
}

#[tokio::test]
async fn a_paused_run_ends_what_it_has_in_hand_and_begins_no_further_node_until_it_is_resumed() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &THREE).await;
    held_up(&bastion, &nodes).await;
    let paused = bastion.words("run pause r1").await.ok();
    assert_eq!(paused, "run r1 begins no further node: windlass run resume r1\n");
    nodes[0].hold_programs(None);
    shows(&bastion, "run show r1", "done       packages/node1").await;
    let shown = bastion.words("run show r1").await.ok();
    let why = "paused: root@localhost paused it";
    assert_in_order(&shown, &["by root@localhost: paused", why, "waiting    packages/node2", "windlass run resume r1"]);
    shows(&bastion, "status", &format!("run r1: 1 of 3 steps done, {why}")).await;
    assert_eq!(times(&nodes, UPDATE), [1, 0, 0]);
    assert_eq!(bastion.words("run resume r1").await.ok(), "run r1 goes on: windlass run attach r1\n");
    let ended = bastion.words("run attach r1").await;
    let resumed = "root@localhost let run r1 go on";
    let order =
        ["run r1 is paused: root@localhost paused it", "packages/node1 is done", resumed, "packages/node2 began"];
    assert_in_order(&ended.stderr, &order);
    assert_eq!((ended.code, times(&nodes, UPDATE)), (0, vec![1, 1, 1]), "{ended:?}");
    let over = bastion.words("run pause r1").await;
    over.assert_refused(64, "run r1 has ended and cannot be paused", "windlass run retry r1");
}

#[tokio::test]
async fn a_stopped_run_ends_what_it_has_in_hand_and_a_retry_does_the_rest_and_nothing_twice() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &THREE).await;
    held_up(&bastion, &nodes).await;
    let stopped = bastion.words("run stop r1").await;
    assert!(stopped.stderr.contains("it holds node1, which may be half done"), "{stopped:?}");
    assert_eq!(stopped.ok(), "run r1 is stopping; what was made stays: windlass run attach r1\n");
    bastion.words("run retry r1").await.assert_refused(6, "run r1 is stopping", "try again when it has ended");
    bastion.words("run resume r1").await.assert_refused(64, "run r1 is stopping and cannot be resumed", "");
    nodes[0].hold_programs(None);
    let ended = bastion.words("run attach r1").await;
    ended.assert_refused(3, "run r1 was stopped after ", "1 of 3 steps done");
    assert_eq!(times(&nodes, UPDATE), [1, 0, 0]);
    assert_nobody_holds_anything(&bastion).await;
    assert_eq!(bastion.words("run stop r1").await.ok(), "run r1 has ended: windlass run attach r1\n");
    bastion.words("run retry r1").await.done();
    assert_eq!(times(&nodes, UPDATE), [1, 1, 1]);
}

/// The command that applies a spec is lost, and typed again in this way: what the second says on both ends.
async fn applied_again(output: &str) -> (String, String) {
    let bastion = Bastion::start().await;
    let (nodes, spec) = site(&bastion).await;
    nodes[0].hold_programs(TRANSACTION);
    let apply = || bastion.command(&format!("apply -f {spec} --yes -o {output}"));
    let mut first = apply().spawn().expect("it starts");
    nodes[0].until_program_is_held().await;
    first.kill().await.expect("it is there");
    let (stdout, stderr) = (Stdio::piped(), Stdio::piped());
    let mut second = apply().stdout(stdout).stderr(stderr).spawn().expect("it starts");
    let mut said = BufReader::new(second.stderr.take().expect("piped"));
    let mut all = String::new();
    said.read_line(&mut all).await.expect("text");
    assert_eq!(all, "run r1 is under way there, and is followed first\n");
    nodes[0].hold_programs(None);
    let (rest, answer) = tokio::join!(said.read_to_string(&mut all), second.wait_with_output());
    let answer = answer.expect("it ends");
    assert!(rest.is_ok() && answer.status.success(), "{all}");
    assert_eq!(times(&nodes, UPDATE), [1, 1]);
    (String::from_utf8(answer.stdout).expect("text"), all)
}

#[tokio::test]
async fn whoever_applies_again_after_a_lost_connection_comes_to_the_same_end() {
    let (_, said) = applied_again("text").await;
    assert_in_order(&said, &["run r1 succeeded", "nothing to do."]);
    let (told, said) = applied_again("json").await;
    assert!(said.ends_with("nothing to do.\n\n"), "{said:?}");
    let last = told.lines().last().expect("a line");
    let last: serde_json::Value = serde_json::from_str(last).expect("JSON");
    assert_eq!((&last["kind"], &last["id"]), (&"Run".into(), &"r1".into()), "{told}");
}

/// A site to which a spec is applied, in the middle of its first node.
async fn under_way(bastion: &Bastion) -> (Vec<ModelledNode>, String) {
    let (nodes, spec) = site(bastion).await;
    nodes[0].hold_programs(TRANSACTION);
    bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    nodes[0].until_program_is_held().await;
    (nodes, spec)
}

#[tokio::test]
async fn whoever_applies_beside_a_run_that_is_paused_does_not_wait_for_it() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = under_way(&bastion).await;
    bastion.words("run pause r1").await.done();
    nodes[0].hold_programs(None);
    shows(&bastion, "run show r1", "done       packages/node1").await;
    let refused = bastion.words(&format!("apply -f {spec} --yes")).await;
    refused.assert_refused(6, "run r1 is under way on this cluster", "windlass run attach r1");
    bastion.words("run resume r1").await.done();
    bastion.words("run attach r1").await.done();
    assert_eq!(times(&nodes, UPDATE), [1, 1]);
}

#[tokio::test]
async fn whoever_applies_beside_a_run_that_is_to_stop_does_not_wait_for_it() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = under_way(&bastion).await;
    bastion.words("run stop r1").await.done();
    let refused = bastion.words(&format!("apply -f {spec} --yes")).await;
    refused.assert_refused(6, "run r1 is under way on this cluster", "windlass run attach r1");
    nodes[0].hold_programs(None);
    shows(&bastion, "run show r1", "by root@localhost: stopped").await;
}

/// Updates three nodes by these rules, which fails on so many of the first ones.
async fn failing(bastion: &Bastion, rules: &str, count: usize) -> (Vec<ModelledNode>, Answer) {
    let nodes = outdated(bastion, &THREE).await;
    for node in &nodes[..count] {
        node.break_in(&format!("packages/{}", node.name), 0);
    }
    let updated = bastion.words(&format!("update packages --all --yes --on-failure {rules}")).await;
    (nodes, updated)
}

async fn assert_a_retry_does_all(bastion: &Bastion, nodes: &[ModelledNode]) {
    bastion.words("run retry r1").await.done();
    assert_eq!(times(nodes, UPDATE), [1, 1, 1]);
    assert_nobody_holds_anything(bastion).await;
}

#[tokio::test]
async fn a_node_that_fails_holds_up_no_other_while_no_more_fail_than_may() {
    let bastion = Bastion::start().await;
    let (nodes, updated) = failing(&bastion, "continue:1 --max-unavailable 2", 1).await;
    updated.assert_refused(3, "packages/node1 failed: ", "when that is mended: windlass run retry r1");
    assert!(updated.stderr.contains("2 of 3 steps done"), "{updated:?}");
    assert!(updated.stderr.contains("it still holds node1, "), "nobody knows how it is: {updated:?}");
    assert_eq!(times(&nodes, UPDATE), [0, 1, 1]);
    assert_a_retry_does_all(&bastion, &nodes).await;
}

#[tokio::test]
async fn no_further_node_is_begun_when_more_failed_than_may() {
    let bastion = Bastion::start().await;
    let (nodes, updated) = failing(&bastion, "continue:1 --max-unavailable 2", 2).await;
    updated.assert_refused(1, "packages/node3 was not begun", "when that is mended: windlass run retry r1");
    assert_eq!(times(&nodes, UPDATE), [0, 0, 0]);
    assert_a_retry_does_all(&bastion, &nodes).await;
}

#[tokio::test]
async fn no_further_node_is_begun_after_the_first_that_fails_if_none_may() {
    let bastion = Bastion::start().await;
    let (nodes, updated) = failing(&bastion, "stop", 1).await;
    assert_eq!(updated.code, 1, "{updated:?}");
    assert_in_order(
        &updated.stderr,
        &["packages/node1 failed: ", "packages/node2 was not begun", "packages/node3 was not begun"],
    );
    assert_eq!(times(&nodes, UPDATE), [0, 0, 0]);
    assert_a_retry_does_all(&bastion, &nodes).await;
}

#[tokio::test]
async fn a_run_that_paused_because_a_node_failed_goes_on_beside_it_when_it_is_resumed() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &THREE).await;
    nodes[0].break_in("packages/node1", 0);
    nodes[1].hold_programs(TRANSACTION);
    let rules = "--on-failure pause --max-unavailable 2";
    assert_eq!(bastion.words(&format!("update packages --all --yes --detach {rules}")).await.code, 7);
    shows(&bastion, "run show r1", "failed     packages/node1").await;
    nodes[1].hold_programs(None);
    shows(&bastion, "run show r1", "done       packages/node2").await;
    let shown = bastion.words("run show r1").await.ok();
    let next = "next: windlass run resume r1, or windlass run retry r1";
    assert_in_order(&shown, &["by root@localhost: paused", "paused: packages/node1 failed", "holds node1", next]);
    assert_eq!(times(&nodes, UPDATE), [0, 1, 0], "what it had in hand it brought to its end");
    bastion.words("run resume r1").await.done();
    let ended = bastion.words("run attach r1").await;
    ended.assert_refused(3, "packages/node1 failed: ", "when that is mended: windlass run retry r1");
    assert_in_order(&ended.stderr, &["root@localhost let run r1 go on", "packages/node3 began"]);
    assert_eq!(times(&nodes, UPDATE), [0, 1, 1]);
    assert_a_retry_does_all(&bastion, &nodes).await;
}

#[tokio::test]
async fn a_rolling_reboot_takes_the_nodes_that_have_the_label_and_no_other() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &THREE).await;
    for node in ["node1", "node3"] {
        bastion.words(&format!("node label {node} rack=a")).await.done();
    }
    bastion.words("reboot -l rack=a --yes").await.assert_refused(64, "one after the other only", "add --rolling");
    let rolled = bastion.words("reboot --rolling -l rack=a --yes").await;
    assert_eq!((rolled.code, times(&nodes, REBOOT)), (0, vec![1, 0, 1]), "{rolled:?}");
    assert_in_order(
        &rolled.stderr,
        &["run r1 may take node1 down", "is done with node1", "run r1 may take node3 down"],
    );
}

#[tokio::test]
async fn a_rolling_reboot_if_needed_takes_a_node_whose_default_kernel_is_another_and_says_why() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1", "node2"]).await;
    nodes[1].host.change(|node| node.default_kernel = Some(NEWER.to_owned()));
    let reboot = "reboot --rolling --all --if-needed";
    let shown = bastion.words(&format!("{reboot} --dry-run --detailed-exitcode")).await;
    assert_eq!(shown.code, 2, "{shown:?}");
    assert_in_order(
        &shown.stdout,
        &["1 step on 1 node", "on node2:", &format!("why: kernel {}", nodes[1].host.node().running_kernel)],
    );
    assert_in_order(&shown.stdout, &[&format!("runs, {NEWER} is"), "Rebooted, in this order: node2."]);
    let rolled = bastion.words(&format!("{reboot} --yes")).await;
    assert_eq!((rolled.code, times(&nodes, REBOOT)), (0, vec![0, 1]), "{rolled:?}");
    assert_eq!(nodes[1].host.node().running_kernel, NEWER);
    let again = bastion.words(&format!("{reboot} --yes")).await;
    assert!(again.code == 0 && again.stderr.contains("Nothing to do"), "{again:?}");
}

#[tokio::test]
async fn a_plan_says_how_long_it_takes_by_a_guess_until_it_was_done_once() {
    let bastion = Bastion::start().await;
    let _nodes = outdated(&bastion, &["node1", "node2"]).await;
    let shown = bastion.words("reboot --rolling --all --dry-run").await.ok();
    let said = "Expected to take about 4 min, in part a guess: not all of it was done before.\n";
    assert!(shown.contains(said), "no {said:?} in {shown}");
    let at_once = bastion.words("reboot --rolling --all --max-unavailable 2 --dry-run").await.ok();
    assert!(at_once.contains("Expected to take about 2 min, "), "{at_once}");
    bastion.words("reboot node1 --yes").await.done();
    let shown = bastion.words("reboot --rolling --all --dry-run -o json").await.json();
    assert_eq!(shown["expectedIsGuess"], false, "{shown}");
}

#[tokio::test]
async fn waiting_until_all_is_well_ends_with_0_when_it_is_and_with_5_when_it_was_not_in_time() {
    let bastion = Bastion::start().await;
    let mut nodes = outdated(&bastion, &["node1"]).await;
    let wait = "status --wait --timeout 1s";
    assert!(bastion.words(wait).await.ok().starts_with("1 node, healthy\n"));
    nodes[0].switch_off();
    shows(&bastion, "status", "1 of 1 nodes not healthy").await;
    let late = bastion.words(wait).await;
    assert!(late.code == 5 && late.stdout.contains("\n  node1: "), "{late:?}");
    let waiting = begun(&bastion, "status --wait --timeout 50s");
    nodes[0].switch_on();
    let waited = waiting.await.expect("it ends").ok();
    assert!(waited.starts_with("1 node, healthy\n"), "{waited}");
    bastion.words("node quarantine node1 --reason smoke").await.done();
    let late = bastion.words(wait).await;
    assert!(late.code == 5 && late.stdout.contains("node1 is quarantined"), "{late:?}");
}

#[tokio::test]
async fn waiting_until_all_is_well_waits_for_the_end_of_a_run_also_where_all_nodes_are_healthy() {
    let bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1"]).await;
    held_up(&bastion, &nodes).await;
    let now = bastion.words("status").await.ok();
    assert!(now.starts_with("1 node, healthy\n") && now.contains("run r1: 0 of 1 steps done"), "{now}");
    let late = bastion.words("status --wait --timeout 1s").await;
    assert!(late.code == 5 && late.stdout.contains("run r1: 0 of 1 steps done"), "{late:?}");
    let waiting = begun(&bastion, "status --wait --timeout 50s");
    nodes[0].hold_programs(None);
    let waited = waiting.await.expect("it ends").ok();
    assert!(waited.starts_with("1 node, healthy\n") && !waited.contains("run r1"), "{waited}");
    assert_eq!(times(&nodes, UPDATE), [1]);
}
