// SPDX-License-Identifier: Apache-2.0
//! The door to the machine the agent runs on. Nothing else in the agent starts a process or reads the clock.
//!
//! - [`Observe`]: what may be asked of the machine without changing it; [`RealHost`] asks it.
//! - [`change`]: what steps may do to its files, `directory`: the way to them, `label`: their
//!   SELinux labels; [`tools`]: how they run programs.
//! - [`clock`]: the wall clock.
//! - [`exec`]: the only place that starts processes.
//! - [`lsblk`], [`systemd_units`], [`package_manager`], [`grubby`]: one file per tool: how it is called, how its answer
//!   is read.
//! - [`answers`]: what rpm and dnf need not be asked twice.
//! - [`os_release`], [`procfs`], [`boot_entries`], [`grub_cfg`], [`network`]: files and system calls.
//! - `fake`: a model of a node for tests, under the feature `testing`.

pub mod accounts;
pub mod answers;
pub mod boot_entries;
pub mod change;
pub mod clock;
pub(crate) mod directory;
pub mod dnf;
pub mod exec;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
pub mod grub;
pub mod grub_cfg;
pub mod grubby;
pub mod kernel_files;
pub(crate) mod label;
pub mod lsblk;
pub mod network;
pub mod os_release;
pub mod package_manager;
pub mod procfs;
mod remembered;
pub mod rpm;
pub mod rpm_version;
pub mod sysctl;
pub mod systemctl;
pub mod systemd_units;
pub mod tools;
pub mod transient_unit;

use std::fmt::Debug;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use async_trait::async_trait;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};
use windlass_types::action::Argv;
use windlass_types::facts::Cpu;

use answers::{Answers, Source};
use exec::{CommandSpec, ExecError};
use remembered::{Remembered, Stamps};
use tools::{Ran, ToolError};

/// Most that is read of a file: those under /proc, /sys and /boot that we read are far smaller.
const MOST_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// How much of a file is looked at at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// What uname(2) tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Node name.
    pub hostname: String,
    /// Release of the running kernel.
    pub kernel: String,
    /// Machine hardware name.
    pub architecture: String,
}

/// Memory as it is, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(any(test, feature = "testing"), derive(serde::Serialize, serde::Deserialize))]
pub struct MemoryReading {
    /// Total.
    pub total: u64,
    /// Available without swapping.
    pub available: u64,
    /// Swap.
    pub swap_total: u64,
}

/// How hard to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Every tool is asked.
    Closely,
    /// A costly tool's last answer will do while the kernel tells of no change.
    Briefly,
}

/// What the agent may ask of its machine. Nothing here changes it.
#[async_trait]
pub trait Observe: Send + Sync + Debug {
    /// A small file's text; what is not UTF-8 is replaced.
    ///
    /// # Errors
    /// As read(2).
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The names in a directory, sorted.
    ///
    /// # Errors
    /// As opendir(3).
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// As readlink(2).
    fn link(&self, path: &Path) -> io::Result<String>;

    /// When a file was last changed; also the way to ask whether it exists.
    ///
    /// # Errors
    /// As stat(2).
    fn modified(&self, path: &Path) -> io::Result<SystemTime>;

    /// Host name, running kernel and architecture.
    ///
    /// # Errors
    /// As uname(2).
    fn machine(&self) -> io::Result<Machine>;

    /// Processors.
    ///
    /// # Errors
    /// If /proc/cpuinfo or /proc/stat cannot be read.
    fn cpu(&self) -> io::Result<Cpu>;

    /// Memory and swap.
    ///
    /// # Errors
    /// If /proc/meminfo cannot be read.
    fn memory(&self) -> io::Result<MemoryReading>;

    /// Load averages over one, five and fifteen minutes.
    ///
    /// # Errors
    /// If /proc/loadavg cannot be read.
    fn load(&self) -> io::Result<[f64; 3]>;

    /// Interface names with one address in prefix notation each.
    ///
    /// # Errors
    /// As getifaddrs(3).
    fn interface_addresses(&self) -> io::Result<Vec<(String, String)>>;

