// SPDX-License-Identifier: Apache-2.0
//! What only a store on a disk must do: survive, refuse, make room, be alone.

use std::os::unix::fs::PermissionsExt;

use futures_util::future::join_all;
use tempfile::TempDir;
use windlass_types::outcome::ErrorClass;

use super::*;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

/// A directory with a database that was used and closed.
async fn used() -> TempDir {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).expect("a new store");
    for i in 0..100 {
        let transaction = Transaction::new().put(format!("nodes/{i:03}"), vec![7; 500]);
        assert!(matches!(store.commit(transaction).await, Ok(Committed::Yes(_))));
    }
    directory
}

fn refusal(directory: &TempDir) -> OpenError {
    SqliteStore::open(directory.path()).expect_err("refused")
}

fn tamper(directory: &TempDir, sql: &str) {
    let connection = Connection::open(directory.path().join(DATABASE)).expect("opens");
    connection.execute_batch(sql).expect("tampers");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o7777
}

#[tokio::test]
async fn keys_and_revisions_survive_a_restart() {
    let directory = used().await;
    let store = SqliteStore::open(directory.path()).expect("opens again");
    assert_eq!(store.range("nodes/", None, 1000).await.expect("reads").len(), 100);
    assert_eq!(store.commit(Transaction::new().put("a", "b")).await.expect("commits"), Committed::Yes(101));
}

#[tokio::test]
async fn everything_is_for_the_owner_only() {
    let parent = directory();
    let path = parent.path().join("var/windlass");
    let store = SqliteStore::open(&path).expect("a new store");
    assert!(matches!(store.commit(Transaction::new().put("a", "b")).await, Ok(Committed::Yes(1))));
    assert_eq!(mode(&path), 0o700);
    for file in fs::read_dir(&path).expect("lists") {
        assert_eq!(mode(&file.expect("is there").path()), 0o600);
    }
    assert!(store.size_bytes() > 0);
}

#[test]
fn closes_an_empty_directory_to_others_but_not_one_with_foreign_files() {
    let directory = directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    drop(SqliteStore::open(directory.path()).expect("a new store"));
    assert_eq!(mode(directory.path()), 0o700);

    let foreign = tempfile::tempdir().expect("a directory");
    fs::write(foreign.path().join("letter.txt"), "dear").expect("writes");
    fs::set_permissions(foreign.path(), fs::Permissions::from_mode(0o1777)).expect("chmod");
    assert!(matches!(refusal(&foreign), OpenError::TooOpen { mode: 0o1777, .. }));
    assert_eq!(mode(foreign.path()), 0o1777);
    fs::set_permissions(foreign.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    drop(SqliteStore::open(foreign.path()).expect("a new store"));
    assert_eq!(mode(foreign.path()), 0o755);
}

#[test]
fn a_second_controller_is_told_who_is_there() {
    let directory = directory();
    let first = SqliteStore::open(directory.path()).expect("a new store");
    let error = refusal(&directory);
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&directory.path().display().to_string()));
    assert_eq!(error.class(), ErrorClass::Blocked);
    drop(first);
    SqliteStore::open(directory.path()).expect("free again");
}

#[tokio::test]
async fn refuses_a_newer_schema_and_names_its_version() {
    let directory = used().await;
    tamper(
        &directory,
        "UPDATE meta SET value = 2 WHERE name = 'schema'; UPDATE meta SET value = '9.9' WHERE name = 'version'",
    );
    let error = refusal(&directory);
    assert!(matches!(error, OpenError::Newer { schema: 2, .. }), "{error}");
    assert!(error.to_string().contains("windlass 9.9"), "{error}");
}

#[tokio::test]
async fn refuses_a_damaged_database_and_leaves_it_as_it_is() {
    type Damage = fn(Vec<u8>) -> Vec<u8>;
    let damages: [(&str, Damage); 5] = [
        ("truncated", |content| content[..content.len() / 2].to_vec()),
        ("garbage", |content| vec![0xa5; content.len()]),
        ("empty", |_| Vec::new()),
        ("text", |_| b"not a database".to_vec()),
        ("one page overwritten", |mut content| {
            content[4096 * 5..4096 * 6].fill(0xff);
            content
        }),
    ];
    for (name, damage) in damages {
        let directory = used().await;
        let path = directory.path().join(DATABASE);
        let content = damage(fs::read(&path).expect("reads"));
        fs::write(&path, &content).expect("writes");
        let error = refusal(&directory);
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains("windlass restore"), "{name}: {error}");
        assert_eq!(fs::read(&path).expect("reads"), content, "{name}");
    }
}

#[tokio::test]
async fn refuses_the_database_of_another_program() {
    let directory = directory();
    tamper(&directory, "CREATE TABLE letters (a); INSERT INTO letters VALUES (1)");
    assert!(matches!(refusal(&directory), OpenError::Damaged { .. }));
}

