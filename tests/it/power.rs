// SPDX-License-Identifier: Apache-2.0
//! Machines that lose their power while a run has something to do on them.

use windlass_agent::host::fake::{ModelPackage, Node};
use windlass_tests::bastion::Bastion;
use windlass_tests::fake_provider::Guest;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::modelled::trap::{Point, Victim};
use windlass_tests::wait::{LONG, wait_until};

use super::fleet::shows;

const TRANSACTION: &str = "dnf -C -y";

const OLD: &str = "6.1-1.x86_64";
const NEW: &str = "6.2-1.x86_64";

/// What the model counts when it reboots.
const REBOOT: &str = "reboot";

/// A node on a machine of the provider's.
async fn node_on_machine(bastion: &Bastion, prepare: impl FnOnce(&mut Node)) -> ModelledNode {
    bastion.provider.behave("node1", Guest::Elsewhere);
    let spec = bastion.spec(&["{name: node1}"]);
    assert_eq!(bastion.words(&format!("apply -f {spec} --yes --detach")).await.code, 7);
    wait_until("a machine", LONG, || async { bastion.provider.is_on("node1") }).await;
    let node = ModelledNode::start(bastion, "node1").await;
    node.host.change(prepare);
    assert_eq!(bastion.words("run attach r1").await.code, 0);
    node
}

/// A run that is held in this step by this program.
async fn held_up(bastion: &Bastion, node: &ModelledNode, command: &str, step: &str, program: &str) {
    node.hold_programs(Some(program));
    let begun = bastion.words(&format!("{command} --yes --detach")).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    shows(bastion, "run show r2", &format!("running    {step}/node1")).await;
}

