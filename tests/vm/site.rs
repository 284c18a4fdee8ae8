// SPDX-License-Identifier: Apache-2.0
//! A controller with machines of its own, all of which is gone when the test is over, however it ends.

use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use windlass_tests::agent::holds;
use windlass_tests::controller::Controller;
use windlass_tests::lab::{Lab, Repositories};
use windlass_tests::process::{Answer, run_within};
use windlass_tests::wait::{wait_for, wait_until};

/// An emulated machine is a node after one or two minutes; on a host that is busy with others it takes as long as it takes.
pub(crate) const BOOT: Duration = Duration::from_secs(1500);

/// A command that waits for a run waits for several boots, and for what happens between them.
pub(crate) const COMMAND: Duration = BOOT.saturating_mul(4);

/// How much of what was written is shown when a test fails.
const SHOWN_LINES: usize = 60;

/// How often a destructor looks whether what it killed is gone, and for how long.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOKS: u32 = 500;

/// A controller and its machines.
#[derive(Debug)]
pub(crate) struct Site {
    /// The controller.
    pub(crate) controller: Controller,
    /// What machines boot from.
    pub(crate) lab: Lab,
    /// What they install from.
    pub(crate) repositories: Repositories,
}

/// A spec, to be changed before it is written.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The name of the file and the cluster.
    pub(crate) name: &'static str,
    /// The image.
    pub(crate) image: PathBuf,
    /// The repository's URL.
    pub(crate) repository: String,
    /// The repository's key.
    pub(crate) key: PathBuf,
    /// What each node is, as YAML.
    pub(crate) nodes: Vec<&'static str>,
}

/// Runs a test with a site. Ended from outside, because it takes too long, it still cleans up.
pub(crate) async fn with_site(test: impl AsyncFnOnce(&mut Site)) {
    let mut site = Site::start().await;
    let mut ended = signal(SignalKind::terminate()).expect("a handler");
    tokio::select! {
        () = test(&mut site) => {}
        _ = ended.recv() => panic!("ended from outside, most likely because it took too long"),
    }
}

impl Site {
    async fn start() -> Self {
        let lab = Lab::find();
        let repositories = lab.serve().await;
        let mut controller = Controller::prepared("advertise = [\"10.0.2.2\"]\n");
        controller.listen_for_guests();
        controller.restart().await;
        Self { controller, lab, repositories }
    }

