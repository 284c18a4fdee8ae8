// SPDX-License-Identifier: Apache-2.0
//! A Debian 12 with a real systemd as its first process, and Windlass installed by `make install`.
//!
//! The system is built once per machine, outside the repository: in `$WINDLASS_CACHE/lab`, or `~/.cache/windlass/lab`.
//! Each test boots it below a layer of its own, so nothing of one test is there in the next. The container has a network
//! of its own with nothing but loopback. Only one runs at a time on a machine: without a systemd outside, two would share
//! a control group.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Answer, Running, command, program, run, run_within};
use crate::wait::{LONG, wait_for, wait_until};

/// The release of Debian inside.
const SUITE: &str = "bookworm";

/// What is inside besides Debian's minimum. A change makes another root.
const PACKAGES: &[&str] = &["systemd", "systemd-sysv", "dbus", "procps", "util-linux"];

/// Debian's packages come over the network, once per machine.
const BUILD_LIMIT: Duration = Duration::from_secs(540);

/// What systemd-nspawn and the container's first process say.
const CONSOLE: &str = "console.log";

/// The host name inside.
pub const HOST: &str = "machine";

/// What nothing but a shell can do in one go: mount in the new namespace, then become the container.
const MOUNT_AND_BOOT: &str = r#"mount -t overlay overlay -o "$0" "$1" && shift && exec systemd-nspawn "$@""#;

/// How often a destructor looks whether the container is gone, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS: u32 = 1000;

/// What directories of runs begin with; the lock says that one which is there when another begins was left behind.
const RUN: &str = "run-";

/// A booted container.
#[derive(Debug)]
pub struct Machine {
    nspawn: Running,
    init: i32,
    root: PathBuf,
    // After what uses it.
    directory: TempDir,
    _turn: File,
}

impl Machine {
    /// Builds the root if there is none, lays an installed Windlass over it and boots it.
    ///
    /// # Panics
    /// If this machine cannot do that; says what is missing.
    pub async fn boot() -> Self {
        demand();
        let lab = lab();
        std::fs::create_dir_all(&lab).expect("a directory for the cache");
        let turn = File::create(lab.join("lock")).expect("a lock file");
        turn.lock().expect("locked");
        sweep(&lab);
        let root = root(&lab, PACKAGES).await;
        let directory = tempfile::Builder::new().prefix(RUN).tempdir_in(&lab).expect("a directory");
        installed(directory.path()).await;
        for folder in ["upper", "work", "merged"] {
            std::fs::create_dir(directory.path().join(folder)).expect("a directory");
        }
        let (nspawn, init) = start(&root, directory.path()).await;
        let machine = Self { nspawn, init, root, directory, _turn: turn };
        machine.wait_booted().await;
        machine
    }

    /// Ends everything at once, as if the power failed, and boots again with the same disk.
    ///
    /// # Panics
    /// If it does not run, or does not come back.
    pub async fn power_cut(&mut self) {
        kill(Pid::from_raw(self.init), Signal::SIGKILL).expect("it runs");
        self.nspawn.wait().await;
        (self.nspawn, self.init) = start(&self.root, self.directory.path()).await;
        self.wait_booted().await;
    }

    async fn wait_booted(&self) {
        wait_until("the container has booted", LONG, || async {
            let state = self.words("systemctl is-system-running").await.stdout;
            matches!(state.trim(), "running" | "degraded")
        })
        .await;
    }

