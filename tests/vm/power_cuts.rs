// SPDX-License-Identifier: Apache-2.0
//! The power of a host fails while a machine of it gets another kernel, again and again, each time at another moment: from
//! when the run begins, while the kernel is installed, tried and made the default, until the run ends. The machine always
//! comes up, with the kernel it had or, once that may be tried, with the new one, and the run that was under way comes to its
//! end: the kernel whole, tried, and the default.
//!
//! All this happens once, and what the machine writes is recorded ([`crate::write_log`]). A power cut leaves the disk and the
//! controller's state as they were at one moment: a state that does not know what its node was told already, or knows what
//! the node has not written yet, is that of another accident. So the controller stands still while its state is copied, and
//! the cuts are among what the machine has written by then. Each cut is such a state, and a disk as the power would have left
//! it; both start again as after a power cut.
//!
//! `WINDLASS_CUTS` says how many there are in all tests of this file, `WINDLASS_CUTS_SEED` which.

use std::fs::{File, OpenOptions};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use windlass_tests::process::{command, run_within};
use windlass_tests::wait::{LONG, wait_for, wait_until};

use crate::site::{BOOT, Site, with_site};
use crate::write_log::WriteLog;

const CUTS: usize = 25;
const SEED: u64 = 4;

/// Tests of this file that are there so that two machines are at work at once.
const TESTS: usize = 2;

const INSTALL: &str = "install-kernel";

/// The steps in which cuts are, in turn. Most is written while the kernel is installed.
const STEPS: [&str; 4] = [INSTALL, "boot", INSTALL, "confirm-kernel"];

/// After so many writes the state is copied again: a copy takes some megabytes, and an installation thousands of writes. What
/// the boot loader is told is few of them.
const EVERY: usize = 50;
const EVERY_LATER: usize = 5;

/// Every second cut of a step is the one of so many that comes soonest after a flush, because what is flushed is what
/// somebody relies on.
const DRAWS: usize = 4;

/// A machine that boots writes nothing until its kernel has come up.
const SILENT: Duration = Duration::from_secs(600);

const UPGRADE: [&str; 6] = ["upgrade", "kernel", "node1", "--channel", "elrepo-lt", "--yes"];

#[tokio::test]
async fn power_that_fails_on_the_way_to_another_kernel_leaves_a_node_that_comes_up_and_is_mended_1() {
    with_site(async |site| many_cuts(site, 0).await).await;
}

#[tokio::test]
async fn power_that_fails_on_the_way_to_another_kernel_leaves_a_node_that_comes_up_and_is_mended_2() {
    with_site(async |site| many_cuts(site, 1).await).await;
}

/// What a recorded upgrade left.
struct Recorded {
    /// The disk before it, and as far as cuts have come.
    disk: PathBuf,
    log: WriteLog,
    moments: Vec<Moment>,
    run: String,
    old_kernel: String,
    new_kernel: String,
}

/// A moment at which the power may have failed.
struct Moment {
    /// The controller's state.
    state: PathBuf,
    /// How much the machine had written, from when the controller stood still until it went on.
    written: RangeInclusive<usize>,
    /// The step that was under way, or that was begun right after.
    step: String,
}

#[expect(clippy::print_stderr, reason = "which cuts there were is what one needs to see a failure again")]
async fn many_cuts(site: &mut Site, nth: usize) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = number("WINDLASS_CUTS_SEED").unwrap_or(SEED) + nth as u64;
    let all = number("WINDLASS_CUTS").map_or(CUTS, |count| usize::try_from(count).expect("few enough"));
    let count = all / TESTS + usize::from(nth < all % TESTS);
    let mut chance = Rng::with_seed(seed);
    let recorded = record(site).await;
    let cuts = recorded.cuts(count, &mut chance);
    let moments = recorded.moments.len();
    eprintln!("seed {seed}: cuts at {:?}, of {moments} moments", cuts.iter().map(|(cut, _)| cut).collect::<Vec<_>>());
    let (mut written, mut by_the_run) = (0, 0);
    for (cut, moment) in cuts {
        let flushed = recorded.log.flushed(cut);
        recorded.log.write_all(&writable(&recorded.disk), written..flushed);
        written = flushed;
        let disk = recorded.disk.with_file_name("cut.raw");
        copy(&recorded.disk, &disk).await;
        recorded.log.write_some(&writable(&disk), flushed..cut, &mut chance);
        eprintln!("cut at {cut}, after a flush at {flushed}: {}", moment.step);
        by_the_run += usize::from(comes_up_and_is_mended(site, &recorded, moment, &disk).await);
    }
    eprintln!("seed {seed}: {count} cuts, {by_the_run} mended by the run that was under way");
}

impl Recorded {
    /// Where the power fails, in the order in which it was written.
    fn cuts(&self, count: usize, chance: &mut Rng) -> Vec<(usize, &Moment)> {
        let mut cuts: Vec<_> = (0..count).map(|nth| self.cut(nth, chance)).collect();
        cuts.sort_by_key(|(cut, _)| *cut);
        cuts
    }

    fn cut(&self, nth: usize, chance: &mut Rng) -> (usize, &Moment) {
        let step = STEPS[nth % STEPS.len()];
        let mut moments: Vec<_> = self.moments.iter().filter(|moment| moment.step == step).collect();
        // A short step may be over before anybody looks.
        if moments.is_empty() {
            moments = self.moments.iter().collect();
        }
        let mut draw = || {
            let moment = moments[chance.usize(..moments.len())];
            (chance.usize(moment.written.clone()), moment)
        };
        let draws = if (nth / STEPS.len()).is_multiple_of(2) { 1 } else { DRAWS };
        let drawn = (0..draws).map(|_| draw()).min_by_key(|(cut, _)| cut - self.log.flushed(*cut));
        drawn.expect("one at least")
    }
}

