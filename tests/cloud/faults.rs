// SPDX-License-Identifier: Apache-2.0
//! What goes wrong between us and a cloud, on the real services: whatever is lost, killed, stuck or somebody else's, nothing
//! is made twice, and nothing but ours is touched. Minutes each.

use std::cmp::Reverse;

use windlass_controller::provider::Provider as _;
use windlass_tests::wait::wait_until;
use windlass_types::cloud::SharedKind;
use windlass_types::machine::PowerState;
use windlass_types::name::VolumeName;
use windlass_types::outcome::ErrorClass;

use crate::life::{COMMAND, administer, by_hand, is_whole, key, machine, make, named, remove, service, status};
use crate::proxy::{Loss, Proxy};
use crate::site::{everything, provider, require};

/// Each change is lost once, or each one in `step`.
#[expect(clippy::print_stderr, reason = "it takes minutes")]
async fn lose_each(loss: Loss, name: &str, step: usize) {
    require("fake");
    let cluster = named(name);
    let (before, calm) = (everything().await, Proxy::start(None).await);
    make(&*provider(Some(&calm.address)).await, &cluster).await.expect("made");
    let changes = calm.changes();
    remove(&*provider(None).await, &cluster).await;
    assert!(changes.len() > 15, "{changes:?}");
    for (nth, change) in changes.iter().enumerate().step_by(step) {
        eprintln!("{nth} of {}: {loss:?} of {change}", changes.len());
        let proxy = Proxy::start(Some((nth, loss))).await;
        // A change that is not looked for, such as that of a tag, fails, and the next attempt makes up for it.
        let through = provider(Some(&proxy.address)).await;
        let failed = tokio::select! {
            made = make(&through, &cluster) => made.err(),
            () = proxy.asker_dies() => None,
        };
        assert!(failed.is_none_or(|error| error.class() != ErrorClass::Bug), "{nth}: {change}");
        let direct = provider(None).await;
        make(&direct, &cluster).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        is_whole(&direct, &cluster).await;
        remove(&direct, &cluster).await;
        assert_eq!(everything().await, before, "{nth}: {change}");
    }
}

#[tokio::test]
async fn what_was_made_and_not_answered_is_made_once() {
    lose_each(Loss::Answer, "lost-answer", 1).await;
}

#[tokio::test]
async fn what_was_asked_and_never_came_is_made_by_the_next_attempt() {
    // What never came is looked for, for a minute.
    lose_each(Loss::Question, "lost-question", 4).await;
}

#[tokio::test]
async fn whoever_dies_at_any_change_leaves_what_the_next_one_finishes() {
    lose_each(Loss::Asker, "lost-asker", 1).await;
}

/// What is removed is removed in as many pieces as there are changes; whoever dies at one of them is followed by another.
#[tokio::test]
async fn whoever_dies_while_removing_leaves_what_the_next_one_removes() {
    require("fake");
    let cluster = named("half-removed");
    let (before, calm) = (everything().await, Proxy::start(None).await);
    make(&*provider(None).await, &cluster).await.expect("made");
    remove(&*provider(Some(&calm.address)).await, &cluster).await;
    let changes = calm.changes();
    assert!(changes.len() > 7, "{changes:?}");
    for (nth, change) in changes.iter().enumerate() {
        eprintln!("{nth} of {}: dead at {change}", changes.len());
        make(&*provider(None).await, &cluster).await.expect("made");
        let proxy = Proxy::start(Some((nth, Loss::Asker))).await;
        let through = provider(Some(&proxy.address)).await;
        tokio::select! {
            () = remove(&through, &cluster) => {}
            () = proxy.asker_dies() => {}
        }
        remove(&*provider(None).await, &cluster).await;
        assert_eq!(everything().await, before, "{nth}: {change}");
    }
}

