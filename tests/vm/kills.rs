// SPDX-License-Identifier: Apache-2.0
//! Agent and controller are killed while the node's package manager installs a kernel. It goes on, and happens once.

use serde_json::Value;

use crate::site::{Site, with_site};

/// Waits until the transaction is under way, then ends the agent, both of its halves, as nobody can refuse.
const KILL_AGENT: &str =
    "until pgrep -f '[d]nf -C -y' >/dev/null; do sleep 0.2; done; sleep 2; pkill -KILL -x windlass-agent";

#[tokio::test]
async fn agent_and_controller_killed_within_a_transaction_lose_nothing_and_do_nothing_twice() {
    with_site(async |site| {
        let spec = site.spec(&["{name: node1, address: 10.77.0.11, cpus: 2, memory: 1GiB, roles: [worker]}"]);
        site.apply(&spec).await.done();
        let begun = site.windlass(&["upgrade", "kernel", "node1", "--channel", "elrepo-lt", "--yes", "--detach"]).await;
        assert_eq!(begun.code, 7, "{begun:?}");
        let run = begun.stdout.trim().to_owned();
        // The one who kills goes on without an agent too, and tells.
        site.shell("node1", KILL_AGENT).await.done();
        let transaction = site.shell("node1", "pgrep -f '[d]nf -C -y'").await;
        assert_eq!(transaction.code, 0, "it goes on without the agent that began it: {transaction:?}");
        site.controller.kill9().await;
        site.controller.restart().await;
        let ended = site.windlass(&["run", "attach", &run]).await;
        assert_eq!(ended.code, 0, "{ended:?}");
        it_happened_once(site, &run).await;
    })
    .await;
}

async fn it_happened_once(site: &Site, run: &str) {
    let shown = site.controller.words(&format!("run show {run} -o json")).await.json();
    let steps = shown["steps"].as_array().cloned().unwrap_or_default();
    let step = steps.iter().find(|step| step["id"] == "install-kernel/node1").expect("a step");
    assert_eq!((&step["state"], &step["attempt"]), (&Value::from("done"), &Value::from(1)), "{shown}");
    let done = |event: &Value| {
        event["type"] == "step.done"
            && event["message"].as_str().is_some_and(|m| m.starts_with("install-kernel/node1 "))
    };
    let events = site.controller.events().await;
    assert_eq!(events.iter().filter(|event| done(event)).count(), 1, "{events:?}");
    assert_eq!(transactions(site, "node1", "kernel-lt").await, 1);
    assert_eq!(site.shell("node1", "rpm -q kernel-lt | wc -l").await.ok().trim(), "1");
    let kernel = site.node("node1").await["facts"]["kernel"]["value"].clone();
    let running = site.shell("node1", "uname -r").await.ok();
    assert_eq!(
        (kernel["running"].as_str(), kernel["default_release"].as_str()),
        (Some(running.trim()), Some(running.trim()))
    );
}

/// How many transactions of its package manager a node has had with a package.
pub(crate) async fn transactions(site: &Site, node: &str, package: &str) -> usize {
    let history = site.shell(node, &format!("dnf -C -q history list {package}")).await.ok();
    history.lines().filter(|line| line.trim().starts_with(|c: char| c.is_ascii_digit())).count()
}
