// SPDX-License-Identifier: Apache-2.0
//! The only place where the controller starts a process, and never through a shell.
//!
//! Programs are found in fixed places, get their arguments as a list and an environment of two variables, and are killed
//! with what they started when their time is over or nobody waits for them any more.

use std::fmt;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use windlass_types::escape::Escaped;

/// Where programs are looked for, in this order. `/usr/libexec` is where the RHEL family has `qemu-kvm`.
const SEARCHED: [&str; 4] = ["/usr/local/bin", "/usr/bin", "/usr/libexec", "/bin"];

/// Most that a program may print: those we call answer in a few kilobytes.
const MOST_OUTPUT_BYTES: u64 = 1 << 20;

/// How much of the end of standard error is shown.
const SHOWN_STDERR_BYTES: usize = 4 * 1024;

/// A call of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. No secret is ever among them.
    pub arguments: Vec<String>,
    /// Where it works.
    pub directory: PathBuf,
    /// When it is killed.
    pub deadline: Duration,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The first arguments tell what it is; those of QEMU would fill a screen.
        let name = self.program.file_name().unwrap_or_default().to_string_lossy();
        write!(f, "{}", Escaped(&name))?;
        self.arguments.iter().take(2).try_for_each(|argument| write!(f, " {}", Escaped(argument)))?;
        if self.arguments.len() > 2 { f.write_str(" …") } else { Ok(()) }
    }
}

/// What a program left behind.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// How it ended.
    pub status: ExitStatus,
    stderr: Vec<u8>,
}

/// A program that did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It could not be started, or not be read.
    #[error("run `{call}`")]
    Start {
        /// The call.
        call: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It took too long.
    #[error("`{call}` had not ended after {deadline:?} and was killed")]
    Deadline {
        /// The call.
        call: String,
        /// The limit.
        deadline: Duration,
    },
    /// It ended badly.
    #[error("`{call}` {how}: {stderr}")]
    Failed {
        /// The call.
        call: String,
        /// With which code or signal.
        how: String,
        /// The end of what it wrote to standard error, control characters written out.
        stderr: String,
    },
}

/// Finds a program; `None` if it is not installed.
#[must_use]
pub fn find(names: &[&str]) -> Option<PathBuf> {
    names.iter().flat_map(|name| SEARCHED.map(|folder| Path::new(folder).join(name))).find(|path| path.is_file())
}

/// Runs a program that must end with 0.
///
/// # Errors
/// If it does not start, end in time, or end well.
pub async fn run(call: Call) -> Result<Vec<u8>, ExecError> {
    let ended = run_to_end(&call).await?;
    if ended.status.success() {
        return Ok(ended.stdout);
    }
    Err(ExecError::Failed { call: call.to_string(), how: how(ended.status), stderr: ended.shown_stderr() })
}

/// Runs a program, however it ends.
///
/// # Errors
/// If it does not start or end in time.
pub async fn run_to_end(call: &Call) -> Result<Ended, ExecError> {
    let failed = |source| ExecError::Start { call: call.to_string(), source };
    let mut child = command(call).spawn().map_err(failed)?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let guard = KillGroup(group);
    let ended = timeout(call.deadline, collect(&mut child)).await;
    match ended {
        Ok(ended) => {
            let ended = ended.map_err(failed)?;
            // What it left running, a machine above all, is meant to stay.
            std::mem::forget(guard);
            Ok(ended)
        }
        Err(_) => Err(ExecError::Deadline { call: call.to_string(), deadline: call.deadline }),
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the controller starts processes")]
fn command(call: &Call) -> Command {
    let mut command = Command::new(&call.program);
    command.args(&call.arguments).current_dir(&call.directory).process_group(0).kill_on_drop(true);
    command.env_clear().env("LC_ALL", "C").env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn collect(child: &mut Child) -> std::io::Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let read = async |pipe: Option<Box<dyn tokio::io::AsyncRead + Unpin + Send>>| {
        let mut bytes = Vec::new();
        match pipe {
            Some(pipe) => pipe.take(MOST_OUTPUT_BYTES).read_to_end(&mut bytes).await.map(|_| bytes),
            None => Ok(bytes),
        }
    };
    let (stdout, stderr) = tokio::try_join!(
        read(stdout.map(|pipe| Box::new(pipe) as Box<_>)),
        read(stderr.map(|pipe| Box::new(pipe) as Box<_>)),
    )?;
    Ok(Ended { stdout, stderr, status: child.wait().await? })
}

impl Ended {
    /// The end of what it wrote to standard error, on one line.
    #[must_use]
    pub fn shown_stderr(&self) -> String {
        let start = self.stderr.len().saturating_sub(SHOWN_STDERR_BYTES);
        let text = String::from_utf8_lossy(&self.stderr[start..]);
        let lines: Vec<_> = text.lines().map(|line| Escaped(line.trim()).to_string()).collect();
        if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") }
    }
}

/// How a program ended, in words.
#[must_use]
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}

struct KillGroup(Option<Pid>);

impl Drop for KillGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may be gone already; nothing else can be done here.
            let _gone = killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Call {
        Call { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], directory: "/".into(), deadline }
    }

    #[tokio::test]
    async fn a_failure_says_what_was_run_how_it_ended_and_what_it_said() {
        let error = run(sh("printf 'a\\033[31mb\\n' >&2; exit 3", Duration::from_secs(30))).await.expect_err("failed");
        let text = error.to_string();
        assert!(text.starts_with("`sh -c ") && text.ends_with("ended with code 3: a\\u{1b}[31mb"), "{text}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_what_it_started() {
        let hangs = sh("sleep 1000 & wait", Duration::from_millis(50));
        assert!(matches!(run(hangs).await, Err(ExecError::Deadline { .. })));
    }

    #[tokio::test]
    async fn the_environment_is_empty_but_for_two() {
        let text = run(sh("env", Duration::from_secs(30))).await.expect("env runs");
        let text = String::from_utf8(text).expect("text");
        assert!(
            text.lines().all(|line| ["PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"]
                .contains(&line.split('=').next().unwrap_or(""))),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_not_found() {
        assert_eq!(find(&["no-such-program"]), None);
        assert!(find(&["no-such-program", "sh"]).is_some());
    }
}
