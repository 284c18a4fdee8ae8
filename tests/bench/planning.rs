// SPDX-License-Identifier: Apache-2.0
//! How long the planner thinks: for a cluster in which every node lacks everything, of 100, 1,000 and 5,000 nodes, and for
//! the question which of them may go down now. It is asked again whenever a node finishes.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

use anyhow::Result;
use windlass_plan::{ClusterSpec, NodeStatus, NodeWish, Policy, RebootWish, Scene, Snapshot, objections, plan};
use windlass_types::digest::Sha256Digest;
use windlass_types::machine::{AccelChoice, MachineSpec, ProviderKind};
use windlass_types::name::on_node::{Architecture, BootId, KernelRelease, PackageName, PackageVersion, SysctlKey};
use windlass_types::name::{ClusterName, NodeName, RunId};
use windlass_types::package::{PackageChange, PackagesWish, Transaction, UpdateScope};
use windlass_types::setting::Setting;
use windlass_types::survey::{Found, KernelChannel, KernelDue, KernelWish, Kernels, SCHEMA, SettingDue, Survey};
use windlass_types::time::UnixMillis;

use crate::memory::count;
use crate::report::Report;

const SIZES: [usize; 3] = [100, 1000, 5000];

/// Times that the largest is planned; smaller ones so often that each is measured for as long.
const RUNS: usize = 5;

/// What a system that was not looked after for half a year has.
const PACKAGES: usize = 200;

const SETTINGS: usize = 20;

/// Measures all sizes, and compares neighbours: 1 is linear.
///
/// # Errors
/// If a name of the scene is not one.
pub(crate) fn run_bench(report: &mut Report) -> Result<()> {
    let mut before: Option<(usize, f64)> = None;
    for nodes in SIZES {
        let each = measure(nodes, report)? / count(nodes);
        report.value(format!("planning {nodes} nodes: time per node"), each * 1e6, "us");
        if let Some((fewer, of_fewer)) = before {
            // A tenth for what the machine does besides.
            report.at_most(format!("planning {fewer} to {nodes}: time per node"), each / of_fewer, "times", 1.1);
        }
        before = Some((nodes, each));
    }
    Ok(())
}

/// Seconds that a plan takes.
fn measure(nodes: usize, report: &mut Report) -> Result<f64> {
    let (snapshot, spec) = scene(nodes)?;
    let policy = Policy::default();
    let runs = RUNS * SIZES[SIZES.len() - 1] / nodes;
    let seconds = best(runs, || black_box(plan(&snapshot, &spec, &policy, UnixMillis(0))).steps.len());
    let name = format!("planning {nodes} nodes that lack everything");
    if nodes == 1000 {
        report.at_most(name, seconds, "s", 0.2);
    } else {
        report.value(name, seconds, "s");
    }
    let made = plan(&snapshot, &spec, &policy, UnixMillis(0));
    report.value(format!("planning {nodes} nodes: its hash"), best(RUNS, || black_box(made.hash())), "s");
    report.value(format!("planning {nodes} nodes: its text"), best(RUNS, || black_box(made.to_string()).len()), "s");
    let run = RunId::new("r1")?;
    let leaving = made.leaving();
    let scene = Scene { snapshot: &snapshot, run: &run, policy: &policy, leaving: &leaving, now: UnixMillis(0) };
    let last = snapshot.nodes.last().map(|node| node.name.clone()).unwrap_or_else(|| made.turns[0].node.clone());
    let asked = best(RUNS, || black_box(objections(&scene, &last)).len());
    report.value(format!("planning {nodes} nodes: may this one go down"), asked * 1e6, "us");
    Ok(seconds)
}

/// Seconds of the best run: what disturbs one only ever adds.
#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn best<T>(runs: usize, mut work: impl FnMut() -> T) -> f64 {
    let times = (0..runs).map(|_| {
        let begun = Instant::now();
        let _done = work();
        begun.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn scene(count: usize) -> Result<(Snapshot, ClusterSpec)> {
    let name = ClusterName::new("large")?;
    let mut spec = ClusterSpec {
        name,
        provider: ProviderKind::Existing,
        machines: Vec::new(),
        shared: Vec::new(),
        wishes: BTreeMap::new(),
    };
    let mut snapshot = Snapshot::default();
    let (wish, survey) = (wish()?, survey()?);
    for number in 0..count {
        let node = NodeName::new(format!("node{number:05}"))?;
        snapshot.nodes.push(NodeStatus {
            name: node.clone(),
            is_connected: true,
            is_healthy: true,
            is_revoked: false,
            reason: String::new(),
            labels: BTreeMap::new(),
        });
        snapshot.surveys.insert(node.clone(), survey.clone());
        snapshot.members.push(node.clone());
        spec.machines.push(machine(&spec.name, &node));
        spec.wishes.insert(node, wish.clone());
    }
    Ok((snapshot, spec))
}

fn machine(cluster: &ClusterName, node: &NodeName) -> MachineSpec {
    MachineSpec {
        server: None,
        cluster: cluster.clone(),
        name: node.clone(),
        address: None,
        image: String::new(),
        cpus: 2,
        memory_bytes: 2 << 30,
        root_disk_bytes: 0,
        data_disks: Vec::new(),
        forwards: Vec::new(),
        accel: AccelChoice::Auto,
        roles: Vec::new(),
        labels: BTreeMap::new(),
    }
}

fn settings() -> Result<Vec<Setting>> {
    let setting = |number| {
        let key = SysctlKey::new(format!("net.test{number}"))?;
        Ok(Setting::Sysctl { key, value: "1".into() })
    };
    (0..SETTINGS).map(setting).collect()
}

fn wish() -> Result<NodeWish> {
    Ok(NodeWish {
        settings: settings()?,
        packages: Some(PackagesWish { update: UpdateScope::All, exclude: Vec::new() }),
        kernel: Some(KernelWish { channel: KernelChannel::ElrepoLt, version: None, keep: 1 }),
        reboot: RebootWish::IfNeeded,
        ..NodeWish::default()
    })
}

fn change(name: &str) -> Result<PackageChange> {
    Ok(PackageChange {
        name: PackageName::new(name)?,
        arch: Architecture::new("x86_64")?,
        from: Some(PackageVersion::new("1.0-1.el9")?),
        to: Some(PackageVersion::new("1.0-2.el9")?),
        repository: None,
    })
}

fn survey() -> Result<Survey> {
    let changes = (0..PACKAGES).map(|number| change(&format!("package{number}"))).collect::<Result<_>>()?;
    let (old, new) = (KernelRelease::new("5.14.0-1.x86_64")?, KernelRelease::new("6.1.0-9.x86_64")?);
    let kernel = change("kernel-lt")?;
    let due = SettingDue { seen: Sha256Digest::new([0; 32]), changes: vec!["0 -> 1".into()] };
    Ok(Survey {
        schema: SCHEMA,
        boot_id: BootId::new("b-1")?,
        kernels: Kernels { running: old.clone(), default: Some(old), once: None, installed: Vec::new() },
        reboot_reasons: Vec::new(),
        outdated_services: Vec::new(),
        interrupted: None,
        is_unreadable: false,
        settings: vec![Found::Due { due }; SETTINGS],
        packages: Some(Found::Due { due: Transaction { changes, download_bytes: 0 } }),
        kernel: Some(Found::Due {
            due: KernelDue { release: new, install: kernel.target(), changes: vec![kernel], prune: Vec::new() },
        }),
        installed: Vec::new(),
        history: Vec::new(),
    })
}
