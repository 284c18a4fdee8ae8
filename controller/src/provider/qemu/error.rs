// SPDX-License-Identifier: Apache-2.0
//! What can go wrong with local machines, and what to do about each.

use std::io;
use std::path::PathBuf;

use windlass_types::name::VolumeName;
use windlass_types::outcome::ErrorClass;

use super::host::HostError;
use super::image::ImageError;
use super::qmp::QmpError;
use super::record::RecordError;
use crate::provider::exec::ExecError;
use crate::provider::{MachineKey, ProviderError};

/// What can go wrong with local machines.
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// QEMU is not here.
    #[error("{0} is not installed on this host")]
    NotInstalled(&'static str),
    /// KVM was demanded and does not work.
    #[error("the spec demands KVM for {machine}, and it does not work on this host: {why}")]
    NoKvm {
        /// For which machine.
        machine: MachineKey,
        /// What was seen.
        why: String,
    },
    /// The image or a disk.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The host has not enough of something.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The tag.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// No such machine.
    #[error("there is no machine {0}")]
    NoMachine(MachineKey),
    /// There, but its making was interrupted.
    #[error("the making of {0} was interrupted")]
    Incomplete(MachineKey),
    /// A file cannot be read or written.
    #[error("use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU did not start.
    #[error("start {machine}")]
    Start {
        /// Which machine.
        machine: MachineKey,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// QEMU started and is not there.
    #[error("start {0}: its process is gone already")]
    Gone(MachineKey),
    /// QEMU did not obey.
    #[error("control {machine}")]
    Control {
        /// Which machine.
        machine: MachineKey,
        /// Why.
        #[source]
        source: QmpError,
    },
    /// Its process does not end.
    #[error("end the process of {0}: it does not go")]
    Stuck(MachineKey),
    /// Two disks of one name.
    #[error("{machine} has a disk named {name} already, with another serial")]
    DiskName {
        /// Which machine.
        machine: MachineKey,
        /// The name.
        name: VolumeName,
    },
    /// A path that QEMU's arguments cannot hold.
    #[error("use {0} for machines: its name is not text")]
    Place(PathBuf),
}

impl QemuError {
    const fn class(&self) -> ErrorClass {
        match self {
            Self::Control { .. } | Self::Stuck(_) | Self::Gone(_) => ErrorClass::Transient,
            Self::Host(_) | Self::Incomplete(_) => ErrorClass::Blocked,
            _ => ErrorClass::Operator,
        }
    }

    fn advice(&self) -> String {
        match self {
            Self::NotInstalled(_) => "install qemu-system-x86 and qemu-utils (Debian), or qemu-kvm and qemu-img (RHEL)",
            Self::NoKvm { .. } => "say `accel: auto` or `accel: emulation` in the spec, or mend KVM",
            Self::Image(ImageError::Larger { .. }) => "give the root disk at least the image's size in the spec",
            Self::Image(ImageError::Make { .. }) => "see that there is room and the directory can be written",
            Self::Image(_) => "name a disk image with cloud-init in the spec; `make lab` builds one",
            Self::Host(HostError::Memory { .. }) => "give the machines less memory, or end something on this host",
            Self::Host(HostError::Disk { .. }) => "make room, or let the controller keep its state elsewhere",
            Self::Host(HostError::PortOfMachine { .. }) => "forward another port in the spec",
            Self::Host(HostError::Port { .. }) => {
                "forward another port in the spec, or end what uses this one (`ss -lntup` shows it)"
            }
            Self::Record(RecordError::NotOurs { .. } | RecordError::OtherMachine { .. }) => {
                "Windlass touches only what it made: look at it and move it away"
            }
            Self::NoMachine(_) => "`windlass apply` makes it",
            Self::Incomplete(_) => "`windlass apply` carries it through",
            Self::Start { .. } | Self::Gone(_) => "see the controller's log and docs/providers.md",
            Self::Stuck(_) => "its disk may hang: look at the process on this host",
            _ => "",
        }
        .to_owned()
    }
}

impl From<QemuError> for ProviderError {
    fn from(error: QemuError) -> Self {
        let (class, advice) = (error.class(), error.advice());
        Self::new(error, class, advice)
    }
}
