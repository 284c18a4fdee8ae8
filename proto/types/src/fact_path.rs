// SPDX-License-Identifier: Apache-2.0
//! The paths at which facts have values, such as `os.id`: by these an operator chooses nodes.
//!
//! They are listed here, so that a misspelt one is told from one that no node has. A test compares them with the facts.

/// Every path; `N` stands for the position in a list, from 0.
pub const FACT_PATHS: &[&str] = &[
    "os.id",
    "os.version_id",
    "os.pretty_name",
    "os.architecture",
    "os.hostname",
    "kernel.running",
    "kernel.default_release",
    "boot.boot_id",
    "cpu.model",
    "cpu.logical",
    "memory.total_bytes",
    "memory.available_bytes",
    "memory.swap_total_bytes",
    "load.one_centi",
    "load.five_centi",
    "load.fifteen_centi",
    "disks.N.name",
    "disks.N.stable_id",
    "disks.N.kind",
    "disks.N.size_bytes",
    "disks.N.serial",
    "disks.N.wwn",
    "disks.N.model",
    "disks.N.signature",
    "disks.N.label",
    "disks.N.uuid",
    "disks.N.read_only",
    "disks.N.rotational",
    "disks.N.parent",
    "disks.N.holders.N",
    "disks.N.mounts.N",
    "network.N.name",
    "network.N.mac",
    "network.N.addresses.N",
    "network.N.mtu",
    "network.N.up",
    "package-manager.name",
    "package-manager.version",
    "pending-reboot.N",
    "services.N.unit",
    "services.N.active",
    "services.N.sub",
];

/// Whether facts can have a value there.
#[must_use]
pub fn is_fact_path(path: &str) -> bool {
    FACT_PATHS.iter().any(|known| {
        let is_like = |(known, given): (&str, &str)| match known {
            "N" => given.parse::<usize>().is_ok(),
            word => word == given,
        };
        known.split('.').count() == path.split('.').count() && known.split('.').zip(path.split('.')).all(is_like)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{
        BlockDevice, Boot, Cpu, Fact, Kernel, Load, Memory, NetworkInterface, Os, PackageManager, ServiceState,
    };
    use serde_json::Value;

    /// One of each, with one item in every list.
    fn full() -> Vec<Fact> {
        let one = || vec!["x".to_owned()];
        vec![
            Fact::Os(Os::default()),
            Fact::Kernel(Kernel { default_release: Some("x".to_owned()), ..Kernel::default() }),
            Fact::Boot(Boot::default()),
            Fact::Cpu(Cpu::default()),
            Fact::Memory(Memory::default()),
            Fact::Load(Load::default()),
            Fact::Disks(vec![BlockDevice { holders: one(), mounts: one(), ..BlockDevice::default() }]),
            Fact::Network(vec![NetworkInterface { addresses: one(), ..NetworkInterface::default() }]),
            Fact::PackageManager(PackageManager::default()),
            Fact::PendingReboot(one()),
            Fact::Services(vec![ServiceState::default()]),
        ]
    }

    fn leaves(at: &str, value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(key, value)| leaves(&format!("{at}.{key}"), value, found))
            }
            Value::Array(items) => items.iter().for_each(|value| leaves(&format!("{at}.N"), value, found)),
            _ => found.push(at.to_owned()),
        }
    }

    #[test]
    fn the_list_is_what_facts_have() {
        let mut found = Vec::new();
        for fact in full() {
            let json = serde_json::to_value(&fact).expect("facts are JSON");
            leaves(fact.subject().as_str(), &json["value"], &mut found);
        }
        // A moment is written in more than one way, so nobody can name it exactly.
        found.retain(|path| path != "boot.booted_at");
        found.sort();
        let mut listed: Vec<_> = FACT_PATHS.iter().map(|&path| path.to_owned()).collect();
        listed.sort();
        assert_eq!(listed, found);
    }

    #[test]
    fn a_slip_is_not_a_path() {
        assert!(
            ["os.id", "disks.12.name", "network.0.addresses.1", "pending-reboot.0"].iter().all(|p| is_fact_path(p))
        );
        for slip in ["os", "os.", "os.idd", "os.id.x", "oss.id", "disks.name", "disks.x.name", "disks.0", "", "N"] {
            assert!(!is_fact_path(slip), "{slip}");
        }
    }
}
