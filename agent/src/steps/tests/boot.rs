// SPDX-License-Identifier: Apache-2.0
//! Rebooting, once into another kernel too, and hooks.

use windlass_types::action::Argv;
use windlass_types::name::on_node::{BootId, KernelRelease};
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;

use super::{refused, survives_everything, to_the_end};
use crate::host::fake::{FakeHost, Moment, Scripted};

const NEW: &str = "6.1.9-1.el9.x86_64";

fn boot_id(number: u64) -> BootId {
    BootId::new(format!("00000000-0000-4000-8000-{number:012}")).unwrap()
}

fn boot(once: Option<&str>) -> NodeStep {
    NodeStep::Boot { boot_id: boot_id(1), once: once.map(|release| KernelRelease::new(release).unwrap()) }
}

fn with_two_kernels() -> FakeHost {
    let host = FakeHost::new("node1");
    host.change(|node| node.kernels.push(NEW.into()));
    host
}

#[tokio::test(start_paused = true)]
async fn a_node_reboots_once_whenever_the_agent_is_killed() {
    let effects = survives_everything(|| FakeHost::new("node1"), &boot(None)).await;
    assert_eq!(effects["reboot"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_is_booted_once_and_the_default_stays() {
    // Choosing the entry again chooses nothing new, so only the reboot is counted.
    let step = boot(Some(NEW));
    let host = with_two_kernels();
    to_the_end(&host, &step).await.unwrap();
    assert_eq!((host.node().running_kernel.as_str(), host.effects()["reboot"]), (NEW, 1));
    assert_ne!(host.node().default_kernel.as_deref(), Some(NEW));
    survives_everything(with_two_kernels, &step).await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_panics_comes_back_to_the_old_one_and_a_person_is_told() {
    let host = with_two_kernels();
    host.change(|node| node.broken_kernels.push(NEW.into()));
    let error = to_the_end(&host, &boot(Some(NEW))).await.unwrap_err();
    assert!(error.to_string().contains("came back with kernel 5.14"), "{error}");
    assert_eq!(error.class(), ErrorClass::Operator);
    assert_eq!(host.effects()["reboot"], 1);
}

#[tokio::test(start_paused = true)]
async fn no_kernel_is_tried_that_would_stand_still_when_it_panics() {
    let host = with_two_kernels();
    host.change(|node| node.lacks.push(crate::host::grubby::PROGRAM.into()));
    assert_eq!(refused(&host, &boot(Some(NEW)), "does not say panic=30").await, ErrorClass::Blocked);
    host.change(|node| drop(node.kernel_arguments.insert(NEW.into(), "ro panic=10".into())));
    to_the_end(&host, &boot(Some(NEW))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_kernel_is_tried_where_grub_would_start_it_for_ever() {
    for on in ["lvm", "diskfilter mdraid1x"] {
        let host = with_two_kernels();
        host.change(|node| {
            node.boot_is_on = on.into();
            node.broken_kernels.push(NEW.into());
        });
        assert_eq!(refused(&host, &boot(Some(NEW)), "started for ever").await, ErrorClass::Blocked);
        to_the_end(&host, &boot(None)).await.unwrap();
        assert!(!host.node().is_lost);
    }
    let host = with_two_kernels();
    host.change(|node| {
        node.boot_is_on = "lvm".into();
        node.lacks.push("/usr/sbin/grub2-probe".into());
    });
    to_the_end(&host, &boot(Some(NEW))).await.unwrap();
    assert_eq!(host.node().running_kernel, NEW, "nobody can say why not");
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_is_the_default_and_was_never_run_has_to_prove_itself_too() {
    let by_somebody = || {
        let host = with_two_kernels();
        host.change(|node| node.default_kernel = Some(NEW.into()));
        host
    };
    let host = by_somebody();
    host.change(|node| node.broken_kernels.push(NEW.into()));
    let error = to_the_end(&host, &boot(Some(NEW))).await.unwrap_err();
    assert!(error.to_string().contains("came back with kernel 5.14") && !host.node().is_lost, "{error}");
    assert_eq!(host.effects()[&format!("start {NEW} with panic=30 rd.shell=0 rd.emergency=reboot")], 1);
    survives_everything(by_somebody, &boot(Some(NEW))).await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_without_network_is_left_again_by_itself_and_a_person_is_told() {
    let deaf = || {
        let host = with_two_kernels();
        host.change(|node| node.deaf_kernels.push(NEW.into()));
        host
    };
    let host = deaf();
    let error = to_the_end(&host, &boot(Some(NEW))).await.unwrap_err();
    assert!(error.to_string().contains("came back with kernel 5.14"), "{error}");
    let (old, acts) = (host.node(), host.acts());
    assert_eq!((host.effects()["reboot"], old.running_kernel.as_str()), (2, "5.14.0-427.el9.x86_64"));
    // Wherever an agent is killed meanwhile: there and back, and no further.
    for nth in 1..=acts {
        let host = deaf();
        host.kill_at(nth, Moment::After);
        to_the_end(&host, &boot(Some(NEW))).await.unwrap_err();
        assert_eq!((host.effects()["reboot"], host.node().running_kernel), (2, old.running_kernel.clone()), "{nth}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_without_a_session_is_the_age_of_the_boot_and_not_that_of_an_agent_that_begins_anew() {
    let gone_back_after = async |uptime: &str| {
        let host = with_two_kernels();
        host.change(|node| {
            node.deaf_kernels.push(NEW.into());
            node.files.insert("/proc/uptime".into(), uptime.into());
        });
        let begun = tokio::time::Instant::now();
        to_the_end(&host, &boot(Some(NEW))).await.unwrap_err();
        begun.elapsed().as_secs()
    };
    assert_eq!(gone_back_after("60.50 12.00\n").await, 419);
    assert_eq!(gone_back_after("7200.00 12.00\n").await, 10);
    assert_eq!(gone_back_after("").await, 480);
}

#[tokio::test(start_paused = true)]
async fn a_node_without_network_stays_in_its_default_kernel() {
    let host = with_two_kernels();
    host.change(|node| {
        node.deaf_kernels.push(NEW.into());
        node.running_kernel = NEW.into();
        node.default_kernel = Some(NEW.into());
        node.boots = 2;
    });
    to_the_end(&host, &boot(Some(NEW))).await.unwrap();
    assert!(host.effects().is_empty(), "{:?}", host.effects());
}

#[tokio::test(start_paused = true)]
async fn a_boot_that_is_over_is_not_ended_again() {
    let host = FakeHost::new("node1");
    host.reboot();
    assert!(!to_the_end(&host, &boot(None)).await.unwrap().changed);
    assert!(host.effects().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_runs_and_is_not_the_default_is_booted_again() {
    let runs_new = || {
        let host = with_two_kernels();
        host.change(|node| node.running_kernel = NEW.into());
        host
    };
    let host = runs_new();
    assert!(to_the_end(&host, &boot(Some(NEW))).await.unwrap().changed);
    assert_eq!((host.node().running_kernel.as_str(), host.effects()["reboot"]), (NEW, 1));
    survives_everything(runs_new, &boot(Some(NEW))).await;
}

#[tokio::test(start_paused = true)]
async fn a_power_cut_before_the_step_is_not_taken_for_its_boot() {
    let cut = || {
        let host = with_two_kernels();
        host.reboot();
        host
    };
    let host = cut();
    to_the_end(&host, &boot(Some(NEW))).await.unwrap();
    assert_eq!((host.node().running_kernel.as_str(), host.effects()["reboot"]), (NEW, 1));
    survives_everything(cut, &boot(Some(NEW))).await;
}

#[tokio::test(start_paused = true)]
async fn a_kernel_without_its_files_is_not_booted() {
    let host = with_two_kernels();
    host.change(|node| drop(node.files.insert(format!("/boot/initramfs-{NEW}.img").into(), String::new())));
    assert_eq!(refused(&host, &boot(Some(NEW)), "initramfs").await, ErrorClass::Blocked);
    assert_eq!(refused(&FakeHost::new("node1"), &boot(Some(NEW)), "vmlinuz").await, ErrorClass::Blocked);
    let host = with_two_kernels();
    host.change(|node| drop(node.files.insert(format!("/boot/initramfs-{NEW}.img").into(), "torn".into())));
    assert_eq!(refused(&host, &boot(Some(NEW)), "cannot be read to its end").await, ErrorClass::Blocked);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_default_kernel_is_not_whole_is_not_rebooted() {
    // /boot was full when somebody's own update made it, and the package manager said that all was well.
    for content in ["", "torn"] {
        let host = with_two_kernels();
        host.change(|node| {
            node.default_kernel = Some(NEW.into());
            node.files.insert(format!("/boot/initramfs-{NEW}.img").into(), content.into());
        });
        assert_eq!(refused(&host, &boot(None), "which this reboot would start").await, ErrorClass::Blocked);
        host.change(|node| drop(node.files.remove(std::path::Path::new(&format!("/boot/initramfs-{NEW}.img")))));
        to_the_end(&host, &boot(None)).await.unwrap();
        assert_eq!(host.node().running_kernel, NEW);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_on_which_nobody_can_tell_what_is_started_is_rebooted() {
    let no_loader = FakeHost::new("node1");
    no_loader.change(|node| node.default_kernel = None);
    // Kernels in directories of their own, which have other names for everything.
    let elsewhere = FakeHost::new("node1");
    elsewhere.change(|node| node.lacks.push("/boot/vmlinuz-5.14.0-427.el9.x86_64".into()));
    let rescued = FakeHost::new("node1");
    rescued.change(|node| {
        node.kernels.push("5.14.0-427.el9.x86_64".into());
        node.default_kernel = Some("0-rescue-4f2a".into());
        node.lacks.push("/lib/modules/0-rescue-4f2a/modules.dep".into());
    });
    for host in [no_loader, elsewhere, rescued] {
        to_the_end(&host, &boot(None)).await.unwrap();
        assert_eq!(host.effects()["reboot"], 1);
    }
}

#[tokio::test]
async fn a_hook_that_outlives_the_agent_is_not_run_again() {
    let argv = Argv::new(vec!["/usr/local/bin/drain".into(), "node1".into()]).unwrap();
    let step = NodeStep::Hook { argv: argv.clone(), timeout_millis: 1000 };
    for moment in [Moment::Before, Moment::After] {
        for nth in 1..=2 {
            let host = FakeHost::new("node1");
            host.kill_at(nth, moment);
            to_the_end(&host, &step).await.unwrap();
            assert_eq!(host.effects_of(&argv), 1, "{moment:?} {nth}");
        }
    }
    let host = FakeHost::new("node1");
    host.script(&argv, Scripted { exit_code: 3, stdout: "pods are left\n".into() });
    let error = to_the_end(&host, &step).await.unwrap_err();
    assert!(error.to_string().contains("exit code 3: pods are left"), "{error}");
}
