// SPDX-License-Identifier: Apache-2.0
//! What this host has left for machines: memory, disk, ports. Looked at before anything is made.

use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use windlass_types::machine::{MachineSpec, PortForward, Protocol};
use windlass_types::name::NodeName;

const MEBIBYTE: u64 = 1 << 20;

/// What the host itself must keep of its memory.
const LEFT_MEMORY_BYTES: u64 = 256 * MEBIBYTE;

/// What a machine writes at its first boot. Its disks grow further as they are written, up to their size.
const FIRST_BOOT_BYTES: u64 = 1024 * MEBIBYTE;

/// What the host itself must keep of its disk.
const LEFT_DISK_BYTES: u64 = 1024 * MEBIBYTE;

/// Something this host lacks.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// It cannot be told what it has.
    #[error("look how much {what} this host has")]
    Unknown {
        /// Of what.
        what: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Too little memory.
    #[error(
        "{machines} need {} MiB of memory and this host has {} MiB left, of which it keeps {} MiB",
        .needed / MEBIBYTE, .available / MEBIBYTE, LEFT_MEMORY_BYTES / MEBIBYTE
    )]
    Memory {
        /// Which machines.
        machines: String,
        /// What they need.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// Too little disk.
    #[error(
        "{machines} need {} MiB to begin with in {path} and {} MiB are left there, of which {} MiB are kept",
        .needed / MEBIBYTE, .available / MEBIBYTE, LEFT_DISK_BYTES / MEBIBYTE
    )]
    Disk {
        /// Which machines.
        machines: String,
        /// Where.
        path: PathBuf,
        /// What they need.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// A port that another machine has, running or not.
    #[error("{protocol} port {address}:{port} of this host cannot lead to {machine}: {holder} has it")]
    PortOfMachine {
        /// TCP or UDP.
        protocol: Protocol,
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
        /// For which machine.
        machine: NodeName,
        /// Which machine has it.
        holder: String,
    },
    /// A port that a program has, or that this user may not open.
    #[error("{protocol} port {address}:{port} of this host cannot lead to {machine}")]
    Port {
        /// TCP or UDP.
        protocol: Protocol,
        /// The address.
        address: std::net::IpAddr,
        /// The port.
        port: u16,
        /// For which machine.
        machine: NodeName,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Whether there is memory for these machines.
pub(super) fn check_memory(wanted: &[MachineSpec]) -> Result<(), HostError> {
    let text = std::fs::read_to_string("/proc/meminfo");
    let text = text.map_err(|source| HostError::Unknown { what: "memory", source })?;
    let available = available_memory(&text).ok_or_else(|| HostError::Unknown {
        what: "memory",
        source: std::io::Error::other("/proc/meminfo does not say"),
    })?;
    let needed = wanted.iter().map(|spec| spec.memory_bytes).fold(0, u64::saturating_add);
    if needed.saturating_add(LEFT_MEMORY_BYTES) > available {
        return Err(HostError::Memory { machines: names(wanted), needed, available });
    }
    Ok(())
}

fn available_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether there is disk to begin with.
pub(super) fn check_disk(wanted: &[MachineSpec], path: &Path) -> Result<(), HostError> {
    let status = statvfs(path).map_err(|errno| HostError::Unknown { what: "disk", source: errno.into() })?;
    let available = status.blocks_available().saturating_mul(status.fragment_size());
    let needed = FIRST_BOOT_BYTES.saturating_mul(wanted.len() as u64);
    if needed.saturating_add(LEFT_DISK_BYTES) > available {
        return Err(HostError::Disk { machines: names(wanted), path: path.to_owned(), needed, available });
    }
    Ok(())
}

fn names(wanted: &[MachineSpec]) -> String {
    wanted.iter().map(|spec| spec.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether a forwarded port is free: neither a machine's, be it off, nor a program's.
pub(super) fn check_port(
    machine: &NodeName,
    forward: &PortForward,
    holders: &[(String, PortForward)],
) -> Result<(), HostError> {
    let PortForward { host_address: address, host_port: port, protocol, .. } = *forward;
    let collides = |other: &PortForward| {
        let any = other.host_address.is_unspecified() || address.is_unspecified();
        other.protocol == protocol && other.host_port == port && (any || other.host_address == address)
    };
    if let Some((holder, _)) = holders.iter().find(|(_, other)| collides(other)) {
        let (machine, holder) = (machine.clone(), holder.clone());
        return Err(HostError::PortOfMachine { protocol, address, port, machine, holder });
    }
    let opened = match protocol {
        Protocol::Tcp => TcpListener::bind((address, port)).map(drop),
        Protocol::Udp => UdpSocket::bind((address, port)).map(drop),
    };
    opened.map_err(|source| HostError::Port { protocol, address, port, machine: machine.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::spec;
    use super::*;
    use windlass_types::error_chain::ErrorChain;

    fn forward(port: u16) -> PortForward {
        PortForward { host_address: [127, 0, 0, 1].into(), host_port: port, guest_port: 6443, protocol: Protocol::Tcp }
    }

    #[test]
    fn reads_what_the_kernel_says_is_available() {
        let text = "MemTotal:       24686720 kB\nMemFree:  1 kB\nMemAvailable:   23003796 kB\n";
        assert_eq!(available_memory(text), Some(23_003_796 * 1024));
        assert_eq!(available_memory("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn refuses_machines_that_do_not_fit_into_memory_and_says_how_much_there_is() {
        let mut large = spec("node1");
        large.memory_bytes = u64::MAX;
        let text = check_memory(&[large, spec("node2")]).expect_err("too large").to_string();
        assert!(text.starts_with("node1, node2 need ") && text.contains("MiB left"), "{text}");
        assert!(check_memory(&[]).is_ok());
    }

    #[test]
    fn refuses_machines_that_do_not_fit_onto_the_disk() {
        let many = vec![spec("node1"); 1_000_000];
        let text = check_disk(&many, Path::new("/")).expect_err("too many").to_string();
        assert!(text.contains("to begin with in /"), "{}", &text[text.len() - 120..]);
        assert!(check_disk(&[], Path::new("/no-such-directory")).is_err());
    }

    #[test]
    fn refuses_a_port_that_a_program_has() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("an address").port();
        let error = check_port(&spec("node1").name, &forward(port), &[]).expect_err("taken");
        let text = ErrorChain(&error).to_string();
        assert!(text.starts_with(&format!("tcp port 127.0.0.1:{port} of this host cannot lead to node1: ")), "{text}");
        drop(taken);
        assert!(check_port(&spec("node1").name, &forward(port), &[]).is_ok());
    }

    #[test]
    fn refuses_a_port_of_a_machine_that_is_off() {
        let any = PortForward { host_address: [0, 0, 0, 0].into(), ..forward(6443) };
        let holders = [("master1 of cluster k8s1".to_owned(), any)];
        let text = check_port(&spec("node1").name, &forward(6443), &holders).expect_err("taken").to_string();
        assert!(text.ends_with("master1 of cluster k8s1 has it"), "{text}");
        let udp = PortForward { protocol: Protocol::Udp, ..forward(0) };
        assert!(check_port(&spec("node1").name, &udp, &holders).is_ok());
    }
}
