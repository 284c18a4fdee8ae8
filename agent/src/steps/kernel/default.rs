// SPDX-License-Identifier: Apache-2.0
//! The default stays the kernel that runs, which has proved itself, until another has.
//!
//! A kernel's scripts make it the default before they make its initramfs; a power cut in between would leave a node that
//! starts nothing. So the kernel that runs is the default by its name before anything is installed (without a name the
//! newest is the default, or whichever has the number), the scripts are told to leave that alone, and what they did all the
//! same is taken back however the installation ended.

use std::io;
use std::path::Path;

use windlass_types::name::on_node::KernelRelease;

use super::super::settings::file::rewrite;
use super::super::{Here, StepError};
use super::{make_default, started_by_default};
use crate::host::boot_entries;
use crate::host::grub::Grub;
use crate::observe::kernel::default_release;

/// What the scripts of kernels read: those of the Red Hat family's, and of kernels that are packed like them.
const SCRIPTS_READ: &str = "/etc/sysconfig/kernel";

const KEY: &str = "UPDATEDEFAULT=";

const REMARK: &str = "# Written by Windlass: a new kernel becomes the default when it has proved itself.";

/// Makes the kernel that runs the default by its name, if it is not.
pub(in crate::steps) async fn keep_running(here: &Here<'_>) -> Result<(), StepError> {
    let running = KernelRelease::new(here.running_kernel()?)
        .map_err(|error| StepError::Unreadable { program: "uname", reason: error.to_string() })?;
    let is_default = default_release(here.host).await.as_deref() == Some(running.as_str());
    if is_default && Grub::of(here.host).is_some_and(|grub| grub.names_default(here.host, &running)) {
        return Ok(());
    }
    make_default(here, &running).await?;
    started_by_default(here, &running).await
}

/// Tells the scripts of kernels to leave the default alone, now and later.
pub(in crate::steps) async fn leave_it_alone(here: &Here<'_>) -> Result<(), StepError> {
    let path = Path::new(SCRIPTS_READ);
    let text = match here.host.content(path) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StepError::file("read", path)(error)),
        Err(_) if has_such_scripts(here) => String::new(),
        Err(_) => return Ok(()),
    };
    let Some(wished) = without_update(&text) else { return Ok(()) };
    rewrite(here, path, &wished).await
}

/// Whether the distribution is one whose scripts read that file; some take its absence for a yes.
fn has_such_scripts(here: &Here<'_>) -> bool {
    Grub::of(here.host).is_some_and(|grub| grub.has_grubby()) || !boot_entries::read_all(here.host).is_empty()
}

/// The same file with the answer no; `None` if that is what it says.
fn without_update(text: &str) -> Option<String> {
    let mut lines: Vec<&str> = text.lines().filter(|line| *line != REMARK).collect();
    // The last one counts.
    let at = lines.iter().rposition(|line| line.trim_start().starts_with(KEY));
    let answer = at.and_then(|at| lines[at].trim_start().strip_prefix(KEY));
    if answer.is_some_and(|answer| answer.trim().trim_matches(['"', '\'']) == "no") {
        return None;
    }
    let at = at.unwrap_or(lines.len());
    let ours = format!("{REMARK}\n{KEY}no");
    lines.splice(at..(at + 1).min(lines.len()), [ours.as_str()]);
    Some(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_changes_and_only_if_it_is_another() {
        let el9 = "# UPDATEDEFAULT specifies if kernel-install should make\n# new kernels the default\nUPDATEDEFAULT=yes\n\n\
                   # DEFAULTKERNEL specifies the default kernel package type\nDEFAULTKERNEL=kernel-core\n";
        let wished = without_update(el9).unwrap();
        assert_eq!(wished, el9.replace("UPDATEDEFAULT=yes", &format!("{REMARK}\nUPDATEDEFAULT=no")));
        assert_eq!(without_update(&wished), None);
        assert_eq!(without_update("UPDATEDEFAULT=\"no\"\n"), None);
        let later = without_update("UPDATEDEFAULT=no\nUPDATEDEFAULT=yes").unwrap();
        assert_eq!(later, format!("UPDATEDEFAULT=no\n{REMARK}\nUPDATEDEFAULT=no\n"), "the last one counts");
        assert_eq!(without_update("").unwrap(), format!("{REMARK}\nUPDATEDEFAULT=no\n"));
    }
}
