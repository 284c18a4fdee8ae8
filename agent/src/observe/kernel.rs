// SPDX-License-Identifier: Apache-2.0
//! The running kernel and the one the boot loader starts next by default.

use std::path::Path;

use windlass_types::facts::Kernel;

use super::Unobservable;
use crate::host::{Observe, boot_entries, grub_cfg, grubby};

pub(super) async fn observe(host: &dyn Observe) -> Result<Kernel, Unobservable> {
    let running = host.machine().map_err(Unobservable::Machine)?.kernel;
    Ok(Kernel { running, default_release: default_release(host).await })
}

/// The release of the kernel that the boot loader starts by default.
pub(crate) async fn default_release(host: &dyn Observe) -> Option<String> {
    let asked = default_of_grubby(host).await;
    asked.or_else(|| default_of_entries(host)).or_else(|| default_of_menu(host))
}

/// What grubby says, if it is there and says anything useful.
async fn default_of_grubby(host: &dyn Observe) -> Option<String> {
    host.modified(Path::new(grubby::PROGRAM)).ok()?;
    grubby::release_of(&host.grubby_default_kernel().await.ok()?)
}

/// From boot loader entries.
fn default_of_entries(host: &dyn Observe) -> Option<String> {
    let entries = boot_entries::read_all(host);
    let blocks = grub_cfg::PATHS.iter().find_map(|(_, grubenv)| host.read(Path::new(grubenv)).ok());
    let grubenv = blocks.unwrap_or_default();
    boot_entries::default_entry(&entries, boot_entries::grubenv_value(&grubenv, "saved_entry"))?.release.clone()
}

/// From a generated grub.cfg.
fn default_of_menu(host: &dyn Observe) -> Option<String> {
    grub_cfg::PATHS.iter().find_map(|(cfg, grubenv)| {
        let cfg = host.read(Path::new(cfg)).ok()?;
        grub_cfg::default_release(&cfg, &host.read(Path::new(grubenv)).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::{FakeHost, Method};

    #[tokio::test]
    async fn grubby_is_asked_first_and_the_entries_if_it_fails() {
        let host = FakeHost::new("node1");
        host.change(|node| node.default_kernel = Some("6.0".into()));
        assert_eq!(observe(&host).await.unwrap().default_release.as_deref(), Some("6.0"));
        host.fail_nth(Method::GrubbyDefaultKernel, 1, "no");
        assert_eq!(observe(&host).await.unwrap().default_release.as_deref(), Some("6.0"));
    }

    #[tokio::test]
    async fn a_menu_serves_where_there_is_nothing_else() {
        let host = FakeHost::new("node1");
        host.change(|node| {
            node.default_kernel = None;
            node.files.insert("/boot/grub/grub.cfg".into(), include_str!("../host/fixtures/debian12-grub.cfg").into());
        });
        assert_eq!(observe(&host).await.unwrap().default_release.as_deref(), Some("6.1.0-21-amd64"));
    }

    #[tokio::test]
    async fn a_default_that_cannot_be_told_is_none() {
        let host = FakeHost::new("node1");
        host.change(|node| node.default_kernel = None);
        assert_eq!(observe(&host).await.unwrap().default_release, None);
    }
}
