// SPDX-License-Identifier: Apache-2.0
//! What is sent for each call, and what is made of answers of several releases.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::openstack::Cloud;
use crate::openstack::compute::{Compute as _, GroupPolicy, NewServer, RootVolume, ServerAction, ServerStatus};
use crate::openstack::image::Images as _;
use crate::openstack::network::{
    AddressPair, Direction, EtherType, Filter, FixedIp, Gateway, Networking as _, NewFloatingIp, NewPort, NewRouter,
    NewRule, NewSecurityGroup, NewSubnet, Part,
};
use crate::openstack::quota::{Quota, Quotas as _};
use crate::openstack::secret::Secret;
use crate::openstack::testing::{FakeCloud, TOKEN, reply};
use crate::openstack::volume::{NewVolume, VolumeStatus, Volumes as _};

/// The microversion that the fake cloud and we can both speak.
const SPOKEN: &str = "compute 2.90";

fn marks() -> BTreeMap<String, String> {
    [("windlass:cluster".to_owned(), "demo".to_owned())].into()
}

fn server() -> NewServer {
    NewServer {
        name: "node1".to_owned(),
        image: "i1".to_owned(),
        flavor: "f1".to_owned(),
        ports: vec!["p1".to_owned(), "p2".to_owned()],
        user_data: Secret::new("#cloud-config with a join token"),
        config_drive: true,
        metadata: marks(),
        keypair: None,
        group: None,
        availability_zone: None,
        root_volume: None,
        volumes: Vec::new(),
    }
}

/// Answers to everything under a name, and the body that was sent.
pub(super) async fn sent<T>(line: &str, answer: Value, ask: impl AsyncFnOnce(&dyn Cloud) -> T) -> (Value, T) {
    let cloud = FakeCloud::start().await;
    cloud.on(line, [reply(200, answer)]);
    let answered = ask(&cloud.client()).await;
    let mut asked = cloud.asked(line);
    assert_eq!(asked.len(), 1, "{line}");
    (asked.remove(0).body, answered)
}

#[tokio::test]
async fn only_compute_gets_a_microversion() {
    let cloud = FakeCloud::start().await;
    let client = cloud.client();
    cloud.on("GET /compute/v2.1/flavors/detail", [reply(200, json!({"flavors": []}))]);
    cloud.on("GET /network/v2.0/networks?router%3Aexternal=true", [reply(200, json!({"networks": []}))]);
    cloud.on("GET /image/v2/images?name=x", [reply(200, json!({"images": []}))]);
    cloud.on("GET /volume/v3/p1/types", [reply(200, json!({"volume_types": []}))]);
    client.flavors().await.expect("flavors");
    client.flavors().await.expect("flavors");
    client.external_networks().await.expect("networks");
    client.images("x").await.expect("images");
    client.volume_types().await.expect("types");
    // It is asked for once, and without one.
    assert_eq!(cloud.asked("GET /compute/v2.1/").iter().filter(|asked| asked.line.ends_with("v2.1/")).count(), 1);
    for asked in cloud.asked("") {
        let expected = asked.line.contains("/flavors").then_some(SPOKEN);
        assert_eq!(asked.header("openstack-api-version"), expected, "{}", asked.line);
        let token = format!("{TOKEN}-1");
        let expected = (!asked.line.contains("/auth/tokens")).then_some(token.as_str());
        assert_eq!(asked.header("x-auth-token"), expected, "{}", asked.line);
    }
}

