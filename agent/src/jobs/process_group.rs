// SPDX-License-Identifier: Apache-2.0
//! Runs programs as process groups of the agent's own, where systemd does not run the machine.
//!
//! A program outlives the agent, but then nobody is left to see how it ends: a new agent finds it by process id and start
//! time, goes on draining its output, and reports its end as unknown.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::{Signal, killpg};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use windlass_types::action::Argv;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;
use windlass_types::time::UnixMillis;

use super::runner::{End, NotStarted, Runner, Running};
use crate::host::clock::Clock;
use crate::host::exec::{ExecError, JobChild, spawn_job};
use crate::journal::Mark;
use crate::output::{Drains, Spool};

/// How often a process that is not our child is looked at. The kernel tells only parents about an end.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// How long an ended program's output is waited for when something it started still holds the pipes.
const LAST_OUTPUT: Duration = Duration::from_millis(20);

/// Runs programs as process groups.
#[derive(Debug)]
pub struct ProcessGroups {
    clock: Arc<dyn Clock>,
    is_unconfined: bool,
}

impl ProcessGroups {
    /// With the clock that dates starts.
    #[must_use]
    pub const fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, is_unconfined: true }
    }

    /// The same in a sandbox of systemd's, which binds programs too.
    #[must_use]
    pub const fn confined(clock: Arc<dyn Clock>) -> Self {
        Self { clock, is_unconfined: false }
    }
}

/// 52 numbers and a name of at most 64 bytes: one read(2) has all of it.
const LONGEST_STAT_BYTES: usize = 2048;

/// The kernel's start time of a process, clock ticks since boot: field 22 of proc_pid_stat(5).
fn start_ticks(pid: u32) -> Option<u64> {
    let mut stat = [0; LONGEST_STAT_BYTES];
    let length = File::open(format!("/proc/{pid}/stat")).ok()?.read(&mut stat).ok()?;
    let stat = String::from_utf8_lossy(&stat[..length]);
    // The name in parentheses may contain anything; what follows the last one is plain.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    fields.nth(18)?.parse().ok().filter(|_| !is_dead)
}

/// Changes with every boot; empty if the kernel does not tell.
pub(crate) fn boot_id() -> String {
    static OF_THIS_BOOT: LazyLock<String> = LazyLock::new(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    });
    OF_THIS_BOOT.clone()
}

/// How long ago this was started. No longer ago than this boot of the machine: a node whose clock was wrong until it heard
/// the time would end its programs otherwise.
pub(super) fn age(mark: &Mark, now: UnixMillis) -> Duration {
    let by_the_clock = now.since(mark.at);
    let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok().filter(|_| mark.boot_id == boot_id());
    since_boot.map_or(by_the_clock, |since_boot| by_the_clock.min(since_boot.into()))
}

fn not_started(error: &ExecError) -> NotStarted {
    let class = match error {
        ExecError::Start { source, .. } if source.raw_os_error() == Some(nix::libc::EAGAIN) => ErrorClass::Transient,
        _ => ErrorClass::Operator,
    };
    NotStarted { message: ErrorChain(error).to_string(), class }
}

#[async_trait]
impl Runner for ProcessGroups {
    async fn start(&self, _job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        let (drains, [stdout, stderr]) = Drains::begin(spool).map_err(|error| NotStarted {
            message: format!("make the pipes for the program's output: {error}"),
            class: ErrorClass::Operator,
        })?;
        let child = spawn_job(argv, stdout, stderr).map_err(|error| not_started(&error))?;
        let pid = child.pid();
        let start_ticks = start_ticks(pid).unwrap_or_default();
        let mark = Mark { pid, start_ticks, boot_id: boot_id(), at: self.clock.now() };
        Ok(Box::new(Child { child, mark, drains }))
    }

    fn is_unconfined(&self) -> bool {
        self.is_unconfined
    }

    async fn adopt(&self, _job: &JobId, mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        let mark = mark.filter(|mark| mark.boot_id == boot_id())?;
        let mut drains = Drains::resume(spool).ok();
        if start_ticks(mark.pid) == Some(mark.start_ticks) {
            return Some(Box::new(Orphan { mark: mark.clone(), drains }));
        }
        if let Some(drains) = &mut drains {
            drains.take_rest();
        }
        None
    }
}

struct Child {
    child: JobChild,
    mark: Mark,
    drains: Drains,
}

#[async_trait]
impl Running for Child {
    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn wait(&mut self) -> End {
        // The pipes usually close before the end is told, and stay open when a daemon was left behind.
        self.drains.until_closed_or(self.child.wait()).await;
        let status = self.child.wait().await;
        self.drains.take_rest();
        match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => End::Exited(code),
                (None, signal) => End::Signaled(signal.unwrap_or_default()),
            },
            Err(error) => End::Unknown(format!("the end of the program was not told: {error}")),
        }
    }

    async fn signal(&mut self, signal: Signal) {
        if let Err(error) = self.child.signal_group(signal) {
            tracing::debug!(error = %ErrorChain(&error), "signal not sent");
        }
    }

    async fn release(&mut self) {}
}

/// A process that an earlier agent started.
struct Orphan {
    mark: Mark,
    drains: Option<Drains>,
}

