// SPDX-License-Identifier: Apache-2.0
//! The log's promises: nothing acknowledged is lost, nothing altered goes unnoticed, nothing is half written.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;
use serde_json::json;
use tempfile::TempDir;
use windlass_types::time::UnixMillis;

use super::*;
use crate::clock::fixed::FixedClock;

fn clock() -> Arc<dyn Clock> {
    FixedClock::at(UnixMillis(1_000))
}

fn request(object: &str) -> AuditRequest {
    AuditRequest {
        actor: "operator/alice".to_owned(),
        role: "admin".to_owned(),
        origin: Origin::Tls { address: "127.0.0.1:5".to_owned(), certificate_serial: "0a".to_owned() },
        verb: "/windlass.v1.NodeService/RevokeNode".to_owned(),
        object: object.to_owned(),
        arguments: redact(json!({ "node": object, "token": "canary" })),
    }
}

fn ok() -> AuditResult {
    AuditResult { message: "closed \"2\",\"hash\":\"x\"}".to_owned(), ..AuditResult::ok() }
}

async fn change(log: &AuditLog, object: &str) {
    let ticket = log.requested(request(object)).await.expect("recorded");
    log.done(ticket, ok()).await.expect("recorded");
}

/// A log with six records, closed again.
async fn used() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let log = AuditLog::open(directory.path(), clock()).expect("opens");
    for object in ["node/a", "node/b", "node/c"] {
        change(&log, object).await;
    }
    directory
}

fn content(directory: &TempDir) -> String {
    fs::read_to_string(directory.path().join(FILE)).expect("reads")
}

fn tamper(directory: &TempDir, content: &str) {
    fs::write(directory.path().join(FILE), content).expect("writes");
}

fn report(directory: &TempDir) -> AuditReport {
    verify(directory.path()).expect("reads")
}

#[tokio::test]
async fn a_change_leaves_two_records_with_all_that_matters_and_no_secret() {
    let sink = MemorySink::default();
    change(&AuditLog::in_memory(sink.clone(), clock()), "node/a").await;
    let lines: Vec<serde_json::Value> =
        sink.lines().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!((&lines[0]["phase"], &lines[1]["phase"]), (&json!("requested"), &json!("done")));
    assert_eq!((&lines[0]["seq"], &lines[1]["seq"]), (&json!(1), &json!(2)));
    assert_eq!(lines[0]["origin"]["certificate_serial"], "0a");
    assert_eq!(lines[0]["arguments"]["node"], "node/a");
    assert_eq!(lines[1]["result"]["code"], "ok");
    assert_eq!(lines[1]["prev"], lines[0]["hash"]);
    for line in &lines {
        assert_eq!(
            (&line["request_id"], &line["actor"], &line["at"]),
            (&json!("3e8-0"), &json!("operator/alice"), &json!(1000))
        );
    }
    assert!(!sink.lines().contains("canary"));
}

#[tokio::test]
async fn the_chain_goes_on_after_a_restart() {
    let directory = used().await;
    change(&AuditLog::open(directory.path(), clock()).expect("opens"), "node/d").await;
    let report = report(&directory);
    assert_eq!((report.records, report.fault), (8, None));
    assert!(content(&directory).ends_with(&format!("\"hash\":\"{}\"}}\n", report.head)));
}

#[tokio::test]
async fn the_log_is_for_the_owner_only() {
    let parent = tempfile::tempdir().expect("a directory");
    let directory = parent.path().join("audit");
    change(&AuditLog::open(&directory, clock()).expect("opens"), "node/a").await;
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(&directory.join(FILE))), (0o700, 0o600));
}

#[tokio::test]
async fn many_at_once_share_flushes_and_stay_in_one_chain() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = AuditLog::open(directory.path(), clock()).expect("opens");
    join_all((0..200).map(|i| {
        let log = &log;
        async move { change(log, &format!("node/{i}")).await }
    }))
    .await;
    assert_eq!((report(&directory).records, report(&directory).fault), (400, None));
}

