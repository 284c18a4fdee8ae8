// SPDX-License-Identifier: Apache-2.0
//! QEMU's arguments for a machine. Pure.
//!
//! Everything is named: nothing of QEMU's defaults, no configuration file of the host. Disks are described in JSON, where
//! no character of a path means anything. The machine is a plain PC because every image boots on it and disks can be
//! attached while it runs.

use std::path::Path;

use serde_json::{Value, json};
use windlass_types::machine::{Accel, DiskSpec, MachineSpec, PortForward};

use super::network::Network;
use super::process::PID_FILE;
use super::record::{Record, serial};

/// The root disk.
pub(super) const ROOT_DISK: &str = "root.qcow2";

/// The disk with the user-data.
pub(super) const SEED: &str = "seed.iso";

/// What the machine writes to its serial port.
pub(super) const CONSOLE: &str = "console.log";

/// Where QEMU takes commands. Relative: a socket's address is short, and QEMU is started in the directory.
pub(super) const QMP_SOCKET: &str = "qmp.sock";

/// Where QEMU tells what happens, to one listener. The other socket too takes one at a time, and is for commands.
pub(super) const EVENT_SOCKET: &str = "events.sock";

/// The firmware's own words are kept in memory only, because the machine could write there without end.
pub(super) const FIRMWARE: &str = "firmware";

/// A boot writes 4 KiB. A power of two, as QEMU wants it.
pub(super) const FIRMWARE_BYTES: u32 = 65_536;

const MEBIBYTE: u64 = 1 << 20;

/// The name of a data disk's file.
pub(super) fn data_disk(disk: &DiskSpec) -> String {
    format!("data-{}.qcow2", disk.name)
}

/// How a disk is opened.
pub(super) fn block_device(node: &str, file: &Path, format: &str, read_only: bool) -> Value {
    let discard = if read_only { "ignore" } else { "unmap" };
    json!({
        "driver": format, "node-name": node, "read-only": read_only, "discard": discard,
        "file": { "driver": "file", "filename": file, "read-only": read_only, "discard": discard },
    })
}

/// What the machine sees of a data disk.
pub(super) fn disk_device(spec: &MachineSpec, disk: &DiskSpec) -> Value {
    json!({
        "driver": "virtio-blk-pci", "id": format!("disk-{}", disk.name),
        "drive": format!("data-{}", disk.name), "serial": serial(spec, disk),
    })
}

/// All arguments.
pub(super) fn arguments(record: &Record, directory: &Path, network: &Network, accel: Accel) -> Vec<String> {
    let spec = &record.spec;
    let mut arguments = Arguments(Vec::new());
    arguments.add("-name", format!("guest={}/{}", spec.cluster, spec.name));
    arguments.add("-uuid", record.id.to_string());
    arguments.add("-machine", "pc");
    match accel {
        Accel::Kvm => arguments.add("-accel", "kvm").add("-cpu", "host"),
        Accel::Emulation => arguments.add("-accel", "tcg,thread=multi").add("-cpu", "max"),
    };
    arguments.add("-smp", spec.cpus.to_string());
    arguments.add("-m", (spec.memory_bytes / MEBIBYTE).to_string());
    arguments.flag("-nodefaults").flag("-no-user-config").add("-display", "none");
    arguments.add("-sandbox", "on,obsolete=deny,resourcecontrol=deny");
    // A kernel that panicked shall stay to be looked at.
    arguments.add("-action", "panic=none").add("-device", "pvpanic").add("-device", "virtio-rng-pci");
    console(&mut arguments, directory);
    disks(&mut arguments, record, directory);
    links(&mut arguments, &spec.forwards, network);
    arguments.add("-pidfile", directory.join(PID_FILE).display().to_string()).flag("-daemonize");
    arguments.0
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flag(&mut self, flag: &str) -> &mut Self {
        self.0.push(flag.to_owned());
        self
    }

    fn add(&mut self, flag: &str, value: impl Into<String>) -> &mut Self {
        self.0.extend([flag.to_owned(), value.into()]);
        self
    }
}

fn console(arguments: &mut Arguments, directory: &Path) {
    // In this old form a comma is written twice.
    let path = directory.join(CONSOLE).display().to_string().replace(',', ",,");
    arguments.add("-chardev", format!("file,id=console,append=on,path={path}"));
    arguments.add("-serial", "chardev:console");
    arguments.add("-chardev", format!("ringbuf,id={FIRMWARE},size={FIRMWARE_BYTES}"));
    arguments.add("-device", format!("isa-debugcon,iobase=0x402,chardev={FIRMWARE}"));
    for (id, socket) in [("qmp", QMP_SOCKET), ("events", EVENT_SOCKET)] {
        arguments.add("-chardev", format!("socket,id={id},path={socket},server=on,wait=off"));
        arguments.add("-mon", format!("chardev={id},mode=control"));
    }
}

fn disks(arguments: &mut Arguments, record: &Record, directory: &Path) {
    let root = block_device("root", &directory.join(ROOT_DISK), "qcow2", false);
    arguments.add("-blockdev", root.to_string());
    arguments.add("-device", "virtio-blk-pci,drive=root,serial=root,bootindex=1");
    for disk in record.disks() {
        let file = directory.join(data_disk(disk));
        arguments.add("-blockdev", block_device(&format!("data-{}", disk.name), &file, "qcow2", false).to_string());
        arguments.add("-device", disk_device(&record.spec, disk).to_string());
    }
    arguments.add("-blockdev", block_device("seed", &directory.join(SEED), "raw", true).to_string());
    arguments.add("-device", "virtio-blk-pci,drive=seed,serial=seed");
}

fn links(arguments: &mut Arguments, forwards: &[PortForward], network: &Network) {
    let forwards: String = forwards.iter().map(|forward| format!(",hostfwd={}", host_forward(forward))).collect();
    // Without an option ROM: nothing boots from the network, and the files are a package of their own.
    let card = |link: &str, mac: &str| format!("virtio-net-pci,netdev={link},mac={mac},romfile=");
    arguments.add("-netdev", format!("user,id=uplink,ipv6=off{forwards}"));
    arguments.add("-device", card("uplink", &network.uplink_mac));
    let lan = &network.lan;
    arguments.add("-netdev", format!("socket,id=lan,mcast={}:{},localaddr=127.0.0.1", lan.ip(), lan.port()));
    arguments.add("-device", card("lan", &network.lan_mac));
}

fn host_forward(forward: &PortForward) -> String {
    let PortForward { host_address, host_port, guest_port, protocol } = forward;
    format!("{protocol}:{host_address}:{host_port}-:{guest_port}")
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{record, spec};
    use super::*;

    fn line(accel: Accel) -> String {
        let network = Network::new(Path::new("/s"), &spec("node1"));
        arguments(&record("node1"), Path::new("/s/machines/k8s1/node1"), &network, accel).join("\n")
    }

    #[test]
    fn the_arguments_are_as_in_the_golden_file() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/provider/qemu/golden/arguments.txt");
        let found = line(Accel::Emulation) + "\n";
        if std::env::var_os("WINDLASS_BLESS").is_some() {
            std::fs::write(&path, &found).expect("written");
        }
        assert_eq!(std::fs::read_to_string(&path).expect("the golden file"), found);
    }

    #[test]
    fn kvm_shows_the_hosts_own_processor() {
        assert!(line(Accel::Kvm).contains("-accel\nkvm\n-cpu\nhost"));
    }
}
