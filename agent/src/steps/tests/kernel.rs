// SPDX-License-Identifier: Apache-2.0
//! A kernel from its repository to the default, and the old ones gone.

use windlass_types::name::on_node::{BootId, KernelRelease};
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;
use windlass_types::survey::{Found, KernelChannel, KernelDue, KernelWish, SurveyRequest};

use super::packages::surveyed;
use super::{refused, survives_everything, to_the_end};
use crate::host::fake::{FakeHost, ModelPackage, ModelTransaction, Node};

const NEW: &str = "6.2-1.x86_64";

/// One with an older kernel-lt installed and running, on which scripts make a new kernel the default.
fn node() -> FakeHost {
    let host = FakeHost::new("node1");
    host.change(|node| {
        let kernel = |version| ModelPackage::new("kernel-lt", version);
        node.packages = ["5.9-1", "6.0-1", "6.1-1"].map(kernel).into();
        node.repository = ["6.1-1", "6.2-1"].map(kernel).into();
        node.running_kernel = "6.1-1.x86_64".into();
        node.default_kernel = Some("6.1-1.x86_64".into());
        node.kernels = vec!["5.9-1.x86_64".into(), "6.0-1.x86_64".into()];
        node.kernels_become_default = true;
    });
    host
}

async fn look(host: &FakeHost) -> Found<KernelDue> {
    let kernel = Some(KernelWish { channel: KernelChannel::ElrepoLt, version: None, keep: 1 });
    surveyed(host, SurveyRequest { kernel, ..SurveyRequest::default() }).await.kernel.unwrap()
}

async fn due(host: &FakeHost) -> KernelDue {
    let found = look(host).await;
    let Found::Due { due } = found else { panic!("{found:?}") };
    due
}

fn install(due: &KernelDue) -> NodeStep {
    let package = due.install.clone().unwrap();
    NodeStep::InstallKernel { package, release: due.release.clone(), changes: due.changes.clone() }
}

#[tokio::test]
async fn a_survey_names_the_kernel_and_what_goes_after_it() {
    let due = due(&node()).await;
    assert_eq!((due.release.as_str(), due.changes.len()), (NEW, 1));
    // Beside the new one, the one that runs now is kept.
    let prune: Vec<String> = due.prune.iter().map(ToString::to_string).collect();
    assert_eq!(prune, ["kernel-lt-6.0-1.x86_64", "kernel-lt-5.9-1.x86_64"]);
}

#[tokio::test]
async fn a_kernel_that_somebody_began_to_install_is_whole_afterwards_and_not_the_default() {
    let make = || {
        let host = node();
        host.change(|node| {
            let kernel = ModelPackage::new("kernel-lt", "6.2-1");
            node.packages.push(kernel.clone());
            node.kernels.push(NEW.into());
            node.kernels_become_default = false;
            node.files.insert("/etc/sysconfig/kernel".into(), "UPDATEDEFAULT=yes\n".into());
            node.history = vec![ModelTransaction { come: vec![kernel], go: vec![], is_whole: false }];
        });
        host
    };
    let effects = survives_everything(make, &NodeStep::RepairPackages).await;
    assert_eq!(effects["reinstall kernel-lt-6.2-1.x86_64"], 1);
    let host = make();
    to_the_end(&host, &NodeStep::RepairPackages).await.unwrap();
    assert_eq!(host.node().default_kernel.as_deref(), Some("6.1-1.x86_64"));
}

#[tokio::test]
async fn the_release_of_another_kernel_is_told_by_its_package_or_by_the_one_with_its_files() {
    let wish = |name: &str| {
        let channel = KernelChannel::Package(name.parse().unwrap());
        SurveyRequest { kernel: Some(KernelWish { channel, version: None, keep: 1 }), ..SurveyRequest::default() }
    };
    let core = |release: Option<&str>| ModelPackage {
        provides_release: release.map(str::to_owned),
        ..ModelPackage::new("kernel-rt-core", "6.2-1")
    };
    let meta = || ModelPackage { needs: vec!["kernel-rt-core".into()], ..ModelPackage::new("kernel-rt", "6.2-1") };
    for (name, installed) in [("kernel-rt", false), ("kernel-rt-core", false), ("kernel-rt", true)] {
        let host = node();
        host.change(|node| {
            let packages = [meta(), core(Some("6.2-1.x86_64+rt"))];
            node.repository.extend(packages.clone());
            node.packages.extend(packages.into_iter().filter(|_| installed));
        });
        let found = surveyed(&host, wish(name)).await.kernel;
        let Some(Found::Due { due }) = found else { panic!("{found:?}") };
        assert_eq!(due.release.as_str(), "6.2-1.x86_64+rt", "{name} {installed}");
    }
    let host = node();
    host.change(|node| node.repository.extend([meta(), core(None)]));
    let found = surveyed(&host, wish("kernel-rt")).await.kernel;
    assert!(matches!(&found, Some(Found::Blocked { reason, .. }) if reason.contains("kernel-rt-core")), "{found:?}");
}

