// SPDX-License-Identifier: Apache-2.0
//! The mode of SELinux: in its configuration, and now.
//!
//! A node on which it is disabled is left alone: it needs a reboot that labels every file anew, and that is not a setting.

use std::path::Path;
use std::time::Duration;

use windlass_types::setting::SelinuxMode;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due_if_any, file};
use crate::host::tools::{Program, argv};

const CONFIG: &str = "/etc/selinux/config";

/// 1 enforces, 0 only logs; not there where SELinux does not work.
const ENFORCE: &str = "/sys/fs/selinux/enforce";

const DEADLINE: Duration = Duration::from_secs(60);

pub(super) fn look(here: &Here<'_>, mode: SelinuxMode) -> Result<Found<SettingDue>, StepError> {
    let Ok(config) = here.host.read(Path::new(CONFIG)) else {
        return Ok(blocked(format!("there is no SELinux on this node: no {CONFIG}"), "leave the setting out for it"));
    };
    let Ok(enforce) = here.host.read(Path::new(ENFORCE)) else {
        return Ok(blocked(
            "SELinux is disabled on this node",
            "switch it on by hand: every file must be labelled, and the node rebooted",
        ));
    };
    let now = if enforce.trim() == "1" { SelinuxMode::Enforcing } else { SelinuxMode::Permissive };
    let mut changes = Vec::new();
    if now != mode {
        changes.push(format!("SELinux is {now} now, and will be {mode}"));
    }
    if config != with_mode(&config, mode) {
        changes.push(format!("SELinux is {mode} after a boot too"));
    }
    Ok(due_if_any(&format!("{now}\n{config}"), changes))
}

pub(super) async fn apply(here: &Here<'_>, mode: SelinuxMode) -> Result<(), StepError> {
    let path = Path::new(CONFIG);
    let config = here.host.read(path).map_err(StepError::file("read", path))?;
    let wished = with_mode(&config, mode);
    if wished != config {
        file::rewrite(here, path, &wished).await?;
    }
    let now = if mode == SelinuxMode::Enforcing { "1" } else { "0" };
    if here.host.read(Path::new(ENFORCE)).is_ok_and(|enforce| enforce.trim() != now) {
        here.tools.run(&Program::change(argv(["setenforce", now]), DEADLINE)).await?;
    }
    Ok(())
}

fn with_mode(config: &str, mode: SelinuxMode) -> String {
    let mut is_set = false;
    let mut text = String::with_capacity(config.len());
    for line in config.lines() {
        if line.starts_with("SELINUX=") {
            is_set = true;
            text.push_str(&format!("SELINUX={mode}\n"));
        } else {
            text.push_str(line);
            text.push('\n');
        }
    }
    if !is_set {
        text.push_str(&format!("SELINUX={mode}\n"));
    }
    text
}
