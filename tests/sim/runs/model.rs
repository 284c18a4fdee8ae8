// SPDX-License-Identifier: Apache-2.0
//! What is on the machines of a simulation of runs, and what its repositories have.

use std::collections::BTreeMap;

use windlass_agent::host::fake::{FakeHost, ModelPackage, Node};

/// Packages of every node. A reboot ends the last use of `glibc`, a restart that of `sshd`.
const PACKAGES: [&str; 4] = ["bash", "curl", "glibc", "sshd"];

const KERNEL: &str = "kernel-lt";

/// The kernel it begins with, and the one it is to have, as versions.
const KERNELS: [&str; 2] = ["6.1-1", "6.2-1"];

fn version(number: u32) -> String {
    format!("{number}-1")
}

/// Gives a node the oldest of everything; the repositories have the next.
pub(crate) fn prepare(host: &FakeHost, kernels_become_default: bool) {
    host.change(|node| {
        let [old, _] = KERNELS;
        node.packages = PACKAGES.iter().map(|name| ModelPackage::new(name, &version(1))).collect();
        node.packages.push(ModelPackage::new(KERNEL, old));
        node.running_kernel = release(old);
        node.default_kernel = Some(release(old));
        node.kernels_become_default = kernels_become_default;
    });
    offer(host, 2);
}

fn release(version: &str) -> String {
    format!("{version}.x86_64")
}

/// Puts a version of everything, and all kernels, into the repositories.
pub(crate) fn offer(host: &FakeHost, number: u32) {
    host.change(|node| {
        node.repository = PACKAGES.iter().map(|name| ModelPackage::new(name, &version(number))).collect();
        node.repository.extend(KERNELS.map(|version| ModelPackage::new(KERNEL, version)));
    });
}

/// The new kernel panics, or does no longer.
pub(crate) fn break_kernel(host: &FakeHost, is_broken: bool) {
    let [_, new] = KERNELS;
    host.change(|node| node.broken_kernels = is_broken.then(|| release(new)).into_iter().collect());
}

/// What is not as it is to be in the end.
pub(crate) fn unfinished(node: &Node) -> Option<String> {
    let [_, new] = KERNELS.map(release);
    let newest =
        |name: &str| node.repository.iter().find(|package| package.name == name).map(|package| &package.version);
    let old = node.packages.iter().find(|p| p.name != KERNEL && newest(&p.name) != Some(&p.version));
    if let Some(old) = old {
        return Some(format!("has {}", old.full()));
    }
    if node.running_kernel != new || node.default_kernel.as_ref() != Some(&new) {
        return Some(format!("runs kernel {}, and the default is {:?}", node.running_kernel, node.default_kernel));
    }
    None
}

/// A package that came or went twice.
pub(crate) fn twice(effects: &BTreeMap<String, u64>) -> Option<String> {
    let moves = |what: &str| ["install ", "remove ", "erase "].iter().any(|verb| what.starts_with(verb));
    let twice = effects.iter().find(|(what, times)| moves(what) && **times > 1);
    twice.map(|(what, times)| format!("did `{what}` {times} times"))
}
