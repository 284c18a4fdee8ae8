// SPDX-License-Identifier: Apache-2.0
//! Servers that somebody made by hand.

use windlass_types::cloud::NetworkChoice;
use windlass_types::machine::MachineSpec;

use super::*;
use crate::provider::openstack::{Adoption, Claimed, tag};

fn theirs() -> MachineSpec {
    let mut spec = fixtures::machine("node1");
    let server = spec.server.as_mut().expect("a server");
    server.network = NetworkChoice::Existing("internal".into());
    server.address = Some("10.1.0.5".parse().expect("an address"));
    spec
}

fn claimed() -> Claimed {
    Claimed { server: "k8s-node-1".into(), ..Claimed::default() }
}

async fn looked_at(cloud: &OpenstackProvider, spec: &MachineSpec) -> Adoption {
    cloud.adoption(spec, &claimed()).await.expect("it can tell")
}

#[tokio::test]
async fn a_server_is_taken_over_as_it_is_found_again_and_removed_with_what_was_taken() {
    let model = Model::new();
    model.add_foreign_server();
    let cloud = provider(&model);
    let before = model.everything();
    let adoption = looked_at(&cloud, &theirs()).await;
    assert!(adoption.obstacles.is_empty(), "{adoption:?}");
    let parts: Vec<_> = adoption.parts().map(|(kind, id, called)| format!("{kind} {id} {called}")).collect();
    assert_eq!(
        parts,
        [
            "server their-server k8s-node-1",
            "port their-port 10.1.0.5",
            "floating IP their-address 172.24.4.77",
            "volume docker their-docker their-docker (2 GiB)"
        ]
    );
    assert_eq!(adoption.remarks, ["the volume their-data (9 GiB) is not in the spec and is left alone"]);
    assert_eq!(model.changes(), 0, "looking changes nothing");

    cloud.adopt(&theirs(), &adoption, &shared()[3..4]).await.expect("taken over");
    let seen = cloud.observe(&cluster()).await.expect("it can tell");
    let [machine] = &seen[..] else { panic!("one machine: {seen:?}") };
    assert!(machine.adopted && machine.complete && machine.spec_hash == Some(base_hash(&theirs())), "{machine:?}");
    assert_eq!((machine.parts.len(), machine.disks.len()), (3, 1), "{machine:?}");
    let again = looked_at(&cloud, &theirs()).await;
    assert!(again.obstacles.is_empty() && again.remarks[0].contains("already"), "{again:?}");
    cloud.adopt(&theirs(), &again, &shared()[3..4]).await.expect("a second time");
    assert_eq!(cloud.create(new(theirs())).await.expect("it is there").id, machine.id);
    assert_eq!((model.count("server"), model.count("volume")), (1, 2), "nothing was made");
    let port = model.port("their-port");
    assert_eq!((port.tags[0].as_str(), port.tags.len(), port.security_groups.len()), ("theirs", 4, 2), "{port:?}");

    cloud.delete(&key("node1")).await.expect("removed");
    clear(&cloud).await;
    let left = model.everything();
    assert!(left.contains(&"volume their-data".to_owned()) && !left.contains(&"volume their-docker".to_owned()));
    assert_eq!(left.len(), before.len() - 4, "server, port, address, one volume: {left:?}");
}

#[tokio::test]
async fn what_is_not_as_the_spec_says_is_told_before_anything_is_marked() {
    let model = Model::new();
    model.add_foreign_server();
    let cloud = provider(&model);
    let objection = async |change: fn(&mut MachineSpec)| {
        let mut spec = theirs();
        change(&mut spec);
        looked_at(&cloud, &spec).await.obstacles.join("; ")
    };
    for (change, words) in [
        (
            (|spec| spec.server.as_mut().expect("a server").address = "10.1.0.9".parse().ok()) as fn(&mut MachineSpec),
            "it has not the address 10.1.0.9",
        ),
        (|spec| spec.server.as_mut().expect("a server").network = NetworkChoice::Own, "name the server's in `network`"),
        (
            |spec| spec.server.as_mut().expect("a server").network = NetworkChoice::Existing("public".into()),
            "no port of this project in the network public",
        ),
        (|spec| spec.data_disks[0].size_bytes = 3 << 30, "the volume docker has 2 GiB, and the spec says 3"),
    ] {
        let told = objection(change).await;
        assert!(told.contains(words), "{words}: {told}");
    }
    let nobody = cloud.adoption(&theirs(), &Claimed { server: "k8s-node-2".into(), ..Claimed::default() }).await;
    assert!(nobody.expect_err("no such server").to_string().contains("there is no server k8s-node-2"));
    assert_eq!(model.changes(), 0);
}

#[tokio::test]
async fn a_server_is_one_machine_and_a_volume_that_could_be_either_is_asked_for() {
    let model = Model::new();
    model.add_foreign_server();
    let cloud = provider(&model);
    let adoption = looked_at(&cloud, &theirs()).await;
    cloud.adopt(&theirs(), &adoption, &[]).await.expect("taken over");
    let mut other = theirs();
    other.name = NodeName::new("node2").expect("a name");
    let told = looked_at(&cloud, &other).await.obstacles.join("; ");
    assert!(told.contains("the server is node1 of cluster k8s1 already"), "{told}");

    let model = Model::new();
    model.add_foreign_server();
    model.resize_volumes(5);
    let cloud = provider(&model);
    let mut spec = theirs();
    spec.data_disks[0].name = windlass_types::name::VolumeName::new("bricks").expect("a name");
    spec.data_disks[0].size_bytes = 5 << 30;
    let told = looked_at(&cloud, &spec).await.obstacles.join("; ");
    assert!(told.contains("--volume node1/bricks=ID, with one of their-docker, their-data"), "{told}");
    let volumes = [(spec.data_disks[0].name.clone(), "their-data".to_owned())].into();
    let said = cloud.adoption(&spec, &Claimed { volumes, ..claimed() }).await.expect("it can tell");
    let stray = [(windlass_types::name::VolumeName::new("stray").expect("a name"), "their-data".to_owned())].into();
    let stray = cloud.adoption(&spec, &Claimed { volumes: stray, ..claimed() }).await.expect("it can tell");
    assert!(stray.obstacles.contains(&"the spec has no volume stray".to_owned()), "{stray:?}");
    assert!(said.obstacles.is_empty() && said.parts().any(|(_, id, _)| id == "their-data"), "{said:?}");
}