#[tokio::test]
async fn no_kernel_is_offered_where_grub_would_start_it_for_ever() {
    let host = node();
    host.change(|node| node.boot_is_on = "diskfilter mdraid1x".into());
    let found = look(&host).await;
    assert!(matches!(&found, Found::Blocked { reason, .. } if reason.contains("lies on diskfilter")), "{found:?}");
    host.change(|node| {
        node.packages = vec![ModelPackage::new("kernel-lt", "6.2-1")];
        node.running_kernel = NEW.into();
        node.default_kernel = Some(NEW.into());
    });
    assert_eq!(look(&host).await, Found::AsWished, "the one that runs needs no trial");
}

#[tokio::test]
async fn a_new_kernel_is_installed_and_the_default_stays_whatever_its_scripts_do() {
    let step = install(&due(&node()).await);
    let host = node();
    to_the_end(&host, &step).await.unwrap();
    assert!(host.node().kernels.contains(&NEW.to_owned()));
    assert_eq!(host.node().default_kernel.as_deref(), Some("6.1-1.x86_64"));
    let effects = survives_everything(node, &step).await;
    assert_eq!(effects["install kernel-lt-6.2-1.x86_64"], 1);
}

#[tokio::test]
async fn a_kernel_that_is_whole_is_not_done_while_its_transaction_has_no_end() {
    let (host, step) = (node(), install(&due(&node()).await));
    to_the_end(&host, &step).await.unwrap();
    host.change(|node| node.history.last_mut().unwrap().is_whole = false);
    assert!(to_the_end(&host, &step).await.unwrap().changed);
    let asks = SurveyRequest::default();
    assert_eq!(surveyed(&host, asks).await.interrupted, None);
    assert_eq!(host.node().default_kernel.as_deref(), Some("6.1-1.x86_64"));
}

#[tokio::test]
async fn power_that_fails_before_the_initramfs_is_made_leaves_a_node_that_starts() {
    let step = install(&due(&node()).await);
    let asked_for = |node: &mut Node| {
        node.kernels_become_default = false;
        node.files.insert("/etc/sysconfig/kernel".into(), "UPDATEDEFAULT=yes\nDEFAULTKERNEL=kernel-core\n".into());
    };
    let unnamed = |node: &mut Node| {
        node.kernels_become_default = false;
        node.newest_is_default = true;
    };
    let ways: [&dyn Fn(&mut Node); 2] = [&asked_for, &unnamed];
    for way in ways {
        let host = node();
        host.change(|node| {
            way(node);
            node.power_fails_after = Some(1);
        });
        to_the_end(&host, &step).await.unwrap();
        let node = host.node();
        assert_eq!((node.is_lost, node.boots, node.default_kernel.as_deref()), (false, 2, Some("6.1-1.x86_64")));
        assert!(!node.files.contains_key(std::path::Path::new(&format!("/boot/initramfs-{NEW}.img"))), "it is whole");
        let prepared = || {
            let host = super::kernel::node();
            host.change(way);
            host
        };
        survives_everything(prepared, &step).await;
    }
}

