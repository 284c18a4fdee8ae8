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
//! Other seeds are of runs. What holds above holds there too, and besides:
//! 13. never are more nodes down by our doing than the run that took the last of them may have;
//! 14. whatever a run changes on a node, it holds the lease on it from before until the node is back and whole, also when
//!     the controller is killed; and a node never goes from one run to another;
//! 15. no effect happens twice: a reboot ends the boot it was planned for, and whatever else is done is done once by an order
//!     and by a run, a kernel is made the default only if it is not, a service is restarted once for each version that came,
//!     a file is written as often as somebody ordered it; only hooks may be run again, where a machine went down under them;
//! 16. a run ends, or says what it waits for;
//! 17. a run is told as succeeded only if its nodes are as it was planned;
//! 18. a restored controller orders nothing before it is confirmed, and goes on with no run of its backup;
//! 19. once all is healed, runs end, nodes become as they are wished, and then there is nothing to plan;
//! 20. whoever asks for a plan gets one, of what is known, also when a node goes away while it is asked.
//!
//! Run one seed with `WINDLASS_SIM_SEED=17 cargo nextest run -p windlass-tests --test sim one_seed --no-capture`, and one
//! of runs with `one_run_seed`.
//!
//! - [`schedule`]: what happens, as data. [`world`]: makes it happen. [`check`], [`ledger`]: what must hold.
//! - [`bastion`], [`node`], [`machine`], [`operator`]: who takes part. [`replay`], [`clock`], [`disk`]: what is made to go
//!   wrong.
//! - [`copies`]: files there and back. [`runs`]: packages, kernels and reboots.
//! - [`entropy`]: chance, from the seed. [`trace`]: the course of events.

mod bastion;
mod check;
mod clock;
mod copies;
mod disk;
mod entropy;
mod ledger;
mod machine;
mod node;
mod operator;
mod replay;
mod runs;
mod schedule;
mod trace;
mod world;

use std::time::Duration;

use schedule::Schedule;
use windlass_tests::process::{Answer, command, run_within};

/// Names the one seed to run.
const SEED: &str = "WINDLASS_SIM_SEED";

/// Is added to every seed, for long runs over further ones.
const FROM: &str = "WINDLASS_SIM_FROM";

/// A simulation takes a second or two; a machine may be busy.
const SEED_LIMIT: Duration = Duration::from_secs(60);

/// What a seed makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Jobs, copies, renewals.
    Jobs,
    /// Runs.
    Runs,
}

impl Kind {
    const fn schedule(self) -> fn(u64) -> Schedule {
        match self {
            Self::Jobs => Schedule::of,
            Self::Runs => Schedule::of_runs,
        }
    }

    /// The test that runs one seed.
    const fn test(self) -> &'static str {
        match self {
            Self::Jobs => "one_seed",
            Self::Runs => "one_run_seed",
        }
    }

    /// Seeds that are run twice: copies, renewals, a restore.
    const fn repeated(self) -> [u64; 3] {
        match self {
            Self::Jobs => [8, 11, 55],
            Self::Runs => [3, 4, 12],
        }
    }
}

/// Runs one seed in this process, which has done nothing else: what tokio chooses by chance also depends on how many
/// runtimes there were before. Tells the course of events, and then what broke.
fn run_here(kind: Kind, seed: u64) -> (Vec<String>, Result<(), String>) {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        check::PANICS.set(check::PANICS.get() + 1);
        print(panic);
    }));
    let schedule = kind.schedule()(seed);
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
fn run(kind: Kind, seed: u64) -> Answer {
    let program = std::env::current_exe().expect("this program has a file");
    let mut child = command(program, &std::env::temp_dir());
    child.args(["--exact", kind.test(), "--nocapture"]).env(SEED, seed.to_string());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run_within(SEED_LIMIT, &mut child))
}

/// Runs many; tells of every one that broke, the first in full.
fn run_all(kind: Kind, seeds: std::ops::Range<u64>) {
    let from = number_in(FROM).unwrap_or(0);
    let broken: Vec<_> = seeds
        .map(|seed| from + seed)
        .map(|seed| (seed, run(kind, seed)))
        .filter(|(_, answer)| answer.code != 0)
        .collect();
    if let Some((_, first)) = broken.first() {
        let seeds: Vec<_> = broken.iter().map(|(seed, _)| seed).collect();
        panic!("{}{}\nSeeds that broke: {seeds:?}", first.stdout, first.stderr);
    }
}

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|number| number.parse().ok())
}