#[tokio::test]
async fn what_is_marked_as_another_machines_or_is_at_two_servers_is_objected_to() {
    let marks = |node: &str| vec!["windlass:cluster=k8s1".to_owned(), format!("windlass:node={node}")];
    let objections = async |change: &dyn Fn(&Model)| {
        let model = Model::new();
        model.add_foreign_server();
        change(&model);
        looked_at(&provider(&model), &theirs()).await.obstacles
    };
    let none: [String; 0] = [];
    assert_eq!(objections(&|model| model.change_port("their-port", |port| port.tags = marks("node1"))).await, none);
    let port = objections(&|model| model.change_port("their-port", |port| port.tags = marks("node2"))).await;
    assert_eq!(port, ["the port their-port is node2's of cluster k8s1 already"]);
    let shared =
        objections(&|model| model.change_port("their-port", |port| port.tags = marks("node1")[..1].to_vec())).await;
    assert_eq!(shared, ["the port their-port is cluster k8s1's already"]);
    let docker = windlass_types::name::VolumeName::new("docker").expect("a name");
    let volume = objections(&|model| {
        model.change_volume("their-docker", |volume| {
            volume.metadata = tag::of_volume(&tag::Tag::of(&key("node2")), &docker)
        });
    })
    .await;
    assert_eq!(volume, ["the volume their-docker is node2's of cluster k8s1 already"]);
    let twice = objections(&|model: &Model| {
        model.change_volume("their-docker", |volume| {
            let mut other = volume.attachments[0].clone();
            other.server_id = "another".into();
            volume.attachments.push(other);
        });
    })
    .await;
    assert_eq!(twice, ["the volume their-docker is at 2 servers"]);
}

#[tokio::test]
async fn a_volume_that_is_said_or_marked_to_be_one_disk_is_not_another_by_its_name() {
    let model = Model::new();
    model.add_foreign_server();
    model.resize_volumes(2);
    let cloud = provider(&model);
    let name = |name| windlass_types::name::VolumeName::new(name).expect("a name");
    let mut spec = theirs();
    let mut data = spec.data_disks[0].clone();
    data.name = name("data");
    spec.data_disks.push(data);
    let volumes = [(name("data"), "their-docker".to_owned())].into();
    let said = cloud.adoption(&spec, &Claimed { volumes, ..claimed() }).await.expect("it can tell");
    let parts: Vec<_> = said.parts().map(|(kind, id, _)| format!("{kind} {id}")).collect();
    assert_eq!(parts[3..], ["volume data their-docker", "volume docker their-data"], "{said:?}");

    model.change_volume("their-data", |volume| {
        volume.metadata = tag::of_volume(&tag::Tag::of(&key("node1")), &name("docker"))
    });
    model.change_volume("their-docker", |volume| {
        volume.metadata = tag::of_volume(&tag::Tag::of(&key("node1")), &name("data"))
    });
    let marked = cloud.adoption(&spec, &claimed()).await.expect("it can tell");
    let parts: Vec<_> = marked.parts().map(|(kind, id, _)| format!("{kind} {id}")).collect();
    assert_eq!(parts[3..], ["volume docker their-data", "volume data their-docker"], "{marked:?}");

    // Nor by its size.
    spec.data_disks.truncate(1);
    spec.data_disks[0].name = name("bricks");
    model.change_volume("their-docker", |volume| volume.metadata.clear());
    let sized = cloud.adoption(&spec, &claimed()).await.expect("it can tell");
    let parts: Vec<_> = sized.parts().map(|(kind, id, _)| format!("{kind} {id}")).collect();
    assert_eq!(parts[3..], ["volume bricks their-docker"], "{sized:?}");
    assert!(sized.obstacles.is_empty(), "{sized:?}");
}

#[tokio::test]
async fn taking_over_that_was_interrupted_anywhere_never_makes_a_second_server() {
    for nth in 0.. {
        let model = Model::new();
        model.add_foreign_server();
        let cloud = provider(&model);
        let adoption = looked_at(&cloud, &theirs()).await;
        model.lose(nth, model::Loss::Question);
        let is_over = cloud.adopt(&theirs(), &adoption, &shared()[3..4]).await.is_ok();
        model.lose(usize::MAX, model::Loss::Question);
        for machine in cloud.observe(&cluster()).await.expect("it can tell") {
            assert!(machine.complete && machine.adopted, "{nth}: {machine:?}");
        }
        let again = looked_at(&cloud, &theirs()).await;
        cloud.adopt(&theirs(), &again, &shared()[3..4]).await.expect("the rest");
        let seen = cloud.observe(&cluster()).await.expect("it can tell");
        assert_eq!((seen.len(), seen[0].parts.len(), seen[0].disks.len()), (1, 3, 1), "{nth}: {seen:?}");
        if is_over {
            assert!(nth > 5, "every change was lost once");
            return;
        }
    }
}
