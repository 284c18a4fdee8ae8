// SPDX-License-Identifier: Apache-2.0
//! The only place the agent starts a process, and never through a shell.
//!
//! [`run`] is for the agent's own tools: a [`CommandSpec`] in, captured output out, everything bounded. [`spawn_job`] is
//! for what an operator asked to run: output goes to files and the caller decides about time.
//!
//! Neither uses a hook between fork and exec: std can then use posix_spawn(3), which does not copy the agent's page
//! tables and stays cheap however large the agent is.

mod job;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};
use windlass_types::escape::{Escaped, Quoted};

pub(super) use job::find;
pub use job::{JobChild, spawn_job};

/// Where a program without a slash in its name is looked up, in this order.
pub const SEARCHED: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most that a command may print; a tool that prints more is not one we know how to read.
const MOST_STDOUT_BYTES: usize = 8 * 1024 * 1024;

/// How much of the end of standard error is kept.
const STDERR_TAIL_BYTES: usize = 4 * 1024;

/// How long a killed process may take to go. One stuck in the kernel takes longer and is left to be reaped later.
const GRACE_AFTER_KILL: Duration = Duration::from_secs(1);

/// A command as data.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program, by absolute path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What it reads from standard input; `None` is /dev/null.
    pub stdin: Option<Vec<u8>>,
    /// When it is killed with everything it started.
    pub deadline: Duration,
    /// Exit codes that are answers and not failures.
    pub answers: BTreeSet<i32>,
    /// Positions in `arguments` that are never shown.
    pub secrets: BTreeSet<usize>,
}

impl CommandSpec {
    /// A command without standard input, whose one good exit code is 0.
    pub fn new(program: impl Into<PathBuf>, arguments: &[&str], deadline: Duration) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            stdin: None,
            deadline,
            answers: BTreeSet::from([0]),
            secrets: BTreeSet::new(),
        }
    }
}

/// Program and arguments as a person may see them: secrets left out, control characters written out.
impl fmt::Display for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.program.to_string_lossy()))?;
        for (position, argument) in self.arguments.iter().enumerate() {
            if self.secrets.contains(&position) {
                f.write_str(" <secret>")?;
            } else {
                write!(f, " {}", Escaped(argument))?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandSpec")
            .field("command", &self.to_string())
            .field("stdin_bytes", &self.stdin.as_ref().map(Vec::len))
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// What a command that ended well left behind.
#[derive(Debug, Clone)]
pub struct Captured {
    /// All of standard output.
    pub stdout: Vec<u8>,
    /// The last 4 KiB of standard error.
    pub stderr: Vec<u8>,
    /// How it ended: one of the spec's answers.
    pub status: ExitStatus,
    /// How long it took.
    pub duration: Duration,
}

/// A process that did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such program.
    #[error("no program {} in {SEARCHED}: install it or give its full path", Quoted(program))]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// It exists but does not start.
    #[error("start {}", Quoted(&program.to_string_lossy()))]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ended with something else than an answer.
    #[error("`{command}` failed after {duration:.1?} with {status}: {stderr}")]
    Failed {
        /// Without its secrets.
        command: String,
        /// Exit code or signal.
        status: ExitStatus,
        /// The last 4 KiB of standard error, control characters written out.
        stderr: String,
        /// How long it ran.
        duration: Duration,
    },
    /// It ran too long and was killed with everything it started.
    #[error("`{command}` was killed because it had not ended after {deadline:?}")]
    Deadline {
        /// Without its secrets.
        command: String,
        /// The limit.
        deadline: Duration,
    },
    /// It printed too much and was killed.
    #[error("`{command}` was killed because it printed more than {MOST_STDOUT_BYTES} bytes")]
    TooMuchOutput {
        /// Without its secrets.
        command: String,
    },
    /// The pipes to it or the wait for it failed.
    #[error("talk to `{command}`")]
    Talk {
        /// Without its secrets.
        command: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process is gone, so its group may be somebody else's by now.
    #[error("the process has ended already")]
    Ended,
    /// A signal could not be sent.
    #[error("signal process group {group}")]
    Signal {
        /// To which.
        group: u32,
        /// Why.
        #[source]
        source: Errno,
    },
}

/// Runs a command to its end.
///
/// The environment holds `PATH` and `LC_ALL=C` and nothing else, the working directory is `/`, and the process leads its
/// own group, which is killed as a whole at the deadline and also when the future is dropped.
///
/// # Errors
/// If it does not start, ends with something else than one of its answers, or exceeds time or output.
pub async fn run(spec: CommandSpec) -> Result<Captured, ExecError> {
    let started = Instant::now();
    let mut command = command(&spec.program);
    command.args(&spec.arguments).env("LC_ALL", "C").kill_on_drop(true);
    command.stdin(if spec.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| ExecError::Start { program: spec.program.clone(), source })?;
    let mut group = KillOnDrop(child.id());

    let ended = timeout(spec.deadline, converse(&mut child, &spec)).await;
    let (stdout, stderr, status) = match ended {
        Ok(Ok(all)) => {
            group.0 = None;
            all
        }
        failed => {
            drop(group);
            // The result does not matter: whoever cannot be reaped now is reaped by the runtime later.
            let _ = timeout(GRACE_AFTER_KILL, child.wait()).await;
            return Err(match failed {
                Ok(Err(error)) => error,
                _ => ExecError::Deadline { command: spec.to_string(), deadline: spec.deadline },
            });
        }
    };
    let duration = started.elapsed();
    if status.code().is_some_and(|code| spec.answers.contains(&code)) {
        return Ok(Captured { stdout, stderr, status, duration });
    }
    let stderr = Escaped(String::from_utf8_lossy(&stderr).trim_end()).to_string();
    Err(ExecError::Failed { command: spec.to_string(), status, stderr, duration })
}

/// Feeds and drains the pipes, and only then reaps: until then the process group cannot be anybody else's.
async fn converse(child: &mut Child, spec: &CommandSpec) -> Result<(Vec<u8>, Vec<u8>, ExitStatus), ExecError> {
    let talk = |source| ExecError::Talk { command: spec.to_string(), source };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let (Some(mut pipe), Some(bytes)) = (stdin, &spec.stdin) {
            // A program that ends without reading everything is judged by its exit code.
            let _ = pipe.write_all(bytes).await;
        }
        Ok(())
    };
    let drain = async {
        let mut kept = Vec::new();
        if let Some(pipe) = stdout {
            pipe.take(MOST_STDOUT_BYTES as u64 + 1).read_to_end(&mut kept).await.map_err(talk)?;
        }
        if kept.len() > MOST_STDOUT_BYTES {
            return Err(ExecError::TooMuchOutput { command: spec.to_string() });
        }
        Ok(kept)
    };
    let (stdout, stderr, ()) = tokio::try_join!(drain, async { tail(stderr).await.map_err(talk) }, feed)?;
    let status = child.wait().await.map_err(talk)?;
    Ok((stdout, stderr, status))
}

/// Reads to the end and keeps the last [`STDERR_TAIL_BYTES`].
async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut pipe) = pipe else { return Ok(kept) };
    let mut buffer = [0; STDERR_TAIL_BYTES];
    loop {
        let count = pipe.read(&mut buffer).await?;
        if count == 0 {
            return Ok(kept);
        }
        kept.extend_from_slice(&buffer[..count]);
        kept.drain(..kept.len().saturating_sub(STDERR_TAIL_BYTES));
    }
}

