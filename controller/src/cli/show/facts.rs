// SPDX-License-Identifier: Apache-2.0
//! What is known about a node, by subject, each with its age: the `facts` of a node's JSON.

use serde::{Serialize, Serializer};
use windlass_types::facts::{
    BlockDevice, Boot, Cpu, Fact, Kernel, Load, Memory, NetworkInterface, Os, PackageManager, ServiceState, Subject,
};

use super::utc;

/// A value and how long ago the node observed it, or why it could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Aged<T> {
    /// Seconds since the node last observed it.
    pub(crate) age_seconds: u64,
    /// The value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<T>,
    /// Why there is no value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unavailable: Option<String>,
}

type Known<T> = Option<Aged<T>>;

/// A boot for programs: its time as all others are written.
#[derive(Serialize)]
struct BootView<'a> {
    boot_id: &'a str,
    booted_at: String,
}

impl<'a> BootView<'a> {
    fn new(boot: &'a Boot) -> Self {
        Self { boot_id: &boot.boot_id, booted_at: utc(boot.booted_at) }
    }
}

fn boot_with_its_time<S: Serializer>(boot: &Known<Boot>, serializer: S) -> Result<S::Ok, S::Error> {
    let known = boot.as_ref().map(|aged| Aged {
        age_seconds: aged.age_seconds,
        value: aged.value.as_ref().map(BootView::new),
        unavailable: aged.unavailable.clone(),
    });
    known.serialize(serializer)
}

/// All subjects; one that was never reported is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Facts {
    /// The operating system's release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) os: Known<Os>,
    /// Running and default kernel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel: Known<Kernel>,
    /// This boot.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "boot_with_its_time")]
    pub(crate) boot: Known<Boot>,
    /// Processors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cpu: Known<Cpu>,
    /// Memory and swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) memory: Known<Memory>,
    /// Load averages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load: Known<Load>,
    /// Block devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disks: Known<Vec<BlockDevice>>,
    /// Network interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Known<Vec<NetworkInterface>>,
    /// The package manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) package_manager: Known<PackageManager>,
    /// Reasons for a reboot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pending_reboot: Known<Vec<String>>,
    /// Watched services.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) services: Known<Vec<ServiceState>>,
}

impl Facts {
    /// Adds one fact.
    pub(crate) fn insert(&mut self, age_seconds: u64, fact: Fact) {
        match fact {
            Fact::Os(value) => self.os = known(age_seconds, value),
            Fact::Kernel(value) => self.kernel = known(age_seconds, value),
            Fact::Boot(value) => self.boot = known(age_seconds, value),
            Fact::Cpu(value) => self.cpu = known(age_seconds, value),
            Fact::Memory(value) => self.memory = known(age_seconds, value),
            Fact::Load(value) => self.load = known(age_seconds, value),
            Fact::Disks(value) => self.disks = known(age_seconds, value),
            Fact::Network(value) => self.network = known(age_seconds, value),
            Fact::PackageManager(value) => self.package_manager = known(age_seconds, value),
            Fact::PendingReboot(value) => self.pending_reboot = known(age_seconds, value),
            Fact::Services(value) => self.services = known(age_seconds, value),
            Fact::Unavailable { subject, reason } => self.insert_unavailable(age_seconds, subject, reason),
        }
    }

    fn insert_unavailable(&mut self, age: u64, subject: Subject, reason: String) {
        match subject {
            Subject::Os => self.os = unknown(age, reason),
            Subject::Kernel => self.kernel = unknown(age, reason),
            Subject::Boot => self.boot = unknown(age, reason),
            Subject::Cpu => self.cpu = unknown(age, reason),
            Subject::Memory => self.memory = unknown(age, reason),
            Subject::Load => self.load = unknown(age, reason),
            Subject::Disks => self.disks = unknown(age, reason),
            Subject::Network => self.network = unknown(age, reason),
            Subject::PackageManager => self.package_manager = unknown(age, reason),
            Subject::PendingReboot => self.pending_reboot = unknown(age, reason),
            Subject::Services => self.services = unknown(age, reason),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "it is what a subject's field holds")]
const fn known<T>(age_seconds: u64, value: T) -> Known<T> {
    Some(Aged { age_seconds, value: Some(value), unavailable: None })
}

const fn unknown<T>(age_seconds: u64, reason: String) -> Known<T> {
    Some(Aged { age_seconds, value: None, unavailable: Some(reason) })
}

/// The value of a subject, if it is known.
pub(crate) fn value<T>(fact: &Known<T>) -> Option<&T> {
    fact.as_ref().and_then(|aged| aged.value.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::time::UnixMillis;

    #[test]
    fn the_time_of_a_boot_is_written_as_all_times_are() {
        let mut facts = Facts::default();
        facts.insert(7, Fact::Boot(Boot { boot_id: "b".into(), booted_at: UnixMillis(1_800_000_000_000) }));
        let json = serde_json::to_value(&facts).expect("JSON");
        let expected =
            serde_json::json!({ "age_seconds": 7, "value": { "boot_id": "b", "booted_at": "2027-01-15T08:00:00Z" } });
        assert_eq!(json["boot"], expected);
        assert!(serde_json::to_value(Facts::default()).expect("JSON").get("boot").is_none());
    }
}
