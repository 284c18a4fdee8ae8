// SPDX-License-Identifier: Apache-2.0
//! The files of a kernel under /boot and /lib/modules.

use std::path::Path;
use std::time::Duration;

use windlass_types::name::on_node::KernelRelease;

use super::Observe;
use super::change::{Change, FileKind};
use super::grubby::release_of;
use super::tools::{Program, ToolError, Tools, argv};

/// A file is looked at.
const LIMIT: Duration = Duration::from_secs(30);

/// A hundred megabytes are unpacked to be listed.
const LIST_LIMIT: Duration = Duration::from_secs(300);

/// What lists an initramfs: dracut's and Debian's.
const LISTERS: [&str; 2] = ["/usr/bin/lsinitrd", "/usr/bin/lsinitramfs"];

/// What a kernel is started with, under the names of the Red Hat family and of Debian.
fn initramfs(release: &KernelRelease) -> [String; 2] {
    [format!("/boot/initramfs-{release}.img"), format!("/boot/initrd.img-{release}")]
}

/// What a kernel lacks to be started: a file that is missing, empty, or broken off. `None` if it is whole.
///
/// # Errors
/// If it cannot be looked at.
pub async fn missing(
    host: &dyn Change,
    tools: &dyn Tools,
    release: &KernelRelease,
) -> Result<Option<String>, ToolError> {
    let has = |path: &str| host.attributes(Path::new(path)).is_ok_and(|a| a.kind == FileKind::File && a.size > 0);
    let kernel = path_of(release);
    if !has(&kernel) {
        return Ok(Some(format!("{kernel} is missing or empty")));
    }
    let images = initramfs(release);
    let Some(image) = images.iter().find(|path| has(path)) else {
        return Ok(Some(format!("{} is missing or empty", images[0])));
    };
    if let Some(why) = unreadable(host, tools, image).await? {
        return Ok(Some(format!("{image} cannot be read to its end: {why}")));
    }
    // Written last by the package's scripts; without it no module is found. The agent's own sandbox hides it.
    let modules = format!("/lib/modules/{release}/modules.dep");
    let looked = tools.run(&Program::query(argv(["test", "-s", &modules]), LIMIT).answering(1)).await?;
    Ok((looked.code != 0).then(|| format!("{modules} is missing or empty")))
}

/// Why an initramfs cannot be read, if it cannot: mostly it was not written to its end. Where nothing can tell, that it is
/// there has to do.
async fn unreadable(host: &dyn Change, tools: &dyn Tools, image: &str) -> Result<Option<String>, ToolError> {
    let Some(lister) = LISTERS.into_iter().find(|program| host.modified(Path::new(program)).is_ok()) else {
        return Ok(None);
    };
    match tools.run(&Program::query(argv([lister, image]), LIST_LIMIT)).await {
        Err(error @ ToolError::Failed { .. }) => Ok(Some(error.to_string())),
        listed => listed.map(|_| None),
    }
}

/// The releases of the kernels under /boot, without rescue images.
#[must_use]
pub fn releases(host: &dyn Observe) -> Vec<KernelRelease> {
    let names = host.list(Path::new("/boot")).unwrap_or_default();
    let releases = names.iter().filter(|name| name.starts_with("vmlinuz-")).filter_map(|name| release_of(name));
    releases.filter_map(|release| KernelRelease::new(release).ok()).filter(|r| !r.as_str().contains("rescue")).collect()
}

/// Where a kernel is.
#[must_use]
pub fn path_of(release: &KernelRelease) -> String {
    format!("/boot/vmlinuz-{release}")
}
