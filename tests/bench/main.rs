// SPDX-License-Identifier: Apache-2.0
//! How fast and how small: ours beside its rivals on one machine. `make bench` runs all of it, `make bench-quick` ours
//! only. No test of correctness depends on it.
//!
//! - [`measure`], [`account`], [`compare`], [`report`], [`memory`], [`process`]: how is measured and told.
//! - [`rival`]: Ansible, pyinfra, Salt, plain ssh; installed into a cache and tuned.
//! - [`ours`], [`load`]: a controller and agents, real and simulated.
//! - [`spec`]: clusters to apply.
//! - `b…`, [`growth`], [`growth_of_runs`], [`planning`], [`no_op`]: one benchmark each; [`simulation`] holds those with
//!   thousands of agents together, but for runs, which leave something in the controller's memory.

mod account;
mod b10_heartbeats;
mod b10_journal;
mod b10_kills;
mod b1_fan_out;
mod b1_salt;
mod b3_ten_steps;
mod b4_facts;
mod b5_files;
mod b6_enrolment;
mod b7_reconnect;
mod b8_footprint;
mod b9_rolling;
mod bench;
mod compare;
mod growth;
mod growth_of_runs;
mod load;
mod measure;
mod memory;
mod no_op;
mod ours;
mod planning;
mod process;
mod report;
mod rival;
mod simulation;
mod spec;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use tokio::signal::unix::{SignalKind, signal};

use account::Accounts;
use bench::{Bench, SshRivals};
use report::Report;
use simulation::left_out;

/// Measures Windlass beside its rivals
#[derive(Debug, Parser)]
struct Arguments {
    /// Ours only
    #[arg(long)]
    quick: bool,
    /// Runs of what is not slow
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Nodes
    #[arg(long, default_value_t = 100)]
    nodes: usize,
    /// Salt's nodes; each is 71 MB
    #[arg(long, default_value_t = 60)]
    minions: usize,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// The controller's program, if not the one `make build` made
    #[arg(long)]
    controller: Option<PathBuf>,
    /// The agent's program, if not the one `make build` made
    #[arg(long)]
    agent: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be many agents, for the benchmark itself
    #[command(hide = true)]
    Load(load::LoadArguments),
}

/// What can be asked for by itself; B6 makes the nodes that B1 to B5, B8 and the no-op apply work on. Of B10 it is the half
/// about runs and jobs; the half about heartbeats is in the simulation. Runs are those of which the growth is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    B1,
    B3,
    B4,
    B5,
    B8,
    B9,
    B10,
    NoOp,
    Planning,
    Runs,
    Salt,
    Simulation,
}

impl Part {
    fn needs_real_agents(self) -> bool {
        !matches!(self, Self::B9 | Self::B10 | Self::Simulation | Self::Planning | Self::Runs)
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Command::Load(load)) = &arguments.command {
        return load::run(load);
    }
    // Every agent is a connection; what is started inherits the limit.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let target = target_directory()?;
    let directory = target.join("bench");
    let work = directory.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    let bench = Bench {
        quick: arguments.quick,
        runs: arguments.runs,
        nodes: arguments.nodes,
        minions: arguments.minions,
        cache: windlass_tests::python::cache()?,
        work: work.clone(),
        programs: ours::Programs::find(&target, arguments.controller, arguments.agent)?,
        accounts: Accounts::new(),
    };
    end_all_on_signals(bench.accounts.emergency())?;
    let mut report = Report::default();
    report.note(format!("counted: {}", bench.accounts.method()));
    let result = measure_all(&bench, &arguments.only, &mut report);
    left_out(&mut report, "the rest", result);
    drop(bench);
    report.print();
    report.write(&directory.join("summary.json"))?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
}

/// Ctrl-C or SIGTERM must not leave a hundred processes behind.
#[expect(clippy::exit, reason = "the thread that measures waits for other programs and cannot be asked")]
fn end_all_on_signals(end_all: impl Fn() + Send + 'static) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let guard = runtime.enter();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        end_all();
        std::process::exit(130);
    });
    Ok(())
}

fn target_directory() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    std::path::absolute(target).context("find the target directory")
}

fn measure_all(bench: &Bench, only: &[Part], report: &mut Report) -> Result<()> {
    let is_wanted = |part| only.is_empty() || only.contains(&part);
    if is_wanted(Part::Planning) {
        let planned = planning::run_bench(report);
        left_out(report, "planning", planned);
    }
    if only.is_empty() || only.iter().any(|part| part.needs_real_agents()) {
        let real = with_real_agents(bench, is_wanted, report);
        left_out(report, "B1 to B6", real);
    }
    if is_wanted(Part::B9) {
        let rolled = b9_rolling::run_bench(bench, report);
        left_out(report, "B9", rolled);
    }
    if is_wanted(Part::B10) {
        let killed = b10_kills::run_bench(bench, report);
        left_out(report, "B10 kills", killed);
        let journal = b10_journal::run_bench(bench, report);
        left_out(report, "B10 journal", journal);
    }
    if is_wanted(Part::Simulation) {
        let simulated = simulation::run_bench(bench, report);
        left_out(report, "the part with simulated agents", simulated);
    }
    if is_wanted(Part::Runs) {
        let grown = growth_of_runs::run_bench(bench, report);
        left_out(report, "growth of runs", grown);
    }
    Ok(())
}

fn with_real_agents(bench: &Bench, is_wanted: impl Fn(Part) -> bool, report: &mut Report) -> Result<()> {
    let fleet = b6_enrolment::run_bench(bench, report)?;
    let rivals = match bench.quick {
        true => None,
        false => SshRivals::start(bench, report).inspect_err(|error| report.not_measured("ssh", error)).ok(),
    };
    let rivals = rivals.as_ref();
    if is_wanted(Part::B1) {
        let result = b1_fan_out::run_bench(bench, &fleet, rivals, report);
        left_out(report, "B1", result);
    }
    if is_wanted(Part::B3) {
        let result = b3_ten_steps::run_bench(bench, &fleet, rivals, report);
        left_out(report, "B3", result);
    }
    if is_wanted(Part::B4) {
        let result = b4_facts::run_bench(bench, &fleet, rivals, report);
        left_out(report, "B4", result);
    }
    if is_wanted(Part::B5) {
        let result = b5_files::run_bench(bench, &fleet, rivals, report);
        left_out(report, "B5", result);
    }
    if is_wanted(Part::B8) {
        let agents = b8_footprint::agents(bench, &fleet, rivals, report);
        left_out(report, "B8 agents", agents);
        let transfers = b8_footprint::after_transfers(bench, &fleet, report);
        left_out(report, "B8 after transfers", transfers);
    }
    if is_wanted(Part::NoOp) {
        let result = no_op::run_bench(bench, &fleet, rivals, report);
        left_out(report, "no-op apply", result);
    }
    if is_wanted(Part::Salt) && !bench.quick {
        let salt = b1_salt::run_bench(bench, &fleet, report);
        left_out(report, "salt", salt);
    }
    Ok(())
}
