// SPDX-License-Identifier: Apache-2.0
//! A half of the agent is killed at every point of every step, on each of the three nodes; the next one goes on.

use futures_util::future::join_all;
use windlass_tests::modelled::trap::{Point, Victim};

use super::roll::{RESTART, Roll, STEPS, SURVEY, on};

async fn killed_at(victim: Victim, step: &str, point: Point) {
    let roll = Roll::of(step).await;
    for node in &roll.nodes {
        node.kill_at(victim, &on(step, &node.name), point);
    }
    let how = format!("the {victim:?} killed at {point:?} of {step}");
    let begun = roll.apply().await;
    assert_eq!(begun.code, 7, "{how}: {begun:?}");
    assert_eq!(roll.ended(&how).await, "succeeded", "{how}: {begun:?}");
    let kills: Vec<_> = roll.nodes.iter().map(|node| node.kills()).collect();
    assert_eq!(kills, [1, 1, 1], "{how}");
    roll.is_over(&how).await;
}

/// Every point of a step, each in a roll of its own, all at the same time. Within the act only the executor is at work, and
/// a question has no act.
async fn at_every_point(victim: Victim, step: &str) {
    let in_act = (victim == Victim::Executor && step != SURVEY).then_some(Point::InAct);
    let points = [Point::BeforeIntent, Point::AfterIntent, Point::AfterAct, Point::AfterResult];
    join_all(points.into_iter().chain(in_act).map(|point| killed_at(victim, step, point))).await;
}

macro_rules! victims {
    ($($module:ident = $victim:expr;)*) => {
        $(mod $module {
            use super::{RESTART, STEPS, SURVEY, Victim, at_every_point};

            steps! {
                $victim;
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
                a_survey_is_answered = SURVEY;
            }
        })*
    };
}

macro_rules! steps {
    ($victim:expr; $($name:ident = $step:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            at_every_point($victim, $step).await;
        })*
    };
}

victims! {
    executor = Victim::Executor;
    front = Victim::Front;
}
