// SPDX-License-Identifier: Apache-2.0
//! A cluster with one machine, and its life: made, looked at, removed. And what the cloud's administrator does meanwhile.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::Duration;

use windlass_controller::cloud_init::UserData;
use windlass_controller::provider::openstack::OpenstackProvider;
use windlass_controller::provider::{MachineKey, NewMachine, Provider as _, ProviderError};
use windlass_plan::base_hash;
use windlass_tests::process::{command, run_within};
use windlass_types::cloud::{NetworkChoice, Ports, Rule, RuleSource, ServerSpec, SharedSpec, Spread, Traffic};
use windlass_types::machine::{DiskSpec, MachineSpec, PowerState};
use windlass_types::name::{ClusterName, NodeName, VolumeName};

/// The cloud's own commands start slowly.
pub(crate) const COMMAND: Duration = Duration::from_secs(120);

/// A machine in a cluster of this name.
pub(crate) fn machine(cluster: &ClusterName) -> MachineSpec {
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

/// What its machines share.
pub(crate) fn shared() -> Vec<SharedSpec> {
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
pub(crate) async fn make(cloud: &OpenstackProvider, cluster: &ClusterName) -> Result<(), ProviderError> {
    for wanted in shared() {
        cloud.prepare(cluster, &wanted).await?;
    }
    let spec = machine(cluster);
    let user_data = UserData::sealed(&spec.name);
    cloud.create(NewMachine { spec_hash: base_hash(&spec), spec, user_data }).await.map(drop)
}

/// Sees that there is all of it, once.
pub(crate) async fn is_whole(cloud: &OpenstackProvider, cluster: &ClusterName) {
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

/// Removes all of it.
pub(crate) async fn remove(cloud: &OpenstackProvider, cluster: &ClusterName) {
    cloud.delete(&key(cluster)).await.expect("removed");
    let mut found = cloud.shared(cluster).await.expect("it can tell");
    found.sort_by_key(|report| Reverse(report.is.kind()));
    for report in found {
        cloud.clear(cluster, &report).await.expect("removed");
    }
}

/// The machine of a cluster.
pub(crate) fn key(cluster: &ClusterName) -> MachineKey {
    MachineKey::new(cluster.clone(), NodeName::new("node1").expect("a name"))
}

/// A name.
pub(crate) fn named(name: &str) -> ClusterName {
    ClusterName::new(name).expect("a name")
}

/// A command of the cloud's administrator.
pub(crate) async fn administer(words: &str) {
    openstack("lab-admin", words).await;
}

/// A command of somebody else in the project; what it prints.
pub(crate) async fn by_hand(words: &str) -> String {
    openstack("lab", words).await
}

async fn openstack(cloud: &str, words: &str) -> String {
    let mut openstack = command("/usr/bin/openstack", std::path::Path::new("/"));
    openstack.env("OS_CLIENT_CONFIG_FILE", crate::site::clouds_file()).args(["--os-cloud", cloud]);
    run_within(COMMAND, openstack.args(words.split(' '))).await.ok().trim().to_owned()
}

/// Stops or starts a service of the cloud.
pub(crate) async fn service(name: &str, what: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/openstack/service");
    let mut script = command(script, std::path::Path::new("/"));
    // By these it finds the cloud that runs.
    for name in ["HOME", "WINDLASS_CACHE"] {
        script.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    run_within(COMMAND, script.args([name, what])).await.done();
}

/// How a volume is.
pub(crate) async fn status(volume: &str) -> String {
    by_hand(&format!("volume show {volume} -f value -c status")).await
}
