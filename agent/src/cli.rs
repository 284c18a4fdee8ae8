// SPDX-License-Identifier: Apache-2.0
//! The agent's command line: `join`, `front` and `executor`, or `run`, `version`. Exit codes follow sysexits.h.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory as _, Parser, Subcommand};
use windlass_types::pin::SpkiPin;

use crate::config::{DEFAULT_EXECUTOR_DIR, DEFAULT_STATE_DIR};
use crate::dial::TcpDial;
use crate::host::clock::{Clock, SystemClock};
use crate::join::{Endpoint, JoinPlan, Joined, join};

mod failed;
mod log;
mod run;
mod runner;

/// Wrong arguments (EX_USAGE).
const EXIT_USAGE: u8 = 64;

/// How long the end waits for a file that is just being placed. One on a mount whose server is gone may take for ever.
const LAST_FILES: Duration = Duration::from_secs(5);

/// The Windlass agent: runs on every node, dials the controller, opens no port.
#[derive(Debug, Parser)]
#[command(name = "windlass-agent", version, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes this machine a node, with a one-time token
    Join(JoinArguments),
    /// Runs the half that talks to the controller, until SIGTERM; what windlass-agent.service runs
    Front(RunArguments),
    /// Runs the half that does what the controller orders, until SIGTERM; what windlass-executor.service runs
    Executor(RunArguments),
    /// Runs both halves in one process, until SIGTERM: for machines without systemd
    Run(RunArguments),
    /// Prints the version
    Version,
    /// Writes the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// The directory
        directory: PathBuf,
    },
}

/// What `windlass token create` printed.
#[derive(Debug, clap::Args)]
struct JoinArguments {
    /// The controller's join listener
    #[arg(long, value_name = "HOST:PORT")]
    controller: Endpoint,
    /// The digest of the controller's CA key; may be given more than once
    #[arg(long = "ca-pin", value_name = "sha256:HEX", required = true)]
    ca_pins: Vec<SpkiPin>,
    /// The file with the token; removed once it is used
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// One directory for all that the agent must remember, as `run --state-dir` has it; for the two services it is
    /// /var/lib/windlass-agent and /var/lib/windlass-executor
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RunArguments {
    /// Where everything that must be remembered is kept; wins over the configuration
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The configuration [default: /etc/windlass/agent.toml, which may be absent]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    log::start();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(1, &format!("start the runtime: {error}")),
    };
    let code = match arguments.verb {
        Verb::Join(arguments) => runtime.block_on(join_verb(arguments)),
        Verb::Front(arguments) => runtime.block_on(run::front(arguments)),
        Verb::Executor(arguments) => runtime.block_on(run::executor(arguments)),
        Verb::Run(arguments) => runtime.block_on(run::both(arguments)),
        Verb::Version => say(concat!("windlass-agent ", env!("CARGO_PKG_VERSION"))),
        Verb::Man { directory } => manual(&directory),
    };
    runtime.shutdown_timeout(LAST_FILES);
    code
}

#[expect(clippy::print_stdout, reason = "this is the command line")]
fn say(text: &str) -> ExitCode {
    println!("{text}");
    ExitCode::SUCCESS
}

#[expect(clippy::print_stderr, reason = "this is the command line")]
fn failure(code: u8, text: &str) -> ExitCode {
    eprintln!("windlass-agent: {text}");
    ExitCode::from(code)
}

/// Help and version are answers; anything else is wrong usage.
fn usage(error: &clap::Error) -> ExitCode {
    // Nothing can be done if the terminal is gone.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

fn manual(directory: &Path) -> ExitCode {
    match clap_mangen::generate_to(Arguments::command(), directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure(1, &format!("write the manual pages to {}: {error}", directory.display())),
    }
}

fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish()
}

async fn join_verb(arguments: JoinArguments) -> ExitCode {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let dial = TcpDial::new(arguments.controller.to_string());
    let (state_dir, executor_dir) = match arguments.state_dir {
        Some(both) => (both.clone(), both),
        None => (PathBuf::from(DEFAULT_STATE_DIR), PathBuf::from(DEFAULT_EXECUTOR_DIR)),
    };
    let plan = JoinPlan {
        controller: arguments.controller,
        pins: arguments.ca_pins,
        token_file: arguments.token_file,
        state_dir,
        executor_dir,
    };
    match join(&plan, &dial, &clock, seed()).await {
        Ok(Joined::Now(node)) => {
            say(&format!("joined as {node}; start the agent with `systemctl enable --now windlass-agent`"))
        }
        Ok(Joined::Already(node)) => say(&format!("this machine has joined already, as {node}; nothing to do")),
        Err(error) => failure(error.exit_code(), &format!("not joined: {}", error.chain())),
    }
}
