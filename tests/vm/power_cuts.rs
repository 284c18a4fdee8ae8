// SPDX-License-Identifier: Apache-2.0
//! The power of a host fails while a kernel is installed on a machine of it, again and again, each time at another moment of
//! the same transaction. The machine always comes up, with the kernel it had, and the run that was under way comes to its
//! end: the kernel whole, tried, and the default.
//!
//! The transaction happens once, and what it writes is recorded ([`crate::write_log`]). Each cut then is a disk as the
//! power would have left it, and the controller's state as it was meanwhile; both start again as after a power cut.
//!
//! `WINDLASS_CUTS` says how many there are in all tests of this file, `WINDLASS_CUTS_SEED` where they are.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::path::{Path, PathBuf};

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use windlass_tests::process::{command, run_within};
use windlass_tests::wait::wait_until;

use crate::site::{BOOT, Site, with_site};
use crate::write_log::WriteLog;

const CUTS: usize = 25;
const SEED: u64 = 4;

/// Tests of this file that are there so that two machines are at work at once.
const TESTS: usize = 2;

/// By then the node has its order and is at work.
const UNDER_WAY: usize = 200;

const UPGRADE: [&str; 6] = ["upgrade", "kernel", "node1", "--channel", "elrepo-lt", "--yes"];

#[tokio::test]
async fn power_that_fails_while_a_kernel_is_installed_leaves_a_node_that_comes_up_and_is_mended_1() {
    with_site(async |site| many_cuts(site, 0).await).await;
}

#[tokio::test]
async fn power_that_fails_while_a_kernel_is_installed_leaves_a_node_that_comes_up_and_is_mended_2() {
    with_site(async |site| many_cuts(site, 1).await).await;
}

/// What a recorded transaction left.
struct Recorded {
    /// The disk before it, and as far as cuts have come.
    disk: PathBuf,
    log: WriteLog,
    /// The entries of the log that were written within it.
    within: Range<usize>,
    /// The controller's state when it was under way.
    state: PathBuf,
    run: String,
    old_kernel: String,
}

#[expect(clippy::print_stderr, reason = "which cuts there were is what one needs to see a failure again")]
async fn many_cuts(site: &mut Site, nth: usize) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("WINDLASS_CUTS_SEED").unwrap_or(SEED) + nth as u64;
    let all = number("WINDLASS_CUTS").map_or(CUTS, |count| usize::try_from(count).expect("few enough"));
    let count = all / TESTS + usize::from(nth < all % TESTS);
    let mut chance = Rng::with_seed(seed);
    let recorded = record(site).await;
    let moments = recorded.log.moments(recorded.within.clone(), count, &mut chance);
    eprintln!("seed {seed}: cuts at {moments:?} of {:?}", recorded.within);
    let (mut written, mut by_the_run) = (0, 0);
    for cut in moments {
        let flushed = recorded.log.flushed(cut);
        recorded.log.write_all(&writable(&recorded.disk), written..flushed);
        written = flushed;
        let disk = recorded.disk.with_file_name("cut.raw");
        copy(&recorded.disk, &disk).await;
        recorded.log.write_some(&writable(&disk), flushed..cut, &mut chance);
        eprintln!("cut at {cut}, after a flush at {flushed}");
        by_the_run += usize::from(comes_up_and_is_mended(site, &recorded, &disk).await);
    }
    eprintln!("seed {seed}: {count} cuts, {by_the_run} mended by the run that was under way");
}

/// Installs a kernel on a machine whose writes are recorded.
async fn record(site: &mut Site) -> Recorded {
    let spec = site.spec(&["{name: node1, address: 10.77.0.11, cpus: 1, memory: 768MiB, roles: [worker]}"]);
    site.apply(&spec).await.done();
    // Its first boot is over: of cloud-init only what names the interfaces is needed at each boot of a cut.
    let settle = "systemctl mask cloud-init.service cloud-config.service cloud-final.service && sync && uname -r";
    let old_kernel = site.shell("node1", settle).await.ok().trim().to_owned();
    let arguments = arguments(site);
    // Nobody switched it off, as far as the controller knows: it is to be on.
    end_machines(site).await;
    let (disk, log) = (site.controller.directory().join("disk.raw"), site.controller.directory().join("log"));
    qemu_img(&["convert", "-O", "raw"], &[&site.machine("node1").join("root.qcow2"), &disk]).await;
    File::create(&log).expect("a log");
    let mut qemu = command(&arguments[0], &site.machine("node1"));
    run_within(BOOT, qemu.args(recording(&arguments[1..], &log))).await.done();
    site.wait_healthy("node1", |_| true).await;
    let begun = site.windlass(&[&UPGRADE[..], &["--detach"]].concat()).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    site.wait_event("step.started", "install-kernel/node1 began").await;
    let first = WriteLog::count(&log);
    wait_until("the transaction to be under way", BOOT, async || WriteLog::count(&log) > first + UNDER_WAY).await;
    site.controller.kill9().await;
    let state = site.controller.directory().join("state-then");
    copy_state(&site.controller.state_dir(), &state).await;
    site.controller.restart().await;
    site.wait_event("step.done", "install-kernel/node1 is done").await;
    let last = WriteLog::count(&log);
    site.controller.kill9().await;
    end_machines(site).await;
    let run = begun.stdout.trim().to_owned();
    Recorded { disk, log: WriteLog::read(&log), within: first + UNDER_WAY..last, state, run, old_kernel }
}

