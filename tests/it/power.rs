// SPDX-License-Identifier: Apache-2.0
//! Machines that lose their power while a run has something to do on them.

use windlass_agent::host::fake::ModelPackage;
use windlass_tests::bastion::Bastion;
use windlass_tests::fake_provider::Guest;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::{LONG, wait_until};

const TRANSACTION: Option<&str> = Some("dnf -C -y");

async fn shows(bastion: &Bastion, words: &str, said: &str) {
    wait_until(said, LONG, || async { bastion.words(words).await.stdout.contains(said) }).await;
}

/// A node on a machine of the provider's, with a package that is out of date, and a run that updates it.
async fn updating(bastion: &Bastion) -> ModelledNode {
    bastion.provider.behave("node1", Guest::Elsewhere);
    let spec = bastion.spec(&["{name: node1}"]);
    assert_eq!(bastion.words(&format!("apply -f {spec} --yes --detach")).await.code, 7);
    wait_until("a machine", LONG, || async { bastion.provider.is_on("node1") }).await;
    let node = ModelledNode::start(bastion, "node1").await;
    node.host.change(|node| {
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    });
    assert_eq!(bastion.words("run attach r1").await.code, 0);
    node.hold_programs(TRANSACTION);
    let begun = bastion.words("update packages node1 --yes --detach").await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(bastion, "run show r2", "running    packages/node1").await;
    node
}

async fn is_updated(bastion: &Bastion, node: &mut ModelledNode) {
    node.hold_programs(None);
    node.switch_on();
    let ended = bastion.words("run attach r2").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    assert_eq!(node.host.node().packages[0].version, "2-1");
}

async fn is_switched_on(bastion: &Bastion) {
    wait_until("it to be switched on", LONG, || async { bastion.provider.is_on("node1") }).await;
    shows(bastion, "events", "run r2 switched the machine of node1 on: it had lost its power").await;
}

#[tokio::test]
async fn a_machine_that_loses_its_power_under_a_run_is_switched_on_by_it() {
    let bastion = Bastion::start().await;
    let mut node = updating(&bastion).await;
    node.lose_power();
    bastion.provider.kill("node1");
    is_switched_on(&bastion).await;
    is_updated(&bastion, &mut node).await;
}

#[tokio::test]
async fn a_machine_that_loses_its_power_together_with_its_controller_is_switched_on_when_that_is_back() {
    let mut bastion = Bastion::start().await;
    let mut node = updating(&bastion).await;
    bastion.kill9().await;
    node.lose_power();
    bastion.provider.kill("node1");
    bastion.restart().await;
    is_switched_on(&bastion).await;
    is_updated(&bastion, &mut node).await;
}

#[tokio::test]
async fn a_machine_that_somebody_switched_off_stays_off_until_somebody_switches_it_on() {
    let bastion = Bastion::start().await;
    let mut node = updating(&bastion).await;
    bastion.words("machine power node1 off --yes").await.done();
    node.lose_power();
    shows(&bastion, "run show r2", "waits until node1 is connected").await;
    assert!(!bastion.provider.is_on("node1"), "somebody did not want that");
    bastion.words("machine power node1 on").await.done();
    is_updated(&bastion, &mut node).await;
}

#[tokio::test]
async fn a_machine_that_does_not_stay_on_is_left_off_after_some_times() {
    let bastion = Bastion::start().await;
    let mut node = updating(&bastion).await;
    node.lose_power();
    bastion.provider.behave("node1", Guest::Killed);
    bastion.provider.kill("node1");
    let off = "the machine of node1 is off: its process was killed";
    let times = || async { bastion.words("events").await.stdout.matches(off).count() };
    wait_until("it to be off again and again", LONG, || async { times().await == 6 }).await;
    shows(&bastion, "run show r2", "waits until node1 is connected").await;
    assert_eq!((times().await, bastion.provider.is_on("node1")), (6, false));
    bastion.provider.behave("node1", Guest::Elsewhere);
    bastion.words("machine power node1 on").await.done();
    is_updated(&bastion, &mut node).await;
}