#[tokio::test]
async fn an_old_compute_service_is_spoken_to_in_its_way() {
    let cloud = FakeCloud::start().await;
    let old = json!({"version": {"id": "v2.1", "status": "CURRENT", "version": "2.12", "min_version": "2.1"}});
    cloud.on("GET /compute/v2.1/", [reply(200, old)]);
    let groups = "POST /compute/v2.1/os-server-groups";
    cloud.on(groups, [reply(200, json!({"server_group": {"id": "g1", "name": "g", "policies": ["anti-affinity"]}}))]);
    let client = cloud.client();
    let group = client.create_server_group("g", GroupPolicy::AntiAffinity).await.expect("made");
    assert_eq!((group.id.as_str(), group.members.len()), ("g1", 0));
    let asked = cloud.asked(groups).remove(0);
    assert_eq!(asked.body, json!({"server_group": {"name": "g", "policies": ["anti-affinity"]}}));
    assert_eq!(asked.header("x-openstack-nova-api-version"), Some("2.12"));
    let root_volume = Some(RootVolume { size: 10, volume_type: Some("fast".to_owned()) });
    let error = client.create_server(&NewServer { root_volume, ..server() }).await.expect_err("too old");
    assert_eq!(
        error.to_string(),
        "choose the type of a server's root volume: that needs version 2.67 of the compute service, and this cloud has 2.12"
    );
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let cloud = FakeCloud::start().await;
    let client = cloud.client();
    let server = |id: &str, cluster: &str| json!({"id": id, "name": id, "status": "ACTIVE", "metadata": {"windlass:cluster": cluster}});
    // The address is one that nobody reaches from here.
    let next = json!([{"rel": "next", "href": "http://10.0.0.1:8774/v2.1/servers/detail?marker=s2"}]);
    let first = json!({"servers": [server("s1", "demo"), server("s2", "other")], "servers_links": next});
    cloud.on("GET /compute/v2.1/servers/detail", [reply(200, first)]);
    cloud.on("GET /compute/v2.1/servers/detail?marker=s2", [reply(200, json!({"servers": [server("s3", "demo")]}))]);
    let found = client.servers(&marks()).await.expect("servers");
    assert_eq!(found.iter().map(|server| server.id.as_str()).collect::<Vec<_>>(), ["s1", "s3"]);

    let next = json!([{"rel": "next", "href": format!("{}/network/v2.0/networks?limit=1&marker=n1", cloud.root)}]);
    cloud.on("GET /network/v2.0/networks", [reply(200, json!({"networks": [{"id": "n1"}], "networks_links": next}))]);
    let previous = json!([{"rel": "previous", "href": "x?page_reverse=True"}]);
    let last = json!({"networks": [{"id": "n2", "name": null}], "networks_links": previous});
    cloud.on("GET /network/v2.0/networks?limit=1&marker=n1", [reply(200, last)]);
    assert_eq!(client.networks(&Filter::any()).await.expect("networks").len(), 2);

    let image = |id: &str| json!({"id": id, "name": "Debian 12", "status": "active", "min_disk": 3});
    let first = json!({"images": [image("i1")], "next": "/v2/images?marker=i1&name=Debian+12"});
    cloud.on("GET /image/v2/images?name=Debian%2012", [reply(200, first)]);
    cloud.on("GET /image/v2/images?marker=i1&name=Debian%2012", [reply(200, json!({"images": [image("i2")]}))]);
    assert_eq!(client.images("Debian 12").await.expect("images").len(), 2);

    let forever = json!({"volumes": [{"id": "v", "status": "available"}], "volumes_links": [{"rel": "next", "href": "x?marker=v"}]});
    cloud.on("GET /volume/v3/p1/volumes/detail", [reply(200, forever.clone())]);
    cloud.on("GET /volume/v3/p1/volumes/detail?marker=v", [reply(200, forever)]);
    let error = client.volumes(&marks()).await.expect_err("no end").to_string();
    assert!(error.ends_with("its pages have no end"), "{error}");
}

#[tokio::test]
async fn an_image_is_found_by_its_id_or_its_name() {
    let cloud = FakeCloud::start().await;
    let id = "2b0e9a3c-0000-4000-8000-0123456789ab";
    let image = json!({"id": id, "name": null, "status": "active", "size": null, "hw_disk_bus": "virtio"});
    cloud.on(&format!("GET /image/v2/images/{id}"), [reply(200, image)]);
    let found = cloud.client().images(id).await.expect("images");
    assert_eq!((found.len(), found[0].id.as_str(), found[0].size), (1, id, None));
    // What looks like an id may be a name all the same.
    let named = "ffffffff-ffff-ffff-ffff-ffffffffffff";
    cloud.on(&format!("GET /image/v2/images?name={named}"), [reply(200, json!({"images": [{"id": "i2"}]}))]);
    assert_eq!(cloud.client().images(named).await.expect("images")[0].id, "i2");
}

