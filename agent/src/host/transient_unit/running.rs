// SPDX-License-Identifier: Apache-2.0
//! Watching the unit of a job to the end of its program.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use nix::sys::signal::Signal;
use zbus::OwnedObjectPath;

use super::bus::{self, Bus, ManagerProxy};
use crate::jobs::runner::{End, Running};
use crate::journal::Mark;
use crate::output::Drains;

/// `ExecMainCode` of a program that exited: CLD_EXITED of waitid(2).
const CODE_EXITED: i32 = 1;

/// systemd tells about changes; this only bounds how long a lost message is missed.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn sub_state(&self) -> zbus::Result<String>;
    /// What systemd still has to do with the unit: number and path; the number is 0 if it has nothing to do.
    #[zbus(property(emits_changed_signal = "false"))]
    fn job(&self) -> zbus::Result<(u32, OwnedObjectPath)>;
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

/// The unit of one job.
pub(super) struct UnitRunning {
    pub(super) bus: Arc<Bus>,
    pub(super) name: String,
    pub(super) path: OwnedObjectPath,
    pub(super) mark: Mark,
    pub(super) drains: Option<Drains>,
    pub(super) sight: Sight,
}

/// How far a program is out of sight.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// Somebody wants its end.
    is_told: bool,
    /// It was given up, and may run still.
    is_lost: bool,
}

impl Sight {
    /// systemd cannot be asked about it. Whether it is asked again: without a word of systemd the program is taken to run
    /// on, until somebody wants its end.
    fn fails(&mut self, error: &zbus::Error) -> bool {
        self.is_lost = self.is_told || bus::is_answer(error);
        !self.is_lost
    }
}

/// What systemd says about a unit.
enum Seen {
    /// Its program ended, or will never run.
    Over(End),
    /// Its program runs, or will.
    Lives {
        /// 0 before it runs.
        pid: u32,
    },
}

impl UnitRunning {
    async fn look(&self) -> zbus::Result<Seen> {
        let (path, known) = (&self.path, self.mark.pid);
        let look = |manager: ManagerProxy<'static>| async move {
            let bus = manager.inner().connection();
            let unit = UnitProxy::builder(bus).path(path.clone()).build().await?;
            let service = ServiceProxy::builder(bus).path(path.clone()).build().await?;
            // What is still to be done is asked first: once the start is done with, the state is of that time or later.
            let is_awaited = unit.job().await?.0 != 0;
            let (active, sub) = (unit.active_state().await?, unit.sub_state().await?);
            if is_over(is_awaited, &active, &sub) {
                let (code, status) = (service.exec_main_code().await?, service.exec_main_status().await?);
                return Ok(Seen::Over(ending(code, status)));
            }
            let pid = if known == 0 { service.exec_main_pid().await? } else { known };
            Ok(Seen::Lives { pid })
        };
        self.bus.ask(look).await
    }

    /// Whether systemd has still to start the program.
    async fn is_before_start(&self) -> bool {
        self.mark.pid == 0 && matches!(self.look().await, Ok(Seen::Lives { pid: 0 }))
    }
}

/// A unit is inactive after its program, but also before: systemd answers that it will start the unit and does so when it
/// has nothing more urgent to do, such as in a boot.
fn is_over(is_awaited: bool, active: &str, sub: &str) -> bool {
    match active {
        "inactive" => !is_awaited,
        "failed" => true,
        _ => sub == "exited",
    }
}

fn ending(code: i32, status: i32) -> End {
    match code {
        CODE_EXITED => End::Exited(status),
        0 => End::Unknown(
            "systemd does not know how the program ended, or never ran it: perhaps somebody stopped its unit, see the \
             node's journal"
                .to_owned(),
        ),
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
            match self.look().await {
                Ok(Seen::Over(end)) => {
                    if let Some(drains) = &mut self.drains {
                        drains.take_rest();
                    }
                    return end;
                }
                Ok(Seen::Lives { pid }) => self.mark.pid = pid,
                Err(error) if self.sight.fails(&error) => {
                    tracing::warn!(%error, unit = %self.name, "systemd does not answer; asking until the job is stopped");
                }
                Err(error) => return End::Unknown(format!("systemd cannot be asked how the program ended: {error}")),
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
        self.sight.is_told = true;
        let (name, number) = (self.name.as_str(), signal as i32);
        // There is nobody yet who could hear it, and there shall be nobody: the start is called off.
        let sent = if self.is_before_start().await {
            self.bus.ask(|manager| async move { manager.stop_unit(name, "replace").await.map(drop) }).await
        } else {
            self.bus.ask(|manager| async move { manager.kill_unit(name, "all", number).await }).await
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "signal not sent");
        }
    }

    async fn release(&mut self) {
        if self.sight.is_lost {
            // To stop its unit would end a program that runs still.
            tracing::warn!(unit = %self.name, "how the program ended is not known; its unit is left alone");
            return;
        }
        let name = self.name.as_str();
        // Whichever fits: an exited unit is stopped, a failed one is forgotten.
        let stopped = self.bus.ask(|manager| async move { manager.stop_unit(name, "replace").await }).await;
        let forgotten = self.bus.ask(|manager| async move { manager.reset_failed_unit(name).await }).await;
        if let (Err(error), Err(_)) = (stopped, forgotten) {
            tracing::debug!(%error, unit = %self.name, "the unit is gone already");
        }
    }
}

/// A program that perhaps was started and that nobody can watch.
pub(super) struct Unseen {
    pub(super) why: String,
    pub(super) mark: Mark,
}

#[async_trait]
impl Running for Unseen {
    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn wait(&mut self) -> End {
        End::Unknown(self.why.clone())
    }

    async fn signal(&mut self, _signal: Signal) {}

    async fn release(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_a_unit_is_the_result_of_the_job() {
        assert_eq!(ending(1, 3), End::Exited(3));
        assert_eq!((ending(2, 15), ending(3, 11)), (End::Signaled(15), End::Signaled(11)));
        assert!(matches!(ending(0, 0), End::Unknown(_)));
    }

    #[test]
    fn a_program_is_given_up_only_when_it_was_to_end_or_systemd_says_so() {
        let broken = || zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        let mut sight = Sight::default();
        assert!(sight.fails(&broken()) && sight.fails(&broken()) && !sight.is_lost);
        sight.is_told = true;
        assert!(!sight.fails(&broken()) && sight.is_lost);
        let gone = zbus::Error::FDO(Box::new(zbus::fdo::Error::UnknownObject(String::new())));
        let mut sight = Sight::default();
        assert!(!sight.fails(&gone) && sight.is_lost);
    }

    #[test]
    fn a_unit_that_systemd_has_yet_to_start_is_not_over() {
        assert!(!is_over(true, "inactive", "dead"));
        assert!(is_over(false, "inactive", "dead"));
        for (active, sub, expected) in [
            ("activating", "start", false),
            ("active", "running", false),
            ("active", "exited", true),
            ("failed", "failed", true),
        ] {
            assert_eq!(is_over(false, active, sub), expected, "{active} ({sub})");
        }
    }
}
