// SPDX-License-Identifier: Apache-2.0
//! A short run of every fuzz target: the same inputs each time, a fixed number, half of them random and half of them
//! mutated from well-formed ones. A failing input is made smaller and printed.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use prost_reflect::DescriptorPool;
use windlass_tests::fuzz::{TARGETS, Target, wire};

/// A second or so for each target.
const INPUTS: u32 = 20_000;

/// What can happen to an input.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index),
    Truncate(Index),
    Repeat(Index, Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = any::<Index>;
    prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (place(), vec(any::<u8>(), 1..12)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        place().prop_map(Mutation::Remove),
        place().prop_map(Mutation::Truncate),
        (place(), place()).prop_map(|(from, to)| Mutation::Repeat(from, to)),
    ]
}

fn mutated(mut input: Vec<u8>, mutations: &[Mutation]) -> Vec<u8> {
    for mutation in mutations {
        // One more than the length: an insertion may be at the end, and an empty input has a place.
        let length = input.len();
        let place = |index: &Index| index.index(length + 1).min(length);
        match mutation {
            Mutation::Replace(at, byte) => input.iter_mut().skip(place(at)).take(1).for_each(|old| *old = *byte),
            Mutation::Insert(at, bytes) => drop(input.splice(place(at)..place(at), bytes.iter().copied())),
            Mutation::Remove(at) => drop(input.drain(place(at)..length.min(place(at) + 1))),
            Mutation::Truncate(at) => input.truncate(place(at)),
            Mutation::Repeat(from, to) => {
                input.extend_from_within(place(from).min(place(to))..place(from).max(place(to)))
            }
        }
    }
    input
}

fn input(target: Target) -> impl Strategy<Value = Vec<u8>> {
    let seeds = (target.seeds)();
    prop_oneof![
        vec(any::<u8>(), 0..512),
        (select(seeds), vec(mutation(), 0..6)).prop_map(|(seed, mutations)| mutated(seed, &mutations)),
    ]
}

#[test]
fn no_reader_panics_on_a_bounded_number_of_inputs() {
    for target in TARGETS {
        let config = Config { cases: INPUTS, failure_persistence: None, ..Config::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
        let result = runner.run(&input(*target), |bytes| {
            (target.read)(&bytes);
            Ok(())
        });
        assert!(result.is_ok(), "{}: {}", target.name, result.expect_err("just seen"));
    }
}

#[test]
fn every_message_of_the_contract_is_read() {
    let pool = DescriptorPool::decode(windlass_proto::DESCRIPTOR).expect("the build script wrote a descriptor set");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let used: BTreeSet<_> = methods.flat_map(|m| [m.input().name().to_owned(), m.output().name().to_owned()]).collect();
    assert_eq!(wire::MESSAGES.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), used);
}

#[test]
fn every_target_has_a_program_for_long_runs() {
    for target in TARGETS {
        let program = format!("{}/fuzz/fuzz_targets/{}.rs", env!("CARGO_MANIFEST_DIR"), target.name);
        assert!(std::path::Path::new(&program).exists(), "{program} is missing");
    }
}
