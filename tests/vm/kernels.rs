// SPDX-License-Identifier: Apache-2.0
//! Kernels that do not stay: one without a driver for the network, and one that panics. Each is left again by itself, the
//! roll stops with its console, and the other node is as it was. Real GRUB, real panics; `kernel-ml` is Debian's other
//! kernel, made so.

use serde_json::Value;

use crate::site::{Site, with_site};

const NODES: [&str; 2] = ["node1", "node2"];

/// A kernel of the lab, and what is on the console when it is left.
struct Kernel {
    version: &'static str,
    leaves: &'static str,
}

const WITHOUT_NETWORK: Kernel = Kernel { version: "99.1-1", leaves: "reboot: Restarting system" };
const PANICS: Kernel = Kernel { version: "99.2-1", leaves: "Kernel panic - not syncing: VFS: Unable to mount root fs" };

#[tokio::test]
async fn a_kernel_that_panics_is_left_again_and_stops_the_roll() {
    with_site(async |site| comes_back(site, &PANICS).await).await;
}

#[tokio::test]
async fn a_kernel_without_network_is_left_again_and_stops_the_roll() {
    with_site(async |site| comes_back(site, &WITHOUT_NETWORK).await).await;
}

async fn comes_back(site: &Site, kernel: &Kernel) {
    let spec = site.spec(&[
        "{name: node1, address: 10.77.0.11, cpus: 1, memory: 768MiB, roles: [worker]}",
        "{name: node2, address: 10.77.0.12, cpus: 1, memory: 768MiB, roles: [worker]}",
    ]);
    site.apply(&spec).await.done();
    let before = [site.node(NODES[0]).await, site.node(NODES[1]).await];
    let words = ["upgrade", "kernel", "--all", "--channel", "elrepo-ml", "--version", kernel.version, "--yes"];
    let rolled = site.windlass(&words).await;
    assert_eq!(rolled.code, 3, "{rolled:?}");
    for said in ["came back with kernel", kernel.leaves, "windlass node release"] {
        assert!(rolled.stderr.contains(said), "{said}: {rolled:?}");
    }
    let run = newest_run(site).await;
    let held = run["holds"][0].as_str().expect("it holds a node").to_owned();
    let other = NODES.into_iter().find(|node| *node != held).expect("another node");
    assert_eq!((&run["state"], run["holds"].as_array().map(Vec::len)), (&"failed".into(), Some(1)), "{run}");
    let id = run["id"].as_str().expect("an id");
    let shown = site.windlass(&["run", "show", id]).await.ok();
    assert!(shown.contains(&format!("holds {held}")) && shown.contains(kernel.leaves), "{shown}");
    is_in_its_old_kernel(site, &held, &before).await;
    is_untouched(site, other, &before).await;
    site.windlass(&["node", "release", &held, "--reason", "its old kernel runs"]).await.done();
}

async fn newest_run(site: &Site) -> Value {
    let runs = site.controller.words("run list --newest 1 -o name").await.ok();
    site.controller.words(&format!("run show {} -o json", runs.trim())).await.json()
}

fn fact<'a>(nodes: &'a [Value; 2], name: &str, subject: &str) -> &'a Value {
    let node = nodes.iter().find(|node| node["name"] == name).expect("it was looked at");
    &node["facts"][subject]["value"]
}

async fn is_in_its_old_kernel(site: &Site, node: &str, before: &[Value; 2]) {
    let old = fact(before, node, "kernel");
    site.wait_healthy(node, |now| now["facts"]["kernel"]["value"] == *old).await;
    assert_eq!(old["running"], old["default_release"], "the default is what it was");
    assert_ne!(site.boot_id(node).await, fact(before, node, "boot")["boot_id"], "it has been down");
    let next = site.shell(node, "grub2-editenv list").await.ok();
    assert!(!next.contains("next_entry=g"), "nothing is left to be started once: {next}");
}

async fn is_untouched(site: &Site, node: &str, before: &[Value; 2]) {
    assert_eq!(site.boot_id(node).await, fact(before, node, "boot")["boot_id"], "{node} was not rebooted");
    assert_eq!(site.node(node).await["status"], "healthy");
    let package = site.shell(node, "rpm -q kernel-ml").await;
    assert!(package.code != 0, "nothing was installed on {node}: {package:?}");
}