#[test]
fn never_begins_anew_where_other_state_remains() {
    for remains in ["pki", "audit"] {
        let directory = directory();
        fs::create_dir(directory.path().join(remains)).expect("makes");
        let error = refusal(&directory);
        assert!(matches!(error, OpenError::Missing { found, .. } if found == remains), "{error}");
        assert!(!directory.path().join(DATABASE).exists());
    }
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_again() {
    let directory = directory();
    fs::write(directory.path().join("state.db.new"), "half").expect("writes");
    fs::write(directory.path().join("lock"), "not a number").expect("writes");
    SqliteStore::open(directory.path()).expect("opens");
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writes");
    assert!(matches!(SqliteStore::open(&file), Err(OpenError::Directory { .. })));
}

/// A store that may grow by this many pages only.
fn tight(directory: &TempDir, pages: i64) -> Arc<SqliteStore> {
    let lock = open::claim(directory.path()).expect("claims");
    let connection = open::database(directory.path()).expect("opens");
    let now: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).expect("counts");
    connection.pragma_update_and_check(None, "max_page_count", now + pages, |_| Ok(())).expect("limits");
    SqliteStore::start(directory.path().join(DATABASE), lock, connection).expect("starts")
}

#[tokio::test]
async fn a_full_disk_changes_nothing_and_takes_no_other_transaction_down() {
    let directory = used().await;
    let store = tight(&directory, 4);
    let large = Transaction::new().put("large", vec![0; 1 << 20]).delete("nodes/000");
    let group = [Transaction::new().put("small/1", "1"), large, Transaction::new().put("small/2", "2")];
    let answers = join_all(group.map(|transaction| store.commit(transaction))).await;
    assert!(matches!(answers[..], [Ok(Committed::Yes(101)), Err(StoreError::DiskFull), Ok(Committed::Yes(102))]));
    assert!(store.get("large").await.expect("reads").is_none());
    assert!(store.get("nodes/000").await.expect("reads").is_some());
    drop(store);
    let store = SqliteStore::open(directory.path()).expect("whole");
    assert_eq!(store.range("small/", None, 9).await.expect("reads").len(), 2);
    assert_eq!(
        store.commit(Transaction::new().put("large", vec![0; 1 << 20])).await.expect("fits"),
        Committed::Yes(103)
    );
}

#[tokio::test]
async fn a_commit_whose_asker_went_away_is_made_all_the_same() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).expect("a new store");
    let asker = store.clone();
    let waiting = tokio::spawn(async move { asker.commit(Transaction::new().put("a", "1")).await });
    tokio::task::yield_now().await;
    waiting.abort();
    assert!(matches!(store.commit(Transaction::new().put("b", "1")).await, Ok(Committed::Yes(2))));
    assert!(store.get("a").await.expect("reads").is_some());
}

#[tokio::test]
async fn a_copy_is_whole_private_and_never_overwrites() {
    let directory = used().await;
    let store = SqliteStore::open(directory.path()).expect("opens");
    let target = directory.path().join("copy");
    store.copy_to(&target).expect("copies");
    assert_eq!(mode(&target), 0o600);
    open::check(&target).expect("whole");
    assert!(matches!(store.copy_to(&target), Err(CopyError::File { .. })));
    open::check(&target).expect("still whole");
}

/// What a machine that stopped would find: the files as they are, the log cut off somewhere.
fn crashed(directory: &TempDir, log_bytes: usize) -> TempDir {
    let image = tempfile::tempdir().expect("a directory");
    fs::copy(directory.path().join(DATABASE), image.path().join(DATABASE)).expect("copies");
    let log = fs::read(directory.path().join("state.db-wal")).expect("reads");
    fs::write(image.path().join("state.db-wal"), &log[..log_bytes.min(log.len())]).expect("writes");
    image
}

#[tokio::test]
async fn what_was_answered_survives_a_crash_and_what_was_cut_leaves_no_half() {
    let directory = directory();
    let store = SqliteStore::open(directory.path()).expect("a new store");
    for i in 1..=20_u64 {
        let value = i.to_be_bytes();
        let transaction =
            Transaction::new().put("pair/a", value).put(format!("pad/{i}"), vec![1; 3000]).put("pair/z", value);
        assert_eq!(store.commit(transaction).await.expect("commits"), Committed::Yes(i));
        let image = crashed(&directory, usize::MAX);
        let after = SqliteStore::open(image.path()).expect("whole");
        assert_eq!(after.get("pair/z").await.expect("reads").map(|entry| entry.revision), Some(i));
    }
    let whole = fs::metadata(directory.path().join("state.db-wal")).expect("is there").len();
    for cut in (0..usize::try_from(whole).expect("small")).step_by(17_011) {
        let image = crashed(&directory, cut);
        let after = SqliteStore::open(image.path()).expect("whole");
        let pair = after.range("pair/", None, 2).await.expect("reads");
        assert!(pair.windows(2).all(|pair| pair[0].value == pair[1].value), "cut at {cut}");
        let revision = pair.first().map_or(0, |entry| entry.revision);
        assert_eq!(
            after.commit(Transaction::new()).await.expect("commits"),
            Committed::Yes(revision + 1),
            "cut at {cut}"
        );
    }
}
