// SPDX-License-Identifier: Apache-2.0
//! GRUB 2: which kernel is started once, and which by default.
//!
//! Entries come from the files of the Boot Loader Specification where there are any (EL 8 and later), else from the menu
//! in grub.cfg (CentOS 7, Debian). The default is set by grubby where it is installed: it knows what the distribution keeps
//! in step with it. Booting once is always GRUB's own `next_entry`, which it takes back as it starts.

use std::path::Path;
use std::time::Duration;

use windlass_types::name::on_node::KernelRelease;

use super::tools::{Program, argv};
use super::{Observe, boot_entries, grub_cfg, grubby};

const DEADLINE: Duration = Duration::from_secs(60);

/// Where its tools are, by the names of the Red Hat family and Debian's.
const TOOLS: [[&str; 3]; 2] = [
    ["/usr/sbin/grub2-reboot", "/usr/sbin/grub2-set-default", "/usr/bin/grub2-editenv"],
    ["/usr/sbin/grub-reboot", "/usr/sbin/grub-set-default", "/usr/bin/grub-editenv"],
];

/// What tells on what a file lies, in the same two families. It may be there without the others of its family.
const PROBES: [&str; 2] = ["/usr/sbin/grub2-probe", "/usr/sbin/grub-probe"];

/// GRUB as it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grub {
    reboot: &'static str,
    set_default: &'static str,
    editenv: &'static str,
    grubenv: &'static str,
    has_grubby: bool,
}

impl Grub {
    /// `None` if it is not there.
    #[must_use]
    pub fn of(host: &dyn Observe) -> Option<Self> {
        let exists = |path: &str| host.modified(Path::new(path)).is_ok();
        let [reboot, set_default, editenv] = TOOLS.into_iter().find(|tools| exists(tools[0]))?;
        let grubenv = grub_cfg::PATHS.into_iter().map(|(_, grubenv)| grubenv).find(|path| exists(path))?;
        Some(Self { reboot, set_default, editenv, grubenv, has_grubby: exists(grubby::PROGRAM) })
    }

    /// The entry that starts a kernel.
    #[must_use]
    pub fn entry_of(&self, host: &dyn Observe, release: &KernelRelease) -> Option<String> {
        let entries = boot_entries::read_all(host);
        if !entries.is_empty() {
            let entry = entries.into_iter().find(|entry| entry.release.as_deref() == Some(release.as_str()))?;
            return Some(entry.id);
        }
        menu(host).and_then(|cfg| grub_cfg::entry_of_release(&cfg, release.as_str()))
    }

    /// What a kernel is started with.
    #[must_use]
    pub fn options_of(&self, host: &dyn Observe, release: &KernelRelease) -> Option<String> {
        let entries = boot_entries::read_all(host);
        if !entries.is_empty() {
            let entry = entries.into_iter().find(|entry| entry.release.as_deref() == Some(release.as_str()))?;
            let grubenv = host.read(Path::new(self.grubenv)).unwrap_or_default();
            let common = boot_entries::grubenv_value(&grubenv, "kernelopts").unwrap_or_default();
            return Some(entry.options.replace("$kernelopts", common));
        }
        let cfg = menu(host)?;
        grub_cfg::options_of_entry(&cfg, &grub_cfg::entry_of_release(&cfg, release.as_str())?)
    }

    /// Starts a kernel with these too from now on; `None` where only the distribution's own configuration can say so.
    #[must_use]
    pub fn start_with(&self, release: &KernelRelease, options: &str) -> Option<Program> {
        let (kernel, options) = (format!("--update-kernel=/boot/vmlinuz-{release}"), format!("--args={options}"));
        self.has_grubby.then(|| Program::change(argv([grubby::PROGRAM, &kernel, &options]), DEADLINE))
    }

    /// What is started only the next time: the kernel's release, or the entry's name if that cannot be told.
    #[must_use]
    pub fn once(&self, host: &dyn Observe) -> Option<String> {
        let grubenv = host.read(Path::new(self.grubenv)).ok()?;
        let next = boot_entries::grubenv_value(&grubenv, "next_entry")?;
        Some(release_of(host, next).unwrap_or_else(|| next.to_owned()))
    }

