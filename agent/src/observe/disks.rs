// SPDX-License-Identifier: Apache-2.0
//! Block devices, each with the most stable name it has.

use std::collections::HashMap;
use std::path::Path;

use windlass_types::facts::BlockDevice;

use super::{MOST_ENTRIES, Unobservable, attribute};
use crate::host::lsblk::Device;
use crate::host::procfs::{MOUNTS, Mount, parse_mounts};
use crate::host::{Look, Observe};

const BY_PATH: &str = "/dev/disk/by-path";

pub(super) async fn observe(host: &dyn Observe, look: Look) -> Result<Vec<BlockDevice>, Unobservable> {
    let mut devices = host.lsblk(look).await?.parse()?;
    devices.truncate(MOST_ENTRIES);
    let mounts = host.read(Path::new(MOUNTS)).map(|text| parse_mounts(&text)).unwrap_or_default();
    let paths = paths_by_name(host);
    Ok(devices.into_iter().map(|device| complete(host, device, &mounts, &paths)).collect())
}

/// Adds to what lsblk tells what only the kernel tells.
fn complete(host: &dyn Observe, mut device: Device, mounts: &[Mount], paths: &HashMap<String, String>) -> BlockDevice {
    // The kernel writes a slash in a device's name as an exclamation mark.
    let sys = format!("/sys/class/block/{}", device.kernel_name.replace('/', "!"));
    if device.serial.is_empty() && device.kind == "disk" {
        // virtio tells it here, also where udev was not asked.
        device.serial = attribute(host, format!("{sys}/serial"));
    }
    let dm_uuid = attribute(host, format!("{sys}/dm/uuid"));
    let mut holders = host.list(Path::new(&format!("{sys}/holders"))).unwrap_or_default();
    holders.truncate(MOST_ENTRIES);
    let stable_id = stable_id(&device, &dm_uuid, paths.get(&device.kernel_name).map(String::as_str));
    let mounts = mounts_of(&device, mounts);
    BlockDevice {
        name: device.kernel_name,
        stable_id,
        kind: device.kind,
        size_bytes: device.size,
        serial: device.serial,
        wwn: device.wwn,
        model: device.model,
        signature: device.signature,
        label: device.label,
        uuid: device.uuid,
        read_only: device.read_only,
        rotational: device.rotational,
        parent: device.parent,
        holders,
        mounts,
    }
}

/// The name that survives a reboot and a moved cable best; empty if there is none.
///
/// A partition is never named by WWN or serial, which it shares with its disk. Several paths to one disk have the same
/// name, as have disks whose hypervisor gave them the same serial: whoever changes a disk must insist on exactly one.
fn stable_id(device: &Device, dm_uuid: &str, path: Option<&str>) -> String {
    let is_partition = device.kind == "part";
    let is_mapped = device.kernel_name.starts_with("dm-");
    let own = |text: &str| if is_partition { String::new() } else { text.to_owned() };
    let candidates = [
        ("wwn-", own(&device.wwn)),
        ("serial-", own(&device.serial)),
        ("dm-uuid-", dm_uuid.to_owned()),
        ("dm-name-", if is_mapped { device.name.clone() } else { String::new() }),
        ("partuuid-", device.partition_uuid.clone()),
        ("path-", path.unwrap_or_default().to_owned()),
    ];
    let found = candidates.into_iter().find(|(_, value)| !value.is_empty());
    found.map(|(kind, value)| format!("{kind}{value}")).unwrap_or_default()
}

/// Kernel names to names by path.
fn paths_by_name(host: &dyn Observe) -> HashMap<String, String> {
    let named = |path: String| {
        let target = host.link(&Path::new(BY_PATH).join(&path)).ok()?;
        Some((target.rsplit('/').next()?.to_owned(), path))
    };
    // Reversed, so that the first of several names in order stays.
    host.list(Path::new(BY_PATH)).unwrap_or_default().into_iter().rev().filter_map(named).collect()
}

/// What lsblk saw and what the first process sees, once each.
fn mounts_of(device: &Device, mounts: &[Mount]) -> Vec<String> {
    let sources = [format!("/dev/{}", device.kernel_name), format!("/dev/mapper/{}", device.name)];
    let is_its = |mount: &&Mount| mount.device_number == device.number || sources.contains(&mount.source);
    let mut targets: Vec<String> = mounts.iter().filter(is_its).map(|mount| mount.target.clone()).collect();
    targets.extend(Some(device.mount.clone()).filter(|target| !target.is_empty()));
    targets.sort_unstable();
    targets.dedup();
    targets.truncate(MOST_ENTRIES);
    targets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn the_stable_name_is_the_most_specific_there_is() {
        let disk = Device { kernel_name: "sda".into(), kind: "disk".into(), ..Device::default() };
        let with = |change: fn(&mut Device)| {
            let mut device = disk.clone();
            change(&mut device);
            device
        };
        let wwn = with(|d| (d.wwn, d.serial) = ("0x5000".into(), "S1".into()));
        let serial = with(|d| d.serial = "S1".into());
        let partition = with(|d| {
            (d.kind, d.wwn, d.serial, d.partition_uuid) =
                ("part".into(), "0x5000".into(), "S1".into(), "8b1f-01".into());
        });
        let volume = with(|d| (d.kernel_name, d.name, d.kind) = ("dm-0".into(), "vg-root".into(), "lvm".into()));
        for (device, dm_uuid, path, expected) in [
            (&wwn, "", Some("pci-1"), "wwn-0x5000"),
            (&serial, "", Some("pci-1"), "serial-S1"),
            (&partition, "", Some("pci-1-part1"), "partuuid-8b1f-01"),
            (&volume, "LVM-abc", None, "dm-uuid-LVM-abc"),
            (&volume, "", None, "dm-name-vg-root"),
            (&disk, "", Some("pci-1"), "path-pci-1"),
            (&disk, "", None, ""),
        ] {
            assert_eq!(stable_id(device, dm_uuid, path), expected);
        }
    }

    #[test]
    fn mounts_are_found_by_number_and_by_source() {
        let mount = |number: &str, target: &str, source: &str| Mount {
            device_number: number.into(),
            target: target.into(),
            source: source.into(),
        };
        let mounts = [
            mount("253:0", "/b", "x"),
            mount("0:40", "/a", "/dev/dm-0"),
            mount("8:0", "/c", "x"),
            mount("0:41", "/d", "/dev/mapper/vg-a"),
        ];
        let device = Device {
            kernel_name: "dm-0".into(),
            name: "vg-a".into(),
            number: "253:0".into(),
            mount: "/b".into(),
            ..Device::default()
        };
        assert_eq!(mounts_of(&device, &mounts), ["/a", "/b", "/d"]);
    }

    #[tokio::test]
    async fn the_disks_of_a_node_come_back_as_they_are() {
        let host = FakeHost::new("node1");
        assert_eq!(observe(&host, Look::Closely).await.unwrap(), host.node().disks);
    }

    #[tokio::test]
    async fn a_virtio_serial_is_read_from_the_kernel() {
        let host = FakeHost::new("node1");
        host.change(|node| {
            node.disks[0].serial.clear();
            node.disks[0].wwn.clear();
            node.files.insert("/sys/class/block/vda/serial".into(), "root-disk\n".into());
        });
        assert_eq!(observe(&host, Look::Closely).await.unwrap()[0].stable_id, "serial-root-disk");
    }
}
