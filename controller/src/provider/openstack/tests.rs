// SPDX-License-Identifier: Apache-2.0
//! The provider on a model of a cloud: made, made again after everything that can go wrong in between, and removed.

mod adopting;
mod claim;
mod lost;
mod model;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use windlass_plan::base_hash;
use windlass_types::cloud::{Ports, Rule, RuleSource, SharedKind, SharedReport, SharedSpec, Spread, Traffic};
use windlass_types::machine::{MachineSpec, PowerState};
use windlass_types::name::{CloudName, ClusterName, NodeName};
use windlass_types::outcome::ErrorClass;

use self::model::Model;
use super::inspect::KnownNodes;
use super::patience::Patience;
use super::{OpenstackProvider, fixtures};
use crate::cloud_init::UserData;
use crate::provider::{Claim, ConsoleFrom, MachineKey, NewMachine, PowerAction, Provider, ProviderError, Wanted};

const QUICK: Patience =
    Patience { first: Duration::from_millis(1), most: Duration::from_millis(1), limit: Duration::from_millis(200) };

fn provider(model: &Arc<Model>) -> OpenstackProvider {
    of_controller("a", model)
}

fn of_controller(uid: &str, model: &Arc<Model>) -> OpenstackProvider {
    let name = CloudName::new("cybera").expect("a name");
    OpenstackProvider { patience: QUICK, ..OpenstackProvider::new(name, uid.to_owned(), Arc::clone(model) as _) }
}

fn cluster() -> ClusterName {
    ClusterName::new("k8s1").expect("a name")
}

fn key(node: &str) -> MachineKey {
    MachineKey::new(cluster(), NodeName::new(node).expect("a name"))
}

fn new(spec: MachineSpec) -> NewMachine {
    let user_data = UserData::sealed(&spec.name);
    NewMachine { spec_hash: base_hash(&spec), spec, user_data }
}

fn shared() -> Vec<SharedSpec> {
    let ports = Ports { first: 6443, last: 6443 };
    let rule = Rule { from: RuleSource::Nodes, traffic: Traffic::Tcp(ports) };
    vec![
        SharedSpec::Network,
        SharedSpec::Subnet { cidr: "10.0.0.0/24".into(), name_servers: BTreeSet::new() },
        SharedSpec::Router { external: "public".into() },
        SharedSpec::SecurityGroup { rules: BTreeSet::from([rule]) },
        SharedSpec::ServerGroup { spread: Spread::Soft },
    ]
}

async fn prepare(provider: &OpenstackProvider) -> Result<(), ProviderError> {
    for wanted in shared() {
        provider.prepare(&cluster(), &wanted).await?;
    }
    Ok(())
}

async fn is_as_wished(provider: &OpenstackProvider) -> bool {
    let found = provider.shared(&cluster()).await.expect("it can tell");
    found.iter().all(|report| report.complete)
        && found.into_iter().map(|report| report.is).collect::<Vec<_>>() == shared()
}

async fn clear(provider: &OpenstackProvider) {
    let mut found: Vec<SharedReport> = provider.shared(&cluster()).await.expect("it can tell");
    found.sort_by_key(|report| std::cmp::Reverse(report.is.kind()));
    for report in found {
        provider.clear(&cluster(), &report).await.expect("removed");
    }
}

#[tokio::test]
async fn what_is_shared_and_a_machine_are_made_found_again_and_removed_without_a_trace() {
    let model = Model::new();
    let before = model.everything();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    assert!(is_as_wished(&cloud).await);
    let made = cloud.create(new(fixtures::machine("node1"))).await.expect("made");
    assert!(made.complete && made.power == PowerState::On, "{made:?}");
    assert_eq!((made.disks.len(), made.parts.len(), made.addresses.len()), (1, 3, 2), "{made:?}");
    assert_eq!(made.disks[0].serial.as_str().len(), 20);
    // A controller that has lost everything finds the same, and making it again makes nothing.
    let other = provider(&model);
    assert_eq!(other.observe(&cluster()).await.expect("it can tell"), std::slice::from_ref(&made));
    let calls = model.changes();
    prepare(&other).await.expect("nothing to do");
    assert_eq!(other.create(new(fixtures::machine("node1"))).await.expect("it is there"), made);
    assert!(
        model.changes_since(calls).iter().all(|change| change.starts_with("tags of")),
        "{:?}",
        model.changes_since(calls)
    );
    other.delete(&key("node1")).await.expect("removed");
    clear(&other).await;
    assert_eq!(model.everything(), before);
}

