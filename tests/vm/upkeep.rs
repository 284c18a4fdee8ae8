// SPDX-License-Identifier: Apache-2.0
//! A node is kept current: packages in the versions that were shown, another kernel that must prove itself, a reboot. Real
//! dnf, rpm and GRUB; `kernel-lt` is Debian's other kernel under ELRepo's name.

use serde_json::Value;

use crate::site::{Site, Spec, with_site};

/// A package of the lab in two versions.
const OLD: &str = "lab-words-1-1";

#[tokio::test]
async fn a_node_is_updated_gets_another_kernel_and_reboots_as_it_was_planned() {
    with_site(async |site| {
        let spec = site.spec(&["{name: node1, address: 10.77.0.11, cpus: 2, memory: 1GiB, roles: [worker]}"]);
        let applied = site.apply(&spec).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        let path = with_settings(site, &spec);
        settings_are_brought_about_and_drift_is_seen(site, &path).await;
        packages_are_what_was_shown(site).await;
        a_kernel_is_kept_when_it_has_proved_itself(site).await;
        a_reboot_is_another_boot(site).await;
        let kept = site.windlass(&["diff", "-f", &path, "--detailed-exitcode"]).await;
        assert_eq!(kept.code, 0, "a setting did not outlast a boot: {kept:?}");
        nobody_holds_anything(site).await;
    })
    .await;
}

/// Parameters of the network are the node's, not those of the agent's sandbox; a file may be a new user's.
const SETTINGS: &str = "  settings:
    swap: off
    sysctls: {net.ipv4.ip_forward: 1, net.core.somaxconn: 8192, vm.swappiness: 10}
    users: [{name: ops, groups: [adm], authorizedKeys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA ops@site]}]
    files: [{path: /home/ops/site, owner: ops, group: ops, content: \"theirs\\n\"}]
";

/// The same spec with settings; its path.
fn with_settings(site: &Site, spec: &Spec) -> String {
    let path = site.write(spec);
    let text = std::fs::read_to_string(&path).expect("written") + SETTINGS;
    std::fs::write(&path, text).expect("written");
    path
}

async fn settings_are_brought_about_and_drift_is_seen(site: &Site, path: &str) {
    let (apply, diff) = (["apply", "-f", path, "--yes"], ["diff", "-f", path, "--detailed-exitcode"]);
    site.windlass(&apply).await.done();
    let there =
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn /home/ops/site && stat -c %U /home/ops/site";
    assert_eq!(site.shell("node1", there).await.ok(), "1\n8192\ntheirs\nops\n");
    assert!(site.shell("node1", "id -nG ops && cat /home/ops/.ssh/authorized_keys").await.ok().contains("ops@site"));
    site.windlass(&diff).await.done();
    site.shell("node1", "sysctl -w net.ipv4.ip_forward=0").await.done();
    let drifted = site.windlass(&diff).await;
    assert!(drifted.code == 2 && drifted.stdout.contains("net.ipv4.ip_forward: 0 -> 1"), "{drifted:?}");
    site.windlass(&apply).await.done();
    assert_eq!(site.shell("node1", "cat /proc/sys/net/ipv4/ip_forward").await.ok(), "1\n");
}

async fn packages_are_what_was_shown(site: &Site) {
    site.shell("node1", &format!("dnf -y install {OLD}")).await.done();
    let shown = site.windlass(&["update", "packages", "node1", "--only", "lab-words", "--dry-run"]).await;
    assert!(shown.code == 0 && shown.stdout.contains("lab-words") && shown.stdout.contains("1-1 -> 2-1"), "{shown:?}");
    assert!(site.shell("node1", "rpm -q lab-words").await.ok().contains(OLD), "showing changes nothing");
    let updated = site.windlass(&["update", "packages", "node1", "--only", "lab-words", "--yes"]).await;
    assert_eq!(updated.code, 0, "{updated:?}");
    assert!(site.shell("node1", "rpm -q lab-words").await.ok().contains("lab-words-2-1"), "{updated:?}");
    let again = site.windlass(&["update", "packages", "node1", "--only", "lab-words", "--yes"]).await;
    assert!(again.code == 0 && again.stderr.contains("othing to do"), "{again:?}");
}

async fn a_kernel_is_kept_when_it_has_proved_itself(site: &Site) {
    let before = site.shell("node1", "uname -r").await.ok();
    let upgraded = site.windlass(&["upgrade", "kernel", "node1", "--channel", "elrepo-lt", "--yes"]).await;
    assert_eq!(upgraded.code, 0, "{upgraded:?}");
    let after = site.shell("node1", "uname -r").await.ok();
    assert_ne!(before, after, "{upgraded:?}");
    let kernel = site.node("node1").await["facts"]["kernel"]["value"].clone();
    assert_eq!(
        (&kernel["running"], &kernel["default_release"]),
        (&Value::from(after.trim()), &Value::from(after.trim()))
    );
}

async fn a_reboot_is_another_boot(site: &Site) {
    let (boot, kernel) = (site.boot_id("node1").await, site.shell("node1", "uname -r").await.ok());
    let rebooted = site.windlass(&["reboot", "node1", "--yes"]).await;
    assert_eq!(rebooted.code, 0, "{rebooted:?}");
    assert_ne!(site.boot_id("node1").await, boot, "{rebooted:?}");
    assert_eq!(site.shell("node1", "uname -r").await.ok(), kernel, "the confirmed kernel stays");
    let idle = site.windlass(&["reboot", "node1", "--if-needed", "--yes"]).await;
    assert!(idle.code == 0 && idle.stderr.contains("othing to do"), "{idle:?}");
}

pub(crate) async fn nobody_holds_anything(site: &Site) {
    let status = site.windlass(&["status"]).await;
    assert_eq!(status.code, 0, "{status:?}");
    assert!(!status.stdout.contains("holds"), "{status:?}");
}
