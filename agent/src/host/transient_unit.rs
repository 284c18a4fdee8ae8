// SPDX-License-Identifier: Apache-2.0
//! Runs programs as transient systemd units `windlass-job-ID.service`, over D-Bus.
//!
//! A unit outlives the agent, does not inherit the agent's sandbox, and keeps its own result until it is asked for: after
//! a restart the agent reads it and knows how the program ended. Output goes through the same named pipes as elsewhere
//! (see [`crate::output`]), handed over as file descriptors, which systemd can take since version 236.

mod bus;
mod running;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use windlass_types::action::Argv;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;
use zbus::{Fd, Variant};

use bus::{Bus, ManagerProxy};
use running::{Sight, UnitRunning, Unseen};

use super::clock::Clock;
use super::exec::{ExecError, SEARCHED, find};
use crate::jobs::process_group::boot_id;
use crate::jobs::runner::{NotStarted, Runner, Running};
use crate::journal::Mark;
use crate::output::{Drains, Spool};

/// The first version that takes descriptors for a unit's output.
const OLDEST_VERSION: u32 = 236;

/// The flag of a command whose failure is not the unit's: the `-` of unit files.
const IGNORE_FAILURE: bool = true;

/// systemd cannot run jobs here.
#[derive(Debug, thiserror::Error)]
pub enum UnitsUnavailable {
    /// No bus, or no systemd on it.
    #[error("talk to systemd over D-Bus")]
    Bus(#[from] zbus::Error),
    /// Too old.
    #[error("systemd {0:?} is older than version {OLDEST_VERSION}")]
    TooOld(String),
}

/// Runs programs as transient units.
#[derive(Debug)]
pub struct TransientUnits {
    bus: Arc<Bus>,
    clock: Arc<dyn Clock>,
}

impl TransientUnits {
    /// Whether systemd runs this machine: sd_booted(3).
    #[must_use]
    pub fn are_possible() -> bool {
        Path::new("/run/systemd/system").is_dir()
    }

    /// Connects to systemd.
    ///
    /// # Errors
    /// If it cannot be talked to or is too old.
    pub async fn connect(clock: Arc<dyn Clock>) -> Result<Self, UnitsUnavailable> {
        let manager = bus::connect().await?;
        let version = manager.version().await?;
        if parse_version(&version).is_none_or(|version| version < OLDEST_VERSION) {
            return Err(UnitsUnavailable::TooOld(version));
        }
        Ok(Self { bus: Arc::new(Bus::new(manager)), clock })
    }

    async fn running(&self, name: String, mark: Option<Mark>, drains: Option<Drains>) -> zbus::Result<UnitRunning> {
        let unit = name.as_str();
        let path = self.bus.ask(|manager| async move { manager.get_unit(unit).await }).await?;
        let mark = mark.unwrap_or_else(|| Mark { pid: 0, start_ticks: 0, boot_id: boot_id(), at: self.clock.now() });
        Ok(UnitRunning { bus: Arc::clone(&self.bus), name, path, mark, drains, sight: Sight::default() })
    }

    fn unseen(&self, why: String) -> Box<dyn Running> {
        Box::new(Unseen { why, mark: Mark { pid: 0, start_ticks: 0, boot_id: boot_id(), at: self.clock.now() } })
    }

