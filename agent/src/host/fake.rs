// SPDX-License-Identifier: Apache-2.0
//! A small model of a node that keeps state, for tests of everything above the host.
//!
//! Tests change the [`Node`] and look at it; the agent sees it through [`Observe`] as the files and the output of tools
//! that such a node would have. Any call can be told to fail or to hang. Clones share the one node.

mod change;
mod history;
mod node;
mod packages;
mod programs;
mod yum;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use windlass_types::action::Argv;
use windlass_types::facts::Cpu;
use windlass_types::time::UnixMillis;

use super::answers::{Answers, Source};
use super::clock::Clock;
use super::exec::ExecError;
use super::tools::{Ran, ToolError};
use super::{Asking, Look, Machine, MemoryReading, Observe, lsblk};

pub use change::Moment;
pub use history::ModelTransaction;
pub use node::Node;
pub use packages::ModelPackage;

/// The calls that can be told to fail or to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Method {
    /// [`Observe::read`].
    Read,
    /// [`Observe::list`].
    List,
    /// [`Observe::machine`].
    Machine,
    /// [`Observe::cpu`].
    Cpu,
    /// [`Observe::memory`].
    Memory,
    /// [`Observe::load`].
    Load,
    /// [`Observe::interface_addresses`].
    InterfaceAddresses,
    /// [`Observe::lsblk`].
    Lsblk,
    /// [`Observe::systemctl_show`].
    SystemctlShow,
    /// [`Observe::grubby_default_kernel`].
    GrubbyDefaultKernel,
    /// [`Observe::package_manager_version`].
    PackageManagerVersion,
    /// [`Observe::core_packages`].
    CorePackages,
}

#[derive(Debug, Clone)]
enum Fault {
    Fail(String),
    Hang,
}

/// How a job on the node ends, and what it prints.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scripted {
    /// Exit code.
    pub exit_code: i32,
    /// Standard output.
    pub stdout: String,
}

#[derive(Debug, Default)]
struct State {
    node: Node,
    calls: BTreeMap<Method, u64>,
    faults: BTreeMap<(Method, u64), Fault>,
    scripts: BTreeMap<String, Scripted>,
    effects: BTreeMap<String, u64>,
    course: change::Course,
}

/// The model of a node.
#[derive(Debug, Clone)]
pub struct FakeHost {
    state: Arc<Mutex<State>>,
    /// Its agent was killed.
    killed: Arc<tokio::sync::Notify>,
    /// What its agent keeps.
    answers: Arc<Answers>,
}

