// SPDX-License-Identifier: Apache-2.0
//! One machine from nothing to a node, through a reset, to nothing.

use serde_json::Value;

use crate::overhead;
use crate::site::{Site, with_site};

const STAGES: [&str; 6] = ["created", "booting", "cloud-init", "agent-installed", "enrolled", "healthy"];

/// Takes what user-data says of joining and joins with it, as another agent.
const STEAL: &str = r#"set -eu
umask 077; mkdir /tmp/thief; cd /tmp/thief
python3 - <<'PYTHON'
import json
data = json.loads(open("/var/lib/cloud/instance/user-data.txt").read().split("\n", 1)[1])
for file in data["write_files"]:
    open(file["path"].rsplit("/", 1)[1], "w").write(file["content"])
PYTHON
echo "exec windlass-agent join --controller $(cat controller) --ca-pin $(head -n 1 pins) --token-file token \"\$@\"" > join
sh ./join --state-dir /tmp/thief/state
"#;

#[tokio::test]
async fn a_machine_becomes_a_node_obeys_returns_after_a_reset_and_goes_without_a_trace() {
    with_site(async |site| {
        let spec = site.spec(&["{name: node1, address: 10.77.0.11, cpus: 2, memory: 1GiB, roles: [worker]}"]);
        let watch = overhead::watch(site, "node1");
        let applied = site.apply(&spec).await;
        assert_eq!(applied.code, 0, "{applied:?}");
        watch.tell(site).await;
        for stage in STAGES {
            assert!(applied.stderr.contains(&format!("node1: {stage} after ")), "{stage}: {applied:?}");
        }
        let node = site.node("node1").await;
        facts_are_those_of_the_machine(site, &node).await;
        nothing_secret_is_left_in_it(site).await;
        what_it_was_given_is_worth_nothing_any_more(site, &node).await;
        a_reset_changes_the_boot_and_not_the_identity(site, &node).await;
        let again = site.windlass(&["plan", "-f", &site.write(&spec), "--detailed-exitcode"]).await;
        assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");
        site.windlass(&["destroy", "-f", &site.write(&spec), "--confirm", "vm1"]).await.done();
        site.assert_no_machines().await;
    })
    .await;
}

/// A fact, as the command line gives it.
fn fact<'a>(node: &'a Value, subject: &str) -> &'a Value {
    &node["facts"][subject]["value"]
}

async fn facts_are_those_of_the_machine(site: &Site, node: &Value) {
    assert_eq!(node["labels"]["role/worker"], "yes", "{node}");
    assert_eq!(fact(node, "os")["hostname"], "node1", "{node}");
    assert_eq!(fact(node, "cpu")["logical"], 2, "{node}");
    let kernel = site.shell("node1", "uname -r").await.ok();
    assert_eq!(fact(node, "kernel")["running"], kernel.trim(), "{node}");
    let here = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    assert_ne!(kernel, here, "that is this machine's own kernel");
    let machines = site.controller.words("get machines -o json").await.json();
    let serial = machines["items"][0]["disks"][0]["serial"].as_str().expect("a serial").to_owned();
    let disks = fact(node, "disks").as_array().cloned().unwrap_or_default();
    let found = disks.iter().find(|disk| disk["serial"] == serial.as_str());
    assert_eq!(found.map(|disk| &disk["size_bytes"]), Some(&Value::from(1_u64 << 30)), "{node}");
    let address = site.shell("node1", "ip -brief address show cluster0").await.ok();
    assert!(address.contains("10.77.0.11/24"), "{address}");
}

/// Neither the token nor a way in.
async fn nothing_secret_is_left_in_it(site: &Site) {
    let left = site.shell("node1", "ls /var/lib/windlass-first-boot; systemctl is-enabled windlass-first-boot").await;
    assert!(left.code != 0 && left.stdout.is_empty(), "{left:?}");
    let seed = std::fs::read(site.machine("node1").join("seed.iso")).expect("a seed");
    assert!(!String::from_utf8_lossy(&seed).contains("windlass-first-boot/token"), "the seed still has the token");
    let installed = site.shell("node1", "rpm -q --qf '%{NAME} %{RSAHEADER:pgpsig}' windlass-agent").await.ok();
    assert!(installed.contains("windlass-agent RSA/"), "{installed}");
    let open = site.shell("node1", "ss -Hltn | grep -v 127.0.0").await;
    assert!(open.stdout.is_empty(), "something listens: {open:?}");
    // The first waits until the unit is done.
    let metadata = "systemctl start windlass-metadata && ip route get 169.254.169.254";
    let closed = site.shell("node1", metadata).await;
    assert!(closed.code != 0 && closed.stderr.contains("Permission denied"), "metadata can be read: {closed:?}");
}

/// cloud-init's own copy of user-data is still there, for root alone. Whoever joins with it, and a key of their own, is
/// refused and seen; the node itself may join again as often as it likes.
async fn what_it_was_given_is_worth_nothing_any_more(site: &Site, before: &Value) {
    let stolen = site.shell("node1", STEAL).await;
    assert_eq!(stolen.code, 3, "{stolen:?}");
    assert!(stolen.stderr.contains("exit code 77") && stolen.stderr.contains("refused this token"), "{stolen:?}");
    let alarm = site.controller.wait_for_event("token.reused", "the used token of node1").await;
    assert_eq!((&alarm["severity"], &alarm["node"]), (&"alarm".into(), &"node1".into()), "{alarm}");
    let joined = site.shell("node1", "cd /tmp/thief && sh ./join").await;
    assert!(joined.code == 0 && format!("{joined:?}").contains("joined already, as node1"), "{joined:?}");
    let after = site.node("node1").await;
    assert_eq!(after["certificate_serial"], before["certificate_serial"], "{after}");
    assert_eq!(after["status"], "healthy", "{after}");
}

async fn a_reset_changes_the_boot_and_not_the_identity(site: &Site, before: &Value) {
    let process = site.processes();
    site.windlass(&["machine", "power", "node1", "reset", "--yes"]).await.done();
    let boot = fact(before, "boot")["boot_id"].as_str().expect("a boot id").to_owned();
    site.wait_healthy("node1", |node| fact(node, "boot")["boot_id"] != boot.as_str()).await;
    let after = site.node("node1").await;
    for same in ["certificate_serial", "joined_at"] {
        assert!(after[same].is_string() && after[same] == before[same], "{same}: {before} {after}");
    }
    assert_eq!(site.processes(), process, "a reset is not another process");
    site.shell("node1", "true").await.done();
}
