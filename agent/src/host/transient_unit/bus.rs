// SPDX-License-Identifier: Apache-2.0
//! The way to systemd: a connection to the bus that is made anew when it breaks, so that a bus that was restarted, or a
//! systemd that executes itself anew, ends no job.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use zbus::fdo;
use zbus::{OwnedObjectPath, Variant};

/// Within this a bus is back that was restarted, and a systemd that is updated.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one question may stay without an answer; the usual measure of D-Bus.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);

/// Between two attempts to reach the bus.
const PAUSE: Duration = Duration::from_millis(200);

/// systemd's own: the unit was started before.
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
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

/// The connection.
#[derive(Debug)]
pub(super) struct Bus(Mutex<(u64, ManagerProxy<'static>)>);

/// Makes a connection.
pub(super) async fn connect() -> zbus::Result<ManagerProxy<'static>> {
    connect_to(zbus::connection::Builder::system(), ANSWER_WITHIN).await
}

/// A bus that takes connections and answers nobody does not hold up whoever asks.
async fn connect_to(
    bus: zbus::connection::Builder<'_>,
    answer_within: Duration,
) -> zbus::Result<ManagerProxy<'static>> {
    let connected = tokio::time::timeout(answer_within, bus.method_timeout(answer_within).build()).await;
    let connection = connected.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))?;
    let manager = ManagerProxy::new(&connection).await?;
    // Without a subscriber systemd sends no signals; it also keeps units loaded a little longer for one.
    manager.subscribe().await?;
    Ok(manager)
}

impl Bus {
    pub(super) const fn new(manager: ManagerProxy<'static>) -> Self {
        Self(Mutex::new((0, manager)))
    }

    fn current(&self) -> MutexGuard<'_, (u64, ManagerProxy<'static>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks until systemd answers, over another connection if need be, but not for ever. What is asked may have been
    /// heard already each time.
    pub(super) async fn ask<T, F>(&self, question: impl Fn(ManagerProxy<'static>) -> F) -> zbus::Result<T>
    where
        F: Future<Output = zbus::Result<T>>,
    {
        let until = Instant::now() + PATIENCE;
        loop {
            let (number, manager) = self.current().clone();
            match question(manager).await {
                Err(error) if !is_answer(&error) && Instant::now() < until => {
                    tracing::debug!(%error, "systemd did not answer; asking again");
                    self.replace(number).await;
                }
                answer => return answer,
            }
        }
    }

    /// Makes another connection, unless somebody else has.
    async fn replace(&self, number: u64) {
        tokio::time::sleep(PAUSE).await;
        if self.current().0 != number {
            return;
        }
        match connect().await {
            Ok(manager) => *self.current() = (number + 1, manager),
            Err(error) => tracing::debug!(%error, "the bus cannot be reached"),
        }
    }
}

/// Whether systemd itself said so, and not the way to it.
pub(super) fn is_answer(error: &zbus::Error) -> bool {
    match error {
        zbus::Error::MethodError(..) => true,
        zbus::Error::FDO(error) => !matches!(
            **error,
            fdo::Error::NoReply(_)
                | fdo::Error::Timeout(_)
                | fdo::Error::TimedOut(_)
                | fdo::Error::Disconnected(_)
                | fdo::Error::IOError(_)
                | fdo::Error::NoServer(_)
                | fdo::Error::NameHasNoOwner(_)
                | fdo::Error::ServiceUnknown(_)
                | fdo::Error::ZBus(_)
        ),
        _ => false,
    }
}

/// Whether the unit cannot be started because it was before.
pub(super) fn says_that_it_exists(error: &zbus::Error) -> bool {
    matches!(error, zbus::Error::MethodError(name, ..) if name.as_str() == UNIT_EXISTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bus_that_answers_nobody_is_not_waited_for_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bus");
        let _takes_connections = tokio::net::UnixListener::bind(&path).unwrap();
        let address = format!("unix:path={}", path.display());
        let bus = zbus::connection::Builder::address(address.as_str());
        let connecting = connect_to(bus, Duration::from_millis(50));
        let error = tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap().unwrap_err();
        assert!(!is_answer(&error), "{error}");
    }

    #[test]
    fn a_broken_way_to_systemd_is_no_answer_of_systemd() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert!(!is_answer(&zbus::Error::InputOutput(broken.into())));
        assert!(!is_answer(&zbus::Error::FDO(Box::new(fdo::Error::NoReply(String::new())))));
        assert!(is_answer(&zbus::Error::FDO(Box::new(fdo::Error::AccessDenied(String::new())))));
    }
}
