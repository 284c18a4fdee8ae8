// SPDX-License-Identifier: Apache-2.0
//! The state of a modelled node, and how it looks in files and in the output of tools.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use windlass_types::facts::{BlockDevice, Cpu, NetworkInterface, Os, PackageManager, ServiceState};
use windlass_types::time::UnixMillis;

use super::{ModelPackage, ModelTransaction};
use crate::host::dnf::history::{self, LOCKS};
use crate::host::{MemoryReading, boot_entries, grub_cfg, grubby, package_manager, procfs, rpm};

/// rpm's database, as it is on EL 9.
const DATABASE: &str = rpm::DATABASES[2];

/// When the model's time begins: some moment in 2025.
const BEGINNING: UnixMillis = UnixMillis(1_750_000_000_000);

/// A node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Operating system, architecture and host name.
    pub os: Os,
    /// Release of the running kernel.
    pub running_kernel: String,
    /// Release of the default kernel; `None` is a node without any boot loader.
    pub default_kernel: Option<String>,
    /// Kernels that are there besides these two.
    pub kernels: Vec<String>,
    /// The scripts of a kernel make it the default, whatever /etc/sysconfig/kernel says.
    pub kernels_become_default: bool,
    /// No entry is the default by its name: the newest is.
    pub newest_is_default: bool,
    /// It tried to start a default kernel that does not start: nobody gets it back who does not stand in front of it.
    pub is_lost: bool,
    /// Packages that are installed.
    pub packages: Vec<ModelPackage>,
    /// Packages whose files are not on the disk, by their full names.
    pub damaged: Vec<String>,
    /// The package database cannot be read.
    pub database_is_broken: bool,
    /// Packages that can be had.
    pub repository: Vec<ModelPackage>,
    /// Repositories whose metadata the package manager trusts with the key that their file names.
    pub trusted: BTreeSet<String>,
    /// What the package manager did, the oldest first.
    pub history: Vec<ModelTransaction>,
    /// The power fails when a transaction has installed so many packages; their scripts have not run to their end then.
    pub power_fails_after: Option<usize>,
    /// The package manager says that it failed, when all is done.
    pub transactions_fail: bool,
    /// Somebody's rpm is in the middle of a transaction.
    pub rpm_is_at_work: bool,
    /// None of its repositories answers.
    pub repositories_are_down: bool,
    /// One of its repositories does not answer, and dnf goes on without it.
    pub repository_is_skipped: bool,
    /// Somebody installs this while packages are fetched.
    pub comes_meanwhile: Option<ModelPackage>,
    /// Files that are not there, whatever the rest says.
    pub lacks: Vec<PathBuf>,
    /// Links that are not root's, through which it does not go.
    pub links: Vec<PathBuf>,
    /// Units that are started at boot.
    pub enabled: Vec<String>,
    /// Swap units that are not masked.
    pub swap_units: Vec<String>,
    /// When services were started that did not start with the boot.
    pub started: BTreeMap<String, UnixMillis>,
    /// Kernels that panic when they are started.
    pub broken_kernels: Vec<String>,
    /// Kernels with which no service stays up.
    pub sick_kernels: Vec<String>,
    /// Kernels that have no network.
    pub deaf_kernels: Vec<String>,
    /// What kernels are started with.
    pub kernel_arguments: BTreeMap<String, String>,
    /// On what GRUB's environment block lies, as grub2-probe says it; on a plain partition if it is empty.
    pub boot_is_on: String,
    /// The entry that is started only the next time.
    pub next_entry: Option<String>,
    /// Counts boots; the boot id is made of it.
    pub boots: u64,
    /// When this boot began.
    pub booted_at: UnixMillis,
    /// What the node's clock says.
    pub now: UnixMillis,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: MemoryReading,
    /// Load averages.
    pub load: [f64; 3],
    /// Block devices, by name. Stable ids other than `partuuid-` and `dm-uuid-` follow from serial and WWN.
    pub disks: Vec<BlockDevice>,
    /// Interfaces, by name.
    pub interfaces: Vec<NetworkInterface>,
    /// The package manager.
    pub package_manager: PackageManager,
    /// Services that exist.
    pub services: Vec<ServiceState>,
    /// Files beyond those that follow from the rest; they win over them. /run is emptied by a reboot.
    pub files: BTreeMap<PathBuf, String>,
    /// Mode, owner and group of those that have others than 0644 and root.
    pub attributes: BTreeMap<PathBuf, (u32, u32, u32)>,
}

