// SPDX-License-Identifier: Apache-2.0
//! What leads a node back, without anybody's help, from a kernel that is tried and does not come up.
//!
//! One that panics, or does not find its root, reboots by what its boot entry says; GRUB forgets that it was to start it once;
//! and the default is another.

use windlass_types::name::on_node::KernelRelease;

use super::super::{Here, StepError};
use super::default::keep_running;
use crate::host::grub::{Grub, unwritable};
use crate::host::tools::ToolError;
use crate::observe::kernel::default_release;

/// Half a minute for whoever looks at the console, then the next boot, which is the default's.
const PANIC: &str = "panic=30";

/// So that a kernel that panics is left again. So too one whose initramfs does not find the root: dracut would wait in a
/// shell for somebody. A site's own values are left alone.
const LEFT_BY_ITSELF: [&str; 3] = [PANIC, "rd.shell=0", "rd.emergency=reboot"];

/// How a person has a boot entry say something: whoever makes the menu by other means than grubby has to.
pub(super) const fn say_so(grub: Grub) -> &'static str {
    if grub.has_grubby() {
        "see `grubby --info=ALL`; put that there with `grubby --update-kernel=KERNEL --args=...`, and try again"
    } else {
        "put that into GRUB_CMDLINE_LINUX in /etc/default/grub, make the menu anew with grub2-mkconfig, and try again"
    }
}

/// Sees that there is a way back from a kernel that is about to be started once.
pub(in crate::steps) async fn prepare(here: &Here<'_>, grub: Grub, release: &KernelRelease) -> Result<(), StepError> {
    // Somebody's own installation may have made it the default, and has said nothing of panics.
    if default_release(here.host).await.as_deref() == Some(release.as_str()) {
        keep_running(here).await?;
    }
    be_left_by_itself(here, release).await?;
    stands_still(here, grub, release).map_or(Ok(()), |reason| {
        Err(StepError::blocked(format!("kernel {release} is not booted: {reason}"), say_so(grub)))
    })
}

/// Has the entry of a kernel say so where grubby is. Elsewhere the menu is made from the distribution's configuration alone.
pub(super) async fn be_left_by_itself(here: &Here<'_>, release: &KernelRelease) -> Result<(), StepError> {
    let Some(grub) = Grub::of(here.host) else { return Ok(()) };
    let lacking = lacking(here, grub, release);
    if let Some(program) = grub.start_with(release, &lacking.join(" ")).filter(|_| !lacking.is_empty()) {
        here.tools.run(&program).await?;
    }
    Ok(())
}

/// Why the node would not be back by itself; `None` if it would.
pub(super) fn stands_still(here: &Here<'_>, grub: Grub, release: &KernelRelease) -> Option<String> {
    let mut lacking = lacking(here, grub, release);
    if !grub.has_grubby() {
        // Nothing writes them, and what is not dracut's does not know the others.
        lacking.retain(|option| *option == PANIC);
    }
    let reason = |lacking: String| {
        format!("its boot entry does not say {lacking}, so the node would stand still if it did not come up")
    };
    (!lacking.is_empty()).then(|| reason(lacking.join(" ")))
}

/// What its entry does not say, and has no other value for.
fn lacking(here: &Here<'_>, grub: Grub, release: &KernelRelease) -> Vec<&'static str> {
    let options = grub.options_of(here.host, release).unwrap_or_default();
    let is_given = |wished: &str| {
        let pairs = options.split_whitespace().map(|option| option.split_once('=').unwrap_or((option, "")));
        let key = wished.split_once('=').map_or(wished, |(key, _)| key);
        // The last one counts. A panic=0 is what the kernel does without it: it stands still.
        let value = pairs.filter(|(name, _)| *name == key).map(|(_, value)| value).next_back();
        value.is_some_and(|value| wished != PANIC || value != "0")
    };
    LEFT_BY_ITSELF.into_iter().filter(|wished| !is_given(wished)).collect()
}

/// Whether GRUB can take back what it is to start once. If not, it would start a kernel that panics again and again.
pub(in crate::steps) async fn forgets_once(here: &Here<'_>, grub: Grub) -> Result<(), StepError> {
    let Some(ask) = grub.probe(here.host) else { return Ok(()) };
    let blocked = |why: String| {
        StepError::blocked(
            format!("a kernel that panics would be started for ever on this node: {why}"),
            "have /boot on a partition of its own, neither RAID nor LVM; until then upgrade the kernel of this node by hand, \
             with somebody at its console",
        )
    };
    match here.tools.run(&ask).await {
        Ok(ran) => unwritable(&ran.stdout).map_or(Ok(()), |layer| {
            Err(blocked(format!(
                "GRUB's environment block lies on {layer}, where GRUB cannot write that it has started it"
            )))
        }),
        Err(error @ ToolError::Failed { .. }) => Err(StepError::blocked(
            format!("it cannot be told whether GRUB could take back that it is to start a kernel once: {error}"),
            "see `grub2-probe --target=abstraction /boot/grub2/grubenv` on the node, and /boot/grub2/device.map",
        )),
        Err(error) => Err(error.into()),
    }
}
