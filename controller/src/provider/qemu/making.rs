// SPDX-License-Identifier: Apache-2.0
//! Making machines and removing them: what is looked at before, and what is written in which order.

use std::fs;
use std::path::Path;

use windlass_types::machine::{MachineReport, MachineSpec, PortForward};
use windlass_types::name::MachineId;

use super::network::Network;
use super::place::DELETED;
use super::record::{Record, write_secret};
use super::{QemuError, QemuProvider, Tools, arguments, host, image};
use crate::cloud_init::{UserData, network as cloud_network, seed};
use crate::provider::{MachineKey, NewMachine};

impl QemuProvider {
    pub(super) async fn check_all(&self, wanted: &[MachineSpec]) -> Result<(), QemuError> {
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

    pub(super) async fn make(&self, machine: NewMachine) -> Result<MachineReport, QemuError> {
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
        self.listen_to_kvm(&key, &mut record, 0).await?;
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
    pub(super) fn write_seed(&self, record: &Record, user_data: &UserData) -> Result<(), QemuError> {
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
    pub(super) async fn remove(&self, key: &MachineKey, record: &Record) -> Result<(), QemuError> {
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