/// A node with a package that is out of date, and a run that updates it.
async fn updating(bastion: &Bastion) -> ModelledNode {
    let outdated = |node: &mut Node| {
        node.packages = vec![ModelPackage::new("words", "1-1")];
        node.repository = vec![ModelPackage::new("words", "2-1")];
    };
    let node = node_on_machine(bastion, outdated).await;
    held_up(bastion, &node, "update packages node1", "packages", TRANSACTION).await;
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
    shows(bastion, "events", "run r2 switches the machine of node1 on: it has lost its power").await;
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
    let refused = bastion.words("machine power node1 off --yes").await;
    refused.assert_refused(4, "run r2 of ", "--force");
    assert!(bastion.provider.is_on("node1"));
    bastion.words("machine power node1 off --yes --force").await.done();
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

#[tokio::test]
async fn what_was_changed_in_a_boot_that_a_power_cut_began_is_rebooted_for_all_the_same() {
    let bastion = Bastion::start().await;
    let outdated = |node: &mut Node| {
        node.packages = vec![ModelPackage::new("glibc", "1-1")];
        node.repository = vec![ModelPackage::new("glibc", "2-1")];
    };
    let mut node = node_on_machine(&bastion, outdated).await;
    held_up(&bastion, &node, "update packages node1 --reboot-if-needed", "packages", TRANSACTION).await;
    node.lose_power();
    bastion.provider.kill("node1");
    is_switched_on(&bastion).await;
    is_updated(&bastion, &mut node).await;
    assert_eq!(node.effect(REBOOT), 1, "what runs is what was before");
}

/// A node for which there is a newer kernel.
async fn with_old_kernel(bastion: &Bastion) -> ModelledNode {
    let outdated = |node: &mut Node| {
        let kernel = |version| ModelPackage::new("kernel-lt", version);
        node.packages = vec![kernel("6.1-1")];
        node.repository = ["6.1-1", "6.2-1"].map(kernel).into();
        (node.running_kernel, node.default_kernel) = (OLD.to_owned(), Some(OLD.to_owned()));
        node.kernels = [OLD.to_owned()].into();
    };
    node_on_machine(bastion, outdated).await
}

/// Its machine loses its power so often, perhaps together with the controller; the run switches it on and the new kernel
/// stays in the end.
async fn keeps_the_new_kernel(step: &str, program: &str, cuts: usize, reboots: u64, with_controller: bool) {
    let mut bastion = Bastion::start().await;
    let mut node = with_old_kernel(&bastion).await;
    held_up(&bastion, &node, "upgrade kernel node1 --channel elrepo-lt", step, program).await;
    if with_controller {
        bastion.kill9().await;
    }
    node.lose_power();
    (1..cuts).for_each(|_| node.host.lose_power());
    assert_eq!(node.host.node().running_kernel, OLD, "it is not what this test is about");
    bastion.provider.kill("node1");
    if with_controller {
        bastion.restart().await;
    }
    is_switched_on(&bastion).await;
    node.hold_programs(None);
    node.switch_on();
    let ended = bastion.words("run attach r2").await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let now = node.host.node();
    assert_eq!((now.running_kernel.as_str(), now.default_kernel.as_deref()), (NEW, Some(NEW)), "{ended:?}");
    assert_eq!(node.effect(REBOOT), reboots, "{ended:?}");
}

#[tokio::test]
async fn a_kernel_that_was_not_tried_before_the_power_failed_is_tried() {
    keeps_the_new_kernel("boot", "grub2-reboot", 1, 1, false).await;
    keeps_the_new_kernel("boot", "grub2-reboot", 1, 1, true).await;
}

#[tokio::test]
async fn a_kernel_that_was_being_tried_when_the_power_failed_is_tried_again() {
    keeps_the_new_kernel("boot", "no-block reboot", 2, 1, false).await;
    keeps_the_new_kernel("boot", "no-block reboot", 2, 1, true).await;
}

#[tokio::test]
async fn a_kernel_that_was_not_the_default_yet_when_the_power_failed_is_tried_again() {
    keeps_the_new_kernel("confirm-kernel", "--set-default=/boot/vmlinuz-6.2-1", 1, 2, false).await;
    keeps_the_new_kernel("confirm-kernel", "--set-default=/boot/vmlinuz-6.2-1", 1, 2, true).await;
}

/// What GRUB does where the choice is in the file system's journal only, which it does not read.
#[tokio::test]
async fn a_kernel_that_the_boot_loader_does_not_know_as_the_default_yet_when_the_power_failed_is_tried_again() {
    let mut bastion = Bastion::start().await;
    let mut node = with_old_kernel(&bastion).await;
    held_up(&bastion, &node, "upgrade kernel node1 --channel elrepo-lt", "confirm-kernel", "--set-default=").await;
    bastion.kill9().await;
    node.kill_at(Victim::Executor, "confirm-kernel/node1", Point::AfterResult);
    node.hold_programs(None);
    wait_until("it to be the default", LONG, || async { node.kills() == 1 }).await;
    node.lose_power();
    node.host.change(|node| OLD.clone_into(&mut node.running_kernel));
    bastion.provider.kill("node1");
    bastion.restart().await;
    is_switched_on(&bastion).await;
    node.switch_on();
    let ended = bastion.words("run attach r2").await;
    assert!(ended.code == 0 && ended.stderr.contains("boot/node1 is done again"), "{ended:?}");
    let now = node.host.node();
    assert_eq!((now.running_kernel.as_str(), now.default_kernel.as_deref()), (NEW, Some(NEW)), "{ended:?}");
    assert_eq!(node.effect(REBOOT), 2, "{ended:?}");
}

#[tokio::test]
async fn a_kernel_that_is_left_without_a_power_cut_is_tried_again_only_when_somebody_says_so() {
    let bastion = Bastion::start().await;
    let mut node = with_old_kernel(&bastion).await;
    let confirmation = "--set-default=/boot/vmlinuz-6.2-1";
    held_up(&bastion, &node, "upgrade kernel node1 --channel elrepo-lt", "confirm-kernel", confirmation).await;
    // Its machine was never off, as far as anybody here can tell: so it is with a kernel that panics.
    node.lose_power();
    node.hold_programs(None);
    node.switch_on();
    let ended = bastion.words("run attach r2").await;
    assert!(ended.code == 3 && ended.stderr.contains("does not run"), "{ended:?}");
    assert_eq!((node.effect(REBOOT), node.host.node().running_kernel.as_str()), (1, OLD));
    bastion.words("run retry r2").await.done();
    let now = node.host.node();
    assert_eq!((now.running_kernel.as_str(), now.default_kernel.as_deref()), (NEW, Some(NEW)));
    assert_eq!(node.effect(REBOOT), 2);
}