#[tokio::test]
async fn nothing_without_our_tag_is_seen_or_touched() {
    let model = Model::new();
    model.add_strangers();
    let before = model.everything();
    let cloud = provider(&model);
    assert!(cloud.observe(&cluster()).await.expect("it can tell").is_empty());
    assert!(cloud.shared(&cluster()).await.expect("it can tell").is_empty());
    cloud.delete(&key("node1")).await.expect("nothing is there");
    let report = SharedReport { id: "stranger-network".into(), is: SharedSpec::Network, complete: true };
    cloud.clear(&cluster(), &report).await.expect("nothing of ours is there");
    assert_eq!(model.everything(), before);
    prepare(&cloud).await.expect("made");
    let error = cloud.clear(&cluster(), &report).await.expect_err("another network is ours");
    assert!(error.to_string().contains("the network stranger-network is not cluster k8s1's"), "{error}");
}

#[tokio::test]
async fn a_person_is_told_what_there_is_and_what_is_left_over() {
    let model = Model::new();
    model.add_strangers();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    let told = async |known: &KnownNodes| {
        let mut all = cloud.inspect(known).await;
        let last = all.pop().expect("what is left over");
        assert!(all.iter().all(|finding| finding.ok), "{all:?}");
        (all, last)
    };
    let (all, last) = told(&KnownNodes::from([(cluster(), BTreeSet::new())])).await;
    assert_eq!(all[0].detail, "operator in project windlass, roles member");
    assert!(all.iter().any(|finding| finding.detail.contains("small (1 cpus, 2048 MiB, 20 GiB)")), "{all:?}");
    assert_eq!((last.ok, last.detail.as_str()), (false, "port stranger-port of cluster other"));
    let (_, last) = told(&KnownNodes::new()).await;
    assert!(last.detail.contains("of cluster k8s1") && last.advice.contains("import cluster"), "{last:?}");
}

#[tokio::test]
async fn names_that_mean_nothing_and_quotas_are_told_before_anything_is_made() {
    let model = Model::new();
    let cloud = provider(&model);
    let check = async |spec: MachineSpec, machines: usize| {
        let wanted = Wanted { machines: vec![spec; machines], shared: shared() };
        cloud.check(&wanted).await
    };
    let good = fixtures::machine("node1");
    let needs = check(good.clone(), 2).await.expect("there is room");
    let cores = needs.iter().find(|need| need.of == "cores").expect("cores");
    assert_eq!((cores.needed, cores.left), (2, Some(10)), "{needs:?}");
    let named = |change: fn(&mut MachineSpec)| {
        let mut spec = fixtures::machine("node1");
        change(&mut spec);
        spec
    };
    let cases = [
        (named(|spec| spec.image = "Windows".into()), "there is no image Windows"),
        (named(|spec| spec.server.as_mut().expect("a server").flavor = "huge".into()), "there is no flavor huge"),
        (named(|spec| spec.server.as_mut().expect("a server").flavor = "tiny".into()), "needs 512 MiB memory"),
        (
            named(|spec| spec.server.as_mut().expect("a server").floating = Some("sky".into())),
            "no external network sky",
        ),
    ];
    for (spec, words) in cases {
        let error = check(spec, 1).await.expect_err(words);
        assert!(error.to_string().contains(words) && error.class() == ErrorClass::Operator, "{error}");
        assert!(!error.advice().is_empty());
    }
    let error = check(good, 11).await.expect_err("too many");
    assert!(error.to_string().contains("11 cores of 10 left"), "{error}");
    assert_eq!(model.changes(), 0, "nothing was made");
}

#[tokio::test]
async fn a_server_that_cannot_be_made_is_told_in_the_clouds_words_and_goes_on_where_it_was() {
    let model = Model::new();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    model.fail_servers(Some("No valid host was found."));
    let error = cloud.create(new(fixtures::machine("node1"))).await.expect_err("no host");
    assert!(error.to_string().contains("No valid host was found."), "{error}");
    assert!(error.advice().contains("smaller flavor"), "{}", error.advice());
    let left = cloud.observe(&cluster()).await.expect("it can tell");
    assert!(!left[0].complete && left[0].disks.len() == 1, "{left:?}");
    model.fail_servers(None);
    let volumes = model.count("volume");
    let made = cloud.create(new(fixtures::machine("node1"))).await.expect("made");
    assert!(made.complete && model.count("volume") == volumes && model.count("server") == 1);
}

