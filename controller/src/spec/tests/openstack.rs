// SPDX-License-Identifier: Apache-2.0
//! Specs whose machines are servers of a cloud.

use windlass_plan::base_hash;
use windlass_types::cloud::{NetworkChoice, SharedKind, SharedSpec};
use windlass_types::machine::ProviderKind;

use super::{Cluster, GOOD, refusal};

const CLOUD: &str = "apiVersion: windlass/v1
kind: Cluster
metadata: {name: k8s1}
spec:
  provider:
    openstack:
      cloud: cybera
      image: CentOS-Stream-9
      ownNetwork: {cidr: 10.0.0.0/24, external: public}
      floatingIPs: {network: public, nodes: [master1]}
      open: [{port: 6443, from: 203.0.113.0/24}]
  nodes:
    - {name: master1, address: 10.0.0.172, flavor: c4-7.5gb}
    - {name: node1, flavor: c4-7.5gb}
  volumes: {docker: {size: 50GiB, type: ssd}}
  packages: {repositories: [{name: w, url: http://10.0.2.2/, gpgKey: key}]}
";

#[test]
fn a_cloud_is_named_with_what_machines_share_and_what_each_has() {
    let cluster = Cluster::parse(CLOUD).expect("a good spec");
    assert_eq!(cluster.provider().to_string(), "openstack/cybera");
    let spec = cluster.machines(None).expect("no path in it needs a home");
    let kinds: Vec<_> = spec.shared.iter().map(SharedSpec::kind).collect();
    assert_eq!(kinds, [SharedKind::Network, SharedKind::Subnet, SharedKind::Router, SharedKind::SecurityGroup]);
    let [master, node] = &spec.machines[..] else { panic!("two machines") };
    let server = master.server.as_ref().expect("a server");
    assert_eq!((server.flavor.as_str(), server.floating.as_deref()), ("c4-7.5gb", Some("public")));
    assert_eq!(
        (&server.network, node.server.as_ref().expect("a server").floating.as_ref()),
        (&NetworkChoice::Own, None)
    );
    let disk = &master.data_disks[0];
    assert_eq!((disk.serial.as_ref(), disk.volume_type.as_deref()), (None, Some("ssd")));
    assert_eq!((master.cpus, master.memory_bytes), (0, 0), "its flavor says that");
}

#[test]
fn nothing_is_open_to_the_world_unless_the_spec_says_so() {
    let group = |text: &str| {
        let spec = Cluster::parse(text).expect("a good spec").machines(None).expect("no home");
        let found = spec.shared.iter().find(|shared| shared.kind() == SharedKind::SecurityGroup).cloned();
        found.expect("a security group").particulars()
    };
    let closed = group(&CLOUD.replace("      open: [{port: 6443, from: 203.0.113.0/24}]\n", ""));
    assert!(closed.iter().all(|rule| rule.ends_with("from the cluster's nodes")), "{closed:?}");
    let opened = group(&CLOUD.replace("203.0.113.0/24", "0.0.0.0/0"));
    assert!(opened.contains(&"lets in tcp 6443 from 0.0.0.0/0".to_owned()), "{opened:?}");
}

#[test]
fn what_would_make_another_server_changes_its_hash_and_rules_do_not() {
    let hash = |text: &str| {
        base_hash(&Cluster::parse(text).expect("a good spec").machines(None).expect("no home").machines[0])
    };
    assert_eq!(hash(CLOUD), hash(&CLOUD.replace("port: 6443", "port: 443")));
    assert_eq!(hash(CLOUD), hash(&CLOUD.replace("50GiB", "60GiB")));
    for other in [CLOUD.replace("c4-7.5gb", "c8"), CLOUD.replace("10.0.0.172", "10.0.0.9")] {
        assert_ne!(hash(CLOUD), hash(&other), "{other}");
    }
}

#[test]
fn parts_of_a_cloud_that_do_not_go_together_are_refused() {
    let cases = [
        (
            CLOUD.replace("      ownNetwork", "      network: k8s\n      ownNetwork"),
            "exactly one of network and ownNetwork",
        ),
        (CLOUD.replace(", flavor: c4-7.5gb}\n    - {name: node1", "}\n    - {name: node1"), "master1 has no flavor"),
        (CLOUD.replace("{name: node1,", "{name: node1, cpus: 2,"), "cpus of node1 cannot be chosen"),
        (CLOUD.replace("{name: node1,", "{name: node1, disk: 20GiB,"), "rootVolume belong together"),
        (CLOUD.replace("nodes: [master1]", "nodes: [master9]"), "there is no such node"),
        (CLOUD.replace("203.0.113.0/24", "203.0.113.7/24"), "open lets in from"),
        (CLOUD.replace("port: 6443", "port: 6443, to: 80"), "open has ports 6443 to 80"),
        (CLOUD.replace("50GiB", "512MiB"), "no whole number of GiB"),
        (CLOUD.replace("10.0.0.172", "10.0.1.172"), "network 10.0.0.0/24"),
        (CLOUD.replace("image: CentOS-Stream-9", "image: ''"), "provider.openstack.image is empty"),
        (CLOUD.replace("cloud: cybera", "cloud: ../etc"), "cloud name"),
        (GOOD.replace("memory: 3GiB", "flavor: small"), "flavor of node1 says something only"),
        (GOOD.replace("{size: 50GiB}", "{size: 50GiB, type: ssd}"), "type of the volume docker"),
    ];
    for (text, words) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    assert_eq!(Cluster::parse(GOOD).expect("a good spec").provider(), ProviderKind::Qemu);
}
