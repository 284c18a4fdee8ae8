// SPDX-License-Identifier: Apache-2.0
//! Certificates that end while the agent works, while it is away, and when their CA is replaced.

use std::time::Duration;

use serde_json::Value;
use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::Controller;
use windlass_tests::process::{Answer, run};
use windlass_tests::wait::{LONG, wait_until};

/// Long enough for a second attempt on a busy machine, short enough to wait for its end.
const SHORT_LIFE: &str = "[certificates]\nagent_life = \"12s\"\n[session]\nheartbeat_seconds = 1\n";

async fn node(controller: &Controller, name: &str) -> Value {
    controller.cli(&["get", "node", name, "-o", "json"]).await.json()
}

async fn serial(controller: &Controller, name: &str) -> String {
    let node = node(controller, name).await;
    node["certificate_serial"].as_str().unwrap_or_else(|| panic!("no serial in {node}")).to_owned()
}

async fn wait_for_another_serial(controller: &Controller, name: &str, old: &str) {
    let is_new = async || serial(controller, name).await != old && is_connected(controller, name).await;
    wait_until("a renewed certificate in use", LONG, is_new).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_before_it_ends_and_the_node_goes_on() {
    let controller = Controller::start_with(SHORT_LIFE).await;
    let agent = Agent::connected(&controller, "node1").await;
    for _ in 0..2 {
        let old = serial(&controller, "node1").await;
        wait_for_another_serial(&controller, "node1", &old).await;
    }
    controller.wait_for_event("node.certificate-renewed", "node1").await;
    let ran = controller.words("exec node1 -- echo alive").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "node1: alive\n"), "{}", agent.log());
}

#[tokio::test]
async fn f17_a_node_that_was_off_when_its_certificate_ended_renews_by_possession() {
    let controller = Controller::start_with(SHORT_LIFE).await;
    let mut agent = Agent::connected(&controller, "node1").await;
    agent.kill9().await;
    let old = serial(&controller, "node1").await;
    tokio::time::sleep(Duration::from_secs(13)).await;
    agent.run();
    wait_for_another_serial(&controller, "node1", &old).await;
}

#[tokio::test]
async fn a_revoked_node_does_not_come_back_by_possession() {
    let controller = Controller::start_with(SHORT_LIFE).await;
    let mut agent = Agent::connected(&controller, "node1").await;
    agent.kill9().await;
    assert_eq!(controller.words("node revoke node1 --yes").await.code, 0);
    tokio::time::sleep(Duration::from_secs(13)).await;
    agent.run();
    controller.wait_for_event("join.refused", "node1 was revoked").await;
    assert!(!is_connected(&controller, "node1").await);
}

#[tokio::test]
async fn the_fleet_moves_to_a_new_ca_and_trusts_the_old_one_no_more() {
    let controller = Controller::start_with(SHORT_LIFE).await;
    let mut agent = Agent::connected(&controller, "node1").await;
    // Made and trusted; signing; the old one dropped.
    for stage in 0..3 {
        let step = async || controller.words("ca rotate --yes").await.code == 0;
        wait_until("the nodes to be ready for the next stage", LONG, step).await;
        let old = serial(&controller, "node1").await;
        wait_for_another_serial(&controller, "node1", &old).await;
        assert!(is_connected(&controller, "node1").await, "after stage {stage}: {}", agent.log());
    }
    agent.kill9().await;
    agent.run();
    agent.wait_connected(&controller).await;
    // A machine that joins now is given the new pin and is served with a certificate of the new CA.
    let fresh = Agent::connected(&controller, "node2").await;
    assert!(is_connected(&controller, "node2").await, "{}", fresh.log());
}

#[tokio::test]
async fn a_rotation_in_quick_steps_waits_for_the_nodes_that_do_not_trust_the_new_ca_yet() {
    let mut controller = Controller::start_with(QUICK_HEARTBEATS).await;
    let agent = Agent::connected(&controller, "node1").await;
    let mut away = Agent::connected(&controller, "node2").await;
    away.kill9().await;
    let gone = async || !is_connected(&controller, "node2").await;
    wait_until("node2 to be away", LONG, gone).await;
    assert_eq!(controller.words("ca rotate --yes").await.code, 0);
    let refused = controller.words("ca rotate --yes").await;
    assert!(refused.code == 4 && refused.stderr.contains("node2"), "{refused:?}");
    away.run();
    let step = async || controller.words("ca rotate --yes").await.code == 0;
    wait_until("both nodes to trust the new CA", LONG, step).await;
    controller.kill9().await;
    controller.restart().await;
    for one in [&agent, &away] {
        one.wait_connected(&controller).await;
    }
}

