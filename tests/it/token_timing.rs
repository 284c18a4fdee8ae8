// SPDX-License-Identifier: Apache-2.0
//! Attack case A7: the time that a refusal takes tells nothing about the secret of a token.
//!
//! The real check is timed for guesses that are wrong in the first byte that is compared and for guesses that are wrong in
//! the last, in random order. A clock is a poor witness on a machine with other work, and counting instructions needs rights
//! that not every machine gives. So the two kinds are compared within short pieces of time, in which whatever else the
//! machine does it does to both alike, by their medians, which interrupts do not move; of the differences of all pieces the
//! outer half is dropped; and Student's t says how sure it is that the rest is not nothing. The bound is far above what chance
//! gives, and a difference counts only if every round finds it, with the same sign. That this still sees what it is there
//! for is tested with a comparison that stops at the first difference.

use std::hint::black_box;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use fastrand::Rng;
use futures_util::FutureExt as _;
use tokio::time::Instant;
use windlass_controller::clock::SystemClock;
use windlass_controller::store::memory::MemoryStore;
use windlass_controller::store::{Store, Transaction};
use windlass_controller::tokens::{Token, TokenRecord, Tokens, Verdict, Why};
use windlass_types::digest::Sha256Digest;
use windlass_types::name::NodeName;
use windlass_types::time::UnixMillis;

/// Guesses of both kinds in one round.
const SAMPLES: usize = 12_000;

/// Rounds that must agree.
const ROUNDS: u64 = 3;

/// Guesses of both kinds in one piece of time: less than a millisecond.
const PIECE: usize = 100;

/// Chance gives a t of 2 once in a few rounds, since the outer differences are dropped.
const CERTAIN: f64 = 20.0;

const ID: &str = "0123456789ab";

/// Where a guess goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrong {
    First,
    Last,
}

/// A guess, and the stored digest that it does not meet.
fn guess(rng: &mut Rng, wrong: Wrong) -> (Token, Sha256Digest) {
    let secret: String = (0..64).map(|_| char::from_digit(rng.u32(0..16), 16).expect("a digit")).collect();
    let mut stored: [u8; 32] = digest(&SHA256, secret.as_bytes()).as_ref().try_into().expect("32 bytes");
    let place = if wrong == Wrong::First { 0 } else { 31 };
    stored[place] ^= rng.u8(1..=255);
    (Token::parse(&format!("{ID}.{secret}")), Sha256Digest::new(stored))
}

struct Desk {
    store: Arc<MemoryStore>,
    tokens: Tokens,
}

impl Desk {
    fn new() -> Self {
        let store = MemoryStore::new();
        let tokens = Tokens::new(Arc::clone(&store) as Arc<dyn Store>, Arc::new(SystemClock));
        Self { store, tokens }
    }

    fn store(&self, secret: Sha256Digest) {
        let record = TokenRecord {
            id: ID.to_owned(),
            node: NodeName::new("node1").expect("a name"),
            secret,
            created_by: "root".to_owned(),
            expires: UnixMillis(i64::MAX),
            attempts: 0,
            used: None,
        };
        let record = serde_json::to_vec(&record).expect("JSON");
        let put = self.store.commit(Transaction::new().put(format!("tokens/{ID}"), record)).now_or_never();
        let _revision = put.expect("memory never waits").expect("memory has room");
    }

    /// The check as joining makes it.
    fn examine(&self, token: &Token) {
        let verdict = self.tokens.examine(token, Sha256Digest::new([0; 32])).now_or_never();
        let verdict = verdict.expect("memory never waits").expect("memory can be read");
        assert_eq!(verdict, Verdict::Refused(Why::Unknown));
    }

    /// The same steps with a comparison that ends at the first difference.
    fn examine_carelessly(&self, token: &Token) {
        let entry = self.store.get(&format!("tokens/{}", token.id())).now_or_never();
        let entry = entry.expect("memory never waits").expect("memory can be read").expect("it is there");
        let record: TokenRecord = serde_json::from_slice(&entry.value).expect("JSON");
        let text = token.reveal();
        let (_, secret) = text.split_once('.').expect("a token");
        let presented = digest(&SHA256, secret.as_bytes());
        let is_right =
            presented.as_ref().iter().zip(record.secret.as_bytes()).all(|(one, other)| black_box(one) == other);
        assert!(!is_right);
    }
}

/// One round: how sure it is that guesses wrong at the end take longer (or, below zero, less long).
fn round(seed: u64, check: impl Fn(&Desk, &Token)) -> f64 {
    let (desk, mut rng) = (Desk::new(), Rng::with_seed(seed));
    let mut differences: Vec<_> = (0..SAMPLES / PIECE).map(|_| difference(&desk, &mut rng, &check)).collect();
    differences.sort_by(f64::total_cmp);
    student(&differences[differences.len() / 4..differences.len() * 3 / 4])
}

/// By how many nanoseconds guesses wrong at the end take longer, within one piece of time.
fn difference(desk: &Desk, rng: &mut Rng, check: impl Fn(&Desk, &Token)) -> f64 {
    let (mut first, mut last) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    for _ in 0..PIECE {
        let wrong = if rng.bool() { Wrong::First } else { Wrong::Last };
        let (token, stored) = guess(rng, wrong);
        desk.store(stored);
        let begun = Instant::now();
        check(desk, black_box(&token));
        let nanos = begun.elapsed().as_secs_f64() * 1e9;
        if wrong == Wrong::First { first.push(nanos) } else { last.push(nanos) }
    }
    median(last) - median(first)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Student's t of a sample whose mean should be nothing.
fn student(all: &[f64]) -> f64 {
    let count = f64::from(u32::try_from(all.len()).expect("few"));
    let mean = all.iter().sum::<f64>() / count;
    let variance = all.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    mean / (variance / count).sqrt()
}

fn rounds(check: impl Fn(&Desk, &Token) + Copy) -> Vec<f64> {
    (1..=ROUNDS).map(|seed| round(seed, check)).collect()
}

/// Whether every round is certain of the same.
fn is_leak(rounds: &[f64]) -> bool {
    rounds.iter().all(|t| *t > CERTAIN) || rounds.iter().all(|t| *t < -CERTAIN)
}

#[test]
fn a7_the_time_of_a_refusal_tells_nothing_about_the_secret() {
    let rounds = rounds(Desk::examine);
    println!("t of each round: {rounds:.1?}");
    assert!(!is_leak(&rounds), "guesses that are wrong later are refused later, or sooner: {rounds:.1?}");
}

#[test]
fn a7_a_comparison_that_stops_at_the_first_difference_would_be_seen() {
    let rounds = rounds(Desk::examine_carelessly);
    println!("t of each round: {rounds:.1?}");
    assert!(is_leak(&rounds), "the test above would not see a leak: {rounds:.1?}");
}
