// SPDX-License-Identifier: Apache-2.0
//! Every step is ordered again once it is done, by a controller that has forgotten its result: nothing happens twice, but
//! for hooks, of which only the site knows whether they are done.

use windlass_controller::store::{Store as _, Transaction};
use windlass_tests::wait::LONG;

use super::controller_killed::Point;
use super::roll::{RESTART, Roll, STEPS, on};

/// The node on which everything is done twice. One is enough: each step is done on it by itself.
const NODE: &str = "node1";

/// Lets the controller forget that it had a step done; the next order is another one.
async fn forget(roll: &Roll, step: &str) {
    let key = format!("run-steps/r1/{step}");
    let disk = roll.bastion.disk();
    let record = disk.get(&key).await.expect("readable").expect("stored");
    let mut record: serde_json::Value = serde_json::from_slice(&record.value).expect("JSON");
    record["state"] = "waiting".into();
    record["attempt"] = 2.into();
    let _ = disk.commit(Transaction::new().put(key, record.to_string())).await.expect("written");
}

async fn each_twice(steps: &[&str], kind: &str) {
    let mut roll = Roll::with(kind, &[NODE], 1).await;
    Point::AfterResult.kill(&roll.bastion.store(), &on(steps[0], NODE), NODE);
    let begun = roll.apply().await;
    for (nth, step) in steps.iter().enumerate() {
        let died = tokio::time::timeout(LONG, async { roll.bastion.store().died().await }).await;
        assert!(died.is_ok(), "{step} is not done: {begun:?}");
        roll.bastion.kill9().await;
        forget(&roll, &on(step, NODE)).await;
        let next = steps.get(nth + 1).map(|next| on(next, NODE));
        roll.bastion
            .restart_on(|store| {
                if let Some(next) = next {
                    Point::AfterResult.kill(store, &next, NODE);
                }
            })
            .await;
        roll.node(NODE).renew_front();
    }
    assert_eq!(roll.ended("every step done twice").await, "succeeded", "{begun:?}");
    roll.is_over_but_for_hooks(2, "every step done twice").await;
    let shown = roll.bastion.words("run show r1 -o json").await.json();
    for step in shown["steps"].as_array().expect("a list") {
        let is_hook = step["id"].as_str().is_some_and(|id| id.starts_with("hook/"));
        assert_eq!(step["attempt"], 2, "{step}");
        assert!(is_hook || step["wasDone"] == true, "not looked at before it was done again: {step}");
    }
}

#[tokio::test]
async fn every_step_of_a_roll_is_done_twice_and_nothing_happens_twice() {
    each_twice(&STEPS, STEPS[0]).await;
}

#[tokio::test]
async fn services_that_were_restarted_are_not_restarted_again() {
    each_twice(&[STEPS[4], RESTART, STEPS[11]], RESTART).await;
}