#[tokio::test]
async fn the_scripts_of_kernels_are_told_to_leave_the_default_alone_and_what_was_there_is_kept() {
    let step = install(&due(&node()).await);
    let host = node();
    host.change(|node| drop(node.files.insert("/etc/sysconfig/kernel".into(), "UPDATEDEFAULT=yes\nX=1\n".into())));
    to_the_end(&host, &step).await.unwrap();
    let file = |name: &str| host.node().files[std::path::Path::new(name)].clone();
    assert!(file("/etc/sysconfig/kernel").ends_with("UPDATEDEFAULT=no\nX=1\n"));
    assert_eq!(file("/etc/sysconfig/kernel.before-windlass~"), "UPDATEDEFAULT=yes\nX=1\n");
    // A menu that is made by other scripts is nobody's who reads it.
    let other = node();
    other.change(|node| {
        let entry = |release| format!("{}/model-{release}.conf", crate::host::boot_entries::DIRECTORY).into();
        node.lacks = ["6.1-1.x86_64", "5.9-1.x86_64", "6.0-1.x86_64", NEW].map(entry).into();
        node.lacks.push(crate::host::grubby::PROGRAM.into());
        let menu = |release| format!("menuentry 'model-{release}' {{\nlinux /vmlinuz-{release} ro panic=30\n}}\n");
        let menu = ["6.1-1.x86_64", NEW].map(menu).concat();
        node.files.insert("/boot/grub2/grub.cfg".into(), format!("set default=\"${{saved_entry}}\"\n{menu}"));
    });
    to_the_end(&other, &step).await.unwrap();
    assert!(!other.effects().contains_key("write /etc/sysconfig/kernel"));
}

#[tokio::test]
async fn an_installation_that_fails_when_the_scripts_have_run_leaves_the_old_default() {
    let step = install(&due(&node()).await);
    let host = node();
    host.change(|node| node.transactions_fail = true);
    let error = to_the_end(&host, &step).await.unwrap_err();
    assert!(error.to_string().contains("failed with exit code 1"), "{error}");
    assert!(host.node().kernels.contains(&NEW.to_owned()), "it was installed all the same");
    assert_eq!(host.node().default_kernel.as_deref(), Some("6.1-1.x86_64"));
}

/// A kernel that is in rpm's database and not, or not wholly, on the disk.
fn half_installed(harm: impl Fn(&mut Node)) -> FakeHost {
    let host = node();
    host.change(|node| {
        node.packages.push(ModelPackage::new("kernel-lt", "6.2-1"));
        node.kernels.push(NEW.into());
        node.kernel_arguments.insert(NEW.into(), "ro panic=30".into());
        harm(node);
    });
    host
}

#[tokio::test]
async fn a_kernel_that_a_power_cut_left_half_is_taken_out_and_installed_again() {
    let step = install(&due(&node()).await);
    let initramfs = || format!("/boot/initramfs-{NEW}.img").into();
    let harms: [&dyn Fn(&mut Node); 4] = [
        &|node| node.damaged.push("kernel-lt-6.2-1.x86_64".into()),
        &|node| drop(node.files.insert(initramfs(), "torn".into())),
        &|node| drop(node.files.insert(initramfs(), String::new())),
        &|node| node.kernels.retain(|kernel| kernel != NEW),
    ];
    for harm in harms {
        let host = half_installed(harm);
        to_the_end(&host, &step).await.unwrap();
        let effects = survives_everything(|| half_installed(harm), &step).await;
        assert_eq!((effects["erase kernel-lt-6.2-1.x86_64"], effects["install kernel-lt-6.2-1.x86_64"]), (1, 1));
        // Asked anew, the node says so too, and the step of that plan does the same.
        let due = due(&half_installed(harm)).await;
        assert_eq!(due.install.as_ref().map(ToString::to_string).as_deref(), Some("kernel-lt-6.2-1.x86_64"));
        let host = half_installed(harm);
        to_the_end(&host, &install(&due)).await.unwrap();
        assert_eq!(host.effects()["install kernel-lt-6.2-1.x86_64"], 1);
    }
    let due = due(&half_installed(|_| {})).await;
    assert_eq!((due.install, due.changes.len()), (None, 0), "a whole one is not installed again");
}