impl Node {
    pub(super) fn new(hostname: &str) -> Self {
        let text = str::to_owned;
        Self {
            os: Os {
                id: text("rocky"),
                version_id: text("9.4"),
                pretty_name: text("Rocky Linux 9.4 (Blue Onyx)"),
                architecture: text("x86_64"),
                hostname: text(hostname),
            },
            running_kernel: text("5.14.0-427.el9.x86_64"),
            default_kernel: Some(text("5.14.0-427.el9.x86_64")),
            boots: 1,
            booted_at: BEGINNING,
            now: BEGINNING,
            cpu: Cpu { model: text("Modelled CPU"), logical: 4 },
            memory: MemoryReading { total: 16 << 30, available: 12 << 30, swap_total: 2 << 30 },
            load: [0.1, 0.2, 0.3],
            disks: two_disks(hostname),
            interfaces: vec![NetworkInterface {
                name: text("eth0"),
                mac: text("52:54:00:00:00:01"),
                addresses: vec![text("10.0.0.5/24")],
                mtu: 1500,
                up: true,
            }],
            package_manager: PackageManager { name: text("dnf"), version: text("4.14.0") },
            services: vec![ServiceState { unit: text("sshd.service"), active: text("active"), sub: text("running") }],
            ..Self::default()
        }
    }

    /// Starts what the boot loader starts: what is to be started once, then the default. A broken kernel panics, and the
    /// machine boots again.
    pub(super) fn reboot(&mut self) {
        let once = self.next_entry.take().and_then(|entry| Some(entry.strip_prefix("model-")?.to_owned()));
        let wished = once
            .clone()
            .into_iter()
            .chain(self.default_kernel.clone().filter(|_| once.is_none() || self.boot_is_on.is_empty()));
        self.is_lost = self.default_kernel.is_some();
        for release in wished {
            self.boots += 1;
            if self.starts(&release) {
                self.running_kernel = release;
                self.is_lost = false;
                break;
            }
        }
        if self.default_kernel.is_none() {
            self.boots += 1;
        }
        let is_sick = self.sick_kernels.contains(&self.running_kernel);
        let (before, now) = if is_sick { ("active", "failed") } else { ("failed", "active") };
        let services = self.services.iter_mut().filter(|service| service.active == before);
        services.for_each(|service| now.clone_into(&mut service.active));
        self.booted_at = self.now;
        // systemd-tmpfiles takes the lock away as the machine comes up.
        self.files.retain(|path, _| !path.starts_with("/run") && path != Path::new(LOCKS[0]));
    }

    fn starts(&self, release: &str) -> bool {
        let initramfs = self.files.get(&initramfs_of(release));
        let is_whole = initramfs.is_none_or(|content| !content.is_empty() && content != "torn");
        is_whole && !self.broken_kernels.iter().any(|broken| broken == release)
    }

    /// What the scripts of a kernel do: the default first, then the initramfs, unless the power fails.
    pub(super) fn run_scripts_of(&mut self, release: String, power_fails: bool) {
        let configuration = self.files.get(Path::new("/etc/sysconfig/kernel"));
        let is_asked_for = configuration.is_some_and(|text| text.lines().any(|line| line == "UPDATEDEFAULT=yes"));
        if self.kernels_become_default || self.newest_is_default || is_asked_for {
            self.default_kernel = Some(release.clone());
        }
        self.files.remove(&initramfs_of(&release));
        if power_fails {
            self.files.insert(initramfs_of(&release), String::new());
        }
        self.kernels.retain(|kernel| *kernel != release);
        self.kernels.push(release);
    }