#[tokio::test]
async fn a_server_is_asked_for_with_all_that_it_shall_have() {
    let line = "POST /compute/v2.1/servers";
    let answer = json!({"server": {"id": "s1", "adminPass": "x", "links": []}});
    let (body, id) = sent(line, answer.clone(), async |cloud| cloud.create_server(&server()).await).await;
    assert_eq!(id.expect("made"), "s1");
    let expected = json!({"server": {
        "name": "node1", "imageRef": "i1", "flavorRef": "f1", "networks": [{"port": "p1"}, {"port": "p2"}],
        "user_data": "I2Nsb3VkLWNvbmZpZyB3aXRoIGEgam9pbiB0b2tlbg==", "config_drive": true,
        "metadata": {"windlass:cluster": "demo"},
    }});
    assert_eq!(body, expected);
    let root_volume = Some(RootVolume { size: 10, volume_type: Some("fast".to_owned()) });
    let new = NewServer {
        root_volume,
        group: Some("g1".to_owned()),
        keypair: Some("k".to_owned()),
        availability_zone: Some("nova".to_owned()),
        ..server()
    };
    let (body, _) = sent(line, answer, async |cloud| cloud.create_server(&new).await).await;
    assert_eq!(body["os:scheduler_hints"], json!({"group": "g1"}));
    assert_eq!((&body["server"]["key_name"], &body["server"]["availability_zone"]), (&json!("k"), &json!("nova")));
    assert_eq!(body["server"]["imageRef"], Value::Null);
    let disk = &body["server"]["block_device_mapping_v2"][0];
    assert_eq!((&disk["uuid"], &disk["volume_size"], &disk["volume_type"]), (&json!("i1"), &json!(10), &json!("fast")));
}

#[tokio::test]
async fn user_data_is_hidden_in_what_compute_says_of_it() {
    let cloud = FakeCloud::start().await;
    let encoded = "I2Nsb3VkLWNvbmZpZyB3aXRoIGEgam9pbiB0b2tlbg==";
    let message = format!("Invalid input for field/attribute user_data. Value: {encoded}. '{encoded}' is too long");
    cloud.on("POST /compute/v2.1/servers", [reply(400, json!({"badRequest": {"code": 400, "message": message}}))]);
    let error = cloud.client().create_server(&server()).await.expect_err("refused");
    assert!(!format!("{error:?} {error}").contains(encoded), "{error:?}");
    assert!(error.to_string().contains("user_data. Value: (secret)"), "{error}");
    assert!(!format!("{:?}", server()).contains("join token"));
}

