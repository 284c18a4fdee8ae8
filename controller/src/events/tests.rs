// SPDX-License-Identifier: Apache-2.0
//! The stream's promises: no gap, nothing twice, nothing before it is durable, nothing lost while the store is ill.

use windlass_types::time::UnixMillis;

use super::writer::Bounds;
use super::*;
use crate::clock::fixed::FixedClock;
use crate::store::Transaction;
use crate::store::memory::MemoryStore;
use crate::store::sqlite::SqliteStore;

/// Tries again at once what could not be stored.
async fn open(store: &Arc<MemoryStore>) -> Arc<EventLog> {
    retaining(store, RETAINED).await
}

async fn retaining(store: &Arc<MemoryStore>, retained: u64) -> Arc<EventLog> {
    EventLog::open_with(store.clone(), FixedClock::at(UnixMillis(1_000)), retained, Duration::ZERO)
        .await
        .expect("opens")
}

fn tell(log: &EventLog, count: usize) {
    for i in 0..count {
        log.emit(EventKind::NodeConnected, None, None, format!("{i}"));
    }
}

fn cursors(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.cursor).collect()
}

async fn next(follower: &mut Follower) -> Vec<u64> {
    cursors(&follower.next().await.expect("reads").expect("open"))
}

#[tokio::test]
async fn an_event_is_stored_as_it_was_told() {
    let log = open(&MemoryStore::new()).await;
    let (node, job) = (NodeName::new("node1").expect("a name"), JobId::new("7").expect("an id"));
    log.emit(EventKind::JobNodeFailed, Some(&node), Some(&job), "exit code 3");
    assert!(log.read(0, 10).await.expect("reads").is_empty(), "not before it is durable");
    assert!(log.flush().await);
    let expected = Event {
        cursor: 1,
        at: UnixMillis(1_000),
        kind: EventKind::JobNodeFailed,
        node: Some(node),
        job: Some(job),
        run: None,
        message: "exit code 3".to_owned(),
    };
    assert_eq!(log.read(0, 10).await.expect("reads"), [expected]);
}

#[tokio::test]
async fn the_cursor_rises_by_one_across_restarts() {
    let store = MemoryStore::new();
    let first = open(&store).await;
    tell(&first, 3);
    first.close().await;
    let second = open(&store).await;
    assert_eq!(second.durable(), 3);
    tell(&second, 2);
    assert!(second.flush().await);
    assert_eq!(cursors(&second.read(1, 3).await.expect("reads")), [2, 3, 4]);
    assert_eq!(cursors(&second.newest(2).await.expect("reads")), [4, 5]);
    assert_eq!(cursors(&second.newest(99).await.expect("reads")), [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn the_end_of_the_stream_is_found_although_the_bounds_are_lost() {
    let store = MemoryStore::new();
    let log = open(&store).await;
    tell(&log, 3000);
    log.close().await;
    let _ = store.commit(Transaction::new().delete("meta/events")).await.expect("commits");
    assert_eq!(open(&store).await.durable(), 3000);
}

#[tokio::test]
async fn a_follower_sees_stored_and_new_events_once_and_without_a_gap() {
    let log = open(&MemoryStore::new()).await;
    tell(&log, 700);
    assert!(log.flush().await);
    let mut follower = log.follow(5);
    let mut seen = next(&mut follower).await;
    tell(&log, 2000);
    while seen.last() < Some(&2700) {
        seen.extend(next(&mut follower).await);
        if seen.len() % 3 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(seen, (6..=2700).collect::<Vec<_>>());
    assert_eq!(follower.cursor(), 2700);
}

#[tokio::test]
async fn a_waiting_follower_is_woken_and_comes_to_an_end_with_the_log() {
    let log = open(&MemoryStore::new()).await;
    let mut follower = log.follow(0);
    let waiting = tokio::spawn(async move { (next(&mut follower).await, follower.next().await.expect("reads")) });
    tokio::task::yield_now().await;
    tell(&log, 1);
    assert!(log.flush().await);
    log.close().await;
    assert_eq!(waiting.await.expect("no panic"), (vec![1], None));
}

#[tokio::test]
async fn old_events_are_removed_and_a_follower_from_the_past_begins_with_the_oldest_kept() {
    let store = MemoryStore::new();
    let log = retaining(&store, 100).await;
    for _ in 0..9 {
        tell(&log, 500);
        assert!(log.flush().await);
    }
    let kept = cursors(&log.read(0, usize::MAX).await.expect("reads"));
    assert_eq!(kept, (4097..=4500).collect::<Vec<_>>());
    assert_eq!(next(&mut log.follow(0)).await[0], 4097);
    assert_eq!(Bounds::read(store.as_ref()).await.expect("reads").newest, 4500);
}

#[tokio::test]
async fn a_full_disk_loses_no_event() {
    let store = MemoryStore::new();
    let log = open(&store).await;
    let mut follower = log.follow(0);
    store.set_full(true);
    tell(&log, 3);
    assert!(!log.flush().await);
    assert_eq!(log.durable(), 0);
    store.set_full(false);
    assert_eq!(next(&mut follower).await, [1, 2, 3]);
}

#[tokio::test]
async fn what_waits_for_a_full_disk_is_bounded_and_leaves_no_gap() {
    let store = MemoryStore::new();
    let log = open(&store).await;
    store.set_full(true);
    tell(&log, MOST_WAITING + 5);
    assert!(!log.flush().await);
    store.set_full(false);
    assert!(log.flush().await);
    tell(&log, 1);
    assert!(log.flush().await);
    assert_eq!(log.durable(), MOST_WAITING as u64 + 1);
}

#[tokio::test]
async fn closing_does_not_wait_for_a_full_disk() {
    let store = MemoryStore::new();
    let log = open(&store).await;
    store.set_full(true);
    tell(&log, 1);
    log.close().await;
    assert!(!log.flush().await);
}

#[tokio::test]
async fn an_unreadable_event_is_told_as_such() {
    let store = MemoryStore::new();
    let log = open(&store).await;
    tell(&log, 2);
    assert!(log.flush().await);
    let _ = store.commit(Transaction::new().put(key(1), "{")).await.expect("commits");
    let events = log.read(0, 10).await.expect("reads");
    assert_eq!(cursors(&events), [1, 2]);
    assert_eq!(events[0].kind, EventKind::Unknown);
}

#[tokio::test]
async fn events_survive_in_the_database() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = SqliteStore::open(directory.path()).expect("a new store");
    let log = EventLog::open(store, FixedClock::at(UnixMillis(1_000))).await.expect("opens");
    tell(&log, 2000);
    log.close().await;
    drop(log);
    let store = SqliteStore::open(directory.path()).expect("free again");
    let log = EventLog::open(store, FixedClock::at(UnixMillis(1_000))).await.expect("opens");
    assert_eq!(cursors(&log.read(1990, 100).await.expect("reads")), (1991..=2000).collect::<Vec<_>>());
}
