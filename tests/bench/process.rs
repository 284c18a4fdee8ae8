// SPDX-License-Identifier: Apache-2.0
//! Starting and ending processes. What is started here is ended here, by its process id or its control group.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

/// Long enough for a controller to drain; then it is killed.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// A program to be started.
#[expect(clippy::disallowed_methods, reason = "a benchmark starts the programs it compares")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // Rivals in Python refuse to start without one.
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8");
    command
}

/// Waits; for what other programs do there is nothing to be notified of.
#[expect(clippy::disallowed_methods, reason = "the benchmark waits for other programs")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// Waits until something holds.
///
/// # Errors
/// If it does not within the time.
pub(crate) fn wait_until(what: &str, most: Duration, every: Duration, mut holds: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !holds() {
        if begun.elapsed() > most {
            bail!("{what}: not within {} s", most.as_secs());
        }
        pause(every);
    }
    Ok(())
}

/// Runs a program to its end.
///
/// # Errors
/// If it does not start or fails; then with the end of what it wrote.
pub(crate) fn run(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("start {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(output);
    }
    let tail = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        let start = text.len().saturating_sub(1500);
        text.get(start..).unwrap_or(&text).to_owned()
    };
    bail!("{command:?}: {}\n{}\n{}", output.status, tail(&output.stdout), tail(&output.stderr));
}

/// A process that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts it with its output in a file.
    ///
    /// # Errors
    /// If it does not start.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let started = command.stdout(out.try_clone()?).stderr(out).spawn();
        Ok(Self { child: started.with_context(|| format!("start {:?}", command.get_program()))? })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Ends it without a warning.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended already.
        let _ended = self.child.kill();
        let _ended = self.child.wait();
    }

    fn terminate(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ended = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        self.terminate();
        let gone = wait_until("end", END_PATIENCE, Duration::from_millis(10), || self.has_ended());
        if gone.is_err() {
            self.kill();
        }
    }
}

/// Ends many at once: all are told before any is waited for.
pub(crate) fn end_all(mut daemons: Vec<Daemon>) {
    for daemon in &mut daemons {
        daemon.terminate();
    }
}
