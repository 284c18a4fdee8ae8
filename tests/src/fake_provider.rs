// SPDX-License-Identifier: Apache-2.0
//! A provider whose machines are a small model of guests: each writes to its console, joins with the token of its
//! user-data and runs a real agent, unless it was told to go wrong. It outlives the controller, as machines do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use windlass_controller::provider::{
    ConsoleFrom, ConsolePiece, MachineKey, MachineNews, NewMachine, PowerAction, Provider, ProviderError, Wanted,
};
use windlass_types::cloud::Need;
use windlass_types::event::EventKind;
use windlass_types::machine::{Accel, DiskReport, DiskSpec, MachineReport, MachineSpec, PowerState, ProviderKind};
use windlass_types::name::{ClusterName, MachineId, NodeName};
use windlass_types::outcome::ErrorClass;
use windlass_types::time::UnixMillis;

use crate::process::{Running, command, program, run};

/// How a guest behaves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guest {
    /// It boots, installs, joins and is well.
    #[default]
    Well,
    /// It refuses its package for good.
    WrongSignature,
    /// Its process is killed while it boots.
    Killed,
    /// It boots and never gets any further.
    Stuck,
    /// The test itself is what boots.
    Elsewhere,
}

/// A failure that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(&'static str);

/// The machines.
#[derive(Debug)]
pub struct FakeProvider {
    directory: PathBuf,
    guests: Handle,
    machines: Mutex<BTreeMap<MachineKey, Machine>>,
    behaviour: Mutex<BTreeMap<String, Guest>>,
    is_deletion_refused: AtomicBool,
    teller: UnboundedSender<MachineNews>,
    told: tokio::sync::Mutex<UnboundedReceiver<MachineNews>>,
    /// Creations may go on past the point where the machine has its tag and is not complete.
    pub gate: Semaphore,
}

#[derive(Debug)]
struct Machine {
    report: MachineReport,
    console: Vec<u8>,
    user_data: String,
    agent: Option<Running>,
    made: u32,
    sealed: bool,
}

impl FakeProvider {
    /// No machines yet; guests live on the current runtime, in this directory.
    #[must_use]
    pub fn new(directory: PathBuf) -> Arc<Self> {
        let (teller, told) = unbounded_channel();
        Arc::new(Self {
            directory,
            guests: Handle::current(),
            machines: Mutex::default(),
            behaviour: Mutex::default(),
            is_deletion_refused: AtomicBool::default(),
            teller,
            told: tokio::sync::Mutex::new(told),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }

    /// How this node's guest behaves from its next boot on.
    pub fn behave(&self, node: &str, guest: Guest) {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner).insert(node.to_owned(), guest);
    }

    /// Refuses to delete anything from now on, or does so again.
    pub fn refuse_deletion(&self, is_refused: bool) {
        self.is_deletion_refused.store(is_refused, Ordering::SeqCst);
    }

    /// How often machines of each name were made to the end, by name.
    #[must_use]
    pub fn made(&self) -> BTreeMap<String, u32> {
        self.machines().iter().map(|(key, machine)| (key.name.to_string(), machine.made)).collect()
    }

    /// Whether a machine's user-data holds no secret any more.
    #[must_use]
    pub fn is_sealed(&self, node: &str) -> bool {
        self.machines().iter().any(|(key, machine)| key.name.as_str() == node && machine.sealed)
    }

    /// The secret of the token that a machine was given.
    ///
    /// # Panics
    /// If there is no such machine, or its token has another form.
    #[must_use]
    pub fn secret(&self, node: &str) -> String {
        let machines = self.machines();
        let (_, machine) = machines.iter().find(|(key, _)| key.name.as_str() == node).expect("a machine");
        written(&machine.user_data, "token").trim().split_once('.').expect("an id and a secret").1.to_owned()
    }

    /// Something outside kills a machine; that is told.
    ///
    /// # Panics
    /// Never: who is told is part of this.
    pub fn kill(&self, node: &str) {
        for (key, machine) in self.machines().iter_mut().filter(|(key, _)| key.name.as_str() == node) {
            machine.agent = None;
            machine.report.power = PowerState::Off;
            machine.report.note = Some("its process was killed".to_owned());
            let message = format!("the machine of {node} is off: its process was killed");
            let news = MachineNews { machine: key.clone(), kind: EventKind::MachineStopped, message };
            self.teller.send(news).expect("the receiver is beside it");
        }
    }

    /// Whether a machine has power.
    #[must_use]
    pub fn is_on(&self, node: &str) -> bool {
        self.machines()
            .values()
            .any(|machine| machine.report.name.as_str() == node && machine.report.power == PowerState::On)
    }

    /// Ends all machines; one that is booting finds no place any more.
    pub fn clear(&self) {
        self.machines().clear();
    }

    /// Adds a machine that somebody else made.
    pub fn add_foreign(&self, report: MachineReport) {
        let cluster = ClusterName::new("foreign").expect("a name");
        let key = MachineKey::new(cluster, report.name.clone());
        let machine =
            Machine { report, console: Vec::new(), user_data: String::new(), agent: None, made: 1, sealed: false };
        self.machines().insert(key, machine);
    }

    /// Names of everything that exists.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.machines().keys().map(|key| key.name.to_string()).collect()
    }

