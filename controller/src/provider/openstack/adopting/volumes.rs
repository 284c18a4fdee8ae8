// SPDX-License-Identifier: Apache-2.0
//! Which of the volumes at a server is which of the spec: as it was said, as it is marked, as it is called, or because only
//! one has the size.

use windlass_types::escape::Escaped;
use windlass_types::machine::{DiskSpec, MachineSpec};
use windlass_types::name::VolumeName;

use super::{Adoption, Claimed};
use crate::openstack::volume::Volume;
use crate::provider::openstack::{gibibytes, tag};

/// What a root disk that is a volume is called by a cloud.
const ROOT_DEVICES: [&str; 3] = ["/dev/vda", "/dev/sda", "/dev/xvda"];

/// Says which, and asks for what is not clear.
pub(super) fn choose(adoption: &mut Adoption, spec: &MachineSpec, claimed: &Claimed, attached: Vec<Volume>) {
    let from_image = adoption.server.image.is_some();
    let is_root = |volume: &Volume| {
        let device = volume.attachments.iter().find_map(|one| one.device.as_deref());
        !from_image && device.is_some_and(|device| ROOT_DEVICES.contains(&device))
    };
    let mut left: Vec<Volume> = attached.into_iter().filter(|volume| !is_root(volume)).collect();
    let mut open = Vec::new();
    let is_in_spec = |name: &&VolumeName| spec.data_disks.iter().any(|disk| disk.name == **name);
    let strange = claimed.volumes.keys().filter(|name| !is_in_spec(name));
    adoption.obstacles.extend(strange.map(|name| format!("the spec has no volume {name}")));
    for disk in &spec.data_disks {
        let said = claimed.volumes.get(&disk.name);
        let is_it = |volume: &Volume| match said {
            Some(id) => volume.id == *id,
            None => !claimed.volumes.values().any(|id| *id == volume.id) && is_by_itself(volume, &disk.name),
        };
        let found: Vec<usize> = (0..left.len()).filter(|&at| is_it(&left[at])).collect();
        match (&found[..], said) {
            ([only], _) => take(adoption, disk, left.swap_remove(*only)),
            ([], Some(id)) => adoption.object(format!("the volume {} is not at the server", Escaped(id))),
            ([], None) => open.push(disk),
            (several, _) => adoption.object(which(spec, disk, several.iter().map(|&at| &left[at]))),
        }
    }
    for disk in open {
        let could_be = |volume: &Volume| is_as_large(volume, disk) && tag::volume_in(&volume.metadata).is_none();
        let fitting: Vec<usize> = (0..left.len()).filter(|&at| could_be(&left[at])).collect();
        match fitting[..] {
            [only] => take(adoption, disk, left.swap_remove(only)),
            [] => adoption
                .remarks
                .push(format!("no volume at it is {}: apply makes and attaches an empty one", disk.name)),
            _ => adoption.object(which(spec, disk, fitting.iter().map(|&at| &left[at]))),
        }
    }
    let rest = left.iter().map(|volume| {
        format!("the volume {} ({} GiB) is not in the spec and is left alone", Escaped(&volume.id), volume.size)
    });
    adoption.remarks.extend(rest);
}

/// Asks which of several is meant.
fn which<'a>(spec: &MachineSpec, disk: &DiskSpec, among: impl Iterator<Item = &'a Volume>) -> String {
    let ids: Vec<_> = among.map(|volume| Escaped(&volume.id).to_string()).collect();
    let (node, name, ids) = (&spec.name, &disk.name, ids.join(", "));
    format!("which volume is {name}? say it: --volume {node}/{name}=ID, with one of {ids}")
}

fn take(adoption: &mut Adoption, disk: &DiskSpec, volume: Volume) {
    if !is_as_large(&volume, disk) {
        let wanted = gibibytes(disk.size_bytes);
        adoption.object(format!("the volume {} has {} GiB, and the spec says {wanted}", disk.name, volume.size));
    }
    if volume.attachments.len() > 1 {
        adoption.object(format!("the volume {} is at {} servers", Escaped(&volume.id), volume.attachments.len()));
    }
    adoption.volumes.push((disk.name.clone(), volume));
}

fn is_as_large(volume: &Volume, disk: &DiskSpec) -> bool {
    volume.size == gibibytes(disk.size_bytes)
}

/// Whether a volume is marked as this disk or, being marked as none, is called so.
fn is_by_itself(volume: &Volume, name: &VolumeName) -> bool {
    tag::volume_in(&volume.metadata).map_or_else(|| is_called(volume, name), |marked| marked == *name)
}

/// Whether people call a volume so, alone or after whose it is.
fn is_called(volume: &Volume, name: &VolumeName) -> bool {
    let rest = volume.name.strip_suffix(name.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(['-', '_', '.']))
}
