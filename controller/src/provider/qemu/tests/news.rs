// SPDX-License-Identifier: Apache-2.0
//! What happens to machines, and whether it is told.

use std::time::Duration;

use super::super::{arguments, qmp};
use super::{Place, key};
use crate::provider::{PowerAction, Provider as _};

/// The next news, as text.
async fn news(place: &Place) -> String {
    let news = tokio::time::timeout(Duration::from_secs(60), place.provider.news()).await.expect("it is told");
    format!("{}: {}", news.kind, news.message)
}

/// Somebody tells QEMU something, not through Windlass.
async fn told_by_a_stranger(place: &Place, name: &str, command: &'static str) {
    let id = place.provider.record(&key(name)).expect("a record").id;
    let monitor = qmp::Monitor::connect(&place.machine(name), arguments::QMP_SOCKET, &id).await;
    let _hangs_up = monitor.expect("it answers").execute(command, serde_json::json!({})).await;
}

#[tokio::test]
async fn the_end_of_a_machine_is_told_at_once_and_why_and_is_shown() {
    let place = Place::new();
    place.created("node1").await;
    place.process("node1").expect("it runs").kill().expect("killed");
    let told = news(&place).await;
    assert!(told.starts_with("machine.stopped: the machine of node1 is off: its process was killed"), "{told}");
    let note = || async { place.observed().await[0].note.clone().unwrap_or_default() };
    assert_eq!(note().await, "its process was killed from outside, or crashed");
    place.power("node1", PowerAction::On).await;
    assert_eq!(note().await, "");
    let process = place.process("node1").expect("it runs");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(process.pid()), nix::sys::signal::SIGTERM).expect("sent");
    let told = news(&place).await;
    assert!(told.contains("ended by a signal from outside; windlass machine power node1 on"), "{told}");
    place.power("node1", PowerAction::On).await;
    told_by_a_stranger(&place, "node1", "quit").await;
    let told = news(&place).await;
    assert!(told.contains("somebody told its QEMU to quit"), "{told}");
}

#[tokio::test]
async fn a_machine_is_started_again_in_the_moment_its_process_was_killed() {
    let mut place = Place::new();
    place.created("node1").await;
    for round in 0..6 {
        let process = place.process("node1").expect("it runs");
        process.kill().expect("killed");
        if round % 2 == 1 {
            // One that does not know the process either, but for the number it left.
            place.restart();
        }
        while place.process("node1").is_some() {
            tokio::task::yield_now().await;
        }
        place.power("node1", PowerAction::On).await;
        assert!(!process.runs() && place.process("node1").is_some(), "round {round}");
    }
}

#[tokio::test]
async fn only_a_machine_that_nobody_switched_off_here_has_lost_its_power() {
    let mut place = Place::new();
    for name in ["node1", "node2", "node3"] {
        place.created(name).await;
    }
    place.power("node2", PowerAction::Off).await;
    let cluster = key("node1").cluster;
    assert!(place.provider.without_power(&cluster).await.expect("it tells").is_empty());
    place.process("node1").expect("it runs").kill().expect("killed");
    news(&place).await;
    assert_eq!(place.provider.without_power(&cluster).await.expect("it tells"), [key("node1").name]);
    // Also to a controller that was away and has not looked around yet.
    place.restart();
    let process = place.process("node3").expect("it runs");
    process.kill().expect("killed");
    assert!(process.has_gone_within(Duration::from_secs(30)).await);
    let both = [key("node1").name, key("node3").name];
    assert_eq!(place.provider.without_power(&cluster).await.expect("it tells"), both);
    // One that cannot be started now has lost it still.
    let kept = place.machine("node1").join("root.qcow2");
    std::fs::rename(&kept, kept.with_extension("away")).expect("moved");
    place.provider.power(&key("node1"), PowerAction::On).await.expect_err("it has no disk");
    assert_eq!(place.provider.without_power(&cluster).await.expect("it tells"), both);
    std::fs::rename(kept.with_extension("away"), &kept).expect("moved");
    place.power("node1", PowerAction::On).await;
    assert_eq!(place.provider.without_power(&cluster).await.expect("it tells"), [key("node3").name]);
}

#[tokio::test]
async fn what_is_done_through_windlass_is_not_told_as_news() {
    let place = Place::new();
    place.created("node1").await;
    for action in [PowerAction::Reset, PowerAction::Off, PowerAction::On, PowerAction::Off] {
        place.power("node1", action).await;
    }
    assert_eq!(place.observed().await[0].note, None);
    place.created("node2").await;
    place.provider.delete(&key("node1")).await.expect("removed");
    // The first that is told is this.
    place.process("node2").expect("it runs").kill().expect("killed");
    let told = news(&place).await;
    assert!(told.contains("node2"), "{told}");
}

#[tokio::test]
async fn a_machine_that_stands_still_is_told_and_goes_on_when_it_is_switched_on() {
    let mut place = Place::new();
    place.created("node1").await;
    told_by_a_stranger(&place, "node1", "stop").await;
    assert!(news(&place).await.starts_with("machine.paused: the machine of node1 stands still; "));
    assert_eq!(place.observed().await[0].note.as_deref(), Some("stands still"));
    // Another controller finds it so.
    place.restart();
    place.provider.look_around().await;
    assert_eq!(place.observed().await[0].note.as_deref(), Some("stands still"));
    place.power("node1", PowerAction::On).await;
    let told = news(&place).await;
    assert!(told.starts_with("machine.resumed: "), "{told}");
    assert_eq!(place.observed().await[0].note, None);
}

#[tokio::test]
async fn a_controller_that_starts_tells_which_machines_ended_without_it() {
    let mut place = Place::new();
    for name in ["node1", "node2", "node3"] {
        place.created(name).await;
    }
    place.power("node3", PowerAction::Off).await;
    place.restart();
    for name in ["node1", "node2"] {
        let process = place.process(name).expect("it runs");
        process.kill().expect("killed");
        assert!(process.has_gone_within(Duration::from_secs(30)).await);
    }
    // As if the host had been restarted since.
    let mut record = place.provider.record(&key("node2")).expect("a record");
    record.on_since_boot = Some("another boot".to_owned());
    record.write(&place.machine("node2")).expect("written");
    let told = [news(&place).await, news(&place).await];
    assert!(told[0].contains("node1 is off: its process ended while the controller was away"), "{told:?}");
    assert!(told[1].contains("node2 is off: its host was restarted"), "{told:?}");
    place.restart();
    place.provider.look_around().await;
    assert!(place.provider.untold().await.is_none(), "told twice");
}
