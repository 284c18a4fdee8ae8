// SPDX-License-Identifier: Apache-2.0
//! Virtual machines on this host, made with QEMU. Needs no root.
//!
//! Everything of a machine lies in `machines/CLUSTER/NODE` below the controller's state, with the tag `machine.json`. The
//! record is written before anything is made and again when all is made, so whatever is interrupted is found as what it
//! is. Machines are processes of their own that outlive the controller; which process is a machine's is seen from its
//! arguments, never from a process id alone. A machine whose host was rebooted is off and can be switched on again.
//!
//! - `record`: the tag. `process`: whether it runs. `qmp`: how it is told what to do.
//! - `arguments`, `network`, `image`, `accel`: what it is made of. `host`: whether there is room for it.
//! - `console`: what it writes.

mod accel;
mod arguments;
mod console;
mod error;
#[cfg(test)]
mod fixtures;
mod host;
mod image;
mod network;
mod power;
mod process;
mod qmp;
mod record;

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use windlass_types::machine::{
    Accel, AccelChoice, DiskSpec, MachineReport, MachineSpec, PortForward, PowerState, ProviderKind,
};
use windlass_types::name::{ClusterName, MachineId, NodeName};

use super::exec::find;
use super::{ConsoleFrom, ConsolePiece, MachineKey, NewMachine, PowerAction, Provider, ProviderError};
use crate::clock::Clock;
use crate::cloud_init::{UserData, network as cloud_network, seed};
use network::Network;
use process::Process;
use record::{Record, write_secret};

pub use error::QemuError;
pub use host::HostError;
pub use image::ImageError;
pub use qmp::QmpError;
pub use record::RecordError;

/// What the program is called: by itself, and in the RHEL family.
const QEMU: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];

/// What directories begin with that are being removed, or were when the controller was killed.
const DELETED: &str = ".deleted-";

/// What directories begin with that are being made, or were when the controller was killed.
const UNFINISHED: &str = ".new-";

/// Machines on this host.
#[derive(Debug)]
pub struct QemuProvider {
    /// Where all machines are.
    place: PathBuf,
    clock: Arc<dyn Clock>,
    /// The program, if another than the installed one is to be used.
    qemu: Option<PathBuf>,
    /// Whether KVM works, once that was tried, or why not.
    kvm: tokio::sync::Mutex<Option<Result<(), String>>>,
    /// One change of a machine at a time.
    turns: Mutex<HashMap<MachineKey, Arc<tokio::sync::Mutex<()>>>>,
    /// From the look at ports and memory until the machine has taken them.
    room: tokio::sync::Mutex<()>,
}

/// The programs.
#[derive(Debug, Clone)]
struct Tools {
    qemu: PathBuf,
    qemu_img: PathBuf,
}

impl QemuProvider {
    /// Machines below a state directory. Removes what was being removed or made when the controller was killed.
    ///
    /// # Errors
    /// If the directory cannot be used.
    pub fn open(state_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, QemuError> {
        let failed = |source| QemuError::File { path: state_dir.to_owned(), source };
        let place = fs::canonicalize(state_dir).map_err(failed)?.join("machines");
        if place.to_str().is_none() {
            return Err(QemuError::Place(place));
        }
        sweep(&place);
        Ok(Self {
            place,
            clock,
            qemu: None,
            kvm: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            room: tokio::sync::Mutex::default(),
        })
    }

    fn directory(&self, key: &MachineKey) -> PathBuf {
        self.place.join(key.cluster.as_str()).join(key.name.as_str())
    }

    fn turn(&self, key: &MachineKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(key.clone()).or_default())
    }

    fn tools(&self) -> Result<Tools, QemuError> {
        let named = self.qemu.clone().filter(|path| path.is_file());
        let qemu = if self.qemu.is_some() { named } else { find(&QEMU) };
        let qemu = qemu.ok_or(QemuError::NotInstalled("QEMU"))?;
        let qemu_img = find(&["qemu-img"]).ok_or(QemuError::NotInstalled("qemu-img"))?;
        Ok(Tools { qemu, qemu_img })
    }

    fn record(&self, key: &MachineKey) -> Result<Record, QemuError> {
        Record::read(&self.directory(key), key)?.ok_or_else(|| QemuError::NoMachine(key.clone()))
    }

    /// Every machine with a tag, of one cluster or all.
    fn records(&self, only: Option<&ClusterName>) -> Result<Vec<Record>, QemuError> {
        let mut records = Vec::new();
        for cluster in entries(&self.place)? {
            let Ok(cluster) = ClusterName::new(cluster) else { continue };
            if only.is_some_and(|only| *only != cluster) {
                continue;
            }
            for name in entries(&self.place.join(cluster.as_str()))? {
                let Ok(name) = NodeName::new(name) else { continue };
                let key = MachineKey::new(cluster.clone(), name);
                match Record::read(&self.directory(&key), &key) {
                    Ok(record) => records.extend(record),
                    Err(RecordError::Read { path, source }) => return Err(RecordError::Read { path, source }.into()),
                    // None of our business; making one there is refused.
                    Err(error) => tracing::debug!(%error, "a directory among the machines is passed over"),
                }
            }
        }
        Ok(records)
    }

