// SPDX-License-Identifier: Apache-2.0
//! Files to nodes and from nodes: whole or not at all, through crashes, and unchanged where nothing changed.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use windlass_tests::agent::Agent;
use windlass_tests::controller::Controller;
use windlass_tests::process::{Answer, Running};
use windlass_tests::wait::{LONG, wait_until};

/// Large enough that a transfer is caught in the middle.
const LARGE: usize = 150 << 20;

/// Blocks that differ, so that a piece in the wrong place shows.
fn content(length: usize) -> Vec<u8> {
    const BLOCK: usize = 4096;
    let mut bytes = Vec::with_capacity(length + BLOCK);
    while bytes.len() < length {
        let nth = bytes.len() / BLOCK;
        bytes.extend_from_slice(&nth.to_le_bytes());
        bytes.resize((nth + 1) * BLOCK, 0x5a);
    }
    bytes.truncate(length);
    bytes
}

async fn cp(controller: &Controller, from: &str, to: &str) -> Answer {
    controller.cli(&["cp", from, to]).await
}

fn text(path: &Path) -> &str {
    path.to_str().expect("text")
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { bytes_below(&entry.path()) } else { entry.metadata().map_or(0, |m| m.len()) }
            },
        )
        .sum()
}

#[tokio::test]
async fn a_file_arrives_with_content_and_mode_and_a_second_copy_changes_nothing() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let (from, to) = (controller.directory().join("from"), agent.directory().join("to"));
    std::fs::write(&from, content(300_000)).expect("written");
    std::fs::set_permissions(&from, PermissionsExt::from_mode(0o640)).expect("changed");
    let target = format!("node1:{}", to.display());

    let first = cp(&controller, text(&from), &target).await;
    assert_eq!(first.code, 0, "{first:?}");
    let before = std::fs::metadata(&to).expect("there");
    assert_eq!(std::fs::read(&to).expect("readable"), content(300_000));
    assert_eq!(before.permissions().mode() & 0o7777, 0o640);

    let second = cp(&controller, text(&from), &target).await;
    assert_eq!(second.code, 0, "{second:?}");
    let after = std::fs::metadata(&to).expect("there");
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()), "it was written again");

    let back = controller.directory().join("back");
    let third = cp(&controller, &target, text(&back)).await;
    assert_eq!(third.code, 0, "{third:?}");
    assert_eq!(std::fs::read(&back).expect("readable"), content(300_000));
}

#[tokio::test]
async fn what_cannot_be_copied_is_told_and_leaves_the_target_as_it_was() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let from = controller.directory().join("from");
    std::fs::write(&from, "new").expect("written");
    let folder = agent.directory().join("folder");
    std::fs::create_dir(&folder).expect("made");

    let onto_a_directory = cp(&controller, text(&from), &format!("node1:{}", folder.display())).await;
    assert_eq!(onto_a_directory.code, 3, "{onto_a_directory:?}");
    assert!(onto_a_directory.stderr.contains("folder") && folder.is_dir(), "{onto_a_directory:?}");
    let missing = cp(&controller, "node1:/no/such/file", text(&controller.directory().join("x"))).await;
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("/no/such/file"), "{missing:?}");
    let no_source = cp(&controller, "/no/such/file", "node1:/tmp/x").await;
    assert_eq!(no_source.code, 1, "{no_source:?}");
}

/// Starts a large copy to the node and returns once some of it has arrived there.
async fn under_way(controller: &Controller, agent: &Agent) -> (Running, PathBuf) {
    let (from, to) = (controller.directory().join("from"), agent.directory().join("to"));
    std::fs::write(&from, content(LARGE)).expect("written");
    let target = format!("node1:{}", to.display());
    let log = controller.directory().join("cp.log");
    let copy = Running::start(&mut controller.cli_command(&["cp", text(&from), &target]), &log);
    let state = agent.state_dir();
    wait_until("some of it has arrived", LONG, || async { bytes_below(&state) > 2 << 20 }).await;
    assert!(!to.exists(), "the transfer was over before it could be cut");
    (copy, to)
}

#[tokio::test]
async fn a_copy_goes_on_after_the_controller_died() {
    let mut controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let (mut copy, to) = under_way(&controller, &agent).await;

    controller.kill9().await;
    assert!(!to.exists(), "half a file is in place");
    controller.restart().await;

    let ended = copy.wait().await;
    assert_eq!(
        ended.code(),
        Some(0),
        "{}",
        std::fs::read_to_string(controller.directory().join("cp.log")).unwrap_or_default()
    );
    assert!(std::fs::read(&to).expect("there") == content(LARGE), "the content is not what was sent");
}

#[tokio::test]
async fn a_copy_goes_on_after_the_agent_died() {
    let controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    let (mut copy, to) = under_way(&controller, &agent).await;

    agent.kill9().await;
    assert!(!to.exists(), "half a file is in place");
    agent.run();

    let ended = copy.wait().await;
    assert_eq!(
        ended.code(),
        Some(0),
        "{}",
        std::fs::read_to_string(controller.directory().join("cp.log")).unwrap_or_default()
    );
    assert!(std::fs::read(&to).expect("there") == content(LARGE), "the content is not what was sent");
}
