// SPDX-License-Identifier: Apache-2.0
//! Whether a backup brings everything back, and whether a bad one leaves everything as it was.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::store::{Committed, Store, Transaction};

const NOW: UnixMillis = UnixMillis(1_000);
const LATER: UnixMillis = UnixMillis(2_000);

/// A used state directory, a backup of it, and a place to restore to.
struct Site {
    directory: TempDir,
    store: Arc<SqliteStore>,
}

impl Site {
    async fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state");
        let store = SqliteStore::open(&state).expect("a new store");
        for i in 0..50 {
            let transaction = Transaction::new().put(format!("nodes/{i:02}"), format!("value-{i}"));
            assert!(matches!(store.commit(transaction).await, Ok(Committed::Yes(_))));
        }
        fs::create_dir_all(state.join("pki/old")).expect("makes");
        fs::create_dir_all(state.join("audit")).expect("makes");
        fs::write(state.join("pki/ca.key"), "canary-private-key").expect("writes");
        fs::set_permissions(state.join("pki/ca.key"), fs::Permissions::from_mode(0o400)).expect("chmod");
        fs::write(state.join("pki/old/empty"), "").expect("writes");
        fs::write(state.join("audit/audit.jsonl"), vec![b'x'; 2 * PIECE as usize + 7]).expect("writes");
        Self { directory, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn backup(&self) -> Result<BackupReport, BackupError> {
        backup(&self.store, &self.path("state"), &self.path("backup"), NOW)
    }

    fn restore(&self) -> Result<RestoreReport, RestoreError> {
        restore(&self.path("backup"), &self.path("restored"), LATER)
    }

    fn tamper(&self, sql: &str) {
        Connection::open(self.path("backup")).and_then(|connection| connection.execute_batch(sql)).expect("tampers");
    }

    /// Changes a backup so that its digest fits again.
    fn forge(&self, sql: &str) {
        self.tamper(sql);
        let connection = Connection::open(self.path("backup")).expect("opens");
        let sha256 = content::digest(&connection).expect("reads").to_string();
        connection.execute("UPDATE backup_meta SET value = ?1 WHERE name = 'sha256'", [sha256]).expect("forges");
    }

    /// What lies in the site, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).expect("lists");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("is there").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn a_backup_brings_everything_back_and_marks_it() {
    let site = Site::new().await;
    let taken = site.backup().expect("backs up");
    assert_eq!((taken.files, mode(&site.path("backup"))), (3, 0o600));
    let report = site.restore().expect("restores");
    assert_eq!((report.created, report.keys, report.files), (NOW, 50, 3));
    assert_eq!(site.names(), ["backup", "restored", "state"]);

    let store = SqliteStore::open(&site.path("restored")).expect("opens");
    let before = site.store.range("nodes/", None, 99).await.expect("reads");
    assert_eq!(store.range("nodes/", None, 99).await.expect("reads"), before);
    let mark = store.get(RESTORED).await.expect("reads").expect("is marked");
    assert_eq!(mark.revision, 51);
    let mark: serde_json::Value = serde_json::from_slice(&mark.value).expect("JSON");
    assert_eq!((&mark["at"], &mark["created"]), (&serde_json::json!(2000), &serde_json::json!(1000)));
    assert_eq!(store.commit(Transaction::new()).await.expect("commits"), Committed::Yes(52));
    assert!(site.store.get(RESTORED).await.expect("reads").is_none());

    for file in ["pki/ca.key", "pki/old/empty", "audit/audit.jsonl"] {
        let read = |root: &str| fs::read(site.path(root).join(file)).expect("reads");
        assert_eq!(read("restored"), read("state"), "{file}");
    }
    assert_eq!(mode(&site.path("restored/pki/ca.key")), 0o400);
    assert_eq!((mode(&site.path("restored")), mode(&site.path("restored/pki"))), (0o700, 0o700));
}

#[tokio::test]
async fn no_private_key_remains_in_the_restored_database() {
    let site = Site::new().await;
    site.backup().expect("backs up");
    site.restore().expect("restores");
    let holds_key = |name: &str| {
        let content = fs::read(site.path(name)).expect("reads");
        content.windows(18).any(|window| window == b"canary-private-key")
    };
    assert!(holds_key("backup"));
    assert!(!holds_key("restored/state.db"));
}

#[tokio::test]
async fn a_backup_taken_while_keys_change_is_one_moment() {
    let site = Site::new().await;
    let store = site.store.clone();
    let writer = tokio::spawn(async move {
        for i in 0..300 {
            let value = i.to_string();
            let transaction = Transaction::new().put("pair/a", value.clone()).put("pair/b", value);
            assert!(matches!(store.commit(transaction).await, Ok(Committed::Yes(_))));
        }
    });
    tokio::task::yield_now().await;
    let taken = tokio::task::spawn_blocking({
        let (store, state, out) = (site.store.clone(), site.path("state"), site.path("backup"));
        move || backup(&store, &state, &out, NOW)
    });
    taken.await.expect("no panic").expect("backs up");
    writer.await.expect("no panic");
    site.restore().expect("restores");
    let store = SqliteStore::open(&site.path("restored")).expect("opens");
    let pair = store.range("pair/", None, 9).await.expect("reads");
    assert!(pair.windows(2).all(|pair| pair[0].value == pair[1].value));
}

#[tokio::test]
async fn nothing_is_overwritten_by_a_backup() {
    let site = Site::new().await;
    fs::write(site.path("backup"), "precious").expect("writes");
    assert!(matches!(site.backup(), Err(BackupError::Exists(_))));
    assert_eq!(fs::read(site.path("backup")).expect("reads"), b"precious");
}

#[tokio::test]
async fn what_a_killed_backup_left_is_in_nobodys_way() {
    let site = Site::new().await;
    fs::write(site.path(".backup.windlass-partial"), "half").expect("writes");
    site.backup().expect("backs up");
    assert_eq!(site.names(), ["backup", "state"]);
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_behind() {
    let site = Site::new().await;
    std::os::unix::fs::symlink("/etc/passwd", site.path("state/pki/link")).expect("links");
    assert!(matches!(site.backup(), Err(BackupError::NotAFile(_))));
    assert_eq!(site.names(), ["state"]);
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_leaves_nothing_behind() {
    type Damage = fn(&Site);
    let damages: [(&str, Damage); 8] = [
        ("truncated", |site| {
            let content = fs::read(site.path("backup")).expect("reads");
            fs::write(site.path("backup"), &content[..content.len() / 2]).expect("writes");
        }),
        ("garbage", |site| fs::write(site.path("backup"), [0xa5; 9000]).expect("writes")),
        ("empty", |site| fs::write(site.path("backup"), "").expect("writes")),
        ("one bit of a file", |site| {
            let mut content = fs::read(site.path("backup")).expect("reads");
            let at = content.windows(18).position(|window| window == b"canary-private-key").expect("is there");
            content[at] ^= 1;
            fs::write(site.path("backup"), content).expect("writes");
        }),
        ("a value", |site| site.tamper("UPDATE keys SET value = x'00' WHERE key = 'nodes/07'")),
        ("a file less", |site| site.tamper("DELETE FROM backup_files WHERE name = 'pki/ca.key'")),
        ("no digest", |site| site.tamper("DELETE FROM backup_meta WHERE name = 'sha256'")),
        ("a bare copy", |site| {
            fs::remove_file(site.path("backup")).expect("removes");
            site.store.copy_to(&site.path("backup")).expect("copies");
        }),
    ];
    for (name, damage) in damages {
        let site = Site::new().await;
        site.backup().expect("backs up");
        damage(&site);
        let error = site.restore().expect_err(name);
        assert!(matches!(error, RestoreError::Damaged { .. }), "{name}: {error:?}");
        assert_eq!(site.names(), ["backup", "state"], "{name}");
    }
}

#[tokio::test]
async fn a_file_cannot_be_placed_outside() {
    for name in ["../x", "/tmp/x", "pki/../../x", "pki/./../x", "lock", "pki", "state.db", ""] {
        let site = Site::new().await;
        site.backup().expect("backs up");
        site.forge(&format!("INSERT INTO backup_files VALUES ('{name}', 0, 384, x'00')"));
        assert!(matches!(site.restore(), Err(RestoreError::Damaged { .. })), "{name}");
        assert_eq!(site.names(), ["backup", "state"], "{name}");
    }
}

#[tokio::test]
async fn a_backup_of_a_newer_version_is_refused_by_its_name() {
    for sql in [
        "UPDATE backup_meta SET value = 2 WHERE name = 'format'; UPDATE backup_meta SET value = '9.9' WHERE name = 'version'",
        "UPDATE meta SET value = 2 WHERE name = 'schema'; UPDATE meta SET value = '9.9' WHERE name = 'version'",
    ] {
        let site = Site::new().await;
        site.backup().expect("backs up");
        site.forge(sql);
        let error = site.restore().expect_err("refused");
        assert!(matches!(error, RestoreError::Newer { .. }) && error.to_string().contains("9.9"), "{error}");
    }
}

#[tokio::test]
async fn a_directory_that_is_used_or_not_empty_stays_as_it_is() {
    let site = Site::new().await;
    site.backup().expect("backs up");
    let into = |name: &str| restore(&site.path("backup"), &site.path(name), LATER);
    let error = into("state").expect_err("refused");
    assert!(matches!(error, RestoreError::InUse { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    fs::create_dir(site.path("full")).expect("makes");
    fs::write(site.path("full/letter"), "dear").expect("writes");
    assert!(matches!(into("full"), Err(RestoreError::NotEmpty(_))));
    assert_eq!(fs::read(site.path("full/letter")).expect("reads"), b"dear");
    assert_eq!(site.names(), ["backup", "full", "state"]);
}

#[tokio::test]
async fn an_empty_directory_or_a_link_to_one_is_filled() {
    let site = Site::new().await;
    site.backup().expect("backs up");
    fs::create_dir(site.path("real")).expect("makes");
    std::os::unix::fs::symlink(site.path("real"), site.path("restored")).expect("links");
    site.restore().expect("restores");
    assert!(site.path("real/state.db").exists());
    SqliteStore::open(&site.path("restored")).expect("opens");
}

#[tokio::test]
async fn a_missing_backup_is_named() {
    let site = Site::new().await;
    assert!(matches!(site.restore(), Err(RestoreError::Backup { .. })));
    assert_eq!(site.names(), ["state"]);
}