#[tokio::test]
async fn only_the_server_that_was_made_may_join_as_its_node() {
    let model = Model::new();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    let made = cloud.create(new(fixtures::machine("node1"))).await.expect("made");
    let claim = |uuid: &str, address: &str| Claim {
        address: Some(address.parse().expect("an address")),
        system_uuid: uuid.into(),
    };
    let vouch = async |claim: Claim| cloud.vouch(&key("node1"), &claim).await;
    let inside = made.addresses[0].to_string();
    vouch(claim(made.id.as_str(), &inside)).await.expect("it is that server");
    vouch(claim(made.id.as_str(), &made.addresses[1].to_string())).await.expect("by its address outside");
    vouch(claim("", &inside)).await.expect("its firmware tells nothing");
    model.router_is_at("172.24.4.250");
    vouch(claim(made.id.as_str(), "172.24.4.250")).await.expect("through the router");
    for (stranger, words) in [
        (claim("another", &inside), "its firmware says another"),
        (claim(made.id.as_str(), "10.0.0.99"), "it calls from 10.0.0.99"),
        (claim("", "172.24.4.250"), "it does not say which server it is"),
    ] {
        let error = vouch(stranger).await.expect_err(words);
        assert!(error.class() == ErrorClass::Operator && error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_has_run_is_never_replaced_whatever_became_of_it() {
    let model = Model::new();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    let made = cloud.create(new(fixtures::machine("node1"))).await.expect("made");
    model.break_servers();
    let seen = cloud.observe(&cluster()).await.expect("it can tell");
    assert!(seen[0].complete && seen[0].id == made.id && seen[0].note.is_some(), "{seen:?}");
    cloud.create(new(fixtures::machine("node1"))).await.expect_err("it is in error");
    assert_eq!(cloud.observe(&cluster()).await.expect("it can tell")[0].id, made.id);
}

#[tokio::test]
async fn rules_are_brought_to_what_they_shall_be() {
    let model = Model::new();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    let ports = Ports { first: 443, last: 443 };
    let rule = Rule { from: RuleSource::Addresses("203.0.113.0/24".into()), traffic: Traffic::Tcp(ports) };
    let wanted = SharedSpec::SecurityGroup { rules: BTreeSet::from([rule]) };
    cloud.prepare(&cluster(), &wanted).await.expect("changed");
    let found = cloud.shared(&cluster()).await.expect("it can tell");
    let group = found.iter().find(|report| report.is.kind() == SharedKind::SecurityGroup).expect("a group");
    assert_eq!(group.is, wanted);
}

#[tokio::test]
async fn a_machine_is_switched_gets_a_disk_and_its_console_is_read() {
    let model = Model::new();
    let cloud = provider(&model);
    prepare(&cloud).await.expect("made");
    cloud.create(new(fixtures::machine("node1"))).await.expect("made");
    let power = async || cloud.observe(&cluster()).await.expect("it can tell")[0].power;
    cloud.power(&key("node1"), PowerAction::Off).await.expect("off");
    cloud.power(&key("node1"), PowerAction::Off).await.expect("off already");
    assert_eq!(power().await, PowerState::Off);
    cloud.power(&key("node1"), PowerAction::On).await.expect("on");
    cloud.power(&key("node1"), PowerAction::Reset).await.expect("reset");
    assert_eq!(power().await, PowerState::On);
    let mut disk = fixtures::machine("node1").data_disks[0].clone();
    disk.name = windlass_types::name::VolumeName::new("bricks").expect("a name");
    cloud.attach_disk(&key("node1"), &disk).await.expect("attached");
    cloud.attach_disk(&key("node1"), &disk).await.expect("attached already");
    assert_eq!((model.count("volume"), model.attached()), (2, 2));
    let piece = cloud.console(&key("node1"), ConsoleFrom::Position(0)).await.expect("a console");
    assert_eq!(piece.data, b"Linux version 5.14\n");
    assert!(cloud.console(&key("node9"), ConsoleFrom::Tail(1)).await.is_err());
    cloud.delete(&key("node1")).await.expect("removed");
    assert_eq!(model.count("volume"), 0);
}
