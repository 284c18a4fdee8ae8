// SPDX-License-Identifier: Apache-2.0
//! What the agent reports about its node: one file per subject, each turning what [`crate::host`] tells into a fact.
//!
//! Observing is cheap: it starts systemctl if services are watched, and other tools only when what their answer depends
//! on has changed; lsblk also whenever somebody asks. It never fails as a whole: a subject that cannot be observed says
//! why.

mod boot;
mod cpu;
mod disks;
pub(crate) mod kernel;
mod load;
mod memory;
mod network;
mod os;
mod package_manager;
pub(crate) mod pending_reboot;
mod services;
mod tracker;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use windlass_types::error_chain::ErrorChain;
use windlass_types::facts::{Fact, Subject};

use crate::host::exec::ExecError;
use crate::host::{Look, Observe, lsblk, systemd_units};

pub use tracker::FactTracker;

/// Longer than the deadline of every tool, so that a tool's own message is preferred.
const DEADLINE: Duration = Duration::from_secs(45);

/// Longest reason, bytes: one line for a person, within what the wire accepts.
const LONGEST_REASON: usize = 1024;

/// Most devices, interfaces or mounts that are reported: what the wire accepts.
const MOST_ENTRIES: usize = 4096;

/// Why a subject could not be observed.
#[derive(Debug, thiserror::Error)]
enum Unobservable {
    #[error("read {path:?}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path:?} says nothing about {what}")]
    Silent { path: PathBuf, what: &'static str },
    #[error("uname(2)")]
    Machine(#[source] std::io::Error),
    #[error("processors")]
    Cpu(#[source] std::io::Error),
    #[error("memory")]
    Memory(#[source] std::io::Error),
    #[error("load average")]
    Load(#[source] std::io::Error),
    #[error("getifaddrs(3)")]
    Addresses(#[source] std::io::Error),
    #[error(transparent)]
    Tool(#[from] ExecError),
    #[error(transparent)]
    Lsblk(#[from] lsblk::BadOutput),
    #[error(transparent)]
    Systemctl(#[from] systemd_units::BadAnswer),
    #[error("no answer within {DEADLINE:?}")]
    Hangs,
}

impl Unobservable {
    /// The same words for the same cause, so that a lasting failure is reported once.
    fn reason(&self) -> String {
        let mut reason = match self {
            Self::Tool(ExecError::Failed { command, status, stderr, .. }) => {
                format!("`{command}` failed with {status}: {stderr}")
            }
            other => ErrorChain(other).to_string(),
        };
        reason.truncate(reason.floor_char_boundary(LONGEST_REASON));
        reason
    }
}

/// What the front sees by itself: it is in the node's network, and the executor is not.
pub fn observe_network(host: &dyn Observe) -> Fact {
    fact(Subject::Network, network::observe(host), Fact::Network)
}

/// Every subject but the network: some of it only root can see.
pub async fn observe_as_root(host: &dyn Observe, watched: &[String], look: Look) -> Vec<Fact> {
    let (kernel, disks, manager, services) = tokio::join!(
        within_deadline(kernel::observe(host)),
        within_deadline(disks::observe(host, look)),
        within_deadline(package_manager::observe(host)),
        within_deadline(services::observe(host, watched)),
    );
    let default_release = kernel.as_ref().ok().and_then(|kernel| kernel.default_release.as_deref());
    let running = kernel.as_ref().map_or("", |kernel| &kernel.running);
    let reboot = within_deadline(pending_reboot::observe(host, running, default_release)).await;
    vec![
        fact(Subject::Os, os::observe(host), Fact::Os),
        fact(Subject::Kernel, kernel, Fact::Kernel),
        fact(Subject::Boot, boot::observe(host), Fact::Boot),
        fact(Subject::Cpu, cpu::observe(host), Fact::Cpu),
        fact(Subject::Memory, memory::observe(host), Fact::Memory),
        fact(Subject::Load, load::observe(host), Fact::Load),
        fact(Subject::Disks, disks, Fact::Disks),
        fact(Subject::PackageManager, manager, Fact::PackageManager),
        fact(Subject::PendingReboot, reboot, Fact::PendingReboot),
        fact(Subject::Services, services, Fact::Services),
    ]
}

fn fact<T>(subject: Subject, observed: Result<T, Unobservable>, wrap: impl FnOnce(T) -> Fact) -> Fact {
    observed.map_or_else(|error| Fact::Unavailable { subject, reason: error.reason() }, wrap)
}

async fn within_deadline<T>(observing: impl Future<Output = Result<T, Unobservable>>) -> Result<T, Unobservable> {
    timeout(DEADLINE, observing).await.unwrap_or(Err(Unobservable::Hangs))
}

fn read(host: &dyn Observe, path: impl AsRef<Path>) -> Result<String, Unobservable> {
    let path = path.as_ref();
    host.read(path).map_err(|source| Unobservable::Read { path: path.to_owned(), source })
}

/// One line of a file under /sys; empty if it is not there, because most attributes are optional.
fn attribute(host: &dyn Observe, path: impl AsRef<Path>) -> String {
    host.read(path.as_ref()).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, Method};

    /// What both halves see, in the order of [`Subject::ALL`].
    async fn observe_all(host: &dyn Observe, watched: &[String], look: Look) -> Vec<Fact> {
        let mut facts = observe_as_root(host, watched, look).await;
        facts.push(observe_network(host));
        facts.sort_by_key(Fact::subject);
        facts
    }

    #[tokio::test]
    async fn every_subject_is_observed_exactly_once() {
        let facts = observe_all(&FakeHost::new("node1"), &["sshd.service".to_owned()], Look::Closely).await;
        let subjects: Vec<Subject> = facts.iter().map(Fact::subject).collect();
        assert_eq!(subjects, Subject::ALL);
        assert!(!facts.iter().any(|fact| matches!(fact, Fact::Unavailable { .. })), "{facts:?}");
    }

    #[tokio::test]
    async fn a_subject_that_fails_says_why_and_takes_no_other_along() {
        let cases = [
            (Method::Lsblk, Subject::Disks),
            (Method::SystemctlShow, Subject::Services),
            (Method::PackageManagerVersion, Subject::PackageManager),
            (Method::CorePackages, Subject::PendingReboot),
            (Method::Cpu, Subject::Cpu),
            (Method::Memory, Subject::Memory),
            (Method::Load, Subject::Load),
            (Method::InterfaceAddresses, Subject::Network),
        ];
        for (method, subject) in cases {
            let host = FakeHost::new("node1");
            host.fail_nth(method, 1, "out of luck");
            let facts = observe_all(&host, &["sshd.service".to_owned()], Look::Closely).await;
            let failed: Vec<&Fact> = facts.iter().filter(|fact| matches!(fact, Fact::Unavailable { .. })).collect();
            assert!(
                matches!(failed[..], [Fact::Unavailable { subject: s, reason }] if *s == subject && reason.contains("out of luck")),
                "{method:?}: {failed:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_tool_that_hangs_makes_its_subject_unavailable() {
        let host = FakeHost::new("node1");
        host.hang_nth(Method::Lsblk, 1);
        let facts = observe_all(&host, &[], Look::Closely).await;
        let hung = facts.iter().find(|fact| fact.subject() == Subject::Disks);
        assert!(matches!(hung, Some(Fact::Unavailable { reason, .. }) if reason == "no answer within 45s"), "{hung:?}");
    }

    #[tokio::test]
    async fn a_long_reason_is_cut_between_characters() {
        let host = FakeHost::new("node1");
        host.fail_nth(Method::Lsblk, 1, &"ü".repeat(LONGEST_REASON));
        let facts = observe_all(&host, &[], Look::Closely).await;
        let cut = facts.iter().find(|fact| fact.subject() == Subject::Disks);
        assert!(matches!(cut, Some(Fact::Unavailable { reason, .. }) if reason.len() <= LONGEST_REASON), "{cut:?}");
    }

    #[tokio::test]
    async fn the_machine_under_the_tests_can_be_observed() {
        let facts = observe_all(&crate::host::RealHost::default(), &[], Look::Closely).await;
        assert_eq!(facts.iter().map(Fact::subject).collect::<Vec<_>>(), Subject::ALL);
        assert!(matches!(&facts[0], Fact::Os(os) if !os.id.is_empty()), "{:?}", facts[0]);
    }
}
