// SPDX-License-Identifier: Apache-2.0
//! What an agent observes about its node.
//!
//! A [`Fact`] is one subject. Each is reported once and then again only when it changed, so every type here compares.
//! Values that would change every second (memory available, load) are rounded by whoever observes them.

use serde::{Deserialize, Serialize};

use crate::time::UnixMillis;

/// The subjects, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The operating system's release.
    Os,
    /// Running and default kernel.
    Kernel,
    /// This boot.
    Boot,
    /// Processors.
    Cpu,
    /// Memory and swap.
    Memory,
    /// Load averages.
    Load,
    /// Block devices.
    Disks,
    /// Network interfaces.
    Network,
    /// The package manager.
    PackageManager,
    /// Whether a reboot is pending and why.
    PendingReboot,
    /// Watched services.
    Services,
}

impl Subject {
    /// Every subject.
    pub const ALL: [Self; 11] = [
        Self::Os,
        Self::Kernel,
        Self::Boot,
        Self::Cpu,
        Self::Memory,
        Self::Load,
        Self::Disks,
        Self::Network,
        Self::PackageManager,
        Self::PendingReboot,
        Self::Services,
    ];

    /// Its name on the command line and in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Os => "os",
            Self::Kernel => "kernel",
            Self::Boot => "boot",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Load => "load",
            Self::Disks => "disks",
            Self::Network => "network",
            Self::PackageManager => "package-manager",
            Self::PendingReboot => "pending-reboot",
            Self::Services => "services",
        }
    }
}

/// One observed subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "subject", content = "value")]
pub enum Fact {
    /// The operating system's release.
    Os(Os),
    /// Running and default kernel.
    Kernel(Kernel),
    /// This boot.
    Boot(Boot),
    /// Processors.
    Cpu(Cpu),
    /// Memory and swap.
    Memory(Memory),
    /// Load averages.
    Load(Load),
    /// Block devices, by kernel name.
    Disks(Vec<BlockDevice>),
    /// Network interfaces except loopback, by name.
    Network(Vec<NetworkInterface>),
    /// The package manager.
    PackageManager(PackageManager),
    /// Reasons for a reboot, one sentence each; empty when none is needed.
    PendingReboot(Vec<String>),
    /// Watched services.
    Services(Vec<ServiceState>),
    /// A subject that could not be observed.
    Unavailable {
        /// Which.
        subject: Subject,
        /// Why.
        reason: String,
    },
}

impl Fact {
    /// Which subject this is about.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        match self {
            Self::Os(_) => Subject::Os,
            Self::Kernel(_) => Subject::Kernel,
            Self::Boot(_) => Subject::Boot,
            Self::Cpu(_) => Subject::Cpu,
            Self::Memory(_) => Subject::Memory,
            Self::Load(_) => Subject::Load,
            Self::Disks(_) => Subject::Disks,
            Self::Network(_) => Subject::Network,
            Self::PackageManager(_) => Subject::PackageManager,
            Self::PendingReboot(_) => Subject::PendingReboot,
            Self::Services(_) => Subject::Services,
            Self::Unavailable { subject, .. } => *subject,
        }
    }
}

/// From os-release(5) and uname(2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Os {
    /// `ID`.
    pub id: String,
    /// `VERSION_ID`.
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
    /// Machine hardware name.
    pub architecture: String,
    /// The node's own host name, which is not its identity.
    pub hostname: String,
}

/// From uname(2) and the boot loader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Release of the running kernel.
    pub running: String,
    /// Release the boot loader starts next by default, if it could be told.
    pub default_release: Option<String>,
}

/// From /proc.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Changes with every boot.
    pub boot_id: String,
    /// When this boot began, by the node's clock.
    pub booted_at: UnixMillis,
}

/// Processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// Model name.
    pub model: String,
    /// Logical processors online.
    pub logical: u32,
}

/// Memory and swap, bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Total.
    pub total_bytes: u64,
    /// Available without swapping, rounded.
    pub available_bytes: u64,
    /// Swap.
    pub swap_total_bytes: u64,
}

/// Load averages, hundredths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// One minute.
    pub one_centi: u32,
    /// Five minutes.
    pub five_centi: u32,
    /// Fifteen minutes.
    pub fifteen_centi: u32,
}

/// One block device, partition or volume, from lsblk(8) and /sys/block.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// Kernel name now. Not an identity: it may change at the next boot.
    pub name: String,
    /// Stable identity such as `wwn-…`, `serial-…`, `uuid-…`; empty if it has none.
    pub stable_id: String,
    /// lsblk TYPE.
    pub kind: String,
    /// Size, bytes.
    pub size_bytes: u64,
    /// Serial number as the hypervisor or drive tells it.
    pub serial: String,
    /// World wide name.
    pub wwn: String,
    /// Model.
    pub model: String,
    /// File system or other signature found on it; empty if none.
    pub signature: String,
    /// Label of that signature.
    pub label: String,
    /// UUID of that signature.
    pub uuid: String,
    /// Cannot be written.
    pub read_only: bool,
    /// Rotating medium.
    pub rotational: bool,
    /// Kernel name of the device this is a part of; empty for a whole disk.
    pub parent: String,
    /// Kernel names of devices built on it.
    pub holders: Vec<String>,
    /// Where it is mounted; `[SWAP]` for swap.
    pub mounts: Vec<String>,
}

/// One network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInterface {
    /// Kernel name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Maximum transmission unit, bytes.
    pub mtu: u32,
    /// Carrier is up.
    pub up: bool,
}

/// The package manager that Windlass would use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageManager {
    /// `dnf`, `yum`, or empty if neither is installed.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// One systemd unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Unit name.
    pub unit: String,
    /// ActiveState.
    pub active: String,
    /// SubState.
    pub sub: String,
}

impl ServiceState {
    /// Whether it runs as it should. One that is being started may yet fail, as one that is started again and again does.
    #[must_use]
    pub fn is_well(&self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading")
    }
}