    fn report(&self, record: &Record) -> MachineReport {
        let directory = self.directory(&MachineKey::of(&record.spec));
        let runs = Process::find(&directory, &record.id).is_some();
        record.report(if runs { PowerState::On } else { PowerState::Off })
    }

    /// How processors are to be made, and why not with KVM.
    async fn accel_for(&self, tools: &Tools, key: &MachineKey, choice: AccelChoice) -> Result<Accel, QemuError> {
        if choice == AccelChoice::Emulation {
            return Ok(Accel::Emulation);
        }
        let mut known = self.kvm.lock().await;
        if known.is_none() {
            let found = accel::probe(&tools.qemu, &self.place, Accel::Kvm).await;
            match &found {
                Ok(()) => tracing::info!("KVM works on this host"),
                Err(why) => tracing::warn!(%why, "KVM does not work on this host; machines are emulated"),
            }
            *known = Some(found);
        }
        match (&*known, choice) {
            (Some(Err(_)), AccelChoice::Auto) => Ok(Accel::Emulation),
            (Some(Err(why)), _) => Err(QemuError::NoKvm { machine: key.clone(), why: why.clone() }),
            _ => Ok(Accel::Kvm),
        }
    }

    async fn check_all(&self, wanted: &[MachineSpec]) -> Result<(), QemuError> {
        let tools = self.tools()?;
        fs::create_dir_all(&self.place).map_err(|source| QemuError::File { path: self.place.clone(), source })?;
        let mut holders = self.port_holders(wanted)?;
        for spec in wanted {
            let key = MachineKey::of(spec);
            image::inspect(&tools.qemu_img, Path::new(&spec.image), spec.root_disk_bytes).await?;
            Record::read(&self.directory(&key), &key)?;
            self.accel_for(&tools, &key, spec.accel).await?;
            for forward in &spec.forwards {
                host::check_port(&spec.name, forward, &holders)?;
            }
            holders.extend(spec.forwards.iter().map(|forward| (key.to_string(), *forward)));
        }
        host::check_memory(wanted)?;
        host::check_disk(wanted, &self.place)?;
        Ok(())
    }

    /// Which machines have which ports, those left out that are to be made now.
    fn port_holders(&self, besides: &[MachineSpec]) -> Result<Vec<(String, PortForward)>, QemuError> {
        let records = self.records(None)?.into_iter();
        let others = records.filter(|record| {
            let key = MachineKey::of(&record.spec);
            !besides.iter().any(|spec| MachineKey::of(spec) == key)
        });
        let ports = others.flat_map(|record| {
            let holder = MachineKey::of(&record.spec).to_string();
            record.spec.forwards.into_iter().map(move |forward| (holder.clone(), forward))
        });
        Ok(ports.collect())
    }

    async fn make(&self, machine: NewMachine) -> Result<MachineReport, QemuError> {
        let key = MachineKey::of(&machine.spec);
        let directory = self.directory(&key);
        if let Some(record) = Record::read(&directory, &key)? {
            if record.complete {
                return Ok(self.report(&record));
            }
            self.remove(&key, &record).await?;
        }
        let room = self.room.lock().await;
        self.check_all(std::slice::from_ref(&machine.spec)).await?;
        let tools = self.tools()?;
        let id = MachineId::new(uuid::Uuid::new_v4().to_string()).expect("a UUID is a machine id");
        let mut record = Record::new(id, machine.spec, machine.spec_hash, self.clock.now());
        record.write_first(&directory)?;
        self.make_disks(&tools, &record, &directory).await?;
        self.write_seed(&record, &machine.user_data)?;
        self.switch_on(&tools, &key, &mut record).await?;
        drop(room);
        record.complete = true;
        record.write(&directory)?;
        self.listen_to_kvm(&key, &mut record).await?;
        Ok(self.report(&record))
    }

    async fn make_disks(&self, tools: &Tools, record: &Record, directory: &Path) -> Result<(), QemuError> {
        let spec = &record.spec;
        let base = Path::new(&spec.image);
        let base = fs::canonicalize(base).map_err(|source| QemuError::File { path: base.to_owned(), source })?;
        let image = image::inspect(&tools.qemu_img, &base, spec.root_disk_bytes).await?;
        let root = directory.join(arguments::ROOT_DISK);
        image::overlay(&tools.qemu_img, &root, &base, &image, spec.root_disk_bytes).await?;
        for disk in &spec.data_disks {
            image::empty(&tools.qemu_img, &directory.join(arguments::data_disk(disk)), disk.size_bytes).await?;
        }
        Ok(())
    }

