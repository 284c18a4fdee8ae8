// SPDX-License-Identifier: Apache-2.0
//! A server that runs: from a spec to a healthy node, and without a trace away again, as an operator does it.

use std::time::Duration;

use serde_json::Value;
use windlass_tests::lab::Lab;
use windlass_tests::wait::wait_until;

use crate::bastion::{BOOT, Bastion, HERE};
use crate::site::{everything, require};

fn spec(site: &Bastion, lab: &Lab, url: &str) -> String {
    let text = format!(
        "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: guest}}\nspec:\n  provider:\n    openstack:\n      \
         cloud: lab\n      image: windlass-guest\n      ownNetwork: {{cidr: 10.67.0.0/24, external: public}}\n      \
         floatingIPs: {{network: public, nodes: [node1]}}\n  nodes: [{{name: node1, address: 10.67.0.7, flavor: \
         small, roles: [worker]}}]\n  volumes: {{docker: {{size: 1GiB}}, bricks: {{size: 2GiB}}}}\n  packages:\n    \
         repositories: [{{name: lab, url: {url}, gpgKey: {}}}]\n",
        lab.key().display()
    );
    let path = site.controller.directory().join("guest.yaml");
    std::fs::write(&path, text).expect("written");
    path.display().to_string()
}

#[tokio::test]
async fn a_server_becomes_a_node_knows_its_volumes_returns_after_a_reset_and_goes_without_a_trace() {
    require("libvirt");
    let before = everything().await;
    let lab = Lab::find();
    let repositories = lab.serve_at(HERE).await;
    let mut site = Bastion::start().await;
    let spec = spec(&site, &lab, &repositories.url());
    let seen = site.windlass(&["check", "cloud", "lab"]).await;
    assert!(seen.code == 0 && seen.stdout.contains("operator in project windlass"), "{seen:?}");
    let begun = site.windlass(&["apply", "-f", &spec, "--yes", "--detach"]).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(4)).await;
        site.controller.kill9().await;
        site.restart().await;
    }
    site.windlass(&["run", "attach", begun.stdout.trim()]).await.done();
    let idle = site.windlass(&["apply", "-f", &spec, "--yes"]).await;
    assert!(idle.code == 0 && idle.stderr.contains("nothing to do"), "{idle:?}");
    volumes_are_found_by_their_serials(&site).await;
    the_metadata_address_is_closed(&site).await;
    let boot = |node: &Value| node["facts"]["boot"]["value"]["boot_id"].as_str().expect("a boot id").to_owned();
    let old = boot(&site.node().await);
    site.windlass(&["machine", "power", "node1", "reset", "--yes"]).await.done();
    wait_until("the node to be back after a reset", BOOT, async || {
        let node = site.node().await;
        windlass_tests::agent::holds(&node, "healthy") && boot(&node) != old
    })
    .await;
    the_metadata_address_is_closed(&site).await;
    // A controller that has lost everything is another one. Once it was told that the first is gone, it finds all by the spec.
    site.controller.kill9().await;
    let other = Bastion::start().await;
    let refused = other.windlass(&["destroy", "-f", &spec, "--confirm", "guest"]).await;
    assert!(refused.code != 0 && refused.stderr.contains("is another controller's"), "{refused:?}");
    other.windlass(&["import", "cluster", "-f", &spec, "--yes"]).await.done();
    let gone = other.windlass(&["destroy", "-f", &spec, "--confirm", "guest"]).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(everything().await, before);
}

/// The first waits until the unit is done: it comes after cloud-init, at every boot.
async fn the_metadata_address_is_closed(site: &Bastion) {
    let line = "systemctl start windlass-metadata; ip route get 169.254.169.254 2>&1; true";
    let told = site.shell(line).await;
    assert!(told.contains("Permission denied"), "{told}");
}

async fn volumes_are_found_by_their_serials(site: &Bastion) {
    let machines = site.controller.cli(&["get", "machines", "-o", "json"]).await.json();
    let disks = machines["items"][0]["disks"].as_array().expect("disks").clone();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        let (serial, size) = (disk["serial"].as_str().expect("a serial"), disk["sizeBytes"].as_u64().expect("a size"));
        let found = site.shell(&format!("blockdev --getsize64 /dev/disk/by-id/virtio-{serial}")).await;
        assert_eq!(found.trim(), size.to_string(), "{disk}");
    }
}
