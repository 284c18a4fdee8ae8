// SPDX-License-Identifier: Apache-2.0
//! A backup, and a controller that comes back from it: read-only until somebody says that no other runs, and obeyed
//! afterwards instead of the old one.

use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::Controller;
use windlass_tests::wait::{LONG, wait_until};

async fn backup(controller: &Controller) -> String {
    let file = controller.directory().join("windlass.backup").to_str().expect("text").to_owned();
    let made = controller.cli(&["backup", &file]).await;
    assert_eq!(made.code, 0, "{made:?}");
    file
}

#[tokio::test]
async fn a_restored_controller_is_read_only_until_confirmed_and_its_nodes_come_back() {
    let mut controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let file = backup(&controller).await;
    controller.words("token create after-the-backup").await;
    controller.terminate().await;
    let old = controller.directory().join("old");
    std::fs::rename(controller.state_dir(), &old).expect("moved away");

    let state_dir = controller.state_dir().to_str().expect("text").to_owned();
    let restored = controller.cli(&["restore", &file, "--state-dir", &state_dir]).await;
    assert_eq!(restored.code, 0, "{restored:?}");
    assert!(restored.stdout.contains("read-only") && restored.stdout.contains("windlass restore --confirm"));
    controller.restart().await;

    controller.words("token create node2").await.assert_refused(4, "read-only", "windlass restore --confirm");
    controller.words("exec node1 -- true").await.assert_refused(4, "read-only", "windlass restore --confirm");
    assert_eq!(controller.words("get nodes").await.code, 0);
    let check = controller.words("check").await;
    assert!(check.code == 1 && check.stdout.contains("restore --confirm"), "{check:?}");
    agent.wait_connected(&controller).await;

    let confirmed = controller.words("restore --confirm").await;
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    assert_eq!(controller.words("token create node2").await.code, 0);
    agent.wait_connected(&controller).await;
    let ran = controller.words("exec node1 -- true").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!controller.words("get tokens").await.ok().contains("after-the-backup"));

    // The old copy starts again by mistake: the agent has obeyed the new epoch and obeys no older one.
    controller.terminate().await;
    std::fs::rename(controller.state_dir(), controller.directory().join("new")).expect("moved away");
    std::fs::rename(&old, controller.state_dir()).expect("moved back");
    controller.restart().await;
    controller.wait_for_event("controller.epoch-behind", "node1").await;
    assert!(!is_connected(&controller, "node1").await);
}

#[tokio::test]
async fn restoring_over_something_into_use_or_from_rubbish_is_refused() {
    let mut controller = Controller::start().await;
    let _agent = Agent::joined(&controller, "node1").await;
    let file = backup(&controller).await;
    let state_dir = controller.state_dir().to_str().expect("text").to_owned();

    let in_use = controller.cli(&["restore", &file, "--state-dir", &state_dir]).await;
    assert!([4, 6].contains(&in_use.code), "{in_use:?}");
    controller.terminate().await;
    let full = controller.cli(&["restore", &file, "--state-dir", &state_dir]).await;
    full.assert_refused(4, "not empty", "move it away");

    let mut damaged = std::fs::read(&file).expect("a backup");
    let middle = damaged.len() / 2;
    damaged[middle..middle + 4096].fill(0x5a);
    let rubbish = controller.directory().join("rubbish");
    let target = controller.directory().join("target").to_str().expect("text").to_owned();
    for content in [&damaged[..], b"not a backup", b"", &damaged[..middle]] {
        std::fs::write(&rubbish, content).expect("written");
        let refused = controller.cli(&["restore", rubbish.to_str().expect("text"), "--state-dir", &target]).await;
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.stderr.contains("do: ") && refused.stderr.contains("backup"), "{refused:?}");
        assert!(!controller.directory().join("target/state.db").exists(), "something was restored from rubbish");
    }
    let twice = controller.cli(&["backup", &file]).await;
    assert_ne!(twice.code, 0, "a backup was overwritten");

    controller.restart().await;
    wait_until("the controller is as before", LONG, || async {
        controller.words("get nodes -o name").await.ok().contains("node1")
    })
    .await;
}