/// Runs the seed that is named, or the first: the course of events, and what broke.
fn run_named(kind: Kind) -> (Vec<String>, Option<String>) {
    let seed = number_in(SEED).unwrap_or(0);
    let (told, result) = run_here(kind, seed);
    let test = kind.test();
    let broken = result.err().map(|broken| {
        format!(
            "seed {seed} broke:\n{broken}\n\nAgain: WINDLASS_SIM_SEED={seed} cargo nextest run -p windlass-tests --test \
             sim {test} --no-capture"
        )
    });
    (told, broken)
}

#[test]
fn one_seed() {
    let (told, broken) = run_named(Kind::Jobs);
    told.iter().for_each(|line| println!("{line}"));
    assert!(broken.is_none(), "{}", broken.unwrap_or_default());
}

#[test]
fn one_run_seed() {
    let (told, broken) = run_named(Kind::Runs);
    told.iter().for_each(|line| println!("{line}"));
    assert!(broken.is_none(), "{}", broken.unwrap_or_default());
}

/// The course of events without what the test harness says.
fn course(answer: &Answer) -> Vec<&str> {
    answer.stdout.lines().filter(|line| line.starts_with(' ')).collect()
}

fn goes_the_same_again(kind: Kind) {
    for seed in kind.repeated() {
        let (first, second) = (run(kind, seed), run(kind, seed));
        let (first, second) = (course(&first), course(&second));
        assert!(first.len() > 20, "seed {seed} tells too little: {first:?}");
        let differs = first.iter().zip(&second).find(|(one, other)| one != other);
        assert!(first == second, "seed {seed} went otherwise the second time: {differs:#?}");
    }
}

#[test]
fn a_seed_makes_the_same_course_of_events_again() {
    goes_the_same_again(Kind::Jobs);
}

#[test]
fn a_seed_of_runs_makes_the_same_course_of_events_again() {
    goes_the_same_again(Kind::Runs);
}

/// Two hundred seeds, in parts that run beside each other.
macro_rules! parts {
    ($($name:ident = $kind:ident, $from:literal .. $to:literal;)*) => {
        $(#[test]
        fn $name() {
            run_all(Kind::$kind, $from..$to);
        })*
    };
}

parts! {
    seeds_0_to_9 = Jobs, 0..10;
    seeds_10_to_19 = Jobs, 10..20;
    seeds_20_to_29 = Jobs, 20..30;
    seeds_30_to_39 = Jobs, 30..40;
    seeds_40_to_49 = Jobs, 40..50;
    seeds_50_to_59 = Jobs, 50..60;
    seeds_60_to_69 = Jobs, 60..70;
    seeds_70_to_79 = Jobs, 70..80;
    seeds_80_to_89 = Jobs, 80..90;
    seeds_90_to_99 = Jobs, 90..100;
    seeds_100_to_109 = Jobs, 100..110;
    seeds_110_to_119 = Jobs, 110..120;
    seeds_120_to_129 = Jobs, 120..130;
    seeds_130_to_139 = Jobs, 130..140;
    seeds_140_to_149 = Jobs, 140..150;
    seeds_150_to_159 = Jobs, 150..160;
    seeds_160_to_169 = Jobs, 160..170;
    seeds_170_to_179 = Jobs, 170..180;
    seeds_180_to_189 = Jobs, 180..190;
    seeds_190_to_199 = Jobs, 190..200;
    run_seeds_0_to_9 = Runs, 0..10;
    run_seeds_10_to_19 = Runs, 10..20;
    run_seeds_20_to_29 = Runs, 20..30;
    run_seeds_30_to_39 = Runs, 30..40;
    run_seeds_40_to_49 = Runs, 40..50;
    run_seeds_50_to_59 = Runs, 50..60;
    run_seeds_60_to_69 = Runs, 60..70;
    run_seeds_70_to_79 = Runs, 70..80;
    run_seeds_80_to_89 = Runs, 80..90;
    run_seeds_90_to_99 = Runs, 90..100;
    run_seeds_100_to_109 = Runs, 100..110;
    run_seeds_110_to_119 = Runs, 110..120;
    run_seeds_120_to_129 = Runs, 120..130;
    run_seeds_130_to_139 = Runs, 130..140;
    run_seeds_140_to_149 = Runs, 140..150;
    run_seeds_150_to_159 = Runs, 150..160;
    run_seeds_160_to_169 = Runs, 160..170;
    run_seeds_170_to_179 = Runs, 170..180;
    run_seeds_180_to_189 = Runs, 180..190;
    run_seeds_190_to_199 = Runs, 190..200;
}
