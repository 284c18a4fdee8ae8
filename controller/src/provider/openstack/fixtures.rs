// SPDX-License-Identifier: Apache-2.0
//! A machine of a cloud for tests.

use windlass_types::cloud::{NetworkChoice, ServerSpec};
use windlass_types::machine::{AccelChoice, DiskSpec, MachineSpec};
use windlass_types::name::{ClusterName, NodeName, VolumeName};

pub(super) fn machine(name: &str) -> MachineSpec {
    let server = ServerSpec {
        flavor: "small".into(),
        network: NetworkChoice::Own,
        address: None,
        floating: Some("public".into()),
        security_groups: Vec::new(),
        grouped: false,
        keypair: None,
        zone: None,
        root_volume: None,
        allowed_addresses: Vec::new(),
    };
    MachineSpec {
        cluster: ClusterName::new("k8s1").expect("a name"),
        name: NodeName::new(name).expect("a name"),
        address: None,
        image: "CentOS-Stream-9".into(),
        cpus: 0,
        memory_bytes: 0,
        root_disk_bytes: 0,
        data_disks: vec![DiskSpec {
            name: VolumeName::new("docker").expect("a name"),
            size_bytes: 2 << 30,
            serial: None,
            volume_type: None,
        }],
        forwards: Vec::new(),
        accel: AccelChoice::Auto,
        server: Some(Box::new(server)),
        roles: Vec::new(),
        labels: Default::default(),
    }
}
