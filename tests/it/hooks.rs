// SPDX-License-Identifier: Apache-2.0
//! What a cluster's spec has done before and after its nodes go down is done by whatever takes them down.

use windlass_agent::host::fake::ModelPackage;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::{LONG, wait_until};

const DRAIN: &str = "/usr/libexec/site/drain";
const UNDRAIN: &str = "/usr/libexec/site/undrain";

const SPEC: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {existing: {}}\n  \
                    nodes: [{name: node1}, {name: node2}]\nSETTINGS  hooks:\n    before: {run: \
                    [/usr/libexec/site/drain]}\n    after: {run: [/usr/libexec/site/undrain]}\n";

async fn nodes(bastion: &Bastion) -> [ModelledNode; 2] {
    let nodes = [ModelledNode::start(bastion, "node1").await, ModelledNode::start(bastion, "node2").await];
    let well = || async { bastion.words("status").await.stdout.contains("2 nodes, all healthy") };
    wait_until("both are healthy", LONG, well).await;
    nodes
}

fn effects(nodes: &[ModelledNode], what: &str) -> Vec<u64> {
    nodes.iter().map(|node| node.effect(what)).collect()
}

#[tokio::test]
async fn a_rolling_reboot_drains_each_node_of_a_cluster_whose_spec_says_how_and_not_if_told_so() {
    let bastion = Bastion::start().await;
    let nodes = nodes(&bastion).await;
    let spec = bastion.write("cluster.yaml", &SPEC.replace("SETTINGS", ""));
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(applied.code == 0 && applied.stderr.contains("othing to do"), "{applied:?}");
    let shown = bastion.words("reboot --rolling --all --dry-run").await;
    assert!(shown.stdout.contains("hook /usr/libexec/site/drain"), "{shown:?}");
    bastion.words("reboot --rolling --all --yes").await.done();
    for what in ["reboot", DRAIN, UNDRAIN] {
        assert_eq!(effects(&nodes, what), [1, 1], "{what}");
    }
    bastion.words("reboot --rolling --all --no-hooks --yes").await.done();
    assert_eq!((effects(&nodes, "reboot"), effects(&nodes, DRAIN)), (vec![2, 2], vec![1, 1]));
}

#[tokio::test]
async fn a_service_is_switched_off_in_its_nodes_turn_between_the_hooks() {
    let bastion = Bastion::start().await;
    let nodes = nodes(&bastion).await;
    nodes.iter().for_each(|node| node.host.change(|node| node.enabled.push("sshd.service".into())));
    let spec =
        bastion.write("cluster.yaml", &SPEC.replace("SETTINGS", "  settings: {services: {sshd.service: off}}\n"));
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(applied.stderr.contains("Services may stop or restart on: node1, node2."), "{applied:?}");
    assert!(applied.stderr.contains("run r1 may take node2 down"), "{applied:?}");
    for what in ["stop sshd.service", DRAIN, UNDRAIN] {
        assert_eq!(effects(&nodes, what), [1, 1], "{what}");
    }
}

#[tokio::test]
async fn repositories_come_first_and_a_service_is_switched_off_with_the_packages_under_one_lease() {
    let bastion = Bastion::start().await;
    let nodes = nodes(&bastion).await;
    for node in &nodes {
        node.host.change(|node| {
            node.enabled.push("sshd.service".into());
            node.packages = vec![ModelPackage::new("words", "1-1")];
            node.repository = vec![ModelPackage::new("words", "2-1")];
        });
    }
    let _: String =
        bastion.write("key.asc", "-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n-----END PGP PUBLIC KEY BLOCK-----\n");
    let settings = "  packages: {update: all}\n  settings:\n    services: {sshd.service: off}\n    repositories: \
                    [{name: extra, url: http://10.0.2.2/, gpgKey: key.asc}]\n";
    let spec = bastion.write("cluster.yaml", &SPEC.replace("SETTINGS", settings));
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    for what in ["stop sshd.service", DRAIN, UNDRAIN] {
        assert_eq!(effects(&nodes, what), [1, 1], "{what}: {applied:?}");
    }
    assert!(nodes.iter().all(|node| node.host.node().packages[0].version == "2-1"), "{applied:?}");
}
