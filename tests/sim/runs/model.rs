// SPDX-License-Identifier: Apache-2.0
//! What is on the machines of a simulation of runs, and what its repositories have.

use std::path::{Path, PathBuf};

use windlass_agent::host::fake::{FakeHost, ModelPackage, Node};

use super::settle::LAST_VALUE;

/// Of what specs have settings.
pub(crate) const FILE: &str = "/etc/motd";
pub(crate) const PARAMETER: &str = "vm.swappiness";

/// What is run before a node goes down and after it is back.
pub(crate) const HOOKS: [&str; 2] = ["/usr/libexec/site/drain", "/usr/libexec/site/undrain"];

/// Packages of every node. A reboot ends the last use of `glibc`, a restart that of `sshd`.
const PACKAGES: [&str; 4] = ["bash", "curl", "glibc", "sshd"];

const KERNEL: &str = "kernel-lt";

/// The kernel it begins with, and the one it is to have, as versions.
const KERNELS: [&str; 2] = ["6.1-1", "6.2-1"];

/// What a spec wants in the file.
pub(crate) fn content(value: u32) -> String {
    format!("as spec {value} says\n")
}

/// Where a parameter is.
pub(crate) fn path_of(parameter: &str) -> PathBuf {
    format!("/proc/sys/{}", parameter.replace('.', "/")).into()
}

fn version(number: u32) -> String {
    format!("{number}-1")
}

/// The number of a version, as the model has them: without what stands before and behind it. Those of kernels have none.
pub(crate) fn number(version: &str) -> u32 {
    let version = version.rsplit(':').next().unwrap_or_default();
    version.split('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
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
        node.repository = KERNELS.map(|version| ModelPackage::new(KERNEL, version)).into();
        node.files.insert(FILE.into(), "Welcome\n".to_owned());
        node.files.insert(path_of(PARAMETER), "60\n".to_owned());
    });
    (1..=2).for_each(|number| offer(host, number));
}

fn release(version: &str) -> String {
    format!("{version}.x86_64")
}

/// Puts a version of everything into the repositories; what is there stays, so that there is a way back.
pub(crate) fn offer(host: &FakeHost, number: u32) {
    host.change(|node| {
        let new = PACKAGES.iter().map(|name| ModelPackage::new(name, &version(number)));
        let new: Vec<_> = new.filter(|package| !node.repository.contains(package)).collect();
        node.repository.extend(new);
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
    let newest = |name: &str| {
        let of_name = node.repository.iter().filter(|package| package.name == name);
        of_name.map(|package| number(&package.version)).max()
    };
    let old = node.packages.iter().find(|p| p.name != KERNEL && newest(&p.name) != Some(number(&p.version)));
    if let Some(old) = old {
        return Some(format!("has {}", old.full()));
    }
    if node.running_kernel != new || node.default_kernel.as_ref() != Some(&new) {
        return Some(format!("runs kernel {}, and the default is {:?}", node.running_kernel, node.default_kernel));
    }
    let (motd, parameter) = (node.files.get(Path::new(FILE)), node.files.get(&path_of(PARAMETER)));
    if motd != Some(&content(LAST_VALUE)) || parameter.map(|value| value.trim()) != Some(&LAST_VALUE.to_string()) {
        return Some(format!("has {motd:?} in {FILE} and {parameter:?} for {PARAMETER}"));
    }
    None
}
