// SPDX-License-Identifier: Apache-2.0
//! A kernel parameter: its value now, and a file of its own for every boot.

use windlass_types::name::on_node::SysctlKey;
use windlass_types::survey::{Found, SettingDue};

use super::{Here, StepError, blocked, due_if_any};
use crate::host::change::NewFile;
use crate::host::sysctl::{drop_in, drop_in_of, normal, path_of, read, set};

/// Each network has its own of these.
const OF_THE_NETWORK: &str = "/proc/sys/net";

pub(super) async fn look(here: &Here<'_>, key: &SysctlKey, value: &str) -> Result<Found<SettingDue>, StepError> {
    if value.chars().any(char::is_control) && normal(value) != value.replace('\t', " ") {
        return Ok(blocked(format!("the value of {key} has control characters"), "write it on one line"));
    }
    let Some(live) = live(here, key).await? else {
        return Ok(blocked(
            format!("the kernel has no parameter {key}"),
            "see `sysctl -a`; if it comes with a module: a file in /etc/modules-load.d, and `windlass exec -- modprobe`",
        ));
    };
    let kept = here.host.read(&drop_in_of(key)).unwrap_or_default();
    let mut changes = Vec::new();
    if live != normal(value) {
        changes.push(format!("{key}: {live} -> {}", normal(value)));
    }
    if kept != drop_in(key, &normal(value)) {
        changes.push(format!("kept for every boot in {}", drop_in_of(key).display()));
    }
    Ok(due_if_any(&format!("{live}\n{kept}"), changes))
}

/// The value now; `None` if there is no such parameter.
async fn live(here: &Here<'_>, key: &SysctlKey) -> Result<Option<String>, StepError> {
    let Some(path) = path_of(key) else { return Ok(None) };
    if !path.starts_with(OF_THE_NETWORK) {
        return Ok(here.host.read(&path).ok().map(|live| normal(&live)));
    }
    // The executor's sandbox has a network of its own. Programs of steps are outside.
    let ran = here.tools.run(&read(&path)).await?;
    Ok((ran.code == 0).then(|| normal(&ran.stdout)))
}

pub(super) async fn apply(here: &Here<'_>, key: &SysctlKey, value: &str) -> Result<(), StepError> {
    let (path, value) = (drop_in_of(key), normal(value));
    let content = drop_in(key, &value);
    if here.host.read(&path).is_ok_and(|kept| kept == content) {
        tracing::debug!(%key, "kept already");
    } else {
        let file = NewFile::of_root(content.as_bytes());
        here.host.place(&path, &file).await.map_err(StepError::file("write", &path))?;
    }
    here.tools.run(&set(key, &value)).await?;
    Ok(())
}