#[tokio::test]
async fn names_the_first_bad_line_whatever_was_done_to_it() {
    type Tampering = fn(&mut Vec<String>);
    let tamperings: [(&str, Tampering, &str); 7] = [
        ("altered", |lines| lines[2] = lines[2].replace("node/b", "node/x"), "line 3 was altered"),
        ("removed", |lines| drop(lines.remove(2)), "line 3 is record 4 where 3 should be"),
        ("swapped", |lines| lines.swap(2, 3), "line 3 is record 4"),
        ("repeated", |lines| lines.insert(2, lines[1].clone()), "line 3 is record 2"),
        ("emptied", |lines| lines[2].clear(), "line 3 has no digest"),
        ("garbage", |lines| lines[2] = "{}".to_owned(), "line 3 has no digest"),
        ("first removed", |lines| drop(lines.remove(0)), "line 1 is record 2"),
    ];
    for (name, tampering, expected) in tamperings {
        let directory = used().await;
        let mut lines: Vec<_> = content(&directory).lines().map(str::to_owned).collect();
        tampering(&mut lines);
        tamper(&directory, &(lines.join("\n") + "\n"));
        let fault = report(&directory).fault.expect(name);
        assert!(fault.starts_with(expected), "{name}: {fault}");
        assert!(matches!(AuditLog::open(directory.path(), clock()), Err(AuditError::Broken { .. })), "{name}");
    }
}

#[tokio::test]
async fn a_line_with_a_right_digest_but_a_foreign_past_is_found() {
    let (directory, other) = (used().await, tempfile::tempdir().expect("a directory"));
    change(&AuditLog::open(other.path(), clock()).expect("opens"), "node/other").await;
    let (mine, theirs) = (content(&directory), content(&other));
    let forged: Vec<_> = theirs.lines().take(1).chain(mine.lines().skip(1)).collect();
    tamper(&directory, &(forged.join("\n") + "\n"));
    assert_eq!(report(&directory).fault.as_deref(), Some("line 2 does not follow the line before it"));
}

#[tokio::test]
async fn an_unfinished_last_line_is_removed_and_recorded_wherever_it_was_cut() {
    let whole = content(&used().await);
    let before = whole[..whole.len() - 1].rfind('\n').expect("several lines") + 1;
    for cut in [before + 1, before + 100, whole.len() - 1] {
        let directory = used().await;
        tamper(&directory, &whole[..cut]);
        assert_eq!((report(&directory).records, report(&directory).fault), (5, None));
        change(&AuditLog::open(directory.path(), clock()).expect("opens"), "node/d").await;
        assert_eq!((report(&directory).records, report(&directory).fault), (8, None));
        let repaired = format!("\"removed_bytes\":{}", cut - before);
        assert!(content(&directory).lines().nth(5).is_some_and(|line| line.contains(&repaired)), "{cut}");
    }
}

#[tokio::test]
async fn a_log_longer_than_what_is_checked_at_start_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = AuditLog::open(directory.path(), clock()).expect("opens");
    let object = "x".repeat(1000);
    join_all((0..500).map(|_| change(&log, &object))).await;
    drop(log);
    assert!(content(&directory).len() > 1024 * 1024);
    change(&AuditLog::open(directory.path(), clock()).expect("opens"), "node/d").await;
    assert_eq!((report(&directory).records, report(&directory).fault), (1002, None));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_refused_and_leaves_no_gap() {
    let sink = MemorySink::default();
    let log = AuditLog::in_memory(sink.clone(), clock());
    change(&log, "node/a").await;
    sink.set_failing(true);
    assert!(matches!(log.requested(request("node/b")).await, Err(AuditError::Write(_))));
    sink.set_failing(false);
    change(&log, "node/c").await;
    let directory = tempfile::tempdir().expect("a directory");
    tamper(&directory, &sink.lines());
    assert_eq!((report(&directory).records, report(&directory).fault), (4, None));
}

#[tokio::test]
async fn a_log_that_was_never_begun_is_whole_but_a_missing_directory_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    assert_eq!((report(&directory).records, report(&directory).fault), (0, None));
    assert!(matches!(verify(&directory.path().join("none")), Err(AuditError::File { .. })));
}
