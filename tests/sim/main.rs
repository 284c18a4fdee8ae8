// SPDX-License-Identifier: Apache-2.0
//! One controller and dozens of agents in one thread, on a simulated network, with everything going wrong that can:
//! partitions, deafness, late and repeated delivery, crashes, power cuts, wrong clocks, restores. A seed makes the whole
//! course of events, and the same seed makes the same one again.
//!
//! After every step and at the end:
//! 1. nothing is done twice on a node, ever;
//! 2. every job that was answered ends, with one outcome per node, and none is told as done that was not;
//! 3. an outcome that was stored never changes;
//! 4. once all is healed, every node is back within a bounded time;
//! 5. events have no gap and come once, across restarts and for whoever goes away and comes back;
//! 6. never are more nodes at work than the batch allows;
//! 7. what an agent has obeyed never goes back, and an older copy of the controller is refused with an alarm;
//! 8. a revoked node does nothing more;
//! 9. one token makes one certificate, and further ones come from renewals alone;
//! 10. nothing panics;
//! 11. a copied file is the one that was sent, at every moment it is there and when it comes back;
//! 12. a node that has joined has an identity at every moment, and it is its own.
//!
//! Run one seed with `WINDLASS_SIM_SEED=17 cargo nextest run -p windlass-tests --test sim one_seed --no-capture`.
//!
//! - [`schedule`]: what happens, as data. [`world`]: makes it happen. [`check`], [`ledger`]: what must hold.
//! - [`bastion`], [`node`], [`machine`], [`operator`]: who takes part. [`replay`], [`clock`]: what is made to go wrong.
//! - [`copies`]: files there and back.
//! - [`entropy`]: chance, from the seed. [`trace`]: the course of events.

mod bastion;
mod check;
mod clock;
mod copies;
mod entropy;
mod ledger;
mod machine;
mod node;
mod operator;
mod replay;
mod schedule;
mod trace;
mod world;

use std::time::Duration;

use schedule::Schedule;
use windlass_tests::process::{Answer, command, run_within};

/// Names the one seed to run.
const SEED: &str = "WINDLASS_SIM_SEED";

/// Seeds that are run twice: copies, renewals, a restore.
const REPEATED: [u64; 3] = [8, 11, 55];

/// A simulation takes a second or two; a machine may be busy.
const SEED_LIMIT: Duration = Duration::from_secs(60);

/// Runs one seed in this process, which has done nothing else: what tokio chooses by chance also depends on how many
/// runtimes there were before. Tells the course of events, and then what broke.
fn run_here(seed: u64) -> (Vec<String>, Result<(), String>) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        check::PANICS.set(check::PANICS.get() + 1);
        print(panic);
    }));
    let schedule = Schedule::of(seed);
    let simulation = std::thread::Builder::new().name(format!("seed {seed}"));
    let simulation = simulation.spawn(move || {
        entropy::comes_from(seed);
        let result = world::run(&schedule);
        (trace::take(), result)
    });
    let ended = simulation.expect("a thread can be started").join();
    ended.unwrap_or_else(|_| (Vec::new(), Err("the simulation itself panicked".to_owned())))
}

/// Runs one seed in a process of its own.
fn run(seed: u64) -> Answer {
    let program = std::env::current_exe().expect("this program has a file");
    let mut child = command(program, &std::env::temp_dir());
    child.args(["--exact", "one_seed", "--nocapture"]).env(SEED, seed.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run_within(SEED_LIMIT, &mut child))
}

/// Runs many; tells of every one that broke, the first in full.
fn run_all(seeds: std::ops::Range<u64>) {
    let broken: Vec<_> = seeds.map(|seed| (seed, run(seed))).filter(|(_, answer)| answer.code != 0).collect();
    if let Some((_, first)) = broken.first() {
        let seeds: Vec<_> = broken.iter().map(|(seed, _)| seed).collect();
        panic!("{}{}\nSeeds that broke: {seeds:?}", first.stdout, first.stderr);
    }
}

#[test]
fn one_seed() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let (told, result) = run_here(seed);
    told.iter().for_each(|line| println!("{line}"));
    if let Err(broken) = result {
        panic!(
            "seed {seed} broke:\n{broken}\n\nAgain: WINDLASS_SIM_SEED={seed} cargo nextest run -p windlass-tests --test \
             sim one_seed --no-capture"
        );
    }
}

/// The course of events without what the test harness says.
fn course(answer: &Answer) -> Vec<&str> {
    answer.stdout.lines().filter(|line| line.starts_with(' ')).collect()
}

#[test]
fn a_seed_makes_the_same_course_of_events_again() {
    for seed in REPEATED {
        let (first, second) = (run(seed), run(seed));
        let (first, second) = (course(&first), course(&second));
        assert!(first.len() > 20, "seed {seed} tells too little: {first:?}");
        let differs = first.iter().zip(&second).find(|(one, other)| one != other);
        assert!(first == second, "seed {seed} went otherwise the second time: {differs:#?}");
    }
}

/// Two hundred seeds, in parts that run beside each other.
macro_rules! parts {
    ($($name:ident = $from:literal .. $to:literal;)*) => {
        $(#[test]
        fn $name() {
            run_all($from..$to);
        })*
    };
}

parts! {
    seeds_0_to_9 = 0..10;
    seeds_10_to_19 = 10..20;
    seeds_20_to_29 = 20..30;
    seeds_30_to_39 = 30..40;
    seeds_40_to_49 = 40..50;
    seeds_50_to_59 = 50..60;
    seeds_60_to_69 = 60..70;
    seeds_70_to_79 = 70..80;
    seeds_80_to_89 = 80..90;
    seeds_90_to_99 = 90..100;
    seeds_100_to_109 = 100..110;
    seeds_110_to_119 = 110..120;
    seeds_120_to_129 = 120..130;
    seeds_130_to_139 = 130..140;
    seeds_140_to_149 = 140..150;
    seeds_150_to_159 = 150..160;
    seeds_160_to_169 = 160..170;
    seeds_170_to_179 = 170..180;
    seeds_180_to_189 = 180..190;
    seeds_190_to_199 = 190..200;
}