    /// Every block device, as lsblk(8) prints it.
    ///
    /// # Errors
    /// If lsblk is missing or fails.
    async fn lsblk(&self, look: Look) -> Result<lsblk::Printed, ExecError>;

    /// The states of units, as systemctl(1) prints them.
    ///
    /// # Errors
    /// If systemctl is missing or fails.
    async fn systemctl_show(&self, units: &[String]) -> Result<String, ExecError>;

    /// The path of the default kernel, as grubby(8) prints it.
    ///
    /// # Errors
    /// If grubby is missing or fails.
    async fn grubby_default_kernel(&self) -> Result<String, ExecError>;

    /// What the package manager at `program` prints about its version.
    ///
    /// # Errors
    /// If it is missing or fails.
    async fn package_manager_version(&self, program: &Path) -> Result<String, ExecError>;

    /// Whether rpm is in the middle of a transaction, whoever began it.
    fn rpm_is_at_work(&self) -> bool;

    /// The packages that everything uses, as rpm(8) prints them; nothing where there is no rpm.
    ///
    /// # Errors
    /// If rpm fails.
    async fn core_packages(&self) -> Result<String, ExecError>;

    /// A checksum of what is in a file.
    ///
    /// # Errors
    /// As read(2).
    fn checksum(&self, path: &Path) -> io::Result<u32>;

