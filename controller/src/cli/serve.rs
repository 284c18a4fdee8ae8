// SPDX-License-Identifier: Apache-2.0
//! `windlass serve`: the controller itself, in the foreground.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use crate::config::{ConfigError, File, Overrides, Settings};
use crate::server::{self, ListenError, ServeError};
use crate::store::sqlite::OpenError;

/// Arguments of `serve`. The socket is the one of every command.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Configuration file; /etc/windlass/controller.toml if that exists
    #[arg(long, value_name = "FILE", env = "WINDLASS_CONFIG")]
    config: Option<PathBuf>,
    /// Where state is kept; /var/lib/windlass if nobody says otherwise
    #[arg(long, value_name = "DIR", env = "WINDLASS_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Where agents and remote operators connect; 0.0.0.0:7600 if nobody says otherwise
    #[arg(long, value_name = "ADDRESS:PORT", env = "WINDLASS_LISTEN")]
    listen: Option<SocketAddr>,
    /// Where machines join; 0.0.0.0:7601 if nobody says otherwise
    #[arg(long, value_name = "ADDRESS:PORT", env = "WINDLASS_JOIN_LISTEN")]
    join_listen: Option<SocketAddr>,
    /// Where livez, readyz and metrics are served; 127.0.0.1:7602 if nobody says otherwise
    #[arg(long, value_name = "ADDRESS:PORT", env = "WINDLASS_HTTP_LISTEN")]
    http_listen: Option<SocketAddr>,
    /// What is logged, such as info or windlass_controller=debug
    #[arg(long, value_name = "FILTER", env = "WINDLASS_LOG", default_value = "info")]
    log: String,
}

/// Runs the controller until it is told to end.
///
/// # Errors
/// If the configuration is wrong or the controller cannot start.
pub(crate) async fn run(context: &Context, arguments: ServeArgs) -> Result<Exit, Failure> {
    log_to(&arguments.log)?;
    let overrides = Overrides {
        listen: arguments.listen,
        join_listen: arguments.join_listen,
        http_listen: arguments.http_listen,
        socket: context.socket(),
        state_dir: arguments.state_dir,
    };
    let settings = File::read(arguments.config.as_deref())
        .and_then(|file| Settings::new(file, overrides))
        .map_err(|error| misconfigured(&error))?;
    server::serve(settings).await.map_err(|error| not_serving(&error))?;
    Ok(Exit::Done)
}

/// To the journal with its fields where there is one, as lines for a person at a terminal, as JSON anywhere else.
fn log_to(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::new(Cause::Usage, "understand --log")
            .because_of(&error)
            .advise("write a level such as info, or TARGET=LEVEL")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let journal = std::env::var_os("JOURNAL_STREAM").and_then(|_| tracing_journald::layer().ok());
    let started = match journal {
        Some(journal) => registry.with(journal.with_field_prefix(None)).try_init(),
        None if io::stderr().is_terminal() => {
            registry.with(tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false)).try_init()
        }
        None => registry.with(tracing_subscriber::fmt::layer().with_writer(io::stderr).json()).try_init(),
    };
    started.map_err(|error| Failure::new(Cause::Local, "begin to log").because_of(&error))
}

fn misconfigured(error: &ConfigError) -> Failure {
    let failure = Failure::new(Cause::Misconfigured, "start the controller").because_of(error);
    match error {
        ConfigError::Read { .. } => failure.advise("name another file with --config"),
        ConfigError::Parse { .. } => failure.advise("correct that line; the manual lists every key"),
        ConfigError::Range { key, .. } | ConfigError::Duration { key, .. } => {
            failure.advise(format!("change {key} in the configuration file"))
        }
    }
}

fn not_serving(error: &ServeError) -> Failure {
    let cause = match error {
        ServeError::Open(OpenError::InUse { .. }) | ServeError::Listen(ListenError::Taken(_)) => Cause::Locked,
        ServeError::Open(OpenError::Directory { .. } | OpenError::NotWritable { .. } | OpenError::TooOpen { .. })
        | ServeError::State { .. } => Cause::Misconfigured,
        _ => Cause::Local,
    };
    Failure::new(cause, "start the controller").because_of(error).advise(error.advice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_controller_and_a_wrong_directory_have_their_own_exit_codes() {
        let in_use = ServeError::Open(OpenError::InUse { directory: "/d".into(), pid: Some(7) });
        assert_eq!(not_serving(&in_use).exit().code(), 6);
        let source = io::Error::from(io::ErrorKind::PermissionDenied);
        let refused = ServeError::Open(OpenError::NotWritable { directory: "/d".into(), source });
        assert_eq!(not_serving(&refused).exit().code(), 78);
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("controller.toml");
        std::fs::write(&path, "\nlissten = \"x\"\n").expect("written");
        let failure = misconfigured(&File::read(Some(&path)).expect_err("a misspelt key"));
        assert_eq!(failure.exit().code(), 78);
        assert!(failure.why.contains("line 2") && failure.why.contains("lissten"), "{failure}");
    }
}
