// SPDX-License-Identifier: Apache-2.0
//! The controller ends at every point of every step, in the turn of each of the three nodes; it goes on by itself when it is
//! started again. It is a runtime inside the test, which is ended once its store has come to a chosen write: only what is
//! stored is left of it, as after SIGKILL of a process, which is in [`crate::kill9_run`].

use futures_util::future::join_all;
use serde_json::Value;
use windlass_controller::store::{Change, Transaction};
use windlass_tests::dying_store::{DyingStore, Moment};
use windlass_tests::process::run;
use windlass_tests::wait::LONG;

use super::roll::{NODES, RESTART, Roll, STEPS, SURVEY, on};

/// A point of a step, as the controller sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// It is to begin, and nothing is stored.
    BeforeIntent,
    /// It is stored that it begins, and the node was not told.
    AfterIntent,
    /// The order is stored, and perhaps sent.
    Ordered,
    /// The node has done it and said so, and nothing is stored.
    AfterAct,
    /// The answer is stored, and not what it means for the run.
    BeforeResult,
    /// The result is stored.
    AfterResult,
}

const ALL: [Point; 6] =
    [Point::BeforeIntent, Point::AfterIntent, Point::Ordered, Point::AfterAct, Point::BeforeResult, Point::AfterResult];

impl Point {
    const fn moment(self) -> Moment {
        match self {
            Self::BeforeIntent | Self::AfterAct | Self::BeforeResult => Moment::Before,
            Self::AfterIntent | Self::Ordered | Self::AfterResult => Moment::After,
        }
    }

    /// Lets the controller die at this point of a step.
    pub(super) fn kill(self, store: &DyingStore, step: &str, node: &str) {
        let (record, request) = (format!("run-steps/r1/{step}"), format!("job-requests/r1/{step}/"));
        let (node, mut job) = (format!("/{node}"), None);
        let is_it = move |transaction: &Transaction| {
            let order = puts(transaction).find(|(key, _)| key.starts_with(&request));
            if let Some((_, id)) = order {
                job = Some(format!("job-nodes/{:0>20}/", String::from_utf8_lossy(id)));
            }
            let has_state = |state: &str| puts(transaction).any(|(key, value)| *key == record && is(value, state));
            match self {
                Self::BeforeIntent | Self::AfterIntent => has_state("running"),
                Self::Ordered => order.is_some(),
                Self::AfterAct => {
                    let is_answer = |key: &String| job.as_ref().is_some_and(|job| key.starts_with(job));
                    puts(transaction).any(|(key, _)| is_answer(key) && key.ends_with(&node))
                }
                Self::BeforeResult | Self::AfterResult => has_state("done"),
            }
        };
        store.die_when(is_it, self.moment());
    }
}

fn puts(transaction: &Transaction) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    transaction.changes.iter().filter_map(|change| match change {
        Change::Put(key, value) => Some((key, value)),
        Change::Delete(_) | Change::DeletePrefix(_) => None,
    })
}

fn is(record: &[u8], state: &str) -> bool {
    serde_json::from_slice::<Value>(record).is_ok_and(|record| record["state"] == state)
}

async fn killed_at(step: &str, point: Point) {
    // With one step at a time the nodes come in their order; otherwise the one whose settings are made first is the first.
    let mut roll = Roll::with(step, &NODES, 1).await;
    let how = format!("the controller killed at {point:?} of {step}");
    point.kill(&roll.bastion.store(), &on(step, NODES[0]), NODES[0]);
    // It may be killed before it can answer.
    let begun = roll.apply().await;
    for turn in 1..=NODES.len() {
        let died = tokio::time::timeout(LONG, async { roll.bastion.store().died().await }).await;
        assert!(died.is_ok(), "{how}: it lives in turn {turn}: {begun:?}");
        roll.bastion.kill9().await;
        let next = NODES.get(turn);
        let again = |store: &DyingStore| {
            if let Some(next) = next {
                point.kill(store, &on(step, next), next);
            }
        };
        roll.bastion.restart_on(again).await;
    }
    assert_eq!(roll.ended(&how).await, "succeeded", "{how}: {begun:?}");
    roll.is_over(&how).await;
}

async fn at_every_point(step: &str) {
    join_all(ALL.map(|point| killed_at(step, point))).await;
}

/// Kills it while nodes are asked before anything is planned; then the same command again.
async fn killed_asking(point: Point) {
    let mut roll = Roll::of(SURVEY).await;
    let how = format!("the controller killed at {point:?} of a survey");
    let prefix = if matches!(point, Point::BeforeIntent | Point::AfterIntent) { "jobs/" } else { "job-nodes/" };
    let is_it = move |transaction: &Transaction| puts(transaction).any(|(key, _)| key.starts_with(prefix));
    let store = roll.bastion.store();
    store.die_when(is_it, point.moment());
    let mut command = roll.command();
    let asking = tokio::spawn(async move { run(&mut command).await });
    assert!(tokio::time::timeout(LONG, store.died()).await.is_ok(), "{how}: it lives");
    roll.bastion.kill9().await;
    roll.bastion.restart().await;
    let first = asking.await.expect("it ends");
    roll.are_well().await;
    let again = roll.apply().await;
    assert_eq!(again.code, 7, "{how}: {first:?}, then {again:?}");
    assert_eq!(roll.ended(&how).await, "succeeded", "{how}");
    roll.is_over(&how).await;
}

#[tokio::test]
async fn a_survey_is_answered() {
    let points = [Point::BeforeIntent, Point::AfterIntent, Point::AfterAct, Point::AfterResult];
    join_all(points.map(killed_asking)).await;
}

macro_rules! steps {
    ($($name:ident = $step:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            at_every_point($step).await;
        })*
    };
}

steps! {
    a_file_is_written_once = STEPS[1];
    a_parameter_is_set_once = STEPS[2];
    a_user_is_made_once = STEPS[0];
    a_service_is_switched_on_once = STEPS[3];
    the_hook_before_is_run_once = STEPS[4];
    an_interrupted_transaction_is_mended_once = STEPS[5];
    packages_are_changed_once = STEPS[6];
    a_kernel_is_installed_once = STEPS[7];
    a_node_is_booted_once = STEPS[8];
    a_kernel_is_confirmed_once = STEPS[9];
    kernels_are_pruned_once = STEPS[10];
    the_hook_after_is_run_once = STEPS[11];
    services_are_restarted_once = RESTART;
}