    /// What rpm or dnf answers to a question that changes nothing. Unless it shall be looked at closely, `ask` does not ask
    /// again while what the answer is read from is as it was.
    ///
    /// # Errors
    /// As `ask`.
    async fn answer(&self, question: (&Argv, Source), look: Look, ask: Asking<'_>) -> Result<Ran, ToolError>;

    /// Tells what the answer is now, so that it need not be asked for.
    fn learn(&self, question: (&Argv, Source), answer: Ran);
}

/// A question to a tool that is put only if need be.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Ran, ToolError>> + Send + 'a>>;

/// The machine the agent runs on.
#[derive(Debug, Default)]
pub struct RealHost {
    /// Learned at the first call, so that an old lsblk is not asked in vain every time.
    lsblk_lacks_json: AtomicBool,
    block_devices: Remembered<lsblk::Unchanged, lsblk::Printed>,
    default_kernel: Remembered,
    package_manager: Remembered,
    core_packages: Remembered,
    labels: label::Labels,
    answers: Answers,
}

impl RealHost {
    async fn ask_lsblk(&self) -> Result<lsblk::Printed, ExecError> {
        if !self.lsblk_lacks_json.load(Ordering::Relaxed) {
            match stdout(lsblk::json_command()?).await {
                Ok(text) => return Ok(lsblk::Printed::Json(text)),
                Err(error) if lsblk::is_unknown_option(&error) => self.lsblk_lacks_json.store(true, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        stdout(lsblk::pairs_command()?).await.map(lsblk::Printed::Pairs)
    }

    fn stamps<'a>(&self, paths: impl IntoIterator<Item = &'a str>) -> Stamps {
        paths.into_iter().map(|path| self.modified(Path::new(path)).ok()).collect()
    }
}

#[async_trait]
impl Observe for RealHost {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MOST_FILE_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        let mut names = std::fs::read_dir(directory)?.map(name).collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn link(&self, path: &Path) -> io::Result<String> {
        Ok(std::fs::read_link(path)?.to_string_lossy().into_owned())
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        path.metadata()?.modified()
    }

    fn machine(&self) -> io::Result<Machine> {
        let uname = nix::sys::utsname::uname()?;
        Ok(Machine {
            hostname: uname.nodename().to_string_lossy().into_owned(),
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
        })
    }

    fn cpu(&self) -> io::Result<Cpu> {
        let system = System::new_with_specifics(RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()))
            .map_err(io::Error::other)?;
        let cpus = system.cpus();
        let model = cpus.first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default();
        Ok(Cpu { model, logical: u32::try_from(cpus.len()).unwrap_or(u32::MAX) })
    }

    fn memory(&self) -> io::Result<MemoryReading> {
        let kind = MemoryRefreshKind::everything();
        let system = System::new_with_specifics(RefreshKind::nothing().with_memory(kind)).map_err(io::Error::other)?;
        Ok(MemoryReading {
            total: system.total_memory(),
            available: system.available_memory(),
            swap_total: system.total_swap(),
        })
    }

    fn load(&self) -> io::Result<[f64; 3]> {
        let load = System::load_average().map_err(io::Error::other)?;
        Ok([load.one, load.five, load.fifteen])
    }

    fn interface_addresses(&self) -> io::Result<Vec<(String, String)>> {
        network::interface_addresses()
    }

    async fn lsblk(&self, look: Look) -> Result<lsblk::Printed, ExecError> {
        let key = lsblk::Unchanged::read();
        match look {
            Look::Closely => self.block_devices.ask(key, self.ask_lsblk()).await,
            Look::Briefly => self.block_devices.or_ask(key, self.ask_lsblk()).await,
        }
    }

    async fn systemctl_show(&self, units: &[String]) -> Result<String, ExecError> {
        stdout(systemd_units::show_command(units)?).await
    }

    async fn grubby_default_kernel(&self) -> Result<String, ExecError> {
        let ask = stdout(grubby::default_kernel_command());
        self.default_kernel.or_ask(self.stamps(grubby::DEPENDS_ON), ask).await
    }

    async fn package_manager_version(&self, program: &Path) -> Result<String, ExecError> {
        let ask = stdout(package_manager::version_command(program));
        self.package_manager.or_ask(vec![self.modified(program).ok()], ask).await
    }

    fn rpm_is_at_work(&self) -> bool {
        rpm::LOCKS.iter().any(|lock| rpm::is_held(Path::new(lock)))
    }

    /// Some tens of milliseconds of rpm after a transaction, and else four times stat(2).
    async fn core_packages(&self) -> Result<String, ExecError> {
        let stamps = self.stamps(rpm::DATABASES);
        // Where there is no database rpm would make one.
        if stamps.iter().all(Option::is_none) || !Path::new(rpm::PROGRAM).exists() {
            return Ok(String::new());
        }
        if self.rpm_is_at_work() {
            // It would be asked in vain until its end, and an old database does not bear a reader that is killed.
            return Ok(self.core_packages.kept().unwrap_or_default());
        }
        self.core_packages.or_ask(stamps, stdout(rpm::core_command())).await
    }

    fn checksum(&self, path: &Path) -> io::Result<u32> {
        let mut hasher = crc32fast::Hasher::new();
        let mut file = std::fs::File::open(path)?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hasher.finalize()),
                length => hasher.update(&piece[..length]),
            }
        }
    }

    async fn answer(&self, question: (&Argv, Source), look: Look, ask: Asking<'_>) -> Result<Ran, ToolError> {
        self.answers.answer(self, question, look, ask).await
    }

    fn learn(&self, question: (&Argv, Source), answer: Ran) {
        self.answers.keep(self, question, answer);
    }
}

async fn stdout(spec: CommandSpec) -> Result<String, ExecError> {
    Ok(String::from_utf8_lossy(&exec::run(spec).await?.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_under_the_tests_can_be_asked() {
        let host = RealHost::default();
        assert!(!host.machine().unwrap().kernel.is_empty());
        assert!(host.cpu().unwrap().logical > 0);
        let memory = host.memory().unwrap();
        assert!(memory.total > 0 && memory.available <= memory.total);
        assert!(host.load().unwrap().iter().all(|load| load.is_finite()));
        assert!(host.list(Path::new("/proc/self")).unwrap().contains(&"stat".to_owned()));
        assert!(host.modified(Path::new("/no/such/file")).is_err());
    }

    #[tokio::test]
    async fn the_lsblk_of_this_machine_is_understood() {
        let printed = RealHost::default().lsblk(Look::Closely).await.unwrap();
        printed.parse().unwrap();
    }
}
