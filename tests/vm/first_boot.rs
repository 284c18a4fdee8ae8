// SPDX-License-Identifier: Apache-2.0
//! First boots that do not go as they should: the power fails, cloud-init runs twice or not at all.

use std::path::Path;

use windlass_tests::process::{command, run_within};

use crate::site::{BOOT, Site, Spec, with_site};

const NODE: &str = "{name: node1, address: 10.77.0.11, cpus: 2, memory: 1GiB}";

#[tokio::test]
async fn a_first_boot_whose_power_fails_twice_goes_on_where_it_was() {
    with_site(async |site| {
        let spec = site.spec(&[NODE]);
        let run = site.begin(&spec).await;
        site.wait_console("node1", "stage=cloud-init state=reached").await;
        power_cut(site).await;
        // The second time in the middle of the package's installation, or beside it: nobody can tell from outside.
        site.wait_console("node1", "this machine a node").await;
        power_cut(site).await;
        site.windlass(&["run", "attach", &run]).await.done();
        let node = site.node("node1").await;
        assert_eq!(node["status"], "healthy", "{node}");
        let verified = site.shell("node1", "rpm -V windlass-agent && ls /var/lib/windlass-first-boot").await;
        assert!(verified.code != 0 && verified.stdout.is_empty(), "{verified:?}");
        assert!(verified.stderr.contains("No such file"), "{verified:?}");
        assert!(site.event("token.reused", "").await.is_none(), "it joined with one key");
        destroy(site, &spec).await;
    })
    .await;
}

#[tokio::test]
async fn cloud_init_that_runs_again_harms_nothing_and_one_that_never_runs_is_told() {
    with_site(async |site| {
        let spec = site.spec(&[NODE]);
        site.apply(&spec).await.done();
        it_runs_again(site).await;
        it_never_runs(site).await;
        destroy(site, &spec).await;
    })
    .await;
}

/// As when an image is made of a machine, or somebody cleans up: it takes the machine for a new one.
async fn it_runs_again(site: &Site) {
    let before = site.node("node1").await;
    let boot = site.boot_id("node1").await;
    site.shell("node1", "cloud-init clean --logs && sync").await.done();
    site.windlass(&["machine", "power", "node1", "reset", "--yes"]).await.done();
    site.wait_healthy("node1", |node| node["facts"]["boot"]["value"]["boot_id"] != boot.as_str()).await;
    let ran =
        site.shell("node1", "cloud-init status --wait; journalctl -b --no-pager | grep -c 'modules:config'").await;
    assert!(ran.stdout.contains("status: done"), "{ran:?}");
    let after = site.node("node1").await;
    assert_eq!(after["certificate_serial"], before["certificate_serial"], "{after}");
    let left = site
        .shell("node1", "hostname; ls /var/lib/windlass-first-boot /etc/systemd/system/windlass-first-boot.service")
        .await;
    assert!(left.stdout == "node1\n" && left.code != 0, "{left:?}");
}

/// An image of such a machine, with cloud-init switched off: it boots and says nothing.
async fn it_never_runs(site: &Site) {
    let silence = "touch /etc/cloud/cloud-init.disabled && systemctl disable windlass-agent && sync";
    site.shell("node1", silence).await.done();
    site.windlass(&["machine", "power", "node1", "off", "--yes"]).await.done();
    let image = site.controller.directory().join("mute.qcow2");
    let mut convert = command("qemu-img", Path::new("/"));
    convert.args(["convert", "-O", "qcow2"]).arg(site.machine("node1").join("root.qcow2")).arg(&image);
    run_within(BOOT, &mut convert).await.done();
    let mute = Spec { name: "vm2", image, ..site.spec(&["{name: mute, cpus: 2, memory: 1GiB}"]) };
    let run = site.begin(&mute).await;
    site.wait_event(
        "machine.trouble",
        "mute makes no progress for 5 minutes: it has booted, and cloud-init has not begun",
    )
    .await;
    site.windlass(&["run", "stop", &run]).await.done();
    let ended = site.windlass(&["run", "attach", &run]).await;
    assert_eq!(ended.code, 1, "{ended:?}");
    site.windlass(&["destroy", "--cluster", "vm2", "--confirm", "vm2"]).await.done();
}

/// What the machine had not written to its disk is lost.
async fn power_cut(site: &Site) {
    site.windlass(&["machine", "power", "node1", "reset", "--yes"]).await.done();
}

async fn destroy(site: &Site, spec: &Spec) {
    site.windlass(&["destroy", "-f", &site.write(spec), "--confirm", "vm1"]).await.done();
    site.assert_no_machines().await;
}
