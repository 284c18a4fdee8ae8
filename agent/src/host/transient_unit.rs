// SPDX-License-Identifier: Apache-2.0
//! Runs programs as transient systemd units `windlass-job-ID.service`, over D-Bus.
//!
//! A unit outlives the agent, does not inherit the agent's sandbox, and keeps its own result until it is asked for: after
//! a restart the agent reads it and knows how the program ended. Output goes through the same named pipes as elsewhere
//! (see [`crate::output`]), handed over as file descriptors, which systemd can take since version 236.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use windlass_types::action::Argv;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::JobId;
use windlass_types::outcome::ErrorClass;
use zbus::{Fd, OwnedObjectPath, Variant};

use super::clock::Clock;
use super::exec::{ExecError, SEARCHED, find};
use crate::jobs::process_group::boot_id;
use crate::jobs::runner::{End, NotStarted, Runner, Running};
use crate::journal::Mark;
use crate::output::{Drains, Spool};

/// The first version that takes descriptors for a unit's output.
const OLDEST_VERSION: u32 = 236;

/// systemd tells about changes; this only bounds how long a lost message is missed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// The flag of a command whose failure is not the unit's: the `-` of unit files.
const IGNORE_FAILURE: bool = true;

/// `ExecMainCode` of a program that exited: CLD_EXITED of waitid(2).
const CODE_EXITED: i32 = 1;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        auxiliary: &[(&str, Vec<(&str, Variant<'_>)>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn sub_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "ExecMainPID")]
    fn exec_main_pid(&self) -> zbus::Result<u32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_code(&self) -> zbus::Result<i32>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
}

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
    manager: ManagerProxy<'static>,
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
        let bus = zbus::Connection::system().await?;
        let manager = ManagerProxy::new(&bus).await?;
        let version = manager.version().await?;
        if parse_version(&version).is_none_or(|version| version < OLDEST_VERSION) {
            return Err(UnitsUnavailable::TooOld(version));
        }
        // Without a subscriber systemd sends no signals; it also keeps units loaded a little longer for one.
        manager.subscribe().await?;
        Ok(Self { manager, clock })
    }

    async fn running(&self, name: String, mark: Option<Mark>, drains: Option<Drains>) -> zbus::Result<UnitRunning> {
        let path = self.manager.get_unit(&name).await?;
        let bus = self.manager.inner().connection();
        let unit = UnitProxy::builder(bus).path(path.clone()).build().await?;
        let service = ServiceProxy::builder(bus).path(path).build().await?;
        let mark = match mark {
            Some(mark) => mark,
            None => {
                let pid = service.exec_main_pid().await.unwrap_or_default();
                Mark { pid, start_ticks: 0, boot_id: boot_id(), at: self.clock.now() }
            }
        };
        Ok(UnitRunning { manager: self.manager.clone(), name, unit, service, mark, drains })
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
        let started = self.manager.start_transient_unit(&name, "fail", &properties, &[]).await;
        started.map_err(|error| not_started(format!("ask systemd to start the program: {error}")))?;
        let running = self.running(name, None, Some(drains)).await;
        let running = running.map_err(|error| not_started(format!("find the unit that was just started: {error}")))?;
        Ok(Box::new(running))
    }

    async fn adopt(&self, job: &JobId, mark: Option<&Mark>, spool: &Arc<Spool>) -> Option<Box<dyn Running>> {
        let drains = Drains::resume(spool).ok();
        let running = self.running(unit_name(job), mark.cloned(), drains).await.ok()?;
        Some(Box::new(running))
    }
}

struct UnitRunning {
    manager: ManagerProxy<'static>,
    name: String,
    unit: UnitProxy<'static>,
    service: ServiceProxy<'static>,
    mark: Mark,
    drains: Option<Drains>,
}

impl UnitRunning {
    /// How the program ended, once it has.
    async fn end(&self) -> zbus::Result<Option<End>> {
        let (active, sub) = (self.unit.active_state().await?, self.unit.sub_state().await?);
        let is_over = matches!(active.as_str(), "failed" | "inactive") || sub == "exited";
        if !is_over {
            return Ok(None);
        }
        let (code, status) = (self.service.exec_main_code().await?, self.service.exec_main_status().await?);
        Ok(Some(ending(code, status)))
    }
}

fn ending(code: i32, status: i32) -> End {
    match code {
        CODE_EXITED => End::Exited(status),
        0 => End::Unknown("systemd ended the unit without running the program; see its journal".to_owned()),
        _ => End::Signaled(status),
    }
}

#[async_trait]
impl Running for UnitRunning {
    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn wait(&mut self) -> End {
        // Looking doubles from a moment to half a second: a quick program is not held up, a long one costs little.
        let mut pause = Duration::from_millis(2);
        loop {
            match self.end().await {
                Ok(Some(end)) => {
                    if let Some(drains) = &mut self.drains {
                        drains.take_rest();
                    }
                    return end;
                }
                Ok(None) => {}
                Err(error) => return End::Unknown(format!("systemd does not know the unit any more: {error}")),
            }
            let look = tokio::time::sleep(pause);
            pause = (pause * 2).min(LOOK_INTERVAL);
            match &mut self.drains {
                Some(drains) => {
                    if drains.until_closed_or(look).await.is_none() {
                        self.drains = None;
                    }
                }
                None => look.await,
            }
        }
    }

    async fn signal(&mut self, signal: Signal) {
        if let Err(error) = self.manager.kill_unit(&self.name, "all", signal as i32).await {
            tracing::debug!(%error, "signal not sent");
        }
    }

    async fn release(&mut self) {
        // Whichever fits: an exited unit is stopped, a failed one is forgotten.
        let stopped = self.manager.stop_unit(&self.name, "replace").await;
        let forgotten = self.manager.reset_failed_unit(&self.name).await;
        if let (Err(error), Err(_)) = (stopped, forgotten) {
            tracing::debug!(%error, unit = %self.name, "the unit is gone already");
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
    fn the_result_of_a_unit_is_the_result_of_the_job() {
        assert_eq!(ending(1, 3), End::Exited(3));
        assert_eq!((ending(2, 15), ending(3, 11)), (End::Signaled(15), End::Signaled(11)));
        assert!(matches!(ending(0, 0), End::Unknown(_)));
    }

    #[test]
    fn a_unit_is_named_after_its_job() {
        assert_eq!(unit_name(&JobId::new("42").expect("digits")), "windlass-job-42.service");
    }
}