/// Kills a process group when dropped.
struct KillOnDrop(Option<u32>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails only if the group is empty already.
            let _ = kill_group(group, Signal::SIGKILL);
        }
    }
}

fn kill_group(group: u32, signal: Signal) -> Result<(), Errno> {
    // 0 and 1 would reach the agent's own group or every process: no child has them.
    let group = i32::try_from(group).ok().filter(|&group| group > 1).ok_or(Errno::ESRCH)?;
    killpg(Pid::from_raw(group), signal)
}

/// What both kinds of process share: a group of their own, no environment but `PATH`, working directory `/`.
#[expect(clippy::disallowed_methods, reason = "this is the one place that starts processes")]
fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCHED).process_group(0).current_dir("/");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str, deadline: Duration) -> CommandSpec {
        CommandSpec::new("/bin/sh", &["-c", script], deadline)
    }

    #[tokio::test]
    async fn a_command_reads_its_input_and_answers() {
        let mut spec = CommandSpec::new("/bin/cat", &[], LONG);
        spec.stdin = Some(vec![b'x'; 1_000_000]);
        let captured = run(spec).await.unwrap();
        assert_eq!(captured.stdout.len(), 1_000_000);
    }

    #[tokio::test]
    async fn a_command_sees_only_a_fixed_environment() {
        let captured = run(CommandSpec::new("/usr/bin/env", &[], LONG)).await.unwrap();
        let text = String::from_utf8(captured.stdout).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["LC_ALL=C", &format!("PATH={SEARCHED}")]);
    }

    #[tokio::test]
    async fn a_failure_says_command_status_and_the_end_of_stderr_escaped() {
        let script = "for i in $(seq 4000); do echo $i >&2; done; printf '\\033[2J' >&2; exit 3";
        let error = run(shell(script, LONG)).await.unwrap_err();
        let ExecError::Failed { command, status, stderr, .. } = error else { panic!("{error:?}") };
        assert!(command.starts_with("/bin/sh -c for"), "{command}");
        assert_eq!(status.code(), Some(3));
        assert!(stderr.ends_with(r"4000\u{a}\u{1b}[2J"), "{stderr}");
        assert!(!stderr.contains("a}1000\\"), "kept more than the end");
    }

    #[tokio::test]
    async fn another_exit_code_can_be_an_answer() {
        let mut spec = shell("exit 100", LONG);
        spec.answers.insert(100);
        assert_eq!(run(spec).await.unwrap().status.code(), Some(100));
    }

    #[tokio::test]
    async fn the_deadline_kills_what_the_command_left_behind() {
        // The outer process ends at once; the inner one keeps the pipe open and must die for the test to end.
        let path = tempfile::NamedTempFile::new().unwrap();
        let script = format!("sleep 1000 & echo $! > {}", path.path().display());
        let error = run(shell(&script, Duration::from_millis(300))).await.unwrap_err();
        assert!(matches!(error, ExecError::Deadline { .. }), "{error:?}");
        let inner: i32 = std::fs::read_to_string(path.path()).unwrap().trim().parse().unwrap();
        // Dying takes a moment after the signal; a survivor would run into the runner's timeout.
        while !std::fs::read_to_string(format!("/proc/{inner}/stat")).map_or(true, |stat| stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn endless_output_is_stopped() {
        let error = run(CommandSpec::new("/usr/bin/yes", &[], LONG)).await.unwrap_err();
        assert!(matches!(error, ExecError::TooMuchOutput { .. }), "{error:?}");
    }

    #[test]
    fn secrets_and_input_are_never_shown() {
        let mut spec = CommandSpec::new("/bin/mount", &["-o", "hunter2"], LONG);
        spec.secrets.insert(1);
        spec.stdin = Some(b"hunter2".to_vec());
        let shown = format!("{spec} {spec:?}");
        assert!(!shown.contains("hunter2") && shown.contains("/bin/mount -o <secret>"), "{shown}");
    }
}
