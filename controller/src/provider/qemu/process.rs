// SPDX-License-Identifier: Apache-2.0
//! Whether the process of a machine runs, and its end.
//!
//! A process id alone proves nothing: it may be somebody else's by now. A process is a machine's if its arguments name the
//! machine's id; that a signal reaches the same process is seen by its start time.

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

    /// Its number.
    #[cfg(test)]
    pub(super) const fn pid(self) -> i32 {
        self.pid
    }

    /// Whether this very process still runs.
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
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, spaces and parentheses too.
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18))??.parse().ok()
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
