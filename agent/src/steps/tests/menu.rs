// SPDX-License-Identifier: Apache-2.0
//! Kernels where GRUB has a menu in grub.cfg instead of files of entries, and there is no grubby.

use windlass_types::name::on_node::{BootId, KernelRelease};
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;

use super::{refused, survives_everything, to_the_end};
use crate::host::boot_entries;
use crate::host::fake::FakeHost;
use crate::host::grubby;

const OLD: &str = "3.10.0-1160.el7.x86_64";
const NEW: &str = "3.10.0-1160.119.1.el7.x86_64";

fn with_a_menu() -> FakeHost {
    let host = FakeHost::new("node1");
    host.change(|node| {
        node.running_kernel = OLD.into();
        node.default_kernel = Some(OLD.into());
        node.kernels = vec![NEW.into()];
        node.lacks = [OLD, NEW].map(|kernel| format!("{}/model-{kernel}.conf", boot_entries::DIRECTORY).into()).into();
        node.lacks.push(grubby::PROGRAM.into());
        let entry = |kernel| {
            format!("menuentry 'model-{kernel}' {{\n\tlinux16 /vmlinuz-{kernel} root=/dev/vda1 ro panic=10\n}}\n")
        };
        let menu = format!("set default=\"${{saved_entry}}\"\n{}{}", entry(NEW), entry(OLD));
        node.files.insert("/boot/grub2/grub.cfg".into(), menu);
    });
    host
}

fn boot(once: &str) -> NodeStep {
    let boot_id = BootId::new("00000000-0000-4000-8000-000000000001").unwrap();
    NodeStep::Boot { boot_id, once: Some(KernelRelease::new(once).unwrap()) }
}

#[tokio::test(start_paused = true)]
async fn a_kernel_of_the_menu_is_booted_once_and_the_default_stays() {
    let host = with_a_menu();
    to_the_end(&host, &boot(NEW)).await.unwrap();
    assert_eq!((host.node().running_kernel.as_str(), host.node().default_kernel.as_deref()), (NEW, Some(OLD)));
    let effects = survives_everything(with_a_menu, &boot(NEW)).await;
    assert_eq!((effects[&format!("boot model-{NEW} once")], effects["reboot"]), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_kernel_that_the_menu_does_not_have_is_not_booted() {
    let host = with_a_menu();
    let menu = format!("menuentry 'model-{OLD}' {{\n\tlinux16 /vmlinuz-{OLD} root=/dev/vda1 ro panic=10\n}}\n");
    host.change(|node| drop(node.files.insert("/boot/grub2/grub.cfg".into(), menu)));
    assert_eq!(refused(&host, &boot(NEW), "no entry").await, ErrorClass::Blocked);
}

#[tokio::test(start_paused = true)]
async fn what_was_to_be_booted_once_and_grub_did_not_take_back_is_taken_back() {
    let host = with_a_menu();
    host.change(|node| {
        node.running_kernel = NEW.into();
        node.boots = 2;
        node.next_entry = Some(format!("model-{NEW}"));
    });
    to_the_end(&host, &boot(NEW)).await.unwrap();
    assert_eq!((host.node().next_entry, host.effects().contains_key("reboot")), (None, false));
}
