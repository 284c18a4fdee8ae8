// SPDX-License-Identifier: Apache-2.0
//! Every step fails on every node: the run stops and says where and what to do, holds what may not be whole, and leaves the
//! others alone. Once the node is mended a retry brings all to the same end, and what was done before is not done again.

use futures_util::future::join_all;
use windlass_tests::modelled::trap::BROKEN;

use super::roll::{DRAIN, NODES, RESTART, Roll, STEPS, UNDRAIN, on};

/// Lets a step fail on a node after it has changed so much; false if it does not change that much.
async fn fails(step: &str, node: &str, changes: u64) -> bool {
    let roll = Roll::of(step).await;
    let (id, how) = (on(step, node), format!("{step} fails on {node} after {changes} changes"));
    let broken = roll.node(node);
    broken.break_in(&id, changes);
    let begun = roll.apply().await;
    if roll.ended(&how).await == "succeeded" {
        return false;
    }
    let shown = roll.bastion.words("run show r1").await.ok();
    let says = |words: &str| assert!(shown.contains(words), "{how}: no {words:?} in {shown} after {begun:?}");
    says("failed");
    says(&id);
    says(BROKEN);
    says(&format!("mend that on {node}, then `windlass run retry r1`"));
    for other in &roll.nodes {
        let ran = |hook: &str| other.deeds().iter().any(|deed| deed.program == hook);
        let (is_begun, is_whole) = (ran(DRAIN), ran(UNDRAIN));
        assert!(other.name == node || is_begun == is_whole, "{how}: {} was left in the middle", other.name);
    }
    let is_leased = !step.starts_with("set/");
    let held = roll.held().await;
    if is_leased {
        assert_eq!(held, [node], "{how}");
    } else {
        assert!(held.is_empty(), "{how}: {held:?}");
        assert!(broken.deeds().iter().all(|deed| deed.program != DRAIN), "{how}: its turn has come");
    }
    let retried = roll.bastion.words("run retry r1 --detach").await;
    assert!(matches!(retried.code, 0 | 7), "{how}: {retried:?}");
    assert_eq!(roll.ended(&how).await, "succeeded", "{how}: {:?}", roll.bastion.words("run show r1").await);
    roll.is_over(&how).await;
    true
}

/// At once on each node, and on one node after each change that the step makes.
async fn fails_everywhere(step: &str) {
    let at_once = join_all(NODES.iter().map(|node| fails(step, node, 0))).await;
    assert_eq!(at_once, [true, true, true], "{step} changes something");
    let mut changes = 1;
    while fails(step, NODES[(changes % 3) as usize], changes).await {
        changes += 1;
    }
}

macro_rules! steps {
    ($($name:ident = $step:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            fails_everywhere($step).await;
        })*
    };
}

steps! {
    a_file_cannot_be_written = STEPS[1];
    a_parameter_cannot_be_set = STEPS[2];
    a_user_cannot_be_made = STEPS[0];
    a_service_cannot_be_switched_on = STEPS[3];
    the_hook_before_fails = STEPS[4];
    an_interrupted_transaction_cannot_be_mended = STEPS[5];
    packages_cannot_be_changed = STEPS[6];
    a_kernel_cannot_be_installed = STEPS[7];
    a_node_cannot_be_booted = STEPS[8];
    a_kernel_cannot_be_confirmed = STEPS[9];
    kernels_cannot_be_pruned = STEPS[10];
    the_hook_after_fails = STEPS[11];
    services_cannot_be_restarted = RESTART;
}