    /// Writes the seed, or writes over it: a machine that runs reads the new one then.
    fn write_seed(&self, record: &Record, user_data: &UserData) -> Result<(), QemuError> {
        let spec = &record.spec;
        let network = Network::new(&self.place, spec);
        let lan = spec.address.map(|address| (network.lan_mac.as_str(), address));
        let image = seed::image(
            &cloud_network::meta_data(&record.id, &spec.name),
            &cloud_network::network_config(&network.uplink_mac, lan),
            user_data.reveal(),
        );
        let path = self.directory(&MachineKey::of(spec)).join(arguments::SEED);
        let written = match fs::OpenOptions::new().write(true).open(&path) {
            Ok(file) => std::os::unix::fs::FileExt::write_all_at(&file, &image, 0).and_then(|()| file.sync_all()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => write_secret(&path, &image),
            Err(error) => Err(error),
        };
        written.map_err(|source| QemuError::File { path, source })
    }

    /// Ends the machine and removes its directory: first out of sight as a whole, then piece by piece.
    async fn remove(&self, key: &MachineKey, record: &Record) -> Result<(), QemuError> {
        let directory = self.directory(key);
        self.end(key, record).await?;
        let doomed = directory.with_file_name(format!("{DELETED}{}", record.id));
        let removed = fs::rename(&directory, &doomed).and_then(|()| fs::remove_dir_all(&doomed));
        removed.map_err(|source| QemuError::File { path: directory.clone(), source })?;
        // The cluster's directory goes with its last machine; while it has others this fails, as it should.
        let _has_others = fs::remove_dir(directory.parent().unwrap_or(&directory));
        Ok(())
    }
}

#[async_trait]
impl Provider for QemuProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Qemu
    }

    async fn check(&self, wanted: &[MachineSpec]) -> Result<(), ProviderError> {
        let _room = self.room.lock().await;
        Ok(self.check_all(wanted).await?)
    }

    async fn accel(&self, machine: &MachineSpec) -> Option<Accel> {
        self.accel_for(&self.tools().ok()?, &MachineKey::of(machine), machine.accel).await.ok()
    }

    fn processors(&self) -> Option<NonZeroUsize> {
        std::thread::available_parallelism().ok()
    }

    async fn observe(&self, cluster: &ClusterName) -> Result<Vec<MachineReport>, ProviderError> {
        let records = self.records(Some(cluster))?;
        for record in &records {
            let directory = self.directory(&MachineKey::of(&record.spec));
            if let Err(error) = console::rotate(&directory) {
                tracing::warn!(NODE = %record.spec.name, %error, "the machine's console cannot be kept small");
            }
        }
        Ok(records.iter().map(|record| self.report(record)).collect())
    }

    async fn create(&self, machine: NewMachine) -> Result<MachineReport, ProviderError> {
        let turn = self.turn(&MachineKey::of(&machine.spec));
        let _turn = turn.lock().await;
        Ok(self.make(machine).await?)
    }

    async fn delete(&self, machine: &MachineKey) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        match Record::read(&self.directory(machine), machine).map_err(QemuError::from)? {
            Some(record) => Ok(self.remove(machine, &record).await?),
            None => Ok(()),
        }
    }

    async fn power(&self, machine: &MachineKey, action: PowerAction) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        Ok(self.set_power(machine, action).await?)
    }

    async fn attach_disk(&self, machine: &MachineKey, disk: &DiskSpec) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        Ok(self.attach(machine, disk).await?)
    }

    async fn seal(&self, machine: &MachineKey) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        Ok(self.write_seed(&self.record(machine)?, &UserData::sealed(&machine.name))?)
    }

    async fn diagnose(&self, machine: &MachineKey) -> Result<Option<String>, ProviderError> {
        let record = self.record(machine)?;
        let silent = self.found_nothing_to_boot(machine, &record).await?;
        let image = windlass_types::escape::Escaped(&record.spec.image).to_string();
        Ok(silent.then(|| format!("its firmware found nothing to boot from: the image {image} is not bootable")))
    }

    async fn console(&self, machine: &MachineKey, from: ConsoleFrom) -> Result<ConsolePiece, ProviderError> {
        self.record(machine)?;
        let directory = self.directory(machine);
        Ok(console::read(&directory, from).map_err(|source| QemuError::File { path: directory, source })?)
    }
}

/// The names in a directory; none if it is not there.
fn entries(directory: &Path) -> Result<Vec<String>, QemuError> {
    let failed = |source| QemuError::File { path: directory.to_owned(), source };
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in listed {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

/// Removes what a killed controller was removing or about to make: nothing runs from there.
fn sweep(place: &Path) {
    for cluster in entries(place).unwrap_or_default() {
        let cluster = place.join(cluster);
        for name in entries(&cluster).unwrap_or_default() {
            if name.starts_with(DELETED) || name.starts_with(UNFINISHED) {
                let path = cluster.join(name);
                if let Err(error) = fs::remove_dir_all(&path) {
                    tracing::warn!(path = %path.display(), %error, "what is left of a machine cannot be removed");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
