// SPDX-License-Identifier: Apache-2.0
//! Facts on the wire and back.
//!
//! What comes in is bounded but otherwise kept as the node said it: control characters too, because whoever prints text
//! from elsewhere escapes it.

use std::time::Duration;

use windlass_types::facts::{
    BlockDevice, Boot, Cpu, Fact, Kernel, Load, Memory, NetworkInterface, Os, PackageManager, ServiceState, Subject,
};
use windlass_types::time::UnixMillis;

use crate::v1;
use crate::v1::fact::Subject as Wire;

/// Longest text in a fact, bytes.
pub const LONGEST_TEXT: usize = 4096;

/// Most entries of any list in a fact.
pub const MOST_ENTRIES: usize = 4096;

/// A fact that is not taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFact {
    /// Written by a newer version, or empty. Leaving it out is right; ending the session over it is not.
    #[error("the fact has no subject this version knows")]
    UnknownSubject,
    /// Too long a text.
    #[error("{subject}: {field} has {length} bytes, at most {LONGEST_TEXT} are accepted")]
    TextTooLong {
        /// Of which subject.
        subject: &'static str,
        /// Which field.
        field: &'static str,
        /// How long.
        length: usize,
    },
    /// Too long a list.
    #[error("{subject}: {field} has {length} entries, at most {MOST_ENTRIES} are accepted")]
    ListTooLong {
        /// Of which subject.
        subject: &'static str,
        /// Which field.
        field: &'static str,
        /// How long.
        length: usize,
    },
}

/// A fact for the wire, and how long ago it was observed.
#[must_use]
pub fn to_wire(fact: Fact, age: Duration) -> v1::Fact {
    let subject = match fact {
        Fact::Os(os) => Wire::Os(v1::OsFact {
            id: os.id,
            version_id: os.version_id,
            pretty_name: os.pretty_name,
            architecture: os.architecture,
            hostname: os.hostname,
        }),
        Fact::Kernel(kernel) => Wire::Kernel(v1::KernelFact {
            running: kernel.running,
            default_release: kernel.default_release.unwrap_or_default(),
        }),
        Fact::Boot(boot) => Wire::Boot(v1::BootFact { boot_id: boot.boot_id, booted_at_unix_millis: boot.booted_at.0 }),
        Fact::Cpu(cpu) => Wire::Cpu(v1::CpuFact { model: cpu.model, logical: cpu.logical }),
        Fact::Memory(memory) => Wire::Memory(v1::MemoryFact {
            total_bytes: memory.total_bytes,
            available_bytes: memory.available_bytes,
            swap_total_bytes: memory.swap_total_bytes,
        }),
        Fact::Load(load) => Wire::Load(v1::LoadFact {
            one_centi: load.one_centi,
            five_centi: load.five_centi,
            fifteen_centi: load.fifteen_centi,
        }),
        Fact::Disks(devices) => {
            Wire::Disks(v1::DisksFact { devices: devices.into_iter().map(device_to_wire).collect() })
        }
        Fact::Network(interfaces) => {
            Wire::Network(v1::NetworkFact { interfaces: interfaces.into_iter().map(interface_to_wire).collect() })
        }
        Fact::PackageManager(manager) => {
            Wire::PackageManager(v1::PackageManagerFact { name: manager.name, version: manager.version })
        }
        Fact::PendingReboot(reasons) => Wire::PendingReboot(v1::PendingRebootFact { reasons }),
        Fact::Services(services) => {
            Wire::Services(v1::ServicesFact { services: services.into_iter().map(service_to_wire).collect() })
        }
        Fact::Unavailable { subject, reason } => {
            Wire::Unavailable(v1::UnavailableFact { subject: subject.as_str().to_owned(), reason })
        }
    };
    let age_millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    v1::Fact { age_millis, subject: Some(subject) }
}

