// SPDX-License-Identifier: Apache-2.0
//! The tag: `machine.json` in a machine's directory, written before anything else is made there.
//!
//! A directory without it, or with that of another machine, is not ours and is never touched. It is replaced as a whole,
//! so that it is either the old or the new one whenever the power fails.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use windlass_plan::spec::disk_serial;
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::{Accel, DiskReport, DiskSpec, MachineReport, MachineSpec, PowerState};
use windlass_types::name::{DiskSerial, MachineId};
use windlass_types::time::UnixMillis;

use super::happening::Ending;
use crate::provider::MachineKey;

/// The name of the file.
pub(super) const RECORD: &str = "machine.json";

/// What stands in a record's first field, so that no other JSON is taken for one.
const FORMAT: &str = "windlass-machine-1";

/// What is known of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    format: String,
    /// Its id, which is its UUID too.
    pub(super) id: MachineId,
    /// What it was made from.
    pub(super) spec: MachineSpec,
    /// The hash of that.
    pub(super) spec_hash: Sha256Digest,
    /// When its making began.
    pub(super) created_at: UnixMillis,
    /// Whether its making was carried through.
    pub(super) complete: bool,
    /// How its processor is made, since it was last switched on.
    pub(super) accel: Option<Accel>,
    /// Disks it was given later.
    #[serde(default)]
    pub(super) attached: Vec<DiskSpec>,
    /// The boot of the host in which it was switched on; `None` if it shall be off.
    #[serde(default)]
    pub(super) on_since_boot: Option<String>,
    /// Why it is off although nobody switched it off.
    #[serde(default)]
    pub(super) ended: Option<Ending>,
}

/// A record that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be written.
    #[error("write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not a record of ours.
    #[error("{path} is there, and it is not a machine that Windlass made")]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// It is that of another machine.
    #[error("{path} holds another machine: {found}")]
    OtherMachine {
        /// The directory.
        path: PathBuf,
        /// Which machine.
        found: String,
    },
}

impl Record {
    /// Of a machine that is to be made.
    pub(super) fn new(id: MachineId, spec: MachineSpec, spec_hash: Sha256Digest, created_at: UnixMillis) -> Self {
        let format = FORMAT.to_owned();
        let (attached, on_since_boot, ended) = (Vec::new(), None, None);
        Self { format, id, spec, spec_hash, created_at, complete: false, accel: None, attached, on_since_boot, ended }
    }

    /// Reads the record of a machine; `None` if nothing is there.
    pub(super) fn read(directory: &Path, key: &MachineKey) -> Result<Option<Self>, RecordError> {
        match fs::symlink_metadata(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(RecordError::Read { path: directory.to_owned(), source }),
            // A link would lead us to what somebody else made.
            Ok(metadata) if !metadata.is_dir() => return Err(RecordError::NotOurs { path: directory.to_owned() }),
            Ok(_) => {}
        }
        let path = directory.join(RECORD);
        let not_ours = || RecordError::NotOurs { path: directory.to_owned() };
        let text = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => not_ours(),
            _ => RecordError::Read { path, source },
        })?;
        let record: Self = serde_json::from_slice(&text).map_err(|_| not_ours())?;
        if record.format != FORMAT {
            return Err(not_ours());
        }
        let found = MachineKey::of(&record.spec);
        if found == *key {
            return Ok(Some(record));
        }
        Err(RecordError::OtherMachine { path: directory.to_owned(), found: found.to_string() })
    }

    /// Writes it in place of the one that is there.
    pub(super) fn write(&self, directory: &Path) -> Result<(), RecordError> {
        let path = directory.join(RECORD);
        let json = serde_json::to_vec_pretty(self).expect("a record can be written as JSON");
        let written = write_secret(&directory.join("machine.json.new"), &json)
            .and_then(|()| fs::rename(directory.join("machine.json.new"), &path))
            .and_then(|()| File::open(directory)?.sync_all());
        written.map_err(|source| RecordError::Write { path, source })
    }

    /// Makes the machine's directory, with the record in it or not at all.
    pub(super) fn write_first(&self, directory: &Path) -> Result<(), RecordError> {
        let failed = |source| RecordError::Write { path: directory.to_owned(), source };
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let unfinished = parent.join(format!(".new-{}", self.id));
        let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(parent).and_then(|()| make(&unfinished)).map_err(failed)?;
        self.write(&unfinished)?;
        fs::rename(&unfinished, directory).and_then(|()| File::open(parent)?.sync_all()).map_err(failed)
    }

    /// Notes that it shall be on, in this boot of the host.
    pub(super) fn shall_be_on(&mut self) {
        (self.on_since_boot, self.ended) = (Some(boot_of_host()), None);
    }

    /// Notes that it shall be off.
    pub(super) fn shall_be_off(&mut self) {
        (self.on_since_boot, self.ended) = (None, None);
    }

    /// Whether it lost its power, if it is off: nobody switched it off, neither here nor in the machine itself.
    pub(super) fn lost_power(&self) -> bool {
        self.on_since_boot.is_some() || self.ended.is_some_and(|ended| ended != Ending::ByGuest)
    }

    /// Whether the host is still in the boot in which it was switched on.
    pub(super) fn is_of_this_boot(&self) -> bool {
        self.on_since_boot.as_deref() == Some(&boot_of_host())
    }

    /// All data disks, in the order in which the machine has them.
    pub(super) fn disks(&self) -> impl Iterator<Item = &DiskSpec> {
        self.spec.data_disks.iter().chain(&self.attached)
    }

    /// What is reported of it.
    pub(super) fn report(&self, power: PowerState, note: Option<String>) -> MachineReport {
        let disk = |disk: &DiskSpec| DiskReport {
            name: disk.name.clone(),
            size_bytes: disk.size_bytes,
            serial: serial(&self.spec, disk),
        };
        MachineReport {
            id: self.id.clone(),
            name: self.spec.name.clone(),
            cluster: Some(self.spec.cluster.clone()),
            power,
            note,
            complete: self.complete,
            adopted: false,
            disks: self.disks().map(disk).collect(),
            parts: Vec::new(),
            addresses: self.spec.address.iter().map(|lan| lan.address().into()).collect(),
            accel: self.accel,
            created_at: self.created_at,
            spec_hash: Some(self.spec_hash),
            spec: Some(Box::new(self.spec.clone())),
        }
    }
}

/// Another one after each restart; empty if the kernel does not tell.
pub(super) fn boot_of_host() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// What a machine sees as the serial of a disk.
pub(super) fn serial(spec: &MachineSpec, disk: &DiskSpec) -> DiskSerial {
    disk.serial.clone().unwrap_or_else(|| disk_serial(&spec.cluster, &spec.name, &disk.name))
}

/// Writes a file that only this user can read, and sees that it is on the disk.
pub(super) fn write_secret(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}
