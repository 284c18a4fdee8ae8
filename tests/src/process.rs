// SPDX-License-Identifier: Apache-2.0
//! Starts the programs under test as they are installed: from their files, with an environment that is nobody's.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// No command that is waited for takes longer unless it hangs.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The file of a program of this workspace, beside the tests' own.
///
/// # Panics
/// If it was not built: `make nextest` does that first.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this program has a file");
    let built = tests.parent().and_then(Path::parent).expect("target/PROFILE/deps").join(name);
    assert!(built.exists(), "{} is not there: run `cargo build --workspace --bins`", built.display());
    built
}

/// A command with nothing in its environment but a PATH and a home that is `home`.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the programs under test are started here and nowhere else")]
pub fn command(program: impl AsRef<OsStr>, home: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", home).kill_on_drop(true);
    command.current_dir(home).stdin(Stdio::null());
    command
}

/// The same command with a small filesystem of its own at `directory`, which is gone when the command ends. Only for root.
///
/// # Panics
/// If the directory cannot be made.
#[must_use]
pub fn on_tmpfs(inner: Command, directory: &Path, options: &str) -> Command {
    const MOUNT: &str = "mount -t tmpfs -o mode=0700,\"$0\" tmpfs \"$1\" && shift && exec \"$@\"";
    std::fs::create_dir_all(directory).expect("a directory");
    let inner = inner.as_std();
    let home = inner.get_current_dir().expect("every command has one");
    let mut command = command("unshare", home);
    command.args(["--mount", "--", "sh", "-c", MOUNT, options]).arg(directory).arg(inner.get_program());
    command.args(inner.get_args());
    command
}

/// The same command on a machine where these programs are not installed, as it seems to it. Only for root.
///
/// # Panics
/// If the command has no directory.
#[must_use]
pub fn without(inner: Command, programs: &[&str]) -> Command {
    const HIDE: &str = "for hidden in $0; do mount --bind /dev/null \"$hidden\" || exit; done; exec \"$@\"";
    let inner = inner.as_std();
    let mut command = command("unshare", inner.get_current_dir().expect("every command has one"));
    command.args(["--mount", "--", "sh", "-c", HIDE, &programs.join(" ")]).arg(inner.get_program());
    command.args(inner.get_args());
    command
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Answer {
    /// The standard output of a command that must succeed.
    ///
    /// # Panics
    /// If it failed.
    #[must_use]
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// Sees that a command succeeded whose output does not matter.
    ///
    /// # Panics
    /// If it failed.
    #[track_caller]
    pub fn done(self) {
        let _output = self.ok();
    }

    /// The JSON that a command that must succeed wrote.
    ///
    /// # Panics
    /// If it failed or wrote something else.
    #[must_use]
    #[track_caller]
    pub fn json(self) -> serde_json::Value {
        serde_json::from_str(&self.ok()).expect("JSON")
    }

    /// Sees that a command failed as a person can use: with this exit code, this cause and a next step.
    ///
    /// # Panics
    /// If any of it is missing.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, cause: &str, next_step: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stderr.contains(cause), "no {cause:?} in {self:?}");
        assert!(self.stderr.contains(next_step), "no {next_step:?} in {self:?}");
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started or hangs.
pub async fn run(command: &mut Command) -> Answer {
    run_within(COMMAND_LIMIT, command).await
}

/// Runs a command that may take longer than others to its end.
///
/// # Panics
/// If it cannot be started or takes longer.
pub async fn run_within(limit: Duration, command: &mut Command) -> Answer {
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.expect("the command ends").expect("the command starts");
    Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A program that runs until somebody ends it; killed when dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    pid: Pid,
}

impl Running {
    /// Starts it; both outputs go to the end of `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = || -> File { OpenOptions::new().append(true).create(true).open(log).expect("a log file") };
        let child = command.stdout(file()).stderr(file()).spawn().expect("the program starts");
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).expect("a running program has an id");
        Self { child, pid: Pid::from_raw(pid) }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("the program runs");
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn wait(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(COMMAND_LIMIT, self.child.wait()).await;
        ended.expect("the program ends").expect("it can be waited for")
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    pub async fn kill9(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait().await;
    }

    /// Whether it has ended.
    ///
    /// # Panics
    /// If the system does not say.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it can be waited for")
    }

    /// A line of /proc/PID/status, in its unit.
    ///
    /// # Panics
    /// If it has ended or there is no such line.
    #[must_use]
    pub fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("it runs");
        let line = text.lines().find(|line| line.starts_with(name)).expect("such a line");
        line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    /// Processor time used so far, in clock ticks (usually hundredths of a second).
    ///
    /// # Panics
    /// If it has ended.
    #[must_use]
    pub fn ticks(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("it runs");
        let rest = text.rsplit(") ").next().expect("fields after the name");
        rest.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum()
    }
}