/// What a machine that runs was started with.
fn arguments(site: &Site) -> Vec<String> {
    let [process] = site.processes()[..] else { panic!("one machine runs") };
    let line = std::fs::read(format!("/proc/{process}/cmdline")).expect("it runs");
    let line = String::from_utf8(line).expect("text");
    line.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

/// The same, with a log of what is written to the root disk. The guest neither discards nor asks for zeros, of which this
/// QEMU's log may be wrong; and its writes are not merged, as those that are as long as the host takes are too long with
/// their head in the log.
fn recording(arguments: &[String], log: &Path) -> Vec<String> {
    let record = |argument: &String| match serde_json::from_str::<Value>(argument) {
        Ok(mut disk) if disk["node-name"] == "root" => {
            disk.as_object_mut().expect("an object").remove("node-name");
            let log = json!({ "driver": "file", "filename": log });
            let interval = "log-super-update-interval";
            json!({ "driver": "blklogwrites", "node-name": "root", "file": disk, "log": log, interval: 1 }).to_string()
        }
        _ if argument.starts_with("virtio-blk-pci,drive=root,") => {
            format!("{argument},discard=off,write-zeroes=off,request-merging=off")
        }
        _ => argument.clone(),
    };
    arguments.iter().map(record).collect()
}

/// Whether it was mended by the run that was under way, and not only by the same command again.
async fn comes_up_and_is_mended(site: &mut Site, recorded: &Recorded, disk: &Path) -> bool {
    let root = site.machine("node1").join("root.qcow2");
    std::fs::remove_file(&root).expect("there is one");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b"], &[disk, &root]).await;
    copy_state(&recorded.state, &site.controller.state_dir()).await;
    let said_before = site.console("node1").len();
    // Nobody does anything: the run switches the machine on.
    site.controller.restart().await;
    let ended = site.windlass(&["run", "attach", &recorded.run]).await;
    let console = site.console("node1").split_off(said_before);
    let began = console.find("Linux version ").map(|at| &console[at + "Linux version ".len()..]);
    let kernel = began.and_then(|rest| rest.split_whitespace().next());
    assert_eq!(kernel, Some(recorded.old_kernel.as_str()), "it comes up with the kernel it had");
    if ended.code != 0 {
        again(site, &format!("{ended:?}")).await;
    }
    is_whole(site, &recorded.old_kernel).await;
    site.controller.kill9().await;
    end_machines(site).await;
    ended.code == 0
}

/// The run has ended for a reason that a person sees; the same command brings the node where it should be.
#[expect(clippy::print_stderr, reason = "how it ended is part of what is measured")]
async fn again(site: &Site, why: &str) {
    eprintln!("the run has not mended it: {why}");
    let released = site.windlass(&["node", "release", "node1", "--reason", "the power was cut"]).await;
    assert!(released.code == 0 || released.stderr.contains("nor held by a run"), "{released:?}");
    site.windlass(&UPGRADE).await.done();
}

/// One look at everything: packages whole and each there once, the initramfs readable. Its last line is the kernel that runs.
const LOOK: &str = "set -eux
    rpm -V kernel-lt
    rpm -qa --qf '%{NAME}\\n' | sort | uniq -d
    rpmdb --verifydb
    lsinitramfs /boot/initrd.img-$(uname -r) >/dev/null
    rpm -q kernel-lt | wc -l
    dnf -q -C check --duplicates
    uname -r";

async fn is_whole(site: &Site, old_kernel: &str) {
    let found = site.shell("node1", LOOK).await;
    let running = found.stdout.strip_prefix("1\n").filter(|_| found.code == 0).map(str::trim);
    let running = running.unwrap_or_else(|| panic!("it is not whole: {found:?}")).to_owned();
    assert_eq!(running.lines().count(), 1, "only the kernel is told: {found:?}");
    let kernel = site.node("node1").await["facts"]["kernel"]["value"].clone();
    assert_eq!(kernel["default_release"].as_str(), Some(running.as_str()), "{kernel}");
    assert_ne!(running, old_kernel, "the new kernel runs");
    let idle = site.windlass(&UPGRADE).await;
    assert!(idle.code == 0 && idle.stderr.contains("othing to do"), "{idle:?}");
}

async fn end_machines(site: &Site) {
    let processes = site.processes();
    for process in &processes {
        kill(*process, Signal::SIGKILL).expect("it runs");
    }
    // One that is ending has no command line any more and its files still.
    let is_there = |process: &Pid| Path::new(&format!("/proc/{process}")).exists();
    wait_until("the machine to be gone", BOOT, async || !processes.iter().any(is_there)).await;
}

fn writable(path: &Path) -> File {
    OpenOptions::new().write(true).open(path).expect("a disk")
}

async fn qemu_img(words: &[&str], paths: &[&Path]) {
    run_within(BOOT, command("qemu-img", Path::new("/")).args(words).args(paths)).await.done();
}

/// Holes stay holes.
async fn copy(from: &Path, to: &Path) {
    run_within(BOOT, command("cp", Path::new("/")).arg("--sparse=always").args([from, to])).await.done();
}

/// The controller's state without its machines, in place of what is there.
async fn copy_state(from: &Path, to: &Path) {
    let all = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| !path.ends_with("machines")).collect::<Vec<_>>()
    };
    std::fs::create_dir_all(to).expect("a directory");
    for (program, paths) in [("rm", all(to)), ("cp", all(from))] {
        let mut change = command(program, Path::new("/"));
        match program {
            "rm" => change.arg("-rf").args(paths),
            _ => change.args(["-a", "-t"]).arg(to).args(paths),
        };
        run_within(BOOT, &mut change).await.done();
    }
}
