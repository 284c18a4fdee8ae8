// SPDX-License-Identifier: Apache-2.0
//! What a roll did is undone by the opposite wish: another content, other values, no such user, the kernel before. What was
//! done with packages is undone on the node, from the history of its package manager.

use windlass_agent::host::fake::Node;

use super::roll::{NODES, Roll, STEPS};

/// The opposite of what the roll made of each node.
const OPPOSITE: &str = "  kernel: {channel: elrepo-lt, version: 6.1-1, keep: 1}\n  settings:\n    files: [{path: /etc/motd, \
                        content: \"Welcome\\n\"}]\n    sysctls: {net.ipv4.ip_forward: 0}\n    services: {tuned.service: \
                        off}\n    users: [{name: ops, present: false}]\n";

#[tokio::test]
async fn what_can_be_undone_is_undone_by_the_opposite_wish() {
    let roll = Roll::of(STEPS[0]).await;
    roll.apply().await;
    assert_eq!(roll.ended("before the way back").await, "succeeded");
    let before: Vec<Node> = roll.nodes.iter().map(|node| node.host.node()).collect();
    let nodes: String = NODES.iter().map(|name| format!("    - {{name: {name}}}\n")).collect();
    let head = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {existing: {}}\n";
    let spec = roll.bastion.write("opposite.yaml", &format!("{head}  nodes:\n{nodes}{OPPOSITE}"));
    let undone = roll.bastion.words(&format!("apply -f {spec} --yes")).await;
    assert_eq!(undone.code, 0, "{undone:?}");
    for (node, before) in roll.nodes.iter().zip(before) {
        let now = node.host.node();
        let file = |path: &str| now.files.get(std::path::Path::new(path)).map(String::as_str);
        assert_eq!((file("/etc/motd"), file("/proc/sys/net/ipv4/ip_forward")), (Some("Welcome\n"), Some("0\n")));
        assert!(file("/etc/passwd").is_some_and(|users| !users.contains("ops:")), "{undone:?}");
        assert_eq!(file("/etc/sudoers.d/windlass-ops"), None);
        let tuned = now.services.iter().find(|service| service.unit == "tuned.service");
        assert_eq!((now.enabled.as_slice(), tuned.map(|tuned| tuned.active.as_str())), (&[][..], Some("inactive")));
        let kernels = (now.running_kernel.as_str(), now.default_kernel.as_deref(), now.boots);
        assert_eq!(kernels, ("6.1-1.x86_64", Some("6.1-1.x86_64"), before.boots + 1));
        assert_eq!(now.packages, before.packages, "the newer kernel stays beside the one that runs");
    }
    let again = roll.bastion.words(&format!("plan -f {spec} --detailed-exitcode")).await;
    assert!(again.code == 0 && again.stdout.contains("othing to do"), "{again:?}");
}