#[tokio::test]
async fn a_token_that_ends_midway_is_renewed_and_nothing_is_made_twice() {
    require("fake");
    let cluster = named("old-token");
    let before = everything().await;
    for nth in [0, 6, 12] {
        let proxy = Proxy::start(Some((nth, Loss::Token))).await;
        make(&*provider(Some(&proxy.address)).await, &cluster).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        is_whole(&*provider(None).await, &cluster).await;
        remove(&*provider(None).await, &cluster).await;
        assert_eq!(everything().await, before, "{nth}");
    }
}

#[tokio::test]
async fn a_server_that_its_host_forgets_over_a_restart_is_told_removed_and_made_by_the_next_attempt() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("no-compute"));
    let before = everything().await;
    service("nova-compute", "stop").await;
    let (made, ()) = tokio::join!(make(&cloud, &cluster), async {
        let observer = provider(None).await;
        let is_asked_for = async || {
            let seen = observer.observe(&cluster).await.expect("it can tell");
            seen.first().is_some_and(|machine| machine.complete && machine.power == PowerState::Unknown)
        };
        wait_until("the server to wait for a host", COMMAND, is_asked_for).await;
        service("nova-compute", "start").await;
    });
    // Nova gives up a server that its host had been told of and had not begun when it went away.
    let told = made.expect_err("its host knows nothing of it");
    assert!(told.to_string().contains("cannot make the server") && told.advice().contains("apply"), "{told}");
    make(&cloud, &cluster).await.expect("made");
    is_whole(&cloud, &cluster).await;
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn a_volume_that_is_stuck_is_waited_for_and_told_when_it_stays_so() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("stuck"));
    let (before, machine_key) = (everything().await, key(&cluster));
    make(&cloud, &cluster).await.expect("made");
    let mut disk = machine(&cluster).data_disks.remove(0);
    disk.name = VolumeName::new("more").expect("a name");
    cloud.attach_disk(&machine_key, &disk).await.expect("attached");
    let more = by_hand("volume list --name stuck-node1-more -f value -c ID").await;
    let server = by_hand("server list --name node1 -f value -c ID").await;
    by_hand(&format!("server remove volume {server} {more}")).await;
    wait_until("the volume to be free", COMMAND, async || status(&more).await == "available").await;
    // As a volume service that died in the middle leaves it.
    administer(&format!("volume set --state attaching {more}")).await;
    let (attached, ()) = tokio::join!(cloud.attach_disk(&machine_key, &disk), async {
        // It is asked for again and again meanwhile.
        administer(&format!("volume show {more}")).await;
        administer(&format!("volume set --state available {more}")).await;
    });
    attached.expect("it was free again");
    by_hand(&format!("server remove volume {server} {more}")).await;
    wait_until("the volume to be free", COMMAND, async || status(&more).await == "available").await;
    administer(&format!("volume set --state error {more}")).await;
    let told = cloud.attach_disk(&machine_key, &disk).await.expect_err("it stays so");
    assert!(told.to_string().contains("the volume more of node1 of cluster stuck is error"), "{told}");
    assert!(told.advice().contains("administrators"), "{}", told.advice());
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn what_is_still_used_by_somebody_else_is_left_told_and_removed_later() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("in-use"));
    let before = everything().await;
    make(&cloud, &cluster).await.expect("made");
    let theirs = by_hand("port create --network in-use -f value -c id theirs").await;
    cloud.delete(&key(&cluster)).await.expect("the machine is ours alone");
    let mut found = cloud.shared(&cluster).await.expect("it can tell");
    found.sort_by_key(|report| Reverse(report.is.kind()));
    let mut refused = Vec::new();
    for report in found {
        if let Err(error) = cloud.clear(&cluster, &report).await {
            refused.push((report.is.kind(), error));
        }
    }
    let kinds: Vec<_> = refused.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [SharedKind::Subnet, SharedKind::Network], "{refused:?}");
    assert!(refused.iter().all(|(_, error)| error.class() != ErrorClass::Bug), "{refused:?}");
    assert!(everything().await.iter().any(|thing| thing.contains("theirs")), "theirs is still there");
    by_hand(&format!("port delete {theirs}")).await;
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}
