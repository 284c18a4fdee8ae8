// SPDX-License-Identifier: Apache-2.0
//! Switching machines on and off, and what can be changed while they run.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use windlass_types::machine::{Accel, AccelChoice, DiskSpec};

use super::arguments::{FIRMWARE, FIRMWARE_BYTES, QMP_SOCKET, arguments, block_device, data_disk, disk_device};
use super::network::Network;
use super::process::Process;
use super::qmp::{Monitor, QmpError};
use super::record::Record;
use super::{QemuError, QemuProvider, Tools, accel, console, image};
use crate::provider::exec::{Call, run};
use crate::provider::{MachineKey, PowerAction};

/// QEMU is up when it has opened everything; on a busy host that takes seconds.
const START_WITHIN: Duration = Duration::from_secs(60);

/// A kernel's first words with KVM take a second or two, the boot loader's own wait before it a few more.
const SILENCE: Duration = Duration::from_secs(15);

/// How often it is looked whether a machine has said something.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a process may take to write what it still has and go.
const QUIT_WITHIN: Duration = Duration::from_secs(10);

impl QemuProvider {
    /// Starts the process of a machine that is off.
    pub(super) async fn switch_on(
        &self,
        tools: &Tools,
        key: &MachineKey,
        record: &mut Record,
    ) -> Result<(), QemuError> {
        let directory = self.directory(key);
        self.let_go(key, record).await?;
        let accel = self.accel_for(tools, key, record.spec.accel).await?;
        record.accel = Some(accel);
        let ended = record.ended.take();
        record.shall_be_on();
        record.write(&directory)?;
        let network = Network::new(&self.place, &record.spec);
        let call = Call {
            program: tools.qemu.clone(),
            arguments: arguments(record, &directory, &network, accel),
            directory: directory.clone(),
            deadline: START_WITHIN,
        };
        let started = run(call).await.map_err(|source| QemuError::Start { machine: key.clone(), source });
        let process =
            started.and_then(|_| Process::find(&directory, &record.id).ok_or_else(|| QemuError::Gone(key.clone())));
        match process {
            Ok(process) => self.listen(key, record, process).await,
            Err(error) => {
                // As it was: why it is off is still so.
                record.shall_be_off();
                record.ended = ended;
                record.write(&directory)?;
                return Err(error);
            }
        }
        Ok(())
    }