    /// Whether a kernel is the default by the name of its entry, which stays what it is when others come and go.
    #[must_use]
    pub fn names_default(&self, host: &dyn Observe, release: &KernelRelease) -> bool {
        let grubenv = host.read(Path::new(self.grubenv)).unwrap_or_default();
        let saved = boot_entries::grubenv_value(&grubenv, "saved_entry");
        let name = saved.filter(|saved| saved.parse::<usize>().is_err());
        name.is_some_and(|name| release_of(host, name).as_deref() == Some(release.as_str()))
    }

    /// Whether the distribution is one of grubby's.
    #[must_use]
    pub const fn has_grubby(&self) -> bool {
        self.has_grubby
    }

    /// Asks on what the environment block lies; `None` where nothing is there that could be asked.
    #[must_use]
    pub fn probe(&self, host: &dyn Observe) -> Option<Program> {
        let program = PROBES.into_iter().find(|program| host.modified(Path::new(program)).is_ok())?;
        Some(Program::query(argv([program, "--target=abstraction", self.grubenv]), DEADLINE))
    }

    /// Starts an entry the next time, and only then.
    #[must_use]
    pub fn start_once(&self, entry: &str) -> Program {
        Program::change(argv([self.reboot, entry]), DEADLINE)
    }

    /// Starts the default the next time.
    #[must_use]
    pub fn forget_once(&self) -> Program {
        Program::change(argv([self.editenv, self.grubenv, "unset", "next_entry"]), DEADLINE)
    }

    /// Makes a kernel the default. It may be what takes an unproven one back, so a stop does not keep it from that.
    #[must_use]
    pub fn make_default(&self, release: &KernelRelease, entry: &str) -> Program {
        let program = if self.has_grubby {
            let kernel = format!("--set-default=/boot/vmlinuz-{release}");
            Program::change(argv([grubby::PROGRAM, &kernel]), DEADLINE)
        } else {
            Program::change(argv([self.set_default, entry]), DEADLINE)
        };
        Program { ignores_stop: true, ..program }
    }
}

/// What lies between the environment block and its disk, of what [`Grub::probe`] printed, if it keeps GRUB from writing
/// there: GRUB reads RAID and LVM, and cannot write to either.
#[must_use]
pub fn unwritable(probed: &str) -> Option<&str> {
    let cannot = ["diskfilter", "lvm", "mdraid", "dmraid", "raid", "ldm"];
    probed.split_whitespace().find(|layer| cannot.iter().any(|cannot| layer.starts_with(cannot)))
}

/// The release of an entry that is named by its id, title or number.
fn release_of(host: &dyn Observe, name: &str) -> Option<String> {
    let entries = boot_entries::read_all(host);
    if entries.is_empty() {
        return menu(host).and_then(|cfg| grub_cfg::release_of_entry(&cfg, name));
    }
    boot_entries::default_entry(&entries, Some(name)).and_then(|entry| entry.release.clone())
}

fn menu(host: &dyn Observe) -> Option<String> {
    grub_cfg::PATHS.iter().find_map(|(cfg, _)| host.read(Path::new(cfg)).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;

    #[test]
    fn a_default_without_a_name_moves_as_kernels_come() {
        let host = FakeHost::new("node1");
        let running = KernelRelease::new(host.node().running_kernel).unwrap();
        for (saved, is_named) in [
            (format!("saved_entry=model-{running}\n"), true),
            (format!("saved_entry={running}\n"), true),
            ("saved_entry=0\n".to_owned(), false),
            ("saved_entry=model-gone\n".to_owned(), false),
            ("saved_entry=\n".to_owned(), false),
            (String::new(), false),
        ] {
            host.change(|node| drop(node.files.insert(grub_cfg::PATHS[0].1.into(), saved.clone())));
            assert_eq!(Grub::of(&host).unwrap().names_default(&host, &running), is_named, "{saved:?}");
        }
    }

    #[test]
    fn grub_cannot_write_where_it_has_to_put_disks_together() {
        for (probed, layer) in [
            ("\n", None),
            ("lvm\n", Some("lvm")),
            ("diskfilter mdraid1x\n", Some("diskfilter")),
            ("mdraid09 \n", Some("mdraid09")),
            ("cryptodisk luks2 lvm\n", Some("lvm")),
            ("cryptodisk luks2\n", None),
        ] {
            assert_eq!(unwritable(probed), layer, "{probed}");
        }
    }
}
