// SPDX-License-Identifier: Apache-2.0
//! This boot.

use windlass_types::facts::Boot;

use super::{Unobservable, read};
use crate::host::{Observe, procfs};

pub(super) fn observe(host: &dyn Observe) -> Result<Boot, Unobservable> {
    let boot_id = read(host, procfs::BOOT_ID)?.trim().to_owned();
    let silent = || Unobservable::Silent { path: procfs::STAT.into(), what: "the moment of boot" };
    let booted_at = procfs::parse_boot_time(&read(host, procfs::STAT)?).ok_or_else(silent)?;
    Ok(Boot { boot_id, booted_at })
}
