// SPDX-License-Identifier: Apache-2.0
//! A server that runs: from a spec to a healthy node, and without a trace away again, as an operator does it.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use windlass_tests::controller::Controller;
use windlass_tests::lab::Lab;
use windlass_tests::process::{Answer, run_within};
use windlass_tests::wait::wait_until;

use crate::site::{clouds_file, everything, require};

/// How guests reach this machine through their router.
const HERE: Ipv4Addr = Ipv4Addr::new(172, 24, 4, 1);

/// An emulated server on a busy machine.
const BOOT: Duration = Duration::from_secs(1500);

struct Site {
    controller: Controller,
}

impl Site {
    async fn start() -> Self {
        let mut controller = Controller::prepared(&format!("advertise = [\"{HERE}\"]\n"));
        controller.listen_at(HERE.into());
        let mut site = Self { controller };
        site.restart().await;
        site
    }

    async fn restart(&mut self) {
        let mut serve: Command = self.controller.serve_command();
        serve.env("OS_CLIENT_CONFIG_FILE", clouds_file());
        self.controller.start_by(serve).await;
    }

    async fn windlass(&self, arguments: &[&str]) -> Answer {
        run_within(BOOT, &mut self.controller.cli_command(arguments)).await
    }

    async fn shell(&self, line: &str) -> String {
        let answer = self.windlass(&["exec", "node1", "--timeout", "120s", "--", "sh", "-c", line]).await.ok();
        answer.lines().map(|line| line.strip_prefix("node1: ").unwrap_or(line)).collect::<Vec<_>>().join("\n")
    }

    async fn node(&self) -> Value {
        self.controller.cli(&["get", "node", "node1", "-o", "json"]).await.json()
    }
}

fn spec(site: &Site, lab: &Lab, url: &str) -> String {
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
    let mut site = Site::start().await;
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
    // A controller that has lost everything finds all of it by the spec.
    site.controller.kill9().await;
    let other = Site::start().await;
    let gone = other.windlass(&["destroy", "-f", &spec, "--confirm", "guest"]).await;
    assert_eq!(gone.code, 0, "{gone:?}");
    assert_eq!(everything().await, before);
}

/// The first waits until the unit is done: it comes after cloud-init, at every boot.
async fn the_metadata_address_is_closed(site: &Site) {
    let line = "systemctl start windlass-metadata; ip route get 169.254.169.254 2>&1; true";
    let told = site.shell(line).await;
    assert!(told.contains("Permission denied"), "{told}");
}

async fn volumes_are_found_by_their_serials(site: &Site) {
    let machines = site.controller.cli(&["get", "machines", "-o", "json"]).await.json();
    let disks = machines["items"][0]["disks"].as_array().expect("disks").clone();
    assert_eq!(disks.len(), 2);
    for disk in disks {
        let (serial, size) = (disk["serial"].as_str().expect("a serial"), disk["sizeBytes"].as_u64().expect("a size"));
        let found = site.shell(&format!("blockdev --getsize64 /dev/disk/by-id/virtio-{serial}")).await;
        assert_eq!(found.trim(), size.to_string(), "{disk}");
    }
}