fn device_to_wire(device: BlockDevice) -> v1::BlockDevice {
    v1::BlockDevice {
        name: device.name,
        stable_id: device.stable_id,
        kind: device.kind,
        size_bytes: device.size_bytes,
        serial: device.serial,
        wwn: device.wwn,
        model: device.model,
        signature: device.signature,
        label: device.label,
        uuid: device.uuid,
        read_only: device.read_only,
        rotational: device.rotational,
        parent: device.parent,
        holders: device.holders,
        mounts: device.mounts,
    }
}

fn interface_to_wire(interface: NetworkInterface) -> v1::NetworkInterface {
    v1::NetworkInterface {
        name: interface.name,
        mac: interface.mac,
        addresses: interface.addresses,
        mtu: interface.mtu,
        up: interface.up,
    }
}

fn service_to_wire(service: ServiceState) -> v1::ServiceState {
    v1::ServiceState { unit: service.unit, active: service.active, sub: service.sub }
}

impl TryFrom<v1::Fact> for Fact {
    type Error = BadFact;

    fn try_from(fact: v1::Fact) -> Result<Self, BadFact> {
        Ok(match fact.subject.ok_or(BadFact::UnknownSubject)? {
            Wire::Os(os) => Self::Os(os_from_wire(os)?),
            Wire::Kernel(kernel) => Self::Kernel(kernel_from_wire(kernel)?),
            Wire::Boot(boot) => Self::Boot(Boot {
                boot_id: Of(Subject::Boot).text("boot_id", boot.boot_id)?,
                booted_at: UnixMillis(boot.booted_at_unix_millis),
            }),
            Wire::Cpu(cpu) => {
                Self::Cpu(Cpu { model: Of(Subject::Cpu).text("model", cpu.model)?, logical: cpu.logical })
            }
            Wire::Memory(memory) => Self::Memory(Memory {
                total_bytes: memory.total_bytes,
                available_bytes: memory.available_bytes,
                swap_total_bytes: memory.swap_total_bytes,
            }),
            Wire::Load(load) => Self::Load(Load {
                one_centi: load.one_centi,
                five_centi: load.five_centi,
                fifteen_centi: load.fifteen_centi,
            }),
            Wire::Disks(disks) => Self::Disks(Of(Subject::Disks).list("devices", disks.devices, device_from_wire)?),
            Wire::Network(network) => {
                Self::Network(Of(Subject::Network).list("interfaces", network.interfaces, interface_from_wire)?)
            }
            Wire::PackageManager(manager) => Self::PackageManager(PackageManager {
                name: Of(Subject::PackageManager).text("name", manager.name)?,
                version: Of(Subject::PackageManager).text("version", manager.version)?,
            }),
            Wire::PendingReboot(pending) => {
                Self::PendingReboot(Of(Subject::PendingReboot).texts("reasons", pending.reasons)?)
            }
            Wire::Services(services) => {
                Self::Services(Of(Subject::Services).list("services", services.services, service_from_wire)?)
            }
            Wire::Unavailable(unavailable) => {
                let subject = subject_named(&unavailable.subject)?;
                Self::Unavailable { subject, reason: Of(subject).text("reason", unavailable.reason)? }
            }
        })
    }
}

fn subject_named(name: &str) -> Result<Subject, BadFact> {
    Subject::ALL.into_iter().find(|subject| subject.as_str() == name).ok_or(BadFact::UnknownSubject)
}

fn os_from_wire(os: v1::OsFact) -> Result<Os, BadFact> {
    let of = Of(Subject::Os);
    Ok(Os {
        id: of.text("id", os.id)?,
        version_id: of.text("version_id", os.version_id)?,
        pretty_name: of.text("pretty_name", os.pretty_name)?,
        architecture: of.text("architecture", os.architecture)?,
        hostname: of.text("hostname", os.hostname)?,
    })
}