#[tokio::test]
async fn servers_of_several_releases_are_understood() {
    let cloud = FakeCloud::start().await;
    let address = json!({"addr": "10.20.0.10", "version": 4, "OS-EXT-IPS:type": "fixed", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:0:0:1"});
    let new = json!({"server": {
        "id": "s1", "name": "node1", "status": "ACTIVE", "OS-EXT-STS:task_state": "powering-off", "image": "",
        "flavor": {"original_name": "small", "vcpus": 1}, "addresses": {"net": [address, {"addr": "172.24.4.9", "OS-EXT-IPS:type": "floating"}]},
        "os-extended-volumes:volumes_attached": [{"id": "v1", "delete_on_termination": true}], "metadata": {},
    }});
    cloud.on("GET /compute/v2.1/servers/s1", [reply(200, new)]);
    let found = cloud.client().server("s1").await.expect("told").expect("there");
    assert_eq!((found.status, found.image, found.task.as_deref()), (ServerStatus::Active, None, Some("powering-off")));
    assert_eq!(found.addresses["net"].iter().map(|address| address.floating).collect::<Vec<_>>(), [false, true]);
    assert_eq!(found.flavor.original_name.as_deref(), Some("small"));
    assert!(found.volumes[0].delete_on_termination);
    let fault = json!({"code": 500, "message": "No valid host was found. ", "created": "2026-11-26T03:00:00Z"});
    let old = json!({"server": {
        "id": "s2", "name": "node2", "status": "ERROR", "image": {"id": "i1", "links": []}, "flavor": {"id": "f1"}, "fault": fault,
        "addresses": {}, "metadata": null, "os-extended-volumes:volumes_attached": [],
    }});
    cloud.on("GET /compute/v2.1/servers/s2", [reply(200, old)]);
    let found = cloud.client().server("s2").await.expect("told").expect("there");
    assert_eq!((found.status, found.image.as_deref()), (ServerStatus::Error, Some("i1")));
    assert_eq!(found.fault.expect("a fault").message, "No valid host was found. ");
    cloud.on(
        "GET /compute/v2.1/servers/s3",
        [reply(200, json!({"server": {"id": "s3", "status": "SHELVED_OFFLOADED"}}))],
    );
    let found = cloud.client().server("s3").await.expect("told").expect("there");
    assert_eq!(found.status, ServerStatus::Other("SHELVED_OFFLOADED".to_owned()));
    assert_eq!(cloud.client().server("s4").await.expect("told"), None);
}

#[tokio::test]
async fn acts_on_servers_and_reads_their_consoles() {
    let line = "POST /compute/v2.1/servers/s1/action";
    for (action, expected) in [
        (ServerAction::Start, json!({"os-start": null})),
        (ServerAction::Stop, json!({"os-stop": null})),
        (ServerAction::HardReboot, json!({"reboot": {"type": "HARD"}})),
    ] {
        let (body, done) = sent(line, json!({}), async |cloud| cloud.act_on_server("s1", action).await).await;
        done.expect("done");
        assert_eq!(body, expected);
    }
    let output = json!({"output": "login:"});
    let (body, text) = sent(line, output, async |cloud| cloud.server_console("s1", Some(50)).await).await;
    assert_eq!((body, text.expect("a console").as_str()), (json!({"os-getConsoleOutput": {"length": 50}}), "login:"));
    let volumes = "POST /compute/v2.1/servers/s1/os-volume_attachments";
    let (body, done) = sent(volumes, json!({}), async |cloud| cloud.attach_volume("s1", "v1").await).await;
    done.expect("attached");
    assert_eq!(body, json!({"volumeAttachment": {"volumeId": "v1"}}));
    let line = "GET /compute/v2.1/servers/s1/os-volume_attachments";
    let told = json!({"volumeAttachments": [{"volumeId": "v1", "device": "/dev/vdb", "serverId": "s1"}]});
    let (_, found) = sent(line, told, async |cloud| cloud.attachments("s1").await).await;
    assert_eq!(found.expect("attachments")[0].volume_id, "v1");
}

#[tokio::test]
async fn makes_what_a_network_needs() {
    let subnet = NewSubnet {
        name: "s".to_owned(),
        description: "d".to_owned(),
        network_id: "n1".to_owned(),
        ip_version: 4,
        cidr: "10.20.0.0/24".to_owned(),
        dns_nameservers: vec!["1.1.1.1".parse().expect("an address")],
    };
    let told = json!({"subnet": {"id": "s1", "network_id": "n1", "cidr": "10.20.0.0/24", "gateway_ip": "10.20.0.1"}});
    let (body, made) = sent("POST /network/v2.0/subnets", told, async |cloud| cloud.create_subnet(&subnet).await).await;
    assert_eq!(body["subnet"]["dns_nameservers"], json!(["1.1.1.1"]));
    assert_eq!(made.expect("made").id, "s1");
    let gateway = Some(Gateway { network_id: "out".to_owned(), external_fixed_ips: Vec::new() });
    let router = NewRouter { name: "r".to_owned(), description: "d".to_owned(), external_gateway_info: gateway };
    let told = json!({"router": {"id": "r1", "external_gateway_info": {"network_id": "out", "enable_snat": true}}});
    let (body, made) = sent("POST /network/v2.0/routers", told, async |cloud| cloud.create_router(&router).await).await;
    assert_eq!(body["router"]["external_gateway_info"], json!({"network_id": "out"}));
    assert_eq!(made.expect("made").external_gateway_info.expect("a gateway").network_id, "out");
    let port = NewPort {
        name: "p".to_owned(),
        description: "d".to_owned(),
        network_id: "n1".to_owned(),
        fixed_ips: vec![FixedIp { subnet_id: "s1".to_owned(), ip_address: None }],
        security_groups: Vec::new(),
        allowed_address_pairs: vec![AddressPair { ip_address: "10.244.0.0/16".to_owned() }],
    };
    let told = json!({"port": {"id": "p1", "status": "DOWN", "device_id": "", "fixed_ips": [{"subnet_id": "s1", "ip_address": "10.20.0.7"}]}});
    let (body, made) = sent("POST /network/v2.0/ports", told, async |cloud| cloud.create_port(&port).await).await;
    // Without groups it must be said that there are none: the cloud would add its default.
    assert_eq!(
        (&body["port"]["security_groups"], &body["port"]["fixed_ips"]),
        (&json!([]), &json!([{"subnet_id": "s1"}]))
    );
    assert_eq!(made.expect("made").fixed_ips[0].ip_address, Some("10.20.0.7".parse().expect("an address")));
}

#[tokio::test]
async fn makes_security_groups_and_floating_ips() {
    let group = NewSecurityGroup { name: "g".to_owned(), description: "d".to_owned() };
    let out =
        json!({"id": "x", "security_group_id": "g1", "direction": "egress", "ethertype": "IPv6", "protocol": null});
    let told = json!({"security_group": {"id": "g1", "security_group_rules": [out]}});
    let line = "POST /network/v2.0/security-groups";
    let (_, made) = sent(line, told, async |cloud| cloud.create_security_group(&group).await).await;
    assert_eq!(made.expect("made").rules[0].ethertype, EtherType::V6);
    let rule = NewRule {
        security_group_id: "g1".to_owned(),
        direction: Direction::Ingress,
        ethertype: EtherType::V4,
        protocol: Some("tcp".to_owned()),
        port_range_min: Some(6443),
        port_range_max: Some(6443),
        remote_ip_prefix: None,
        remote_group_id: Some("g1".to_owned()),
        description: "d".to_owned(),
    };
    let told = json!({"security_group_rule": {"id": "r1", "security_group_id": "g1", "direction": "ingress", "ethertype": "IPv4"}});
    let line = "POST /network/v2.0/security-group-rules";
    let (body, made) = sent(line, told, async |cloud| cloud.create_rule(&rule).await).await;
    made.expect("made");
    let expected = json!({"security_group_id": "g1", "direction": "ingress", "ethertype": "IPv4", "protocol": "tcp",
        "port_range_min": 6443, "port_range_max": 6443, "remote_group_id": "g1", "description": "d"});
    assert_eq!(body["security_group_rule"], expected);
    let new = NewFloatingIp { floating_network_id: "out".to_owned(), port_id: None, description: "d".to_owned() };
    let told =
        json!({"floatingip": {"id": "f1", "floating_ip_address": "172.24.4.9", "port_id": null, "status": "DOWN"}});
    let line = "POST /network/v2.0/floatingips";
    let (_, made) = sent(line, told.clone(), async |cloud| cloud.create_floating_ip(&new).await).await;
    assert_eq!(made.expect("made").port_id, None);
    let line = "PUT /network/v2.0/floatingips/f1";
    let (body, done) = sent(line, told, async |cloud| cloud.associate_floating_ip("f1", None).await).await;
    done.expect("associated");
    assert_eq!(body, json!({"floatingip": {"port_id": null}}));
}

#[tokio::test]
async fn finds_by_tag_only_what_is_the_projects_own() {
    let cloud = FakeCloud::start().await;
    let line =
        "GET /network/v2.0/ports?network_id=n1&tags=windlass%3Acluster%3Ddemo%2Cwindlass%3Anode%3Da&project_id=p1";
    cloud.on(line, [reply(200, json!({"ports": [{"id": "p1", "tags": ["windlass:cluster=demo"]}]}))]);
    let filter = Filter::own().network("n1").tag("windlass:cluster=demo").tag("windlass:node=a");
    assert_eq!(cloud.client().ports(&filter).await.expect("ports")[0].tags, ["windlass:cluster=demo"]);
    let line = "PUT /network/v2.0/security-groups/g1/tags";
    let tags = ["a".to_owned(), "b".to_owned()];
    let answer = json!({"tags": tags});
    let (body, done) = sent(line, answer, async |cloud| cloud.set_tags(Part::SecurityGroup, "g1", &tags).await).await;
    done.expect("tagged");
    assert_eq!(body, json!({"tags": ["a", "b"]}));
    let line = "PUT /network/v2.0/routers/r1/remove_router_interface";
    let (body, done) = sent(line, json!({}), async |cloud| cloud.remove_router_interface("r1", "s1").await).await;
    done.expect("disconnected");
    assert_eq!(body, json!({"subnet_id": "s1"}));
}

#[tokio::test]
async fn makes_and_finds_volumes() {
    let new = NewVolume { name: "data".to_owned(), size: 5, metadata: marks(), ..NewVolume::default() };
    let told = json!({"volume": {"id": "v1", "status": "creating", "size": 5, "volume_type": null, "attachments": []}});
    let (body, made) = sent("POST /volume/v3/p1/volumes", told, async |cloud| cloud.create_volume(&new).await).await;
    assert_eq!(body, json!({"volume": {"name": "data", "size": 5, "metadata": {"windlass:cluster": "demo"}}}));
    assert_eq!(made.expect("made").status, VolumeStatus::Creating);
    let cloud = FakeCloud::start().await;
    let volume = |id: &str, status: &str, metadata: Value| {
        json!({"id": id, "status": status, "size": 1, "metadata": metadata,
        "attachments": [{"server_id": "s1", "device": "/dev/vdb"}]})
    };
    let all = [
        volume("v1", "in-use", json!({"windlass:cluster": "demo", "x": "y"})),
        volume("v2", "error_deleting", json!({})),
    ];
    cloud.on("GET /volume/v3/p1/volumes/detail", [reply(200, json!({"volumes": all}))]);
    let found = cloud.client().volumes(&marks()).await.expect("volumes");
    assert_eq!((found.len(), &found[0].status), (1, &VolumeStatus::InUse));
    assert_eq!(found[0].attachments[0].server_id, "s1");
    let all = cloud.client().volumes(&BTreeMap::new()).await.expect("volumes");
    assert_eq!(all[1].status, VolumeStatus::ErrorDeleting);
    assert_eq!(cloud.client().volume("v9").await.expect("told"), None);
    cloud.client().delete_volume("v9").await.expect("removed");
}

#[tokio::test]
async fn groups_come_and_go() {
    let cloud = FakeCloud::start().await;
    let client = cloud.client();
    let group = json!({"id": "g1", "name": "g", "policy": "soft-anti-affinity", "members": ["s1"]});
    cloud.on("POST /compute/v2.1/os-server-groups", [reply(200, json!({"server_group": group}))]);
    client.create_server_group("g", GroupPolicy::SoftAntiAffinity).await.expect("made");
    let body = cloud.asked("POST /compute/v2.1/os-server-groups").remove(0).body;
    assert_eq!(body, json!({"server_group": {"name": "g", "policy": "soft-anti-affinity"}}));
    cloud.on("GET /compute/v2.1/os-server-groups", [reply(200, json!({"server_groups": [group]}))]);
    let found = client.server_groups().await.expect("groups");
    assert!(found[0].members == ["s1"] && !found[0].is_hard());
    client.delete_server_group("g1").await.expect("removed");
    client.delete_server("s1").await.expect("removed");
}

#[tokio::test]
async fn tells_what_a_project_may_have() {
    let cloud = FakeCloud::start().await;
    let client = cloud.client();
    let compute = json!({"maxTotalInstances": 10, "totalInstancesUsed": 3, "maxTotalCores": -1, "totalCoresUsed": 4, "maxImageMeta": 128});
    cloud.on("GET /compute/v2.1/limits", [reply(200, json!({"limits": {"rate": [], "absolute": compute}}))]);
    let quota = |of: &str, limit, used| Quota { of: of.to_owned(), limit, used };
    let found = client.compute_quotas().await.expect("quotas");
    assert_eq!(found, [quota("instances", Some(10), Some(3)), quota("cores", None, Some(4))]);
    assert_eq!((found[0].left(), found[1].left()), (Some(7), None));
    let volumes =
        json!({"maxTotalVolumes": 2, "totalVolumesUsed": 5, "maxTotalVolumeGigabytes": 100, "totalGigabytesUsed": 10});
    cloud.on("GET /volume/v3/p1/limits", [reply(200, json!({"limits": {"absolute": volumes}}))]);
    let found = client.volume_quotas().await.expect("quotas");
    assert_eq!(found.iter().map(Quota::left).collect::<Vec<_>>(), [Some(0), Some(90)]);
    // A cloud without details tells the limits.
    cloud.on("GET /network/v2.0/quotas/p1", [reply(200, json!({"quota": {"port": 500, "router": -1}}))]);
    let found = client.network_quotas().await.expect("quotas");
    assert_eq!(found, [quota("port", Some(500), None), quota("router", None, None)]);
    let details = json!({"quota": {"port": {"limit": 500, "used": 7, "reserved": 1}}});
    cloud.on("GET /network/v2.0/quotas/p1/details.json", [reply(200, details)]);
    assert_eq!(client.network_quotas().await.expect("quotas"), [quota("port", Some(500), Some(8))]);
}