    /// Waits until a former process of a machine has let go of its files: another one that opens them is refused until then.
    async fn let_go(&self, key: &MachineKey, record: &Record) -> Result<(), QemuError> {
        let former = self.watch.process(&record.id).or_else(|| Process::ending(&self.directory(key)));
        match former {
            Some(process) if !process.has_gone_within(QUIT_WITHIN).await => Err(QemuError::Stuck(key.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Ends the process of a machine: by its own means, else by force.
    pub(super) async fn end(&self, key: &MachineKey, record: &Record) -> Result<(), QemuError> {
        let directory = self.directory(key);
        let Some(process) = Process::find(&directory, &record.id) else { return Ok(()) };
        let quit = async {
            let mut monitor = Monitor::connect(&directory, QMP_SOCKET, &record.id).await?;
            monitor.execute("quit", json!({})).await
        };
        match quit.await {
            Ok(_) | Err(QmpError::HungUp | QmpError::Talk(_)) => {
                if process.has_gone_within(QUIT_WITHIN).await {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(NODE = %key.name, %error, "the machine's process is ended by force"),
        }
        let stuck = || QemuError::Stuck(key.clone());
        process.kill().map_err(|_| stuck())?;
        if process.has_gone_within(QUIT_WITHIN).await { Ok(()) } else { Err(stuck()) }
    }

    /// Only where there was a choice. `said_before` is where its console ended before it was switched on.
    pub(super) async fn listen_to_kvm(
        &self,
        key: &MachineKey,
        record: &mut Record,
        said_before: u64,
    ) -> Result<(), QemuError> {
        match (record.spec.accel, record.accel) {
            (AccelChoice::Auto, Some(Accel::Kvm)) => self.emulate_if_silent(key, record, said_before, SILENCE).await,
            _ => Ok(()),
        }
    }

    pub(super) async fn set_power(&self, key: &MachineKey, action: PowerAction) -> Result<(), QemuError> {
        let mut record = self.record(key)?;
        if !record.complete {
            return Err(QemuError::Incomplete(key.clone()));
        }
        let is_on = Process::find(&self.directory(key), &record.id).is_some();
        match (action, is_on) {
            (PowerAction::On, true) => self.go_on(key, &record).await,
            (PowerAction::Off, _) => {
                record.shall_be_off();
                record.write(&self.directory(key))?;
                self.end(key, &record).await
            }
            (PowerAction::On | PowerAction::Reset, false) => {
                let room = self.room.lock().await;
                super::host::check_memory(std::slice::from_ref(&record.spec))?;
                let said_before = console::end(&self.directory(key)).unwrap_or(0);
                self.switch_on(&self.tools()?, key, &mut record).await?;
                drop(room);
                self.listen_to_kvm(key, &mut record, said_before).await
            }
            (PowerAction::Reset, true) => self.tell(key, &record, "system_reset", json!({})).await.map(|_| ()),
        }
    }

    /// Lets a machine go on that stands still, because a disk of it was full or somebody stopped it.
    async fn go_on(&self, key: &MachineKey, record: &Record) -> Result<(), QemuError> {
        let status = self.tell(key, record, "query-status", json!({})).await?;
        match status["status"].as_str() {
            Some("paused" | "io-error") => self.tell(key, record, "cont", json!({})).await.map(drop),
            _ => Ok(()),
        }
    }

    pub(super) async fn attach(&self, key: &MachineKey, disk: &DiskSpec) -> Result<(), QemuError> {
        let mut record = self.record(key)?;
        if record.disks().any(|known| known.name == disk.name && known.serial == disk.serial) {
            return Ok(());
        }
        if record.disks().any(|known| known.name == disk.name) {
            return Err(QemuError::DiskName { machine: key.clone(), name: disk.name.clone() });
        }
        let file = self.directory(key).join(data_disk(disk));
        image::empty(&self.tools()?.qemu_img, &file, disk.size_bytes).await?;
        if Process::find(&self.directory(key), &record.id).is_some() {
            let node = format!("data-{}", disk.name);
            self.tell(key, &record, "blockdev-add", block_device(&node, &file, "qcow2", false)).await?;
            if let Err(error) = self.tell(key, &record, "device_add", disk_device(&record.spec, disk)).await {
                // So that the next attempt begins where this one did.
                self.tell(key, &record, "blockdev-del", json!({ "node-name": node })).await?;
                return Err(error);
            }
        }
        record.attached.push(disk.clone());
        Ok(record.write(&self.directory(key))?)
    }

    /// What the firmware of a machine that says nothing has to say; nothing unless it found nothing to boot.
    pub(super) async fn found_nothing_to_boot(&self, key: &MachineKey, record: &Record) -> Result<bool, QemuError> {
        if Process::find(&self.directory(key), &record.id).is_none() {
            return Ok(false);
        }
        let arguments = json!({ "device": FIRMWARE, "size": FIRMWARE_BYTES });
        let words = self.tell(key, record, "ringbuf-read", arguments).await?;
        Ok(words.as_str().is_some_and(|words| words.contains("No bootable device")))
    }

    /// On some hosts KVM works for firmware and hangs a kernel. A machine that may be emulated is then started again, and
    /// so are all that follow until the host boots: a boot loader with a menu speaks before the kernel hangs, so not every
    /// machine would show it.
    pub(super) async fn emulate_if_silent(
        &self,
        key: &MachineKey,
        record: &mut Record,
        said_before: u64,
        patience: Duration,
    ) -> Result<(), QemuError> {
        let directory = self.directory(key);
        let give_up = Instant::now() + patience;
        while console::end(&directory).is_ok_and(|end| end == said_before) {
            if Instant::now() < give_up {
                sleep(LOOK_EVERY).await;
                continue;
            }
            if self.found_nothing_to_boot(key, record).await? {
                return Ok(());
            }
            let why = format!("{key} said nothing with KVM for {patience:?}");
            tracing::warn!(NODE = %key.name, %why, "it is started again, emulated");
            accel::remember_failure(&self.place, &why);
            *self.kvm.lock().await = Some(Err(why));
            self.end(key, record).await?;
            return self.switch_on(&self.tools()?, key, record).await;
        }
        Ok(())
    }

    async fn tell(
        &self,
        key: &MachineKey,
        record: &Record,
        command: &'static str,
        arguments: Value,
    ) -> Result<Value, QemuError> {
        let told = async {
            let mut monitor = Monitor::connect(&self.directory(key), QMP_SOCKET, &record.id).await?;
            monitor.execute(command, arguments).await
        };
        told.await.map_err(|source| QemuError::Control { machine: key.clone(), source })
    }
}