fn kernel_from_wire(kernel: v1::KernelFact) -> Result<Kernel, BadFact> {
    let of = Of(Subject::Kernel);
    let default_release = of.text("default_release", kernel.default_release)?;
    Ok(Kernel {
        running: of.text("running", kernel.running)?,
        default_release: Some(default_release).filter(|release| !release.is_empty()),
    })
}

fn device_from_wire(device: v1::BlockDevice) -> Result<BlockDevice, BadFact> {
    let of = Of(Subject::Disks);
    Ok(BlockDevice {
        name: of.text("name", device.name)?,
        stable_id: of.text("stable_id", device.stable_id)?,
        kind: of.text("kind", device.kind)?,
        size_bytes: device.size_bytes,
        serial: of.text("serial", device.serial)?,
        wwn: of.text("wwn", device.wwn)?,
        model: of.text("model", device.model)?,
        signature: of.text("signature", device.signature)?,
        label: of.text("label", device.label)?,
        uuid: of.text("uuid", device.uuid)?,
        read_only: device.read_only,
        rotational: device.rotational,
        parent: of.text("parent", device.parent)?,
        holders: of.texts("holders", device.holders)?,
        mounts: of.texts("mounts", device.mounts)?,
    })
}

fn interface_from_wire(interface: v1::NetworkInterface) -> Result<NetworkInterface, BadFact> {
    let of = Of(Subject::Network);
    Ok(NetworkInterface {
        name: of.text("name", interface.name)?,
        mac: of.text("mac", interface.mac)?,
        addresses: of.texts("addresses", interface.addresses)?,
        mtu: interface.mtu,
        up: interface.up,
    })
}

fn service_from_wire(service: v1::ServiceState) -> Result<ServiceState, BadFact> {
    let of = Of(Subject::Services);
    Ok(ServiceState {
        unit: of.text("unit", service.unit)?,
        active: of.text("active", service.active)?,
        sub: of.text("sub", service.sub)?,
    })
}

/// Checks the fields of one subject.
#[derive(Clone, Copy)]
struct Of(Subject);

impl Of {
    fn text(self, field: &'static str, text: String) -> Result<String, BadFact> {
        if text.len() <= LONGEST_TEXT {
            return Ok(text);
        }
        Err(BadFact::TextTooLong { subject: self.0.as_str(), field, length: text.len() })
    }

    fn texts(self, field: &'static str, texts: Vec<String>) -> Result<Vec<String>, BadFact> {
        self.list(field, texts, |text| self.text(field, text))
    }

