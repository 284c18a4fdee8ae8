// SPDX-License-Identifier: Apache-2.0
//! Virtual machines on this host, made with QEMU. Needs no root.
//!
//! Everything of a machine lies in `machines/CLUSTER/NODE` below the controller's state, with the tag `machine.json`. The
//! record is written before anything is made and again when all is made, so whatever is interrupted is found as what it
//! is. Machines are processes of their own that outlive the controller; which process is a machine's is seen from its
//! arguments, never from a process id alone. A machine whose host was rebooted is off and can be switched on again.
//!
//! - `record`: the tag. `process`: whether it runs. `qmp`: how it is told what to do.
//! - `place`: which there are. `making`: how they come and go. `power`: what is done with them between.
//! - `arguments`, `network`, `image`, `accel`: what it is made of. `host`: whether there is room for it.
//! - `watch`, `happening`: what happens to it. `console`, `growth`: what it writes.

mod accel;
mod arguments;
mod console;
mod error;
#[cfg(test)]
mod fixtures;
mod growth;
mod happening;
mod host;
mod image;
mod making;
mod network;
mod place;
mod power;
mod process;
mod qmp;
mod record;
mod watch;

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use windlass_types::cloud::Need;
use windlass_types::machine::{Accel, AccelChoice, DiskSpec, MachineReport, MachineSpec, PowerState, ProviderKind};
use windlass_types::name::{ClusterName, NodeName};

use super::exec::find;
use super::{
    ConsoleFrom, ConsolePiece, MachineKey, MachineNews, NewMachine, PowerAction, Provider, ProviderError, Wanted,
};
use crate::clock::Clock;
use crate::cloud_init::UserData;
use growth::Growth;
use place::sweep;
use process::Process;
use record::Record;
use watch::Watch;

pub use error::QemuError;
pub use host::HostError;
pub use image::ImageError;
pub use qmp::QmpError;
pub use record::RecordError;

/// What the program is called: by itself, and in the RHEL family.
const QEMU: [&str; 2] = ["qemu-system-x86_64", "qemu-kvm"];

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
    /// Whoever listens to machines.
    watch: Watch,
    /// Whoever waits for consoles to grow.
    growth: Growth,
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
            watch: Watch::default(),
            growth: Growth::default(),
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

    fn runs(&self, record: &Record) -> bool {
        Process::find(&self.directory(&MachineKey::of(&record.spec)), &record.id).is_some()
    }

    fn report(&self, record: &Record) -> MachineReport {
        match self.runs(record) {
            true => record.report(PowerState::On, self.watch.note(&record.id)),
            false => record.report(PowerState::Off, record.ended.map(|ended| ended.words().to_owned())),
        }
    }

    /// How processors are to be made, and why not with KVM.
    async fn accel_for(&self, tools: &Tools, key: &MachineKey, choice: AccelChoice) -> Result<Accel, QemuError> {
        if choice == AccelChoice::Emulation {
            return Ok(Accel::Emulation);
        }
        let mut known = self.kvm.lock().await;
        if known.is_none() {
            let found = match accel::known_failure(&self.place) {
                Some(why) => Err(why),
                None => accel::probe(&tools.qemu, &self.place, Accel::Kvm).await,
            };
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
}

#[async_trait]
impl Provider for QemuProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Qemu
    }

    async fn check(&self, wanted: &Wanted) -> Result<Vec<Need>, ProviderError> {
        let _room = self.room.lock().await;
        self.check_all(&wanted.machines).await?;
        Ok(Vec::new())
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

    async fn without_power(&self, cluster: &ClusterName) -> Result<Vec<NodeName>, ProviderError> {
        let mut records = self.records(Some(cluster))?;
        // One that somebody is switching right now is in the hands of who does that.
        let is_left_alone = |record: &Record| self.turn(&MachineKey::of(&record.spec)).try_lock().is_ok();
        records.retain(|record| record.complete && record.lost_power() && !self.runs(record) && is_left_alone(record));
        Ok(records.into_iter().map(|record| record.spec.name).collect())
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

    async fn console_grows(&self, machine: &MachineKey, position: u64) {
        self.growth.beyond(&self.directory(machine), position).await;
    }

    async fn news(&self) -> MachineNews {
        self.next_news().await
    }
}

#[cfg(test)]
mod tests;