impl Orphan {
    fn lives(&self) -> bool {
        start_ticks(self.mark.pid) == Some(self.mark.start_ticks)
    }
}

#[async_trait]
impl Running for Orphan {
    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn wait(&mut self) -> End {
        while self.lives() {
            let look = tokio::time::sleep(LOOK_INTERVAL);
            match &mut self.drains {
                Some(drains) => {
                    if drains.until_closed_or(look).await.is_none() {
                        self.drains = None;
                    }
                }
                None => look.await,
            }
        }
        if let Some(drains) = &mut self.drains {
            drains.until_closed_or(tokio::time::sleep(LAST_OUTPUT)).await;
        }
        End::Unknown(
            "the agent was restarted while the program ran: it has ended, but its exit code is not known".to_owned(),
        )
    }

    async fn signal(&mut self, signal: Signal) {
        let group = i32::try_from(self.mark.pid).ok().filter(|group| *group > 1 && self.lives());
        if let Some(group) = group {
            // Fails only if the group has just ended.
            let _ = killpg(Pid::from_raw(group), signal);
        }
    }

    async fn release(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::clock::SystemClock;
    use crate::output::Stream;

    fn parts() -> (tempfile::TempDir, ProcessGroups, JobId) {
        let dir = tempfile::tempdir().expect("a directory");
        (dir, ProcessGroups::new(Arc::new(SystemClock)), JobId::new("1").expect("digits"))
    }

    fn shell(script: &str) -> Argv {
        Argv::new(vec!["/bin/sh".into(), "-c".into(), script.into()]).expect("valid")
    }

    #[tokio::test]
    async fn output_and_exit_code_come_back() {
        let (dir, runner, job) = parts();
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let argv = shell("echo out; echo err > /dev/stderr; echo more >&2; exit 3");
        let mut running = runner.start(&job, &argv, &spool).await.expect("started");
        assert_eq!(running.wait().await, End::Exited(3));
        assert_eq!(spool.read(Stream::Stdout, 0, 99).expect("read"), "out\n");
        assert_eq!(spool.read(Stream::Stderr, 0, 99).expect("read"), "err\nmore\n");
    }

    #[tokio::test]
    async fn a_daemon_left_behind_does_not_hold_up_the_end() {
        let (dir, runner, job) = parts();
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let mut running = runner.start(&job, &shell("sleep 20 & echo left"), &spool).await.expect("started");
        let group = running.mark().pid;
        assert_eq!(running.wait().await, End::Exited(0));
        assert_eq!(spool.read(Stream::Stdout, 0, 99).expect("read"), "left\n");
        killpg(Pid::from_raw(i32::try_from(group).expect("a pid")), Signal::SIGKILL).expect("the daemon is there");
    }

    #[tokio::test]
    async fn a_signal_ends_the_whole_group() {
        let (dir, runner, job) = parts();
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let mut running = runner.start(&job, &shell("sleep 60 | sleep 60"), &spool).await.expect("started");
        running.signal(Signal::SIGTERM).await;
        assert_eq!(running.wait().await, End::Signaled(15));
    }

    #[tokio::test]
    async fn a_new_agent_finds_the_program_and_its_output() {
        let (dir, runner, job) = parts();
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let argv = shell("echo first; read -r _ < \"$0\"; echo second");
        let gate = dir.path().join("gate");
        nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).expect("a gate");
        let mut argv = Vec::from(argv);
        argv.push(gate.display().to_string());
        let argv = Argv::new(argv).expect("valid");
        let old = runner.start(&job, &argv, &spool).await.expect("started");
        let mark = old.mark();
        drop((old, spool));
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let mut found = runner.adopt(&job, Some(&mark), &spool).await.expect("found");
        std::fs::write(&gate, "\n").expect("let go");
        assert!(matches!(found.wait().await, End::Unknown(_)));
        assert_eq!(spool.read(Stream::Stdout, 0, 99).expect("read"), "first\nsecond\n");
        assert!(runner.adopt(&job, Some(&mark), &spool).await.is_none(), "it has ended");
    }

    #[test]
    fn a_clock_that_was_set_ahead_makes_nothing_older_than_the_boot() {
        let now = SystemClock.now();
        let mark = Mark { pid: 1, start_ticks: 0, boot_id: boot_id(), at: UnixMillis(0) };
        let since_boot = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock"));
        assert!(age(&mark, now) <= since_boot + Duration::from_secs(1));
        assert_eq!(age(&Mark { at: now, ..mark.clone() }, now), Duration::ZERO);
        assert_eq!(age(&Mark { boot_id: "another".to_owned(), ..mark }, now), now.since(UnixMillis(0)));
    }

    #[tokio::test]
    async fn another_process_with_the_same_number_is_not_taken_for_it() {
        let (dir, runner, job) = parts();
        let spool = Spool::open(dir.path(), &job, 1 << 20).expect("a spool");
        let pid = std::process::id();
        let mark = Mark { pid, start_ticks: 1, boot_id: boot_id(), at: SystemClock.now() };
        assert!(runner.adopt(&job, Some(&mark), &spool).await.is_none());
        assert!(start_ticks(pid).is_some_and(|ticks| ticks > 1));
    }
}
