// SPDX-License-Identifier: Apache-2.0
//! What shall be.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use windlass_types::cloud::SharedSpec;
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::{MachineSpec, ProviderKind};
use windlass_types::name::{ClusterName, DiskSerial, LabelKey, LabelValue, NodeName, VolumeName};

use crate::wish::NodeWish;

/// Characters of a volume's name that its serial shows: with a dash and eight digits it fits into virtio's twenty bytes.
const NAME_IN_SERIAL: usize = 11;

/// What a cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// Its name: the tag of its machines.
    pub name: ClusterName,
    /// Who makes its machines.
    pub provider: ProviderKind,
    /// Its machines, one for each node.
    pub machines: Vec<MachineSpec>,
    /// What its machines share, each kind once.
    #[serde(default)]
    pub shared: Vec<SharedSpec>,
    /// What shall become of their nodes; one that is not here is left as it is.
    #[serde(default)]
    pub wishes: BTreeMap<NodeName, NodeWish>,
}

/// The hash of what a machine is made of and what can only be changed by making it anew. Data disks and labels are not in
/// it: they can be added in place, and are compared one by one.
///
/// # Panics
/// Never: a spec is always JSON.
#[must_use]
pub fn base_hash(machine: &MachineSpec) -> Sha256Digest {
    let base = MachineSpec { data_disks: Vec::new(), labels: BTreeMap::new(), roles: Vec::new(), ..machine.clone() };
    sha256(&serde_json::to_vec(&base).expect("a spec is always JSON"))
}

/// The serial by which a node finds a volume: readable, and unique in all clusters.
///
/// # Panics
/// Never: the parts of names that are used are valid in a serial.
#[must_use]
pub fn disk_serial(cluster: &ClusterName, node: &NodeName, volume: &VolumeName) -> DiskSerial {
    let whole = sha256(format!("{cluster}/{node}/{volume}").as_bytes()).to_string();
    let shown: String = volume.as_str().chars().take(NAME_IN_SERIAL).collect();
    DiskSerial::new(format!("{shown}-{}", &whole[..8])).expect("a volume's name and hexadecimal digits")
}

/// The labels a machine's node shall have: its own, and one for each role.
///
/// # Panics
/// Never: the names of roles are valid in labels.
#[must_use]
pub fn wished_labels(machine: &MachineSpec) -> BTreeMap<LabelKey, LabelValue> {
    let value = LabelValue::new("yes").expect("a constant");
    let roles = machine.roles.iter().map(|role| {
        (LabelKey::new(format!("{ROLE_PREFIX}{role}")).expect("a constant and a role's name"), value.clone())
    });
    machine.labels.clone().into_iter().chain(roles).collect()
}

/// Labels that begin so are the spec's alone.
pub(crate) const ROLE_PREFIX: &str = "role/";

pub(crate) fn sha256(bytes: &[u8]) -> Sha256Digest {
    let mut all = [0; 32];
    all.copy_from_slice(digest(&SHA256, bytes).as_ref());
    Sha256Digest::new(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::machine;

    #[test]
    fn the_hash_is_of_what_cannot_be_changed_in_place() {
        let plain = machine("node1");
        let mut labelled = plain.clone();
        labelled.labels.insert(LabelKey::new("a").expect("a key"), LabelValue::new("b").expect("a value"));
        labelled.data_disks.clear();
        assert_eq!(base_hash(&plain), base_hash(&labelled));
        assert_ne!(base_hash(&plain), base_hash(&MachineSpec { cpus: 9, ..plain.clone() }));
        assert_ne!(base_hash(&plain), base_hash(&machine("node2")));
    }

    #[test]
    fn a_serial_fits_and_tells_nodes_apart() {
        let cluster = ClusterName::new("k8s1").expect("a name");
        let volume = VolumeName::new("a-rather-long-volume-name").expect("a name");
        let serial = |node| disk_serial(&cluster, &NodeName::new(node).expect("a name"), &volume);
        assert!(serial("node1").as_str().starts_with("a-rather-lo-") && serial("node1").as_str().len() == 20);
        assert_ne!(serial("node1"), serial("node2"));
    }
}
