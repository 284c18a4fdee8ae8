// SPDX-License-Identifier: Apache-2.0
//! The provider on the real services, with servers that are only said to run.

use std::sync::Arc;

use windlass_controller::provider::{PowerAction, Provider as _, Wanted};
use windlass_types::machine::PowerState;
use windlass_types::name::VolumeName;

use crate::life::{administer, is_whole, key, machine, make, named, remove, service, shared};
use crate::site::{everything, provider, require};

#[tokio::test]
async fn all_of_a_machine_is_made_found_switched_and_removed_without_a_trace() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("whole"));
    let before = everything().await;
    let wanted = Wanted { machines: vec![machine(&cluster)], shared: shared() };
    let needs = cloud.check(&wanted).await.expect("there is room");
    assert!(needs.iter().any(|need| need.of == "gigabytes" && need.needed == 2 && need.left.is_some()), "{needs:?}");
    make(&cloud, &cluster).await.expect("made");
    is_whole(&cloud, &cluster).await;
    make(&cloud, &cluster).await.expect("it is there");
    is_whole(&cloud, &cluster).await;
    let key = key(&cluster);
    for (action, power) in
        [(PowerAction::Off, PowerState::Off), (PowerAction::On, PowerState::On), (PowerAction::Reset, PowerState::On)]
    {
        cloud.power(&key, action).await.expect("it obeys");
        assert_eq!(cloud.observe(&cluster).await.expect("it can tell")[0].power, power);
    }
    let mut disk = machine(&cluster).data_disks.remove(0);
    disk.name = VolumeName::new("more").expect("a name");
    cloud.attach_disk(&key, &disk).await.expect("attached");
    cloud.attach_disk(&key, &disk).await.expect("attached already");
    assert_eq!(cloud.observe(&cluster).await.expect("it can tell")[0].disks.len(), 3);
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn a_quota_that_is_used_up_midway_is_told_and_what_was_made_is_used() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("quota"));
    let before = everything().await;
    administer("quota set --volumes 1 windlass").await;
    let wanted = Wanted { machines: vec![machine(&cluster)], shared: Vec::new() };
    let told = cloud.check(&wanted).await;
    let failed = make(&cloud, &cluster).await;
    administer("quota set --volumes 20 windlass").await;
    let told = told.expect_err("there is no room").to_string();
    assert!(told.contains("2 volumes of 1 left"), "{told}");
    let failed = failed.expect_err("the second volume is too much");
    assert!(failed.advice().contains("quota"), "{failed}: {}", failed.advice());
    let left = cloud.observe(&cluster).await.expect("it can tell");
    assert!(!left[0].complete && left[0].disks.len() <= 1, "{left:?}");
    make(&cloud, &cluster).await.expect("there is room again");
    is_whole(&cloud, &cluster).await;
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn a_flavor_for_which_no_host_has_room_is_told_in_the_clouds_words_and_goes_on_afterwards() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("no-host"));
    let before = everything().await;
    administer("compute service set --disable wlcloud nova-compute").await;
    let failed = make(&cloud, &cluster).await;
    administer("compute service set --enable wlcloud nova-compute").await;
    let failed = failed.expect_err("no host");
    assert!(failed.to_string().contains("No valid host"), "{failed}");
    make(&cloud, &cluster).await.expect("there is a host again");
    is_whole(&cloud, &cluster).await;
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn a_network_agent_that_is_away_keeps_nothing_from_being_made_and_removed() {
    require("fake");
    let (cloud, cluster) = (provider(None).await, named("no-agent"));
    let before = everything().await;
    service("neutron-l3-agent", "stop").await;
    let made = make(&cloud, &cluster).await;
    service("neutron-l3-agent", "start").await;
    made.expect("the network service takes notes for its agents");
    is_whole(&cloud, &cluster).await;
    remove(&cloud, &cluster).await;
    assert_eq!(everything().await, before);
}

#[tokio::test]
async fn two_at_once_make_one() {
    require("fake");
    let cluster = named("two");
    let before = everything().await;
    let (one, other): (Arc<_>, Arc<_>) = (provider(None).await, provider(None).await);
    for wanted in shared() {
        one.prepare(&cluster, &wanted).await.expect("made");
    }
    // One provider is one controller: within it the second finds what the first has made.
    let (first, second) = tokio::join!(make(&one, &cluster), make(&one, &cluster));
    first.and(second).expect("made");
    is_whole(&other, &cluster).await;
    remove(&other, &cluster).await;
    assert_eq!(everything().await, before);
}
