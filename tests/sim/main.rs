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
//! 9. one token makes one certificate;
//! 10. nothing panics.
//!
//! Run one seed with `WINDLASS_SIM_SEED=17 cargo nextest run -p windlass-tests --test sim one_seed --no-capture`.
//!
//! - [`schedule`]: what happens, as data. [`world`]: makes it happen. [`check`], [`ledger`]: what must hold.
//! - [`bastion`], [`node`], [`machine`], [`operator`]: who takes part. [`replay`], [`clock`]: what is made to go wrong.

mod bastion;
mod check;
mod clock;
mod ledger;
mod machine;
mod node;
mod operator;
mod replay;
mod schedule;
mod trace;
mod world;

use std::sync::Once;

use schedule::Schedule;

/// Names the one seed to run; then its course is printed too.
const SEED: &str = "WINDLASS_SIM_SEED";

/// Runs one seed in a thread of its own.
#[expect(clippy::print_stdout, reason = "whoever runs one seed wants to see its course")]
fn run(seed: u64) -> Result<(), String> {
    static COUNT_PANICS: Once = Once::new();
    COUNT_PANICS.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            check::PANICS.set(check::PANICS.get() + 1);
            print(panic);
        }));
    });
    let schedule = Schedule::of(seed);
    let simulation = std::thread::Builder::new().name(format!("seed {seed}"));
    let simulation = simulation.spawn(move || {
        let result = world::run(&schedule);
        let told = trace::take().join("\n");
        if result.is_ok() && std::env::var_os(SEED).is_some() {
            println!("{told}");
        }
        result.map_err(|broken| {
            let mut text = format!("{broken}\n\nWhat happened:\n{told}\n");
            text.push_str(&format!(
                "\nSeed {seed} broke:\n{broken}\n\nAgain: WINDLASS_SIM_SEED={seed} cargo nextest run -p windlass-tests \
                 --test sim one_seed --no-capture\n"
            ));
            text
        })
    });
    let simulation = simulation.expect("a thread can be started");
    simulation.join().unwrap_or_else(|_| Err(format!("seed {seed} panicked: WINDLASS_SIM_SEED={seed}")))
}

/// Runs many; tells of every one that broke, the first in full.
fn run_all(seeds: std::ops::Range<u64>) {
    let broken: Vec<_> = seeds.filter_map(|seed| run(seed).err().map(|text| (seed, text))).collect();
    if let Some((_, first)) = broken.first() {
        let seeds: Vec<_> = broken.iter().map(|(seed, _)| seed).collect();
        panic!("{first}\nSeeds that broke: {seeds:?}");
    }
}

#[test]
fn one_seed() {
    let seed = std::env::var(SEED).ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    run_all(seed..seed + 1);
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
