// SPDX-License-Identifier: Apache-2.0
//! The provider on the real services, with servers that are only said to run.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use windlass_controller::cloud_init::UserData;
use windlass_controller::provider::openstack::OpenstackProvider;
use windlass_controller::provider::{MachineKey, NewMachine, PowerAction, Provider, ProviderError, Wanted};
use windlass_plan::base_hash;
use windlass_tests::process::{command, run_within};
use windlass_types::cloud::{NetworkChoice, Ports, Rule, RuleSource, ServerSpec, SharedSpec, Spread, Traffic};
use windlass_types::machine::{DiskSpec, MachineSpec, PowerState};
use windlass_types::name::{ClusterName, NodeName, VolumeName};
use windlass_types::outcome::ErrorClass;

use crate::proxy::{Loss, Proxy};
use crate::site::{everything, provider, require};

/// The cloud's own commands start slowly.
const COMMAND: Duration = Duration::from_secs(120);

/// A machine in a cluster of this name.
fn machine(cluster: &ClusterName) -> MachineSpec {
    let server = ServerSpec {
        flavor: "small".into(),
        network: NetworkChoice::Own,
        address: Some([10, 66, 0, 7].into()),
        floating: Some("public".into()),
        security_groups: Vec::new(),
        grouped: true,
        keypair: None,
        zone: None,
        root_volume: None,
        allowed_addresses: vec!["10.244.0.0/16".into()],
    };
    let disk = |name: &str| DiskSpec {
        name: VolumeName::new(name).expect("a name"),
        size_bytes: 1 << 30,
        serial: None,
        volume_type: None,
    };
    MachineSpec {
        cluster: cluster.clone(),
        name: NodeName::new("node1").expect("a name"),
        address: None,
        image: "tiny".into(),
        cpus: 0,
        memory_bytes: 0,
        root_disk_bytes: 0,
        data_disks: vec![disk("docker"), disk("bricks")],
        forwards: Vec::new(),
        accel: Default::default(),
        server: Some(Box::new(server)),
        roles: Vec::new(),
        labels: Default::default(),
    }
}

fn shared() -> Vec<SharedSpec> {
    let ports = Ports { first: 6443, last: 6443 };
    let rule = |from| Rule { from, traffic: Traffic::Tcp(ports) };
    let rules = [rule(RuleSource::Nodes), rule(RuleSource::Addresses("172.24.4.0/24".into()))];
    vec![
        SharedSpec::Network,
        SharedSpec::Subnet { cidr: "10.66.0.0/24".into(), name_servers: BTreeSet::new() },
        SharedSpec::Router { external: "public".into() },
        SharedSpec::SecurityGroup { rules: BTreeSet::from(rules) },
        SharedSpec::ServerGroup { spread: Spread::Soft },
    ]
}

/// Makes all of it.
async fn make(cloud: &OpenstackProvider, cluster: &ClusterName) -> Result<(), ProviderError> {
    for wanted in shared() {
        cloud.prepare(cluster, &wanted).await?;
    }
    let spec = machine(cluster);
    let user_data = UserData::sealed(&spec.name);
    cloud.create(NewMachine { spec_hash: base_hash(&spec), spec, user_data }).await.map(drop)
}

/// Sees that there is all of it, once.
async fn is_whole(cloud: &OpenstackProvider, cluster: &ClusterName) {
    let found = cloud.shared(cluster).await.expect("it can tell");
    assert!(found.iter().all(|report| report.complete), "{found:?}");
    assert_eq!(found.into_iter().map(|report| report.is).collect::<Vec<_>>(), shared());
    let machines = cloud.observe(cluster).await.expect("it can tell");
    let [made] = &machines[..] else { panic!("{machines:?}") };
    assert!(made.complete && made.power == PowerState::On, "{made:?}");
    assert_eq!((made.disks.len(), made.parts.len()), (2, 3), "{made:?}");
    assert_eq!(made.spec.as_ref().map(|spec| base_hash(spec)), Some(base_hash(&machine(cluster))));
    assert!(made.addresses.contains(&[10, 66, 0, 7].into()), "{made:?}");
}

async fn remove(cloud: &OpenstackProvider, cluster: &ClusterName) {
    let key = MachineKey::new(cluster.clone(), NodeName::new("node1").expect("a name"));
    cloud.delete(&key).await.expect("removed");
    let mut found = cloud.shared(cluster).await.expect("it can tell");
    found.sort_by_key(|report| Reverse(report.is.kind()));
    for report in found {
        cloud.clear(cluster, &report).await.expect("removed");
    }
}

fn named(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a name")
}

/// A command of the cloud's administrator.
async fn administer(words: &str) {
    let mut openstack = command("/usr/bin/openstack", std::path::Path::new("/"));
    openstack.env("OS_CLIENT_CONFIG_FILE", crate::site::clouds_file()).args(["--os-cloud", "lab-admin"]);
    run_within(COMMAND, openstack.args(words.split(' '))).await.done();
}

/// Stops or starts a service of the cloud.
async fn service(name: &str, what: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/openstack/service");
    let mut script = command(script, std::path::Path::new("/"));
    // By these it finds the cloud that runs.
    for name in ["HOME", "WINDLASS_CACHE"] {
        script.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    run_within(COMMAND, script.args([name, what])).await.done();
}

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
    let key = MachineKey::new(cluster.clone(), NodeName::new("node1").expect("a name"));
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

/// Every change, each lost once.
#[expect(clippy::print_stderr, reason = "it takes minutes")]
async fn lose_each(loss: Loss, name: &str) {
    require("fake");
    let cluster = named(name);
    let (before, calm) = (everything().await, Proxy::start(None).await);
    make(&*provider(Some(&calm.address)).await, &cluster).await.expect("made");
    let changes = calm.changes();
    remove(&*provider(None).await, &cluster).await;
    assert!(changes.len() > 15, "{changes:?}");
    for (nth, change) in changes.iter().enumerate() {
        eprintln!("{nth} of {}: {loss:?} of {change}", changes.len());
        let proxy = Proxy::start(Some((nth, loss))).await;
        // A change that is not looked for, such as that of a tag, fails, and the next attempt makes up for it.
        if let Err(error) = make(&*provider(Some(&proxy.address)).await, &cluster).await {
            assert_ne!(error.class(), ErrorClass::Bug, "{error}");
            let direct = provider(None).await;
            make(&direct, &cluster).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        }
        let direct = provider(None).await;
        is_whole(&direct, &cluster).await;
        remove(&direct, &cluster).await;
        assert_eq!(everything().await, before, "{nth}: {change}");
    }
}

#[tokio::test]
async fn what_was_made_and_not_answered_is_made_once() {
    lose_each(Loss::Answer, "lost-answer").await;
}

#[tokio::test]
async fn what_was_asked_and_never_came_is_made_by_the_next_attempt() {
    lose_each(Loss::Question, "lost-question").await;
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