/// A fleet whose certificates live for days, so that nothing is renewed by time.
const QUICK_HEARTBEATS: &str = "[session]\nheartbeat_seconds = 1\n";

/// Makes an operator and returns the path of their profile.
async fn operator(controller: &Controller, name: &str, more: &[&str]) -> String {
    let path = controller.directory().join(format!("{name}.toml")).to_str().expect("text").to_owned();
    let made =
        controller.cli(&[&["operator", "create", name, "--role", "viewer", "--out", &path], more].concat()).await;
    assert_eq!(made.code, 0, "{made:?}");
    path
}

/// Lists the nodes from elsewhere.
async fn call(controller: &Controller, profile: &str) -> Answer {
    let mut command = controller.cli_command(&["--profile", profile, "get", "nodes"]);
    command.env_remove("WINDLASS_SOCKET");
    run(&mut command).await
}

fn field(profile: &str, key: &str) -> String {
    let profile: toml::Table = std::fs::read_to_string(profile).expect("there").parse().expect("TOML");
    profile[key].as_str().expect("text").to_owned()
}

fn certificates(profile: &str, key: &str) -> usize {
    field(profile, key).matches("BEGIN CERTIFICATE").count()
}

#[tokio::test]
async fn a_rotation_takes_nodes_and_operators_along_within_seconds() {
    let controller = Controller::start_with(QUICK_HEARTBEATS).await;
    let _agent = Agent::connected(&controller, "node1").await;
    let (ana, bob) = (operator(&controller, "ana", &[]).await, operator(&controller, "bob", &[]).await);
    let before = field(&ana, "key_pem");
    // Bob was away before the new CA was made: the controller's certificate comes with a bridge to the old one.
    let step = async || controller.words("ca rotate --yes").await.code == 0;
    wait_until("the new CA to be made", LONG, step).await;
    assert_eq!(call(&controller, &ana).await.code, 0);
    assert_eq!(certificates(&ana, "ca_pem"), 2, "the new CA was learned");
    wait_until("the node to trust the new CA", LONG, step).await;
    let refused = controller.words("ca rotate --yes").await;
    assert!(refused.code == 4 && refused.stderr.contains("operator bob"), "{refused:?}");
    for profile in [&ana, &bob] {
        let answer = call(&controller, profile).await;
        assert!(answer.code == 0 && !answer.stderr.contains("warning"), "{answer:?}");
    }
    wait_until("the node to have renewed", LONG, step).await;
    for profile in [&ana, &bob] {
        assert_eq!(call(&controller, profile).await.code, 0, "{profile}");
        assert_eq!(certificates(profile, "ca_pem"), 1, "the old CA was forgotten");
    }
    assert_ne!(field(&ana, "key_pem"), before, "the old key is in use");
    assert_eq!(controller.words("ca show").await.ok().lines().count(), 1);
}

#[tokio::test]
async fn an_operators_certificate_is_renewed_while_they_work_and_a_limited_one_is_not() {
    let config = "[certificates]\noperator_life = \"12s\"\n";
    let controller = Controller::start_with(config).await;
    let (ana, eve) = (operator(&controller, "ana", &[]).await, operator(&controller, "eve", &["--ttl", "12s"]).await);
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let answer = call(&controller, &ana).await;
        assert!(answer.code == 0 && !answer.stderr.contains("warning"), "{answer:?}");
        let limited = call(&controller, &eve).await;
        assert!(!limited.stderr.contains("warning"), "{limited:?}");
    }
    let limited = call(&controller, &eve).await;
    assert_eq!(limited.code, 77, "{limited:?}");
    controller.wait_for_event("operator.certificate-renewed", "ana").await;
    assert_eq!(controller.words("operator remove ana --yes").await.code, 0);
    assert_eq!(call(&controller, &ana).await.code, 77, "a renewed certificate ends with its operator");
}