    fn machines(&self) -> MutexGuard<'_, BTreeMap<MachineKey, Machine>> {
        self.machines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn behaviour(&self, node: &NodeName) -> Guest {
        let behaviour = self.behaviour.lock().unwrap_or_else(PoisonError::into_inner);
        behaviour.get(node.as_str()).copied().unwrap_or_default()
    }

    fn write(&self, key: &MachineKey, text: &str) {
        if let Some(machine) = self.machines().get_mut(key) {
            machine.console.extend_from_slice(text.as_bytes());
        }
    }

    fn boot(self: &Arc<Self>, key: MachineKey) {
        let provider = Arc::clone(self);
        self.guests.spawn(async move { provider.live(&key).await });
    }

    /// What a guest does from power-on.
    async fn live(&self, key: &MachineKey) {
        let mark = |rest: &str| self.write(key, &format!("WINDLASS-MARK node={} {rest}\r\n", key.name));
        self.write(key, "SeaBIOS\r\n");
        let is_new = !self.directory.join(key.name.as_str()).join("state").exists();
        if is_new {
            mark("stage=cloud-init state=reached");
        }
        match self.behaviour(&key.name) {
            Guest::Well => {}
            Guest::WrongSignature => {
                self.write(key, "Error: GPG check FAILED\r\n");
                return mark(
                    "stage=agent-installed state=failed code=wrong-signature attempt=6 detail=\"GPG check FAILED\"",
                );
            }
            Guest::Killed => return self.kill(key.name.as_str()),
            Guest::Stuck | Guest::Elsewhere => return,
        }
        if is_new {
            mark("stage=agent-installed state=reached");
            self.join(key).await;
        }
        let directory = self.directory.join(key.name.as_str());
        let mut agent = command(program("windlass-agent"), &directory);
        agent
            .arg("run")
            .arg("--state-dir")
            .arg(directory.join("state"))
            .arg("--config")
            .arg(directory.join("agent.toml"));
        let agent = Running::start(&mut agent, &directory.join("agent.log"));
        if let Some(machine) = self.machines().get_mut(key) {
            machine.agent = Some(agent);
        }
    }