impl FakeHost {
    /// A healthy node of that host name.
    #[must_use]
    pub fn new(hostname: &str) -> Self {
        let state = State { node: Node::new(hostname), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), killed: Arc::default(), answers: Arc::default() }
    }

    /// The node as it is now.
    #[must_use]
    pub fn node(&self) -> Node {
        self.state().node.clone()
    }

    /// How often it was booted.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.state().node.boots
    }

    /// Changes the node.
    pub fn change(&self, change: impl FnOnce(&mut Node)) {
        change(&mut self.state().node);
    }

    /// Lets time pass on the node's own clock.
    pub fn advance(&self, duration: Duration) {
        self.change(|node| node.now = node.now.plus(duration));
    }

    /// Starts the default kernel in a new boot.
    pub fn reboot(&self) {
        self.change(Node::reboot);
    }

    /// Makes the `nth` call of a method from now on fail; 1 is the next one.
    pub fn fail_nth(&self, method: Method, nth: u64, why: &str) {
        self.plan(method, nth, Fault::Fail(why.to_owned()));
    }

    /// Makes the `nth` call of a method from now on never answer; one that cannot wait fails as timed out instead.
    pub fn hang_nth(&self, method: Method, nth: u64) {
        self.plan(method, nth, Fault::Hang);
    }

    /// Says how a job with this argv ends; without it, well and silently.
    pub fn script(&self, argv: &Argv, scripted: Scripted) {
        self.state().scripts.insert(argv.to_string(), scripted);
    }

    /// Runs a job: counts its effects and answers as scripted. Tools of the operating system do to the node what they do.
    pub fn run(&self, argv: &Argv) -> Scripted {
        let mut state = self.state();
        let key = argv.to_string();
        let scripted = state.scripts.get(&key).cloned();
        if let Some(why) = state.refuses(argv) {
            return Scripted { exit_code: 1, stdout: why };
        }
        let (scripted, effects) = match scripted {
            Some(scripted) => (scripted, vec![key]),
            None => programs::run(&mut state.node, argv).unwrap_or_else(|| (Scripted::default(), vec![key])),
        };
        for effect in effects {
            *state.effects.entry(effect).or_default() += 1;
        }
        scripted
    }

    /// How often a job with this argv has run.
    #[must_use]
    pub fn effects_of(&self, argv: &Argv) -> u64 {
        self.state().effects.get(&argv.to_string()).copied().unwrap_or_default()
    }

    /// How often each argv has run, by its display form.
    #[must_use]
    pub fn effects(&self) -> BTreeMap<String, u64> {
        self.state().effects.clone()
    }

    fn plan(&self, method: Method, nth: u64, fault: Fault) {
        let mut state = self.state();
        let call = state.calls.get(&method).copied().unwrap_or_default() + nth;
        state.faults.insert((method, call), fault);
    }

    /// Counts a call and takes the fault planned for it.
    fn called(&self, method: Method) -> Option<Fault> {
        let mut state = self.state();
        let count = state.calls.entry(method).or_default();
        *count += 1;
        let call = (method, *count);
        state.faults.remove(&call)
    }

    fn check(&self, method: Method) -> io::Result<()> {
        match self.called(method) {
            None => Ok(()),
            Some(Fault::Fail(why)) => Err(io::Error::other(why)),
            Some(Fault::Hang) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn tool(&self, method: Method, program: &str) -> Result<(), ExecError> {
        match self.called(method) {
            None => Ok(()),
            Some(Fault::Fail(why)) => Err(ExecError::Start { program: program.into(), source: io::Error::other(why) }),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for FakeHost {
    fn now(&self) -> UnixMillis {
        self.state().node.now
    }
}

#[async_trait]
impl Observe for FakeHost {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.check(Method::Read)?;
        self.node().all_files().remove(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.check(Method::List)?;
        let files = self.node().all_files();
        let below = files.keys().filter_map(|path| path.strip_prefix(directory).ok()?.iter().next());
        let mut names: Vec<String> = below.map(|name| name.to_string_lossy().into_owned()).collect();
        names.dedup();
        if names.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(names) }
    }

    /// The content of the file of that name.
    fn link(&self, path: &Path) -> io::Result<String> {
        self.node().all_files().remove(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The epoch, for everything that exists; later for what package managers keep, at another moment for another content.
    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        let node = self.node();
        if let Some(kept) = node.kept_of_packages().remove(path) {
            return Ok(UNIX_EPOCH + Duration::from_secs(crc32fast::hash(kept.as_bytes()).into()));
        }
        let exists = node.all_files().keys().chain(node.attributes.keys()).any(|file| file.starts_with(path));
        if exists { Ok(UNIX_EPOCH) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn machine(&self) -> io::Result<Machine> {
        self.check(Method::Machine)?;
        let node = self.node();
        Ok(Machine { hostname: node.os.hostname, kernel: node.running_kernel, architecture: node.os.architecture })
    }

    fn cpu(&self) -> io::Result<Cpu> {
        self.check(Method::Cpu)?;
        Ok(self.node().cpu)
    }

    fn memory(&self) -> io::Result<MemoryReading> {
        self.check(Method::Memory)?;
        Ok(self.node().memory)
    }

    fn load(&self) -> io::Result<[f64; 3]> {
        self.check(Method::Load)?;
        Ok(self.node().load)
    }

    fn interface_addresses(&self) -> io::Result<Vec<(String, String)>> {
        self.check(Method::InterfaceAddresses)?;
        let interfaces = self.node().interfaces.into_iter();
        let pairs = interfaces.flat_map(|i| i.addresses.into_iter().map(move |address| (i.name.clone(), address)));
        Ok(pairs.collect())
    }

    async fn lsblk(&self, _look: Look) -> Result<lsblk::Printed, ExecError> {
        self.tool(Method::Lsblk, "/usr/bin/lsblk").await?;
        Ok(lsblk::Printed::Json(self.node().lsblk_json()))
    }

    async fn systemctl_show(&self, units: &[String]) -> Result<String, ExecError> {
        self.tool(Method::SystemctlShow, "/usr/bin/systemctl").await?;
        Ok(self.node().systemctl_show(units))
    }

    async fn grubby_default_kernel(&self) -> Result<String, ExecError> {
        self.tool(Method::GrubbyDefaultKernel, super::grubby::PROGRAM).await?;
        Ok(self.node().default_kernel.map(|release| format!("/boot/vmlinuz-{release}\n")).unwrap_or_default())
    }

    async fn package_manager_version(&self, program: &Path) -> Result<String, ExecError> {
        self.tool(Method::PackageManagerVersion, &program.to_string_lossy()).await?;
        Ok(self.node().package_manager.version)
    }

    fn rpm_is_at_work(&self) -> bool {
        self.node().rpm_is_at_work
    }

    async fn core_packages(&self) -> Result<String, ExecError> {
        self.tool(Method::CorePackages, "/usr/bin/rpm").await?;
        Ok(packages::by_name(&self.node(), &windlass_types::package::CORE))
    }

    fn checksum(&self, path: &Path) -> io::Result<u32> {
        self.read(path).map(|text| crc32fast::hash(text.as_bytes()))
    }

    async fn answer(&self, question: (&Argv, Source), look: Look, ask: Asking<'_>) -> Result<Ran, ToolError> {
        self.answers.answer(self, question, look, ask).await
    }

    fn learn(&self, question: (&Argv, Source), answer: Ran) {
        self.answers.keep(self, question, answer);
    }
}

#[cfg(test)]
mod tests {
    use windlass_types::facts::Fact;

    use super::*;
    use crate::observe::observe_as_root;

    fn argv(argv: &[&str]) -> Argv {
        Argv::new(argv.iter().map(|&text| text.to_owned()).collect()).unwrap()
    }

    #[tokio::test]
    async fn a_reboot_starts_the_default_kernel_and_ends_the_reason_for_it() {
        let host = FakeHost::new("node1");
        host.change(|node| node.default_kernel = Some("6.1".into()));
        let before = observe_as_root(&host, &[], Look::Closely).await;
        let reasons = |facts: &[Fact]| {
            facts.iter().find_map(|f| if let Fact::PendingReboot(r) = f { Some(r.len()) } else { None })
        };
        assert_eq!(reasons(&before), Some(1));
        host.advance(Duration::from_secs(60));
        host.reboot();
        let after = observe_as_root(&host, &[], Look::Closely).await;
        assert_eq!(reasons(&after), Some(0));
        let boot = |facts: &[Fact]| {
            facts.iter().find_map(|f| if let Fact::Boot(b) = f { Some(b.clone()) } else { None }).unwrap()
        };
        assert_ne!(boot(&before).boot_id, boot(&after).boot_id);
        assert_eq!(boot(&after).booted_at, host.now());
    }

    #[test]
    fn exactly_the_nth_call_fails() {
        let host = FakeHost::new("node1");
        host.fail_nth(Method::Load, 2, "no");
        let ended: Vec<bool> = (0..3).map(|_| host.load().is_ok()).collect();
        assert_eq!(ended, [true, false, true]);
    }

    #[test]
    fn jobs_are_counted_by_argv_and_answer_as_scripted() {
        let (host, twice, never) = (FakeHost::new("node1"), argv(&["touch", "a b"]), argv(&["touch", "a", "b"]));
        let failed = Scripted { exit_code: 3, stdout: "no\n".into() };
        host.script(&twice, failed.clone());
        assert_eq!(host.clone().run(&twice), failed);
        host.run(&twice);
        assert_eq!((host.effects_of(&twice), host.effects_of(&never)), (2, 0));
    }
}
