// SPDX-License-Identifier: Apache-2.0
//! The process of a job: what an operator asked to run, started and signalled but not judged.

use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::Signal;
use tokio::process::Child;
use windlass_types::action::Argv;

use super::{ExecError, SEARCHED, command, kill_group};

/// Starts what an operator asked to run, without a shell.
///
/// Standard input is /dev/null. The environment is `HOME`, `PATH` and `LANG` and nothing of the agent's, the working
/// directory is `/`, and the process leads its own group. Dropping the result leaves the process alone.
///
/// # Errors
/// If the program is not found in [`SEARCHED`] or does not start.
pub fn spawn_job(argv: &Argv, stdout: File, stderr: File) -> Result<JobChild, ExecError> {
    let program = find(argv.program())?;
    let mut command = command(&program);
    command.args(argv.arguments()).env("HOME", "/root").env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    // A script sees the name it was called by, as from a shell.
    command.arg0(argv.program());
    let child = command.spawn().map_err(|source| ExecError::Start { program, source })?;
    let pid = child.id().ok_or(ExecError::Ended)?;
    Ok(JobChild { child, pid })
}

/// The first executable file of that name, as execvp(3) would find it.
pub(in crate::host) fn find(program: &str) -> Result<PathBuf, ExecError> {
    if program.contains('/') {
        return Ok(PathBuf::from(program));
    }
    SEARCHED
        .split(':')
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0))
        .ok_or_else(|| ExecError::NotFound { program: program.to_owned() })
}

/// A job's process, which leads its own group.
#[derive(Debug)]
pub struct JobChild {
    child: Child,
    pid: u32,
}

impl JobChild {
    /// Process id, and id of its group.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end. May be dropped and called again; once ended, answers the same at once.
    ///
    /// # Errors
    /// If somebody else reaped the process.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends a signal to the process and everything it started that stayed in its group.
    ///
    /// # Errors
    /// [`ExecError::Ended`] once [`wait`](Self::wait) has answered, because the number may be another group's by then.
    pub fn signal_group(&self, signal: Signal) -> Result<(), ExecError> {
        let group = self.child.id().ok_or(ExecError::Ended)?;
        kill_group(group, signal).map_err(|source| ExecError::Signal { group, source })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn argv(argv: &[&str]) -> Argv {
        Argv::new(argv.iter().map(|&text| text.to_owned()).collect()).unwrap()
    }

    /// Runs a job to its end; its standard output.
    async fn output(argv: &Argv) -> String {
        let out = tempfile::NamedTempFile::new().unwrap();
        let mut child = spawn_job(argv, out.reopen().unwrap(), out.reopen().unwrap()).unwrap();
        assert!(child.wait().await.unwrap().success());
        std::fs::read_to_string(out.path()).unwrap()
    }

    fn nowhere() -> (File, File) {
        (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap())
    }

    #[tokio::test]
    async fn a_job_sees_nothing_of_the_agents_environment() {
        let text = output(&argv(&["env"])).await;
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        assert_eq!(lines, ["HOME=/root", "LANG=C.UTF-8", &format!("PATH={SEARCHED}")]);
    }

    #[tokio::test]
    async fn a_job_starts_in_the_root_and_leads_its_own_group() {
        assert_eq!(output(&argv(&["pwd"])).await, "/\n");
        let text = output(&argv(&["/bin/sh", "-c", "read -r _ _ _ _ group _ < /proc/$$/stat; echo $$ $group"])).await;
        let (pid, group) = text.trim_end().split_once(' ').unwrap();
        assert_eq!(pid, group);
    }

    #[test]
    fn an_error_about_a_program_with_a_long_name_is_short() {
        let (out, err) = nowhere();
        let error = spawn_job(&argv(&[&"x".repeat(120_000)]), out, err).unwrap_err();
        let start = ExecError::Start { program: "/x".repeat(60_000).into(), source: std::io::Error::other("e") };
        for error in [error, start].map(|error| error.to_string()) {
            assert!(error.len() < 1000 && error.contains("(120000 bytes)"), "{error}");
        }
    }

    #[test]
    fn a_program_that_is_nowhere_is_refused_with_the_directories_searched() {
        let (out, err) = nowhere();
        let error = spawn_job(&argv(&["no-such-program"]), out, err).unwrap_err().to_string();
        assert!(error.contains("no-such-program") && error.contains("/usr/local/bin"), "{error}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_executable_says_so() {
        let (out, err) = nowhere();
        let error = spawn_job(&argv(&["/etc/passwd"]), out, err).unwrap_err();
        assert!(matches!(&error, ExecError::Start { source, .. } if source.raw_os_error() == Some(13)), "{error:?}");
    }

    #[tokio::test]
    async fn a_signal_ends_the_whole_group_and_is_refused_afterwards() {
        // The inner process holds the write end of the pipe: its end shows as the end of the file.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let out = File::from(std::os::fd::OwnedFd::from(writer));
        let script = "sleep 1000 & echo started; wait";
        let mut child = spawn_job(&argv(&["/bin/sh", "-c", script]), out, nowhere().1).unwrap();
        let mut line = [0; 8];
        std::io::Read::read_exact(&mut reader, &mut line).unwrap();
        child.signal_group(Signal::SIGKILL).unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
        let mut rest = Vec::new();
        std::io::Read::read_to_end(&mut reader, &mut rest).unwrap();
        assert!(matches!(child.signal_group(Signal::SIGKILL), Err(ExecError::Ended)));
    }
}
