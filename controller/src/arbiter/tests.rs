// SPDX-License-Identifier: Apache-2.0
//! Who is granted what, who is refused, and what of it survives a restart.

use std::time::Duration;

use windlass_types::time::UnixMillis;

use super::*;
use crate::clock::fixed::FixedClock;
use crate::store::memory::MemoryStore;

async fn arbiter(store: &Arc<MemoryStore>) -> Arc<Arbiter> {
    let clock = FixedClock::at(UnixMillis(1_000));
    let events = EventLog::open(store.clone(), clock.clone()).await.expect("an empty log");
    Arbiter::open(store.clone(), events, clock).await.expect("readable")
}

fn run(id: &str) -> RunId {
    RunId::new(id).expect("an id")
}

fn node(name: &str) -> NodeName {
    NodeName::new(name).expect("a name")
}

/// At most this many leases.
fn at_most(most: usize) -> impl FnOnce(&Known) -> Vec<usize> {
    move |known| if known.leases.len() < most { vec![] } else { vec![known.leases.len()] }
}

async fn ask(arbiter: &Arbiter, id: &str, name: &str) -> Answer<usize> {
    arbiter.request(&run(id), &node(name), "root", at_most(1)).await.expect("writable")
}

fn number(answer: &Answer<usize>) -> u64 {
    match answer {
        Answer::Granted(lease) => lease.number,
        Answer::Refused(why) => panic!("refused: {why:?}"),
    }
}

#[tokio::test]
async fn a_lease_survives_its_controller_and_is_given_to_its_holder_again() {
    let store = MemoryStore::new();
    let first = number(&ask(&*arbiter(&store).await, "r1", "a").await);
    let again = arbiter(&store).await;
    assert_eq!(number(&ask(&again, "r1", "a").await), first);
    assert_eq!(ask(&again, "r1", "b").await, Answer::Refused(vec![1]), "one at a time, also after a restart");
    assert!(again.give_back(&run("r1"), &node("a")).await.expect("writable"));
    assert_eq!(number(&ask(&again, "r2", "b").await), first + 1, "numbers only rise");
    assert!(arbiter(&store).await.lease(&run("r2"), &node("b")).is_some());
}

#[tokio::test]
async fn time_ends_no_lease_and_a_stranger_cannot_give_it_back() {
    let store = MemoryStore::new();
    let clock = FixedClock::at(UnixMillis(1_000));
    let events = EventLog::open(store.clone(), clock.clone()).await.expect("an empty log");
    let arbiter = Arbiter::open(store.clone(), events, clock.clone()).await.expect("readable");
    number(&ask(&arbiter, "r1", "a").await);
    clock.advance(Duration::from_secs(1_000_000_000));
    assert!(!arbiter.give_back(&run("r2"), &node("a")).await.expect("writable"));
    assert!(arbiter.lease(&run("r1"), &node("a")).is_some());
}

#[tokio::test]
async fn a_lease_that_cannot_be_stored_is_not_granted() {
    let store = MemoryStore::new();
    let arbiter = arbiter(&store).await;
    store.set_full(true);
    assert!(arbiter.request(&run("r1"), &node("a"), "root", at_most(1)).await.is_err());
    store.set_full(false);
    assert!(arbiter.known().leases.is_empty());
}

#[tokio::test]
async fn a_lease_is_broken_with_a_reason_only() {
    let store = MemoryStore::new();
    let arbiter = arbiter(&store).await;
    number(&ask(&arbiter, "r1", "a").await);
    assert!(arbiter.release(&node("a"), " ", "root").await.is_err());
    let (_, held) = arbiter.release(&node("a"), "its disk was replaced", "root").await.expect("released");
    assert_eq!(held.map(|held| held.lease.run), Some(run("r1")));
    assert!(arbiter.release(&node("a"), "again", "root").await.is_err(), "there is nothing to release");
}

#[tokio::test]
async fn a_quarantined_node_is_judged_anew_also_for_its_holder() {
    let store = MemoryStore::new();
    let arbiter = arbiter(&store).await;
    let lease = number(&ask(&arbiter, "r1", "a").await);
    arbiter.quarantine(&node("a"), "smells of smoke", "root").await.expect("writable");
    let (holder, name) = (run("r1"), node("a"));
    let refused = arbiter.request(&holder, &name, "root", |known| known.quarantined.keys().cloned().collect()).await;
    assert_eq!(refused.expect("readable"), Answer::Refused(vec![node("a")]));
    assert_eq!(arbiter.quarantine_of(&node("a")).as_deref(), Some("smells of smoke"));
    let (was_quarantined, _) = arbiter.release(&node("a"), "it was the neighbour", "root").await.expect("released");
    assert!(was_quarantined && arbiter.quarantine_of(&node("a")).is_none());
    assert_ne!(number(&ask(&arbiter, "r1", "a").await), lease, "a broken lease is worth nothing");
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_granted() {
    let store = MemoryStore::new();
    let arbiter = arbiter(&store).await;
    let mut asking = tokio::task::JoinSet::new();
    for nth in 0..20 {
        let arbiter = Arc::clone(&arbiter);
        asking.spawn(async move { ask(&arbiter, "r1", &format!("n{nth}")).await });
    }
    let answers = asking.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Answer::Granted(_))).count(), 1);
}

#[tokio::test]
async fn who_removes_a_node_under_its_own_lease_gives_that_back_itself() {
    let store = MemoryStore::new();
    let arbiter = arbiter(&store).await;
    number(&ask(&arbiter, "r1", "a").await);
    arbiter.quarantine(&node("a"), "smells of smoke", "root").await.expect("writable");
    arbiter.forget(&node("a"), Some(&run("r1"))).await.expect("writable");
    assert!(arbiter.lease(&run("r1"), &node("a")).is_some() && arbiter.quarantine_of(&node("a")).is_none());
    for by in [Some(run("r2")), None] {
        number(&ask(&arbiter, "r1", "a").await);
        arbiter.forget(&node("a"), by.as_ref()).await.expect("writable");
        assert!(arbiter.known().leases.is_empty(), "whoever held it does no longer");
    }
}