    /// A spec with these nodes and nothing wrong in it.
    pub(crate) fn spec(&self, nodes: &[&'static str]) -> Spec {
        let (image, key) = (self.lab.image(), self.lab.key());
        Spec { name: "vm1", image, repository: self.repositories.url(), key, nodes: nodes.to_vec() }
    }

    /// Writes a spec; its path.
    pub(crate) fn write(&self, spec: &Spec) -> String {
        let Spec { name, image, repository, key, nodes } = spec;
        let nodes: String = nodes.iter().map(|node| format!("    - {node}\n")).collect();
        let text = format!(
            "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec:\n  provider:\n    qemu: {{image: \
             {}, network: 10.77.0.0/24}}\n  packages:\n    repositories: [{{name: lab, url: {repository}, gpgKey: \
             {}}}]\n  volumes:\n    docker: {{size: 1GiB}}\n  nodes:\n{nodes}",
            image.display(),
            key.display()
        );
        let path = self.controller.directory().join(format!("{name}.yaml"));
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// Applies a spec and waits for the end of it.
    pub(crate) async fn apply(&self, spec: &Spec) -> Answer {
        let path = self.write(spec);
        self.windlass(&["apply", "-f", &path, "--yes"]).await
    }

    /// Runs a command line that may wait for machines.
    pub(crate) async fn windlass(&self, arguments: &[&str]) -> Answer {
        run_within(COMMAND, &mut self.command(arguments)).await
    }

    /// A command line, to be run as the test likes.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.controller.cli_command(arguments)
    }

    /// Runs a line of shell on a node. Its output is as it wrote it.
    pub(crate) async fn shell(&self, node: &str, line: &str) -> Answer {
        let mut answer = self.windlass(&["exec", node, "--timeout", "600s", "--", "sh", "-c", line]).await;
        let prefix = format!("{node}: ");
        for output in [&mut answer.stdout, &mut answer.stderr] {
            let lines = output.lines().map(|line| line.strip_prefix(&prefix).unwrap_or(line));
            *output = lines.map(|line| format!("{line}\n")).collect();
        }
        answer
    }

    /// Runs a line of shell on all nodes.
    pub(crate) async fn on_all(&self, line: &str) {
        self.windlass(&["exec", "--all", "--timeout", "900s", "--", "sh", "-c", line]).await.done();
    }

    /// Everything known of a node.
    pub(crate) async fn node(&self, name: &str) -> Value {
        self.controller.cli(&["get", "node", name, "-o", "json"]).await.json()
    }

    /// Waits until a node is healthy and `condition` holds of it.
    pub(crate) async fn wait_healthy(&self, name: &str, condition: impl Fn(&Value) -> bool) {
        let what = format!("{name} to be healthy as it should");
        wait_until(&what, BOOT, || async {
            let node = self.node(name).await;
            holds(&node, "healthy") && condition(&node)
        })
        .await;
    }

    /// Where all machines are.
    pub(crate) fn machines(&self) -> PathBuf {
        self.controller.state_dir().join("machines")
    }

    /// The directory of a machine of the cluster.
    pub(crate) fn machine(&self, node: &str) -> PathBuf {
        self.machines().join("vm1").join(node)
    }

    /// What a machine has written to its console.
    pub(crate) fn console(&self, node: &str) -> String {
        let written = std::fs::read(self.machine(node).join("console.log")).unwrap_or_default();
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Waits until a machine has written this to its console.
    pub(crate) async fn wait_console(&self, node: &str, words: &str) {
        let what = format!("{node} to write {words:?}");
        wait_until(&what, BOOT, async || self.console(node).contains(words)).await;
    }

    /// Applies a spec without waiting; the run's id.
    pub(crate) async fn begin(&self, spec: &Spec) -> String {
        let path = self.write(spec);
        let begun = self.windlass(&["apply", "-f", &path, "--yes", "--detach"]).await;
        assert_eq!(begun.code, 7, "{begun:?}");
        begun.stdout.trim().to_owned()
    }

    /// Waits until an event of this kind says so.
    pub(crate) async fn wait_event(&self, kind: &str, words: &str) -> Value {
        let what = format!("the event {kind} with {words:?}");
        wait_for(&what, BOOT, async || self.event(kind, words).await).await.0
    }

    /// The first event of this kind that says so.
    pub(crate) async fn event(&self, kind: &str, words: &str) -> Option<Value> {
        let says = |event: &Value| event["type"] == kind && event["message"].as_str().unwrap_or("").contains(words);
        self.controller.events().await.into_iter().find(says)
    }

    /// A fact of a node's boot.
    pub(crate) async fn boot_id(&self, node: &str) -> String {
        self.node(node).await["facts"]["boot"]["value"]["boot_id"].as_str().expect("a boot id").to_owned()
    }

    /// The processes of machines.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        processes_naming(&self.machines())
    }

    /// The process of one machine of the cluster.
    pub(crate) fn process_of(&self, node: &str) -> Pid {
        let text = std::fs::read_to_string(self.machine(node).join("pid")).expect("a pid file");
        let pid = Pid::from_raw(text.trim().parse().expect("a number"));
        assert!(self.processes().contains(&pid), "{pid} is no machine");
        pid
    }

    /// Sees that no machine is left, on disk or as a process.
    pub(crate) async fn assert_no_machines(&self) {
        assert_eq!(self.processes(), [], "a process is left");
        let left: Vec<_> = std::fs::read_dir(self.machines()).map(|left| left.flatten().collect()).unwrap_or_default();
        assert!(left.is_empty(), "{left:?} is left");
        assert_eq!(self.controller.words("get machines -o name").await.ok(), "");
        assert_eq!(self.controller.words("get nodes -o name").await.ok(), "");
    }

    #[expect(clippy::print_stderr, reason = "what a failed test shows")]
    fn show(&self) {
        eprintln!("--- the end of the controller's log ---\n{}", tail(&self.controller.log()));
        for (node, console) in consoles(&self.machines()) {
            eprintln!("--- the end of the console of {node} ---\n{}", tail(&console));
        }
    }
}

impl Drop for Site {
    /// The directory has a name that nobody else has, so every process with it in its arguments is ours.
    #[expect(clippy::disallowed_methods, reason = "a destructor cannot wait otherwise")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        for _ in 0..LOOKS {
            let left = processes_naming(self.controller.directory());
            if left.is_empty() {
                return;
            }
            for pid in left {
                let _gone_already = kill(pid, Signal::SIGKILL);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        assert!(std::thread::panicking(), "processes of this test do not end");
    }
}

/// Every process that has a path in its arguments and has not ended.
fn processes_naming(path: &Path) -> Vec<Pid> {
    let path = path.as_os_str().as_encoded_bytes();
    let pids = std::fs::read_dir("/proc").expect("readable").flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        // Empty for a process that has ended.
        let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
        arguments.windows(path.len()).any(|part| part == path).then_some(Pid::from_raw(pid))
    });
    pids.collect()
}

/// The node and console of every machine.
fn consoles(machines: &Path) -> Vec<(String, String)> {
    let below = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = below(machines).flat_map(|cluster| below(&cluster).collect::<Vec<_>>());
    all.map(|machine| {
        let console = std::fs::read(machine.join("console.log")).unwrap_or_default();
        (machine.display().to_string(), String::from_utf8_lossy(&console).into_owned())
    })
    .collect()
}

fn tail(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}