    fn list<W, T>(
        self,
        field: &'static str,
        entries: Vec<W>,
        convert: impl Fn(W) -> Result<T, BadFact>,
    ) -> Result<Vec<T>, BadFact> {
        if entries.len() > MOST_ENTRIES {
            return Err(BadFact::ListTooLong { subject: self.0.as_str(), field, length: entries.len() });
        }
        entries.into_iter().map(convert).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
    use proptest::sample::select;

    use super::*;

    fn texts() -> impl Strategy<Value = Vec<String>> {
        vec(any::<String>(), 0..3)
    }

    fn devices() -> impl Strategy<Value = Vec<BlockDevice>> {
        let texts = (vec(any::<String>(), 10), texts(), texts());
        let device = (texts, any::<(u64, bool, bool)>()).prop_map(|((mut text, holders, mounts), rest)| {
            let mut next = || text.pop().unwrap_or_default();
            BlockDevice {
                name: next(),
                stable_id: next(),
                kind: next(),
                size_bytes: rest.0,
                serial: next(),
                wwn: next(),
                model: next(),
                signature: next(),
                label: next(),
                uuid: next(),
                read_only: rest.1,
                rotational: rest.2,
                parent: next(),
                holders,
                mounts,
            }
        });
        vec(device, 0..3)
    }

    fn interfaces() -> impl Strategy<Value = Vec<NetworkInterface>> {
        let interface = (any::<(String, String, u32, bool)>(), texts())
            .prop_map(|((name, mac, mtu, up), addresses)| NetworkInterface { name, mac, addresses, mtu, up });
        vec(interface, 0..3)
    }

    fn facts() -> impl Strategy<Value = Fact> {
        let os = any::<(String, String, String, String, String)>().prop_map(
            |(id, version_id, pretty_name, architecture, hostname)| {
                Fact::Os(Os { id, version_id, pretty_name, architecture, hostname })
            },
        );
        let kernel = any::<(String, Option<String>)>().prop_map(|(running, default)| {
            Fact::Kernel(Kernel { running, default_release: default.filter(|release| !release.is_empty()) })
        });
        let boot =
            any::<(String, i64)>().prop_map(|(boot_id, at)| Fact::Boot(Boot { boot_id, booted_at: UnixMillis(at) }));
        let memory = any::<(u64, u64, u64)>().prop_map(|(total_bytes, available_bytes, swap_total_bytes)| {
            Fact::Memory(Memory { total_bytes, available_bytes, swap_total_bytes })
        });
        let load = any::<(u32, u32, u32)>().prop_map(|(one_centi, five_centi, fifteen_centi)| {
            Fact::Load(Load { one_centi, five_centi, fifteen_centi })
        });
        let services = vec(any::<(String, String, String)>(), 0..3).prop_map(|services| {
            let state = |(unit, active, sub)| ServiceState { unit, active, sub };
            Fact::Services(services.into_iter().map(state).collect())
        });
        prop_oneof![
            os,
            kernel,
            boot,
            any::<(String, u32)>().prop_map(|(model, logical)| Fact::Cpu(Cpu { model, logical })),
            memory,
            load,
            devices().prop_map(Fact::Disks),
            interfaces().prop_map(Fact::Network),
            any::<(String, String)>()
                .prop_map(|(name, version)| Fact::PackageManager(PackageManager { name, version })),
            texts().prop_map(Fact::PendingReboot),
            services,
            (select(Subject::ALL.as_slice()), any::<String>())
                .prop_map(|(subject, reason)| Fact::Unavailable { subject, reason }),
            Just(Fact::Disks(vec![])),
        ]
    }

    proptest! {
        #[test]
        fn every_fact_survives_the_wire(fact in facts(), age in any::<u32>()) {
            let wire = to_wire(fact.clone(), Duration::from_millis(age.into()));
            prop_assert_eq!(wire.age_millis, u64::from(age));
            prop_assert_eq!(Fact::try_from(wire), Ok(fact));
        }
    }

    #[test]
    fn refuses_texts_and_lists_without_a_bound() {
        let long = Fact::Cpu(Cpu { model: "x".repeat(LONGEST_TEXT + 1), logical: 1 });
        let many = Fact::Disks(vec![BlockDevice::default(); MOST_ENTRIES + 1]);
        let nested =
            Fact::Disks(vec![BlockDevice { holders: vec![String::new(); MOST_ENTRIES + 1], ..BlockDevice::default() }]);
        for (fact, message) in [
            (long, "cpu: model has 4097 bytes, at most 4096 are accepted"),
            (many, "disks: devices has 4097 entries, at most 4096 are accepted"),
            (nested, "disks: holders has 4097 entries, at most 4096 are accepted"),
        ] {
            let refused = Fact::try_from(to_wire(fact, Duration::ZERO)).map_err(|error| error.to_string());
            assert_eq!(refused, Err(message.to_owned()));
        }
    }

    #[test]
    fn tells_a_newer_versions_subject_from_a_broken_fact() {
        let empty = v1::Fact { age_millis: 1, subject: None };
        let unavailable = v1::UnavailableFact { subject: "containers".into(), reason: String::new() };
        let newer = v1::Fact { age_millis: 1, subject: Some(Wire::Unavailable(unavailable)) };
        assert_eq!(Fact::try_from(empty), Err(BadFact::UnknownSubject));
        assert_eq!(Fact::try_from(newer), Err(BadFact::UnknownSubject));
    }
}