    /// A command inside, as root.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut nsenter = command("nsenter", Path::new("/"));
        nsenter.arg("--target").arg(self.init.to_string());
        nsenter.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]).arg("--").args(arguments);
        nsenter.env("HOME", "/root").env("LC_ALL", "C.UTF-8");
        nsenter
    }

    /// Runs a command inside, as root.
    pub async fn run(&self, arguments: &[&str]) -> Answer {
        run(&mut self.command(arguments)).await
    }

    /// Runs words as a command inside, as root.
    pub async fn words(&self, words: &str) -> Answer {
        self.run(&words.split_whitespace().collect::<Vec<_>>()).await
    }

    /// Runs a line of shell inside, as root.
    pub async fn shell(&self, line: &str) -> Answer {
        self.run(&["sh", "-c", line]).await
    }

    /// Runs a command inside, as somebody.
    pub async fn run_as(&self, user: &str, words: &str) -> Answer {
        self.words(&format!("runuser -u {user} -- {words}")).await
    }

    /// Writes a file inside, with the directories above it.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let outside = self.outside(path);
        std::fs::create_dir_all(outside.parent().expect("below the root")).expect("directories");
        std::fs::write(outside, text).expect("written");
    }

    /// A path inside, as it is seen from outside.
    #[must_use]
    pub fn outside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }

    /// A property of a unit.
    pub async fn property(&self, unit: &str, name: &str) -> String {
        self.words(&format!("systemctl show --value -p {name} {unit}")).await.ok().trim().to_owned()
    }

    /// What a unit, or everything with a field, wrote into the journal: one JSON document each.
    ///
    /// # Panics
    /// If the journal cannot be read.
    pub async fn journal(&self, words: &str) -> Vec<serde_json::Value> {
        let text = self.words(&format!("journalctl --no-pager -o json {words}")).await.ok();
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

impl Drop for Machine {
    /// The end of the first process is the end of all of them, and with them of the mounts.
    #[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a destructor cannot wait otherwise")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.command(&["journalctl", "--no-pager", "--lines=200"]).into_std().output();
            let journal = journal.map(|output| output.stdout).unwrap_or_default();
            eprintln!("the container's journal:\n{}", String::from_utf8_lossy(&journal));
        }
        if kill(Pid::from_raw(self.init), Signal::SIGKILL).is_err() {
            return;
        }
        for _ in 0..LOOKS {
            if self.nspawn.ended().is_some() {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// # Panics
/// If this machine lacks something, with what to do.
fn demand() {
    assert!(Uid::effective().is_root(), "a container is booted by root only: run these tests as root");
    let path = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
    for tool in ["systemd-nspawn", "mmdebstrap", "nsenter", "unshare", "make"] {
        let found = path.iter().any(|folder| Path::new(folder).join(tool).exists());
        assert!(found, "{tool} is not installed: `make deps` installs it");
    }
}

fn lab() -> PathBuf {
    let cache = std::env::var_os("WINDLASS_CACHE").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".cache/windlass");
    cache.unwrap_or_else(home).join("lab")
}

/// A Debian with these packages that nothing is booted in: for tools that would change the machine they are installed on.
/// Built once, and never written to.
///
/// # Panics
/// If it cannot be built; says what is missing.
pub async fn debian_with(packages: &[&str]) -> PathBuf {
    demand();
    let lab = lab();
    std::fs::create_dir_all(&lab).expect("a directory for the cache");
    let turn = File::create(lab.join(format!("lock-{}", packages.join("-")))).expect("a lock file");
    turn.lock().expect("locked");
    root(&lab, packages).await
}

/// The root that is below everything, built if need be. Whoever calls holds the lock.
async fn root(lab: &Path, packages: &[&str]) -> PathBuf {
    let name = format!("{SUITE}-{}", packages.join("-"));
    let root = lab.join(&name);
    if root.exists() {
        return root;
    }
    let unfinished = lab.join(format!("unfinished-{name}"));
    let _none = std::fs::remove_dir_all(&unfinished);
    let mut build = command("mmdebstrap", Path::new("/"));
    build.arg("--variant=minbase").arg(format!("--include={}", packages.join(","))).arg(SUITE).arg(&unfinished);
    run_within(BUILD_LIMIT, &mut build).await.done();
    std::fs::rename(&unfinished, &root).expect("renamed");
    root
}

/// Removes what runs left behind that were killed.
fn sweep(lab: &Path) {
    for entry in std::fs::read_dir(lab).expect("readable").flatten() {
        if entry.file_name().to_string_lossy().starts_with(RUN) {
            let _best_effort = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// What `make install` installs, as a layer, with names.
async fn installed(directory: &Path) {
    let layer = directory.join("layer");
    let mut make = command("make", directory);
    make.arg("-C").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).args(["install-controller", "install-agent"]);
    make.arg(format!("DESTDIR={}", layer.display()));
    make.arg(format!("CARGO_TARGET_DIR={}", directory.join("pages").display()));
    make.arg(format!("CONTROLLER={}", program("windlass").display()));
    make.arg(format!("AGENT={}", program("windlass-agent").display()));
    run(&mut make).await.done();
    let write = |path: &str, text: &str| {
        let path = layer.join(path);
        std::fs::create_dir_all(path.parent().expect("below the layer")).expect("directories");
        std::fs::write(path, text).expect("written");
    };
    write("etc/hostname", HOST);
    write("etc/hosts", &format!("127.0.0.1 localhost {HOST}\n::1 localhost\n"));
}

async fn start(root: &Path, directory: &Path) -> (Running, i32) {
    let mut nspawn = Running::start(&mut boot_command(root, directory), &directory.join(CONSOLE));
    let (init, _) = wait_for("the container's first process runs", LONG, || {
        let ended = nspawn.ended();
        assert!(ended.is_none(), "systemd-nspawn ended with {ended:?}:\n{}", console_log(directory));
        std::future::ready(init_below(nspawn.pid()))
    })
    .await;
    (nspawn, init)
}

fn console_log(directory: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(directory.join(CONSOLE)).unwrap_or_default()).into_owned()
}

fn boot_command(root: &Path, directory: &Path) -> Command {
    let [layer, upper, work, merged] = ["layer", "upper", "work", "merged"].map(|name| directory.join(name));
    let (lower, low, up, work) = (layer.display(), root.display(), upper.display(), work.display());
    let mut boot = command("unshare", directory);
    boot.args(["--mount", "--propagation", "private", "--", "sh", "-c", MOUNT_AND_BOOT]);
    boot.arg(format!("lowerdir={lower}:{low},upperdir={up},workdir={work}")).arg(&merged);
    boot.args(["--quiet", "--register=no", "--keep-unit", "--private-network", "--console=pipe", "--boot"]);
    boot.arg(format!("--machine=windlass-{}", std::process::id())).arg("--directory").arg(&merged);
    // Nothing is on the screen, and Debian's timers have no work here.
    boot.arg("systemd.unit=multi-user.target").arg("systemd.mask=apt-daily.timer");
    boot
}

/// The systemd that is a child of this process.
fn init_below(nspawn: i32) -> Option<i32> {
    let children = std::fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
    children.find(|pid| {
        let program = std::fs::read_link(format!("/proc/{pid}/exe"));
        program.is_ok_and(|program| program.ends_with("systemd/systemd"))
    })
}