    /// Asks systemd to start the unit.
    async fn begin(&self, name: &str, properties: &[(&str, Variant<'_>)]) -> zbus::Result<()> {
        // Its name is the job's own: if nobody heard the answer, asking once more cannot start it twice.
        let asked = &AtomicBool::new(false);
        let start = |manager: ManagerProxy<'static>| async move {
            let before = asked.swap(true, Ordering::Relaxed);
            match manager.start_transient_unit(name, "fail", properties, &[]).await {
                Err(error) if before && bus::says_that_it_exists(&error) => Ok(()),
                answer => answer.map(drop),
            }
        };
        self.bus.ask(start).await
    }
}

/// The leading number of "252", "252.4-1.el9", "v255~rc1" or "systemd 239".
fn parse_version(text: &str) -> Option<u32> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

fn unit_name(job: &JobId) -> String {
    format!("windlass-job-{job}.service")
}

/// systemd replaces `$NAME` in arguments, and `$$` by `$`.
fn escaped(argument: &str) -> String {
    argument.replace('$', "$$")
}

fn properties(argv: &Argv, program: String, outputs: [std::fs::File; 2]) -> Vec<(&'static str, Variant<'static>)> {
    let arguments: Vec<String> = argv.as_slice().iter().map(|argument| escaped(argument)).collect();
    let environment = vec!["HOME=/root".to_owned(), format!("PATH={SEARCHED}"), "LANG=C.UTF-8".to_owned()];
    let [stdout, stderr] = outputs.map(|file| Variant::from(Fd::from(std::os::fd::OwnedFd::from(file))));
    vec![
        ("Description", Variant::from(format!("Windlass job: {argv}"))),
        // Whatever the program's end, the unit has not failed: it stays active, systemd keeps the pipes open with what lies
        // unread in them, and the node's own monitoring is not alarmed. The exit code is kept either way.
        ("ExecStart", Variant::from(vec![(program, arguments, IGNORE_FAILURE)])),
        ("Environment", Variant::from(environment)),
        ("WorkingDirectory", Variant::from("/")),
        ("StandardOutputFileDescriptor", stdout),
        ("StandardErrorFileDescriptor", stderr),
        // The result stays until it is asked for.
        ("RemainAfterExit", Variant::from(true)),
        // As elsewhere: the end of the program is the end of the job, and what it left in the background goes on.
        ("KillMode", Variant::from("process")),
    ]
}

fn not_started(message: String) -> NotStarted {
    NotStarted { message, class: ErrorClass::Operator }
}

#[async_trait]
impl Runner for TransientUnits {
    async fn start(&self, job: &JobId, argv: &Argv, spool: &Arc<Spool>) -> Result<Box<dyn Running>, NotStarted> {
        let program = find(argv.program()).map_err(|error: ExecError| not_started(ErrorChain(&error).to_string()))?;
        let (drains, outputs) = Drains::begin(spool)
            .map_err(|error| not_started(format!("make the pipes for the program's output: {error}")))?;
        let name = unit_name(job);
        let properties = properties(argv, program.to_string_lossy().into_owned(), outputs);
        match self.begin(&name, &properties).await {
            Ok(()) => {}
            Err(error) if bus::is_answer(&error) => {
                return Err(not_started(format!("ask systemd to start the program: {error}")));
            }
            Err(error) => return Ok(self.unseen(format!("systemd did not answer whether it starts it: {error}"))),
        }
        match self.running(name, None, Some(drains)).await {
            Ok(running) => Ok(Box::new(running)),
            Err(error) => Ok(self.unseen(format!("systemd was to start it and does not know it any more: {error}"))),
        }
    }

    async fn adopt(&self, job: &JobId, mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        let drains = Drains::resume(spool).ok();
        match self.running(unit_name(job), mark.cloned(), drains).await {
            Ok(running) => Some(Box::new(running)),
            Err(error) if bus::is_answer(&error) => None,
            Err(error) => Some(self.unseen(format!("systemd cannot be asked whether the program still runs: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions_as_distributions_write_them() {
        let cases = [("219", 219), ("252.4-1.el9", 252), ("v255~rc1", 255), ("systemd 239 (239-78.el8)", 239)];
        for (text, version) in cases {
            assert_eq!(parse_version(text), Some(version), "{text}");
        }
        assert_eq!(parse_version(""), None);
    }

    #[test]
    fn systemd_must_not_replace_anything_in_arguments() {
        assert_eq!(escaped("$HOME and ${x} and 5$"), "$$HOME and $${x} and 5$$");
    }

    #[test]
    fn a_unit_is_named_after_its_job() {
        assert_eq!(unit_name(&JobId::new("42").expect("digits")), "windlass-job-42.service");
    }
}