    /// Every file there is.
    pub(super) fn all_files(&self) -> BTreeMap<PathBuf, String> {
        let mut files = BTreeMap::new();
        let mut add = |path: String, text: String| {
            files.insert(PathBuf::from(path), text);
        };
        let Os { id, version_id, pretty_name, .. } = &self.os;
        add("/etc/os-release".into(), format!("ID={id}\nVERSION_ID=\"{version_id}\"\nPRETTY_NAME=\"{pretty_name}\"\n"));
        add(procfs::BOOT_ID.into(), format!("00000000-0000-4000-8000-{:012}\n", self.boots));
        add(procfs::STAT.into(), format!("cpu  0 0 0\nbtime {}\n", self.booted_at.0 / 1000));
        add(procfs::MOUNTS.into(), self.mountinfo());
        add("/etc/passwd".into(), "root:x:0:0:root:/root:/bin/bash\n".into());
        add("/etc/group".into(), "root:x:0:\nwheel:x:10:\n".into());
        add("/usr/sbin/visudo".into(), String::new());
        add("/usr/bin/lsinitrd".into(), String::new());
        self.add_kernels(&mut add);
        for (_, program) in package_manager::PROGRAMS.iter().filter(|(name, _)| *name == self.package_manager.name) {
            add((*program).into(), String::new());
        }
        self.add_attributes(&mut add);
        files.extend(self.kept_of_packages());
        files.extend(self.files.clone());
        files.retain(|path, _| !self.lacks.contains(path));
        files
    }

    /// What rpm and dnf keep of packages: another content for every other state.
    pub(super) fn kept_of_packages(&self) -> BTreeMap<PathBuf, String> {
        let database = json!([self.packages, self.damaged, self.database_is_broken]);
        let mut kept = BTreeMap::from([(DATABASE.into(), database)]);
        if self.package_manager.name == "dnf" {
            kept.insert(history::FILES[0].into(), json!(self.history));
            kept.insert("/var/cache/dnf/model.solv".into(), json!([self.repository, self.trusted]));
        }
        kept.retain(|path, _| !self.lacks.contains(path));
        kept.into_iter().map(|(path, content)| (path, content.to_string())).collect()
    }

    /// What is under /boot, and GRUB's tools.
    fn add_kernels(&self, add: &mut impl FnMut(String, String)) {
        let Some(default) = &self.default_kernel else { return };
        for tool in ["reboot", "set-default", "probe"] {
            add(format!("/usr/sbin/grub2-{tool}"), String::new());
        }
        for tool in [grubby::PROGRAM, "/usr/bin/grub2-editenv"] {
            add(tool.into(), String::new());
        }
        let next = self.next_entry.as_ref().map_or_else(String::new, |entry| format!("next_entry={entry}\n"));
        let saved = if self.newest_is_default { String::new() } else { format!("saved_entry=model-{default}\n") };
        add(grub_cfg::PATHS[0].1.into(), saved + &next);
        for release in [default, &self.running_kernel].into_iter().chain(&self.kernels) {
            let options = self.kernel_arguments.get(release).map_or("root=/dev/vda1 ro", String::as_str);
            let entry = format!("title {release}\nversion {release}\nlinux /vmlinuz-{release}\noptions {options}\n");
            add(format!("{}/model-{release}.conf", boot_entries::DIRECTORY), entry);
            add(format!("/boot/vmlinuz-{release}"), "kernel".into());
            add(format!("/boot/initramfs-{release}.img"), "initramfs".into());
            add(format!("/lib/modules/{release}/modules.dep"), "modules".into());
        }
    }

