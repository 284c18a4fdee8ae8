// SPDX-License-Identifier: Apache-2.0
//! Whether the process of a machine runs, and its end.
//!
//! A process id alone proves nothing: it may be somebody else's by now. A process is a machine's if its arguments name the
//! machine's id; that a signal reaches the same process is seen by its start time. One that is ending has lost its arguments
//! and has its files, and the locks on them, a moment longer: until its last thread has gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};
use windlass_types::name::MachineId;

/// QEMU writes its id here.
pub(super) const PID_FILE: &str = "pid";

/// How often it is looked whether a process has gone.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The process of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// The process of a machine, if it runs.
    pub(super) fn find(directory: &Path, id: &MachineId) -> Option<Self> {
        let text = fs::read_to_string(directory.join(PID_FILE)).ok()?;
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        let started = start_time(pid)?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let arguments: Vec<_> = arguments.split(|byte| *byte == 0).collect();
        let names_machine = arguments.windows(2).any(|pair| pair == [b"-uuid", id.as_str().as_bytes()]);
        names_machine.then_some(Self { pid, started })
    }

    /// The process that left its number there, if it is ending: nobody can tell any more whose it was.
    pub(super) fn ending(directory: &Path) -> Option<Self> {
        let text = fs::read_to_string(directory.join(PID_FILE)).ok()?;
        let pid = text.trim().parse().ok().filter(|pid| *pid > 1)?;
        let seen = Seen::look(pid)?;
        seen.is_ending.then_some(Self { pid, started: seen.started })
    }

    /// Its number.
    #[cfg(test)]
    pub(super) const fn pid(self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs, or has not let go of its files.
    pub(super) fn runs(self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Waits until it has gone; `false` if it has not by then.
    pub(super) async fn has_gone_within(self, limit: Duration) -> bool {
        let give_up = Instant::now() + limit;
        while self.runs() {
            if Instant::now() >= give_up {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// Kills it, if it still is what it was.
    pub(super) fn kill(self) -> Result<(), Errno> {
        if !self.runs() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// When a process was started, in ticks since the boot; `None` if there is none, or only its end to be collected.
fn start_time(pid: i32) -> Option<u64> {
    Seen::look(pid).map(|seen| seen.started)
}

/// The kernel's mark of a thread that has begun to end: `PF_EXITING`.
const EXITING: u64 = 4;

/// What the kernel shows of a process that has something left.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    started: u64,
    /// Its first thread is ending, or has ended before the others.
    is_ending: bool,
}

impl Seen {
    fn look(pid: i32) -> Option<Self> {
        Self::read(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `None` once only its end is left to be collected.
    fn read(text: &str) -> Option<Self> {
        // The name before it may hold anything, spaces and parentheses too.
        let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let (state, flags, threads, started) = (*fields.first()?, number(6)?, number(17)?, number(19)?);
        let is_collected_only = state == "X" || state == "Z" && threads <= 1;
        let is_ending = state == "Z" || flags & EXITING != 0;
        (!is_collected_only).then_some(Self { started, is_ending })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_id_that_is_somebody_elses_now_is_not_the_machine() {
        let directory = tempfile::tempdir().expect("a directory");
        let id = MachineId::new("9b2c6f0e-1d1f-4a57-8a37-000000000001").expect("an id");
        assert_eq!(Process::find(directory.path(), &id), None);
        for pid in
            [std::process::id().to_string(), "1".into(), "0".into(), "-1".into(), "x".into(), i32::MAX.to_string()]
        {
            fs::write(directory.path().join(PID_FILE), &pid).expect("written");
            assert_eq!(Process::find(directory.path(), &id), None, "{pid}");
        }
    }

    /// As Linux 6.1 shows a process whose first thread has ended and another has not.
    const FIRST_THREAD_GONE: &str = "14571 (qemu (x) ) Z 14568 14568 8631 0 -1 4227084 2943 6531 8 0 4 2 5 2 20 0 2 0 56488 0 \
                                     0 18446744073709551615 0 0 0 0 0 0 0 16781318 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";

    #[test]
    fn a_process_has_ended_when_its_last_thread_has() {
        let ending = Some(Seen { started: 56488, is_ending: true });
        assert_eq!(Seen::read(FIRST_THREAD_GONE), ending);
        let of_one_thread = FIRST_THREAD_GONE.replace(" 20 0 2 0 ", " 20 0 1 0 ");
        assert_eq!(Seen::read(&of_one_thread), None);
        assert_eq!(Seen::read(&of_one_thread.replace(") Z ", ") R ")), ending, "it still closes its files");
        let runs = of_one_thread.replace(") Z ", ") S ").replace(" 4227084 ", " 4194304 ");
        assert_eq!(Seen::read(&runs), Some(Seen { started: 56488, is_ending: false }));
        assert_eq!(Seen::read("14571 (qemu"), None);
    }

    #[test]
    fn another_start_time_is_another_process_and_is_not_killed() {
        let me = i32::try_from(std::process::id()).expect("an id");
        let started = start_time(me).expect("this process runs");
        assert!(Process { pid: me, started }.runs());
        let other = Process { pid: me, started: started + 1 };
        assert!(!other.runs());
        assert_eq!(other.kill(), Ok(()));
    }
}
