// SPDX-License-Identifier: Apache-2.0
//! What a spec calls a secret comes to the node and to nobody's eyes.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::{LONG, wait_until};

const SPEC: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: site}\nspec:\n  provider: {existing: {}}\n  \
                    nodes: [{name: node1}]\n  settings:\n    files: [{path: /etc/site.key, content: hush, secret: true}]\n";

#[tokio::test]
async fn a_secret_is_not_in_a_plan_that_is_shown_and_for_nobody_else_in_one_that_is_saved() {
    let bastion = Bastion::start().await;
    let node = ModelledNode::start(&bastion, "node1").await;
    let is_well = async || bastion.words("status").await.code == 0;
    wait_until("the node is healthy", LONG, is_well).await;
    let (spec, saved) = (bastion.write("cluster.yaml", SPEC), bastion.write("plan.json", ""));
    for output in ["text", "json"] {
        let shown = bastion.words(&format!("plan -f {spec} -o {output}")).await.ok();
        assert!(shown.contains("/etc/site.key") && !shown.contains("hush"), "{shown}");
    }
    bastion.words(&format!("plan -f {spec} -o {saved}")).await.done();
    let mode = std::fs::metadata(&saved).expect("saved").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "also one that was there for others");
    bastion.words(&format!("apply {saved} --yes")).await.done();
    assert_eq!(node.host.node().files[Path::new("/etc/site.key")], "hush");
}