    /// What is under /sys.
    fn add_attributes(&self, add: &mut impl FnMut(String, String)) {
        for interface in &self.interfaces {
            let sys = format!("/sys/class/net/{}", interface.name);
            add(format!("{sys}/type"), "1\n".into());
            add(format!("{sys}/address"), format!("{}\n", interface.mac));
            add(format!("{sys}/mtu"), format!("{}\n", interface.mtu));
            add(format!("{sys}/carrier"), format!("{}\n", u8::from(interface.up)));
        }
        for disk in &self.disks {
            let sys = format!("/sys/class/block/{}", disk.name);
            if let Some(uuid) = disk.stable_id.strip_prefix("dm-uuid-") {
                add(format!("{sys}/dm/uuid"), format!("{uuid}\n"));
            }
            for holder in &disk.holders {
                add(format!("{sys}/holders/{holder}"), String::new());
            }
        }
    }

    fn mountinfo(&self) -> String {
        let mut text = String::new();
        for (index, disk) in self.disks.iter().enumerate() {
            for target in disk.mounts.iter().filter(|target| *target != "[SWAP]") {
                let target = target.replace(' ', "\\040");
                // Writing to a string does not fail.
                let _ = writeln!(text, "1 1 254:{index} / {target} rw - xfs /dev/{} rw", disk.name);
            }
        }
        text
    }

    pub(super) fn lsblk_json(&self) -> String {
        let rows: Vec<Value> = self.disks.iter().enumerate().map(|(index, disk)| row(index, disk)).collect();
        json!({ "blockdevices": rows }).to_string()
    }

    pub(super) fn systemctl_show(&self, units: &[String]) -> String {
        let block = |unit: &String| match self.services.iter().find(|service| service.unit == *unit) {
            Some(service) => format!("LoadState=loaded\nActiveState={}\nSubState={}\n", service.active, service.sub),
            None => "LoadState=not-found\nActiveState=inactive\nSubState=dead\n".to_owned(),
        };
        units.iter().map(block).collect::<Vec<_>>().join("\n")
    }
}

fn initramfs_of(release: &str) -> PathBuf {
    format!("/boot/initramfs-{release}.img").into()
}

/// One disk with a mounted partition, and an empty one.
fn two_disks(hostname: &str) -> Vec<BlockDevice> {
    let disk = |name: &str, kind: &str, size_bytes| BlockDevice {
        name: name.to_owned(),
        kind: kind.to_owned(),
        size_bytes,
        ..BlockDevice::default()
    };
    let whole = |name: &str, purpose: &str, size_bytes| BlockDevice {
        serial: format!("{hostname}-{purpose}"),
        stable_id: format!("serial-{hostname}-{purpose}"),
        ..disk(name, "disk", size_bytes)
    };
    let partition = BlockDevice {
        parent: "vda".to_owned(),
        stable_id: format!("partuuid-{hostname}-01"),
        signature: "xfs".to_owned(),
        mounts: vec!["/".to_owned(), "/srv/with blank".to_owned()],
        ..disk("vda1", "part", 39 << 30)
    };
    vec![whole("vda", "root", 40 << 30), partition, whole("vdb", "data", 100 << 30)]
}

fn row(index: usize, disk: &BlockDevice) -> Value {
    json!({
        "name": disk.name,
        "kname": disk.name,
        "maj:min": format!("254:{index}"),
        "type": disk.kind,
        "size": disk.size_bytes,
        "ro": disk.read_only,
        "rota": disk.rotational,
        "pkname": disk.parent,
        "fstype": disk.signature,
        "label": disk.label,
        "uuid": disk.uuid,
        "partuuid": disk.stable_id.strip_prefix("partuuid-"),
        "serial": disk.serial,
        "wwn": disk.wwn,
        "model": disk.model,
        "mountpoint": disk.mounts.iter().find(|target| *target == "[SWAP]"),
    })
}
