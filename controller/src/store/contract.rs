// SPDX-License-Identifier: Apache-2.0
//! What every store must do, asked of each of them.

use std::future::Future;
use std::sync::Arc;

use futures_util::future::join_all;
use proptest::prelude::*;

use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use super::{Change, Committed, Compare, Entry, Lagged, Store, Transaction, WATCH_BACKLOG, WatchEvent};

/// Runs one question on every kind of store.
async fn of_each<F: Future<Output = ()>>(ask: impl Fn(Arc<dyn Store>) -> F) {
    ask(MemoryStore::new()).await;
    let directory = tempfile::tempdir().expect("a directory");
    ask(SqliteStore::open(directory.path()).expect("a new store")).await;
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> u64 {
    revision(store.commit(Transaction::new().put(key, value)).await.expect("commits"))
}

fn revision(committed: Committed) -> u64 {
    match committed {
        Committed::Yes(revision) => revision,
        Committed::Conflict => panic!("a conflict where none can be"),
    }
}

async fn keys(store: &Arc<dyn Store>, prefix: &str) -> Vec<String> {
    store.range(prefix, None, usize::MAX).await.expect("reads").into_iter().map(|entry| entry.key).collect()
}

#[tokio::test]
async fn what_was_committed_is_read_with_its_revision() {
    of_each(|store| async move {
        let revision = put(&store, "nodes/a", "1").await;
        let expected = Entry { key: "nodes/a".to_owned(), value: b"1".to_vec(), revision };
        assert_eq!(store.get("nodes/a").await.expect("reads"), Some(expected));
        assert_eq!(store.get("nodes/b").await.expect("reads"), None);
    })
    .await;
}

#[tokio::test]
async fn every_commit_has_a_higher_revision() {
    of_each(|store| async move {
        let first = put(&store, "a", "1").await;
        let second = put(&store, "a", "2").await;
        let third = revision(store.commit(Transaction::new()).await.expect("commits"));
        assert!(first < second && second < third);
    })
    .await;
}

#[tokio::test]
async fn a_conflict_changes_nothing() {
    of_each(|store| async move {
        let first = put(&store, "a", "1").await;
        let second = put(&store, "a", "2").await;
        for compare in [
            Compare::Absent("a".to_owned()),
            Compare::Unchanged("a".to_owned(), first),
            Compare::Unchanged("b".to_owned(), first),
        ] {
            let holds = Compare::Unchanged("a".to_owned(), second);
            let transaction = Transaction::new().when(holds).when(compare).put("a", "3").put("c", "3").delete("a");
            assert_eq!(store.commit(transaction).await.expect("answers"), Committed::Conflict);
        }
        assert_eq!(store.get("a").await.expect("reads").map(|entry| entry.revision), Some(second));
        assert_eq!(keys(&store, "").await, ["a"]);
    })
    .await;
}

#[tokio::test]
async fn conditions_see_the_state_before_the_transaction() {
    of_each(|store| async move {
        let transaction = Transaction::new().put("a", "1").when(Compare::Absent("a".to_owned()));
        assert!(matches!(store.commit(transaction).await.expect("answers"), Committed::Yes(_)));
    })
    .await;
}

#[tokio::test]
async fn changes_are_made_in_their_order() {
    of_each(|store| async move {
        let _ = store.commit(Transaction::new().put("a", "1").delete("a").put("a", "2")).await.expect("commits");
        assert_eq!(store.get("a").await.expect("reads").map(|entry| entry.value), Some(b"2".to_vec()));
        let _ = store.commit(Transaction::new().put("a", "3").delete("a").delete("none")).await.expect("commits");
        assert_eq!(store.get("a").await.expect("reads"), None);
    })
    .await;
}

#[tokio::test]
async fn a_prefix_is_read_in_pages_and_in_order() {
    of_each(|store| async move {
        for key in ["n/b", "n/a", "n", "n0", "o/a", "n/ä", "n/c/d", "m/z"] {
            put(&store, key, "").await;
        }
        assert_eq!(keys(&store, "n/").await, ["n/a", "n/b", "n/c/d", "n/ä"]);
        assert_eq!(keys(&store, "x").await, [""; 0]);
        let mut seen = Vec::new();
        while let Some(entry) =
            store.range("n/", seen.last().map(String::as_str), 1).await.expect("reads").into_iter().next()
        {
            seen.push(entry.key);
        }
        assert_eq!(seen, ["n/a", "n/b", "n/c/d", "n/ä"]);
        assert!(store.range("n/", Some("o"), 9).await.expect("reads").is_empty());
        assert_eq!(store.range("n/", Some("a"), 9).await.expect("reads").len(), 4);
        assert!(store.range("n/", None, 0).await.expect("reads").is_empty());
    })
    .await;
}

#[tokio::test]
async fn removing_a_prefix_leaves_its_neighbours() {
    of_each(|store| async move {
        for key in ["n", "n/", "n/a", "n/b/c", "n0", "m"] {
            put(&store, key, "").await;
        }
        let _ = store.commit(Transaction::new().delete_prefix("n/")).await.expect("commits");
        assert_eq!(keys(&store, "").await, ["m", "n", "n0"]);
    })
    .await;
}

#[tokio::test]
async fn a_watch_tells_every_change_of_its_prefix_once_and_in_order() {
    of_each(|store| async move {
        put(&store, "n/before", "").await;
        let mut watch = store.watch("n/");
        let first = put(&store, "n/a", "1").await;
        put(&store, "m/a", "1").await;
        let transaction = Transaction::new().when(Compare::Absent("n/a".to_owned())).put("n/a", "2");
        assert_eq!(store.commit(transaction).await.expect("answers"), Committed::Conflict);
        let second =
            revision(store.commit(Transaction::new().delete_prefix("n/").delete("n/none")).await.expect("commits"));
        for (revision, key, value) in
            [(first, "n/a", Some(b"1".to_vec())), (second, "n/a", None), (second, "n/before", None)]
        {
            let expected = WatchEvent { revision, key: key.to_owned(), value };
            assert_eq!(watch.next().await, Ok(Some(expected)));
        }
        drop(store);
        assert_eq!(watch.next().await, Ok(None));
    })
    .await;
}

#[tokio::test]
async fn a_watch_that_fell_behind_says_so() {
    let store: Arc<dyn Store> = MemoryStore::new();
    let mut watch = store.watch("");
    for _ in 0..=WATCH_BACKLOG {
        put(&store, "a", "").await;
    }
    assert_eq!(watch.next().await, Err(Lagged));
}

#[tokio::test]
async fn only_one_of_many_wins_a_key() {
    of_each(|store| async move {
        let claim = |i: u32| Transaction::new().when(Compare::Absent("lease".to_owned())).put("lease", i.to_string());
        let answers = join_all((0..200).map(|i| store.commit(claim(i)))).await;
        let won: Vec<_> = answers
            .into_iter()
            .enumerate()
            .filter(|(_, answer)| matches!(answer, Ok(Committed::Yes(_))))
            .map(|(i, _)| i.to_string().into_bytes())
            .collect();
        let stored = store.get("lease").await.expect("reads").expect("somebody won");
        assert_eq!(won, [stored.value]);
    })
    .await;
}

#[tokio::test]
async fn concurrent_commits_are_applied_in_the_order_they_were_handed_in() {
    of_each(|store| async move {
        let puts = (0..500).map(|i| store.commit(Transaction::new().put("last", i.to_string())));
        let revisions: Vec<_> =
            join_all(puts).await.into_iter().map(|answer| revision(answer.expect("commits"))).collect();
        assert!(revisions.is_sorted_by(|a, b| a < b));
        assert_eq!(store.get("last").await.expect("reads").map(|entry| entry.value), Some(b"499".to_vec()));
    })
    .await;
}

fn key() -> impl Strategy<Value = String> {
    "[ab]/?[a-c]?".prop_map(String::from)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (key(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(key, value)| Change::Put(key, value)),
        2 => key().prop_map(Change::Delete),
        1 => "[ab]?/?".prop_map(Change::DeletePrefix),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    prop_oneof![key().prop_map(Compare::Absent), (key(), 0_u64..12).prop_map(|(k, r)| Compare::Unchanged(k, r))]
}

fn transaction() -> impl Strategy<Value = Transaction> {
    let compares = proptest::collection::vec(compare(), 0..2);
    (compares, proptest::collection::vec(change(), 0..4))
        .prop_map(|(compares, changes)| Transaction { compares, changes })
}

async fn play(store: Arc<dyn Store>, transactions: &[Transaction]) -> (Vec<Committed>, Vec<WatchEvent>, Vec<Entry>) {
    let mut watch = store.watch("");
    // All at once, so that the database groups them.
    let commits = transactions.iter().map(|transaction| store.commit(transaction.clone()));
    let outcomes = join_all(commits).await.into_iter().map(|answer| answer.expect("answers")).collect();
    let entries = store.range("", None, usize::MAX).await.expect("reads");
    drop(store);
    let mut events = Vec::new();
    while let Some(event) = watch.next().await.expect("not so many") {
        events.push(event);
    }
    (outcomes, events, entries)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_transactions_leave_both_stores_the_same(transactions in proptest::collection::vec(transaction(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let directory = tempfile::tempdir().expect("a directory");
            let database = SqliteStore::open(directory.path()).expect("a new store");
            let expected = play(MemoryStore::new(), &transactions).await;
            assert_eq!(play(database, &transactions).await, expected);
        });
    }
}