/// Gives a machine, whose writes are recorded, another kernel.
async fn record(site: &mut Site) -> Recorded {
    let spec = site.spec(&["{name: node1, address: 10.77.0.11, cpus: 1, memory: 768MiB, roles: [worker]}"]);
    site.apply(&spec).await.done();
    // Its first boot is over: of cloud-init only what names the interfaces is needed at each boot of a cut.
    let settle = "systemctl mask cloud-init.service cloud-config.service cloud-final.service && sync && uname -r";
    let old_kernel = site.shell("node1", settle).await.ok().trim().to_owned();
    let arguments = arguments(site);
    // Nobody switched it off, as far as the controller knows: it is to be on.
    site.controller.kill9().await;
    end_machines(site).await;
    let (disk, log) = (site.controller.directory().join("disk.raw"), site.controller.directory().join("log"));
    qemu_img(&["convert", "-O", "raw"], &[&site.machine("node1").join("root.qcow2"), &disk]).await;
    File::create(&log).expect("a log");
    let mut qemu = command(&arguments[0], &site.machine("node1"));
    run_within(BOOT, qemu.args(recording(&arguments[1..], &log))).await.done();
    site.controller.restart().await;
    site.wait_healthy("node1", |_| true).await;
    let begun = site.windlass(&[&UPGRADE[..], &["--detach"]].concat()).await;
    assert_eq!(begun.code, 7, "{begun:?}");
    let run = begun.stdout.trim().to_owned();
    let moments = moments(site, &log, &run).await;
    site.windlass(&["run", "attach", &run]).await.done();
    let new_kernel = site.shell("node1", "uname -r").await.ok().trim().to_owned();
    site.controller.kill9().await;
    end_machines(site).await;
    Recorded { disk, log: WriteLog::read(&log), moments, run, old_kernel, new_kernel }
}

/// Copies the controller's state again and again until the run ends. A run that is under way afterwards was so at the moment
/// before, and has not come further then.
async fn moments(site: &Site, log: &Path, run: &str) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    loop {
        let last = moments.last().map(|moment| *moment.written.end());
        let is_due = |step: &str| {
            let every = if step == INSTALL { EVERY } else { EVERY_LATER };
            last.is_none_or(|last| WriteLog::count(log) >= last + every)
        };
        let look = async || {
            let step = step_of(site, run).await;
            step.as_deref().is_none_or(is_due).then_some(step)
        };
        let (step, _) = wait_for("the machine to write, or the run to end", SILENT, look).await;
        if step.is_none() {
            return moments;
        }
        let state = site.controller.directory().join(format!("state-{}", moments.len()));
        let written = copied_standing_still(site, log, &state).await;
        let Some(step) = step_of(site, run).await else { return moments };
        moments.push(Moment { state, written, step });
    }
}

/// The step of a run that was begun last, or is the first; `None` once the run has ended.
async fn step_of(site: &Site, run: &str) -> Option<String> {
    let shown = site.controller.words(&format!("run show {run} -o json")).await.json();
    let steps = shown["steps"].as_array().expect("a run has steps");
    let last = steps.iter().rfind(|step| step["state"] != "waiting").or(steps.first());
    let id = last.and_then(|step| step["id"].as_str()).expect("a step has an id");
    let verb = id.split('/').next().unwrap_or_default();
    (shown["state"] == "running").then(|| verb.to_owned())
}

/// Copies the controller's state at a moment; how much the machine has written when that begins and when it ends.
async fn copied_standing_still(site: &Site, log: &Path, state: &Path) -> RangeInclusive<usize> {
    let process = site.controller.process();
    process.signal(Signal::SIGSTOP);
    let threads = format!("/proc/{}/task", process.pid());
    // What a thread is writing to the disk it writes to its end.
    let stands = |thread: PathBuf| {
        let stat = std::fs::read_to_string(thread.join("stat")).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    };
    let stand = async || std::fs::read_dir(&threads).expect("it runs").flatten().all(|thread| stands(thread.path()));
    wait_until("the controller to stand still", LONG, stand).await;
    let first = WriteLog::count(log);
    copy_state(&site.controller.state_dir(), state).await;
    let last = WriteLog::count(log);
    process.signal(Signal::SIGCONT);
    first..=last
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
async fn comes_up_and_is_mended(site: &mut Site, recorded: &Recorded, moment: &Moment, disk: &Path) -> bool {
    let root = site.machine("node1").join("root.qcow2");
    std::fs::remove_file(&root).expect("there is one");
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b"], &[disk, &root]).await;
    copy_state(&moment.state, &site.controller.state_dir()).await;
    let said_before = site.console("node1").len();
    // Nobody does anything: the run switches the machine on.
    site.controller.restart().await;
    let ended = site.windlass(&["run", "attach", &recorded.run]).await;
    let console = site.console("node1").split_off(said_before);
    let began = console.find("Linux version ").map(|at| &console[at + "Linux version ".len()..]);
    let kernel = began.and_then(|rest| rest.split_whitespace().next());
    let Recorded { old_kernel, new_kernel, .. } = recorded;
    // Until the boot begins nothing may start the new one. From then on GRUB may have been told to, or not, and have done it.
    let is_expected = |kernel: &str| kernel == old_kernel || moment.step != INSTALL && kernel == new_kernel;
    assert!(kernel.is_some_and(is_expected), "it comes up with {kernel:?}, and had {old_kernel}");
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

/// The controller's state without its machines and what it keeps against a full disk, in place of what is there.
async fn copy_state(from: &Path, to: &Path) {
    let all = |directory: &Path| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        entries.filter(|path| !path.ends_with("machines") && !path.ends_with("ballast")).collect::<Vec<_>>()
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
