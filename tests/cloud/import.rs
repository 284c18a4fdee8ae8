// SPDX-License-Identifier: Apache-2.0
//! What somebody made by hand, or another controller, is taken over as an operator does it, and removed like others.

use windlass_tests::wait::wait_until;

use crate::bastion::Bastion;
use crate::life::{COMMAND, by_hand, make, named, status};
use crate::site::{everything, provider, require};

/// A network, a server in it, and two volumes at it.
async fn made_by_hand() {
    by_hand("network create theirs").await;
    by_hand("subnet create --network theirs --subnet-range 10.67.0.0/24 theirs").await;
    let network = by_hand("network show theirs -f value -c id").await;
    let nic = format!("--nic net-id={network},v4-fixed-ip=10.67.0.9");
    by_hand(&format!("server create --image tiny --flavor small {nic} --wait -f value -c id by-hand")).await;
    by_hand("volume create --size 1 -f value -c id their-docker").await;
    by_hand("volume create --size 3 -f value -c id their-own").await;
    for volume in ["their-docker", "their-own"] {
        wait_until("a volume", COMMAND, async || status(volume).await == "available").await;
        by_hand(&format!("server add volume by-hand {volume} -f value -c ID")).await;
        wait_until("a volume to be attached", COMMAND, async || status(volume).await == "in-use").await;
    }
}

fn spec(bastion: &Bastion, cluster: &str, network: &str, node: &str) -> String {
    let path = bastion.controller.directory().join("cluster.yaml");
    std::fs::write(bastion.controller.directory().join("key"), "a key").expect("written");
    let text = format!(
        "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: {cluster}}}\nspec:\n  provider:\n    openstack: {{cloud: \
         lab, image: tiny, {network}}}\n  nodes: [{{name: node1, {node}, roles: [worker]}}]\n  volumes: {{docker: {{size: 1GiB}}}}\n  packages:\n    repositories: [{{name: lab, url: \
         \"https://packages.example.org\", gpgKey: key}}]\n"
    );
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[tokio::test]
async fn a_server_made_by_hand_is_taken_over_as_it_is_and_is_removed_like_others() {
    require("fake");
    let before = everything().await;
    made_by_hand().await;
    let theirs = everything().await;
    let bastion = Bastion::start().await;
    let import = async |file: &str| bastion.windlass(&["import", "server", "-f", file, "node1=by-hand", "--yes"]).await;

    let spec = |flavor| spec(&bastion, "adopted", "network: theirs", &format!("address: 10.67.0.9, flavor: {flavor}"));
    let wrong = import(&spec("medium")).await;
    assert!(wrong.code == 64 && wrong.stdout.contains("its flavor is small, and the spec says medium"), "{wrong:?}");
    assert_eq!(everything().await, theirs);
    assert_eq!(bastion.windlass(&["get", "machines", "-o", "name"]).await.ok(), "", "nothing was marked");

    let right = spec("small");
    let taken = import(&right).await;
    assert_eq!(taken.code, 0, "{taken:?}");
    for said in ["volume docker", "10.67.0.9", "(3 GiB) is not in the spec and is left alone"] {
        assert!(taken.stdout.contains(said), "{said}: {taken:?}");
    }
    assert!(taken.stderr.contains("windlass token create"), "{taken:?}");
    let again = import(&right).await;
    assert!(again.code == 0 && again.stdout.contains("the server is this machine already"), "{again:?}");
    let plan = bastion.windlass(&["plan", "-f", &right]).await.ok();
    assert!(plan.contains("adopt node1") && !plan.contains("+ create") && plan.contains("0 to destroy"), "{plan}");
    bastion.windlass(&["machine", "power", "node1", "reset", "--yes"]).await.done();

    bastion.windlass(&["destroy", "-f", &right, "--confirm", "adopted"]).await.done();
    let left = everything().await;
    assert!(left.iter().any(|thing| thing.contains("their-own")), "what was not taken over stays: {left:?}");
    assert!(!left.iter().any(|thing| thing.contains("by-hand") || thing.contains("their-docker")), "{left:?}");
    by_hand("volume delete their-own").await;
    by_hand("network delete theirs").await;
    wait_until("what was theirs to be gone", COMMAND, async || everything().await == before).await;
}

#[tokio::test]
async fn what_another_controller_made_is_left_alone_until_it_is_taken_over() {
    require("fake");
    let before = everything().await;
    make(&*provider(None).await, &named("left")).await.expect("made");
    let theirs = everything().await;
    let bastion = Bastion::start().await;
    let node = "address: 10.66.0.7, flavor: small";
    let spec = spec(&bastion, "left", "ownNetwork: {cidr: 10.66.0.0/24, external: public}", node);
    for verb in [&["plan", "-f", &spec][..], &["destroy", "-f", &spec, "--confirm", "left"]] {
        let refused = bastion.windlass(verb).await;
        assert!(refused.code != 0 && refused.stderr.contains("is another controller's, the-tests"), "{refused:?}");
        assert!(refused.stderr.contains("windlass import cluster"), "{refused:?}");
    }
    let cloud = bastion.windlass(&["check", "cloud", "lab"]).await;
    assert!(cloud.code != 0 && cloud.stdout.contains("of cluster left"), "{cloud:?}");
    assert_eq!(everything().await, theirs);

    let import = ["import", "cluster", "-f", &spec, "--yes"];
    let taken = bastion.windlass(&import).await;
    assert!(taken.code == 0 && taken.stdout.contains("The controller the-tests made:"), "{taken:?}");
    let again = bastion.windlass(&import).await;
    assert!(again.code == 0 && again.stderr.contains("nothing of it is another controller's"), "{again:?}");
    bastion.windlass(&["destroy", "-f", &spec, "--confirm", "left"]).await.done();
    assert_eq!(everything().await, before);
}