    /// Joins with what cloud-init would have written to files.
    async fn join(&self, key: &MachineKey) {
        let directory = self.directory.join(key.name.as_str());
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("agent.toml"), "jobs = \"process-group\"\n").expect("written");
        let user_data = self.machines().get(key).map(|machine| machine.user_data.clone()).unwrap_or_default();
        let file = |name: &str| written(&user_data, name);
        std::fs::write(directory.join("token"), file("token")).expect("written");
        let mut join = command(program("windlass-agent"), &directory);
        join.args(["join", "--controller", file("controller").trim()]);
        for pin in file("pins").lines() {
            join.args(["--ca-pin", pin]);
        }
        join.arg("--token-file").arg(directory.join("token")).arg("--state-dir").arg(directory.join("state"));
        // A controller that is away for a moment is asked again, as the first boot does.
        for _ in 0..50 {
            let joined = run(&mut join).await;
            if joined.code == 0 {
                return;
            }
            self.write(key, &format!("{}\r\n", joined.stderr));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// The content of a file in user-data.
fn written(user_data: &str, name: &str) -> String {
    let json = user_data.split_once('\n').map_or("", |(_, json)| json);
    let config: Value = serde_json::from_str(json).expect("user-data is JSON after its first line");
    let files = config["write_files"].as_array().cloned().unwrap_or_default();
    let ends = |file: &&Value| file["path"].as_str().is_some_and(|path| path.ends_with(&format!("/{name}")));
    files.iter().find(ends).and_then(|file| file["content"].as_str()).unwrap_or_default().to_owned()
}

fn report(spec: &MachineSpec, spec_hash: windlass_types::digest::Sha256Digest) -> MachineReport {
    let disk = |disk: &DiskSpec| DiskReport {
        name: disk.name.clone(),
        size_bytes: disk.size_bytes,
        serial: disk.serial.clone().expect("a serial of the spec's"),
    };
    MachineReport {
        id: MachineId::new(format!("{}.{}", spec.cluster, spec.name)).expect("an id"),
        name: spec.name.clone(),
        cluster: Some(spec.cluster.clone()),
        power: PowerState::Off,
        note: None,
        complete: false,
        adopted: false,
        disks: spec.data_disks.iter().map(disk).collect(),
        parts: Vec::new(),
        addresses: Vec::new(),
        accel: Some(Accel::Emulation),
        created_at: UnixMillis(1),
        spec_hash: Some(spec_hash),
        spec: Some(Box::new(spec.clone())),
    }
}

fn missing() -> ProviderError {
    ProviderError::new(Failure("there is no such machine"), ErrorClass::Operator, "")
}

/// The provider as the controller holds it.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<FakeProvider>);

#[async_trait::async_trait]
impl Provider for Shared {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Qemu
    }

    async fn check(&self, wanted: &Wanted) -> Result<Vec<Need>, ProviderError> {
        if wanted.machines.iter().any(|spec| spec.image.ends_with("missing.qcow2")) {
            return Err(ProviderError::new(Failure("the image is missing"), ErrorClass::Operator, "make lab"));
        }
        Ok(Vec::new())
    }

    async fn observe(&self, _cluster: &ClusterName) -> Result<Vec<MachineReport>, ProviderError> {
        // All of them: telling ours from others' is not left to a provider alone.
        Ok(self.0.machines().values().map(|machine| machine.report.clone()).collect())
    }

    async fn create(&self, new: NewMachine) -> Result<MachineReport, ProviderError> {
        let key = MachineKey::of(&new.spec);
        let report = report(&new.spec, new.spec_hash);
        let machine = Machine {
            report,
            console: Vec::new(),
            user_data: new.user_data.reveal().to_owned(),
            agent: None,
            made: 0,
            sealed: false,
        };
        if self.0.machines().get(&key).is_some_and(|machine| machine.report.complete) {
            return self.0.machines().get(&key).map(|machine| machine.report.clone()).ok_or_else(missing);
        }
        self.0.machines().insert(key.clone(), machine);
        self.0.gate.acquire().await.expect("never closed").forget();
        self.0.gate.add_permits(1);
        let report = {
            let mut machines = self.0.machines();
            let machine = machines.get_mut(&key).ok_or_else(missing)?;
            machine.report.complete = true;
            machine.report.power = PowerState::On;
            machine.made += 1;
            machine.report.clone()
        };
        self.0.boot(key);
        Ok(report)
    }

    async fn delete(&self, machine: &MachineKey) -> Result<(), ProviderError> {
        if self.0.is_deletion_refused.load(Ordering::SeqCst) {
            return Err(ProviderError::new(Failure("it is locked"), ErrorClass::Operator, "unlock it"));
        }
        self.0.machines().remove(machine);
        let state = self.0.directory.join(machine.name.as_str());
        if state.exists() {
            std::fs::remove_dir_all(state).expect("removed");
        }
        Ok(())
    }

    async fn power(&self, machine: &MachineKey, action: PowerAction) -> Result<(), ProviderError> {
        let power = if action == PowerAction::Off { PowerState::Off } else { PowerState::On };
        {
            let mut machines = self.0.machines();
            let report = &mut machines.get_mut(machine).ok_or_else(missing)?.report;
            (report.power, report.note) = (power, None);
        }
        if power == PowerState::On {
            self.0.boot(machine.clone());
        }
        Ok(())
    }

    async fn without_power(&self, _cluster: &ClusterName) -> Result<Vec<NodeName>, ProviderError> {
        let machines = self.0.machines();
        let reports = machines.values().map(|machine| &machine.report);
        let dark = reports.filter(|report| report.power == PowerState::Off && report.note.is_some());
        Ok(dark.map(|report| report.name.clone()).collect())
    }

    async fn attach_disk(&self, machine: &MachineKey, disk: &DiskSpec) -> Result<(), ProviderError> {
        let DiskSpec { name, size_bytes, serial, .. } = disk.clone();
        let serial = serial.expect("a serial of the spec's");
        let mut machines = self.0.machines();
        machines.get_mut(machine).ok_or_else(missing)?.report.disks.push(DiskReport { name, size_bytes, serial });
        Ok(())
    }

    async fn seal(&self, machine: &MachineKey) -> Result<(), ProviderError> {
        self.0.machines().get_mut(machine).ok_or_else(missing)?.sealed = true;
        Ok(())
    }

    async fn console(&self, machine: &MachineKey, from: ConsoleFrom) -> Result<ConsolePiece, ProviderError> {
        let machines = self.0.machines();
        let console = &machines.get(machine).ok_or_else(missing)?.console;
        let begin = match from {
            ConsoleFrom::Position(position) => usize::try_from(position).unwrap_or(usize::MAX).min(console.len()),
            ConsoleFrom::Tail(bytes) => console.len().saturating_sub(usize::try_from(bytes).unwrap_or(usize::MAX)),
        };
        Ok(ConsolePiece { data: console[begin..].to_vec(), next: console.len() as u64 })
    }

    async fn news(&self) -> MachineNews {
        match self.0.told.lock().await.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
}
