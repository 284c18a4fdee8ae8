// SPDX-License-Identifier: Apache-2.0
//! Machines for tests. Real ones: they need QEMU, and say so if it is not there.

use std::path::PathBuf;

use windlass_types::digest::Sha256Digest;
use windlass_types::machine::{AccelChoice, DiskSpec, MachineSpec, PortForward, Protocol};
use windlass_types::name::{ClusterName, DiskSerial, MachineId, NodeName, VolumeName};
use windlass_types::time::UnixMillis;

use super::record::Record;

/// # Panics
/// If QEMU is not installed.
pub(super) fn qemu() -> PathBuf {
    crate::provider::exec::find(&super::QEMU).expect("QEMU is not installed: `make deps` installs it")
}

pub(super) fn disk(name: &str) -> DiskSpec {
    DiskSpec {
        name: VolumeName::new(name).expect("a name"),
        size_bytes: 1 << 20,
        serial: Some(DiskSerial::new(format!("{name}-1a2b")).expect("a serial")),
        volume_type: None,
    }
}

pub(super) fn spec(name: &str) -> MachineSpec {
    MachineSpec {
        cluster: ClusterName::new("k8s1").expect("a name"),
        name: NodeName::new(name).expect("a name"),
        address: Some("10.0.0.171/24".parse().expect("an address")),
        image: "/lab/guest.qcow2".to_owned(),
        cpus: 2,
        memory_bytes: 64 << 20,
        root_disk_bytes: 0,
        data_disks: vec![disk("docker")],
        forwards: vec![PortForward {
            host_address: [127, 0, 0, 1].into(),
            host_port: 6443,
            guest_port: 443,
            protocol: Protocol::Tcp,
        }],
        accel: AccelChoice::Emulation,
        server: None,
        roles: Vec::new(),
        labels: Default::default(),
    }
}

pub(super) fn record(name: &str) -> Record {
    let id = MachineId::new("9b2c6f0e-1d1f-4a57-8a37-000000000001").expect("an id");
    Record::new(id, spec(name), Sha256Digest::new([7; 32]), UnixMillis(1))
}
