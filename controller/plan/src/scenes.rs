// SPDX-License-Identifier: Apache-2.0
//! Nodes for tests: what they say of themselves and what they shall become.

use std::collections::BTreeMap;

use windlass_types::action::{Argv, NodePath};
use windlass_types::name::NodeName;
use windlass_types::name::on_node::{
    Architecture, BootId, KernelRelease, PackageName, PackageVersion, SysctlKey, UnitName, UserName,
};
use windlass_types::package::{Package, PackageChange, PackagesWish, Transaction, UpdateScope};
use windlass_types::setting::{ManagedFile, Setting};
use windlass_types::survey::{
    Found, InstalledKernel, KernelChannel, KernelDue, KernelWish, Kernels, SCHEMA, SettingDue, Survey,
};

use crate::example::{self, joined, machine, name};
use crate::spec::sha256;
use crate::{Hook, Hooks, NodeWish, Snapshot};

pub(crate) const OLD: &str = "5.14.0-1.el9.x86_64";
pub(crate) const NEW: &str = "6.1.0-9.el9.x86_64";

pub(crate) fn release(text: &str) -> KernelRelease {
    KernelRelease::new(text).expect("a release")
}

pub(crate) fn change(name: &str, from: Option<&str>, to: Option<&str>) -> PackageChange {
    PackageChange {
        name: PackageName::new(name).expect("a name"),
        arch: Architecture::new("x86_64").expect("an architecture"),
        from: from.map(|version| PackageVersion::new(version).expect("a version")),
        to: to.map(|version| PackageVersion::new(version).expect("a version")),
        repository: None,
    }
}

pub(crate) fn package(name: &str, version: &str) -> Package {
    change(name, None, Some(version)).target().expect("it comes")
}

/// Three packages, none of which everything runs on.
pub(crate) fn transaction() -> Transaction {
    let changes = vec![
        change("bash", Some("5.1.8-6.el9"), Some("5.1.8-9.el9")),
        change("jq", None, Some("1.6-15.el9")),
        change("python3-urllib3", Some("1.26.5-3.el9"), Some("1.26.5-6.el9_4.1")),
    ];
    Transaction { changes, download_bytes: (3 << 20) + 5 }
}

pub(crate) fn kernel_due() -> KernelDue {
    KernelDue {
        release: release(NEW),
        install: Some(package("kernel-lt", "6.1.0-9.el9")),
        changes: vec![change("kernel-lt", None, Some("6.1.0-9.el9"))],
        prune: vec![package("kernel", "5.14.0-0.el9")],
    }
}

pub(crate) fn file(content: &str) -> Setting {
    let root = UserName::new("root").expect("a name");
    Setting::File(ManagedFile {
        path: NodePath::new("/etc/motd").expect("a path"),
        content: content.into(),
        mode: 0o644,
        owner: root.clone(),
        group: root,
        secret: false,
    })
}

pub(crate) fn sysctl(value: &str) -> Setting {
    Setting::Sysctl { key: SysctlKey::new("net.ipv4.ip_forward").expect("a key"), value: value.into() }
}

pub(crate) fn due(changes: &[&str]) -> Found<SettingDue> {
    let changes = changes.iter().map(|line| (*line).to_owned()).collect();
    Found::Due { due: SettingDue { seen: sha256(b"what is there"), changes } }
}

pub(crate) fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("a name")
}

/// A node that is as nobody wishes it otherwise.
pub(crate) fn survey() -> Survey {
    let kernels = Kernels {
        running: release(OLD),
        default: Some(release(OLD)),
        once: None,
        installed: vec![InstalledKernel { release: release(OLD), package: None }],
    };
    Survey {
        schema: SCHEMA,
        boot_id: BootId::new("b-1").expect("an id"),
        kernels,
        reboot_reasons: Vec::new(),
        outdated_services: Vec::new(),
        interrupted: None,
        is_unreadable: false,
        settings: Vec::new(),
        packages: None,
        kernel: None,
        installed: Vec::new(),
        history: Vec::new(),
    }
}

pub(crate) fn packages_wish() -> Option<PackagesWish> {
    Some(PackagesWish { update: UpdateScope::All, exclude: Vec::new() })
}

pub(crate) fn kernel_wish() -> Option<KernelWish> {
    Some(KernelWish { channel: KernelChannel::ElrepoLt, version: None, keep: 1 })
}

pub(crate) fn hooks() -> Hooks {
    let hook = |word: &str| {
        let argv = vec!["/usr/libexec/site/drain".to_owned(), word.to_owned()];
        Some(Hook { argv: Argv::new(argv).expect("a program"), timeout_millis: 60_000 })
    };
    Hooks { before: hook("away"), after: hook("back") }
}

/// A world with these nodes, healthy and without machines of ours, and what each says and shall become.
pub(crate) fn world(nodes: &[(&str, NodeWish, Survey)]) -> (Snapshot, BTreeMap<NodeName, NodeWish>) {
    let (mut snapshot, mut wishes) = (example::empty(), BTreeMap::new());
    for (node, wish, survey) in nodes {
        snapshot.nodes.push(joined(&machine(node)));
        snapshot.surveys.insert(name(node), survey.clone());
        wishes.insert(name(node), wish.clone());
    }
    (snapshot, wishes)
}
