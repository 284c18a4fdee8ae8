// SPDX-License-Identifier: Apache-2.0
//! Agents that another is to replace.

use super::*;

/// Far below what a test may take, far above what it takes.
const LIMIT: Duration = Duration::from_secs(20);

async fn ended(world: &mut World) {
    let (_shutdown, task) = world.agent.take().expect("started");
    tokio::time::timeout(LIMIT, task).await.expect("it ends").expect("ends well");
}

#[tokio::test]
async fn leaves_at_once_without_a_job() {
    let mut world = World::new();
    world.start();
    let _session = world.welcome().await;
    world.handover.cancel();
    ended(&mut world).await;
}

#[tokio::test]
async fn leaves_after_the_job_in_hand_and_its_report() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["work", "400"], 0).await;
    let report = peer.report().await;
    assert!(matches!(report.state, Some(v1::job_report::State::Started(_))), "{report:?}");
    world.handover.cancel();
    assert_eq!(peer.outcome().await.exit_code, 3);
    peer.acknowledge("1").await;
    ended(&mut world).await;
}

#[tokio::test]
async fn does_not_wait_for_a_controller_that_acknowledges_nothing() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["work"], 0).await;
    assert_eq!(peer.outcome().await.exit_code, 3);
    world.handover.cancel();
    ended(&mut world).await;
}