#[tokio::test]
async fn a_new_kernel_is_left_if_it_panics_or_finds_no_root_and_values_of_the_site_stay() {
    let step = install(&due(&node()).await);
    let dracut = "rd.shell=0 rd.emergency=reboot";
    for (given, added) in [
        ("ro", format!("panic=30 {dracut}")),
        ("panic=5", dracut.to_owned()),
        ("panic=5 panic=0", format!("panic=30 {dracut}")),
        ("panic=5 rd.shell", "rd.emergency=reboot".to_owned()),
        ("rd.emergency=halt rd.shell=1", "panic=30".to_owned()),
        ("panic=1 rd.shell=0 rd.emergency=poweroff", String::new()),
    ] {
        let host = node();
        host.change(|node| drop(node.kernel_arguments.insert(NEW.into(), given.into())));
        to_the_end(&host, &step).await.unwrap();
        let starts: Vec<_> = host.effects().into_keys().filter(|effect| effect.starts_with("start ")).collect();
        let wished = (!added.is_empty()).then(|| format!("start {NEW} with {added}"));
        assert_eq!(starts, wished.into_iter().collect::<Vec<_>>(), "{given}");
    }
    let host = node();
    host.change(|node| node.lacks.push(crate::host::grubby::PROGRAM.into()));
    let error = to_the_end(&host, &step).await.unwrap_err();
    assert!(error.to_string().contains("does not say panic=30"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_kernel_is_installed_booted_confirmed_and_the_old_ones_pruned() {
    let host = node();
    let due = due(&host).await;
    let release = due.release.clone();
    to_the_end(&host, &install(&due)).await.unwrap();
    let confirm = NodeStep::ConfirmKernel { release: release.clone() };
    assert_eq!(refused(&host, &confirm, "does not run").await, ErrorClass::Blocked);
    let boot_id = BootId::new("00000000-0000-4000-8000-000000000001").unwrap();
    to_the_end(&host, &NodeStep::Boot { boot_id, once: Some(release) }).await.unwrap();
    assert_eq!(host.node().running_kernel, NEW);
    to_the_end(&host, &confirm).await.unwrap();
    assert_eq!(host.node().default_kernel.as_deref(), Some(NEW));
    to_the_end(&host, &NodeStep::PruneKernels { remove: due.prune }).await.unwrap();
    let left: Vec<String> = host.node().packages.iter().map(ModelPackage::full).collect();
    assert_eq!(left, ["kernel-lt-6.1-1.x86_64", "kernel-lt-6.2-1.x86_64"]);
    assert_eq!(look(&host).await, Found::AsWished);
}

#[tokio::test]
async fn confirming_and_pruning_survive_everything() {
    let runs_new = || {
        let host = node();
        host.change(|node| {
            node.packages.push(ModelPackage::new("kernel-lt", "6.2-1"));
            node.kernels.push("6.1-1.x86_64".into());
            node.running_kernel = NEW.into();
        });
        host
    };
    let release = KernelRelease::new(NEW).unwrap();
    survives_everything(runs_new, &NodeStep::ConfirmKernel { release }).await;
    let prune = due(&runs_new()).await.prune;
    survives_everything(runs_new, &NodeStep::PruneKernels { remove: prune }).await;
}

#[tokio::test]
async fn with_an_old_kernel_goes_what_belongs_to_it_and_nothing_else() {
    let needing = |name: &str, version: &str| {
        let host = node();
        host.change(|node| {
            let needs = vec!["kernel-lt-5.9-1.x86_64".to_owned()];
            node.packages.push(ModelPackage { needs, ..ModelPackage::new(name, version) });
        });
        host
    };
    let remove = vec![windlass_types::package::Package {
        name: "kernel-lt".parse().unwrap(),
        version: "5.9-1".parse().unwrap(),
        arch: "x86_64".parse().unwrap(),
    }];
    let step = NodeStep::PruneKernels { remove };
    for (name, version) in [("kmod-card", "5.9-1"), ("kernel-lt-tools", "6.0-1")] {
        let class = refused(&needing(name, version), &step, &format!("{name}-{version}.x86_64")).await;
        assert_eq!(class, ErrorClass::Blocked);
    }
    let effects = survives_everything(|| needing("kernel-lt-modules", "5.9-1"), &step).await;
    let gone = ["remove kernel-lt-5.9-1.x86_64", "remove kernel-lt-modules-5.9-1.x86_64"];
    assert_eq!(effects.keys().map(String::as_str).collect::<Vec<_>>(), gone);
}

#[tokio::test]
async fn the_kernel_that_runs_is_never_removed() {
    let host = node();
    let remove = vec![windlass_types::package::Package {
        name: "kernel-lt".parse().unwrap(),
        version: "6.1-1".parse().unwrap(),
        arch: "x86_64".parse().unwrap(),
    }];
    let step = NodeStep::PruneKernels { remove };
    assert_eq!(refused(&host, &step, "runs or is the default").await, ErrorClass::Blocked);
}
