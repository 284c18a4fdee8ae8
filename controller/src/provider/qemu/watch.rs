// SPDX-License-Identifier: Apache-2.0
//! Listens to machines while they run, and tells what happens to them that nobody here asked for.
//!
//! Each machine that runs has a listener on its second QMP socket. When that hangs up and the process has gone, the record
//! says whether somebody here switched the machine off. It is read in the machine's turn: whoever switches it holds that,
//! and writes down what shall be before doing it. A controller that starts looks for machines that ended meanwhile.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::Instant;
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::MachineId;

use super::QemuProvider;
use super::arguments::EVENT_SOCKET;
use super::happening::{Ending, Happening};
use super::process::Process;
use super::qmp::{Monitor, QmpError};
use super::record::Record;
use crate::provider::{MachineKey, MachineNews};

/// After a listener was hung up on and the process has not gone.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// The same news of a machine is not told again within this: a disk that fails does so with every block.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// What is out of order with machines that run.
type Notes = Mutex<HashMap<MachineId, String>>;

/// To which process of each machine somebody listens.
type Heard = Mutex<HashMap<MachineId, Process>>;

/// All listeners.
#[derive(Debug)]
pub(super) struct Watch {
    teller: UnboundedSender<MachineNews>,
    told: tokio::sync::Mutex<UnboundedReceiver<MachineNews>>,
    notes: Arc<Notes>,
    heard: Arc<Heard>,
    listeners: Mutex<JoinSet<()>>,
    began: tokio::sync::OnceCell<()>,
}

impl Default for Watch {
    fn default() -> Self {
        let (teller, told) = unbounded_channel();
        let told = tokio::sync::Mutex::new(told);
        let (notes, heard, listeners) = (Arc::default(), Arc::default(), Mutex::default());
        Self { teller, told, notes, heard, listeners, began: tokio::sync::OnceCell::new() }
    }
}

impl Watch {
    /// What is out of order with a machine that runs.
    pub(super) fn note(&self, id: &MachineId) -> Option<String> {
        locked(&self.notes).get(id).cloned()
    }

    /// The process of a machine to which somebody listens.
    pub(super) fn process(&self, id: &MachineId) -> Option<Process> {
        locked(&self.heard).get(id).copied()
    }
}

/// Listens to one machine.
struct Listener {
    directory: PathBuf,
    key: MachineKey,
    id: MachineId,
    process: Process,
    turn: Arc<tokio::sync::Mutex<()>>,
    teller: UnboundedSender<MachineNews>,
    notes: Arc<Notes>,
    heard: Arc<Heard>,
    lately: HashMap<String, Instant>,
}

impl QemuProvider {
    /// Listens to a machine whose process runs, from now on: what happens next is heard already.
    pub(super) async fn listen(&self, key: &MachineKey, record: &Record, process: Process) {
        let listener = Listener {
            directory: self.directory(key),
            key: key.clone(),
            id: record.id.clone(),
            process,
            turn: self.turn(key),
            teller: self.watch.teller.clone(),
            notes: Arc::clone(&self.watch.notes),
            heard: Arc::clone(&self.watch.heard),
            lately: HashMap::new(),
        };
        locked(&self.watch.heard).insert(record.id.clone(), process);
        let monitor = listener.connect().await;
        let mut listeners = self.watch.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        while listeners.try_join_next().is_some() {}
        listeners.spawn(listener.run(monitor));
    }

    /// The next news of any machine.
    pub(super) async fn next_news(&self) -> MachineNews {
        self.watch.began.get_or_init(async || self.look_around().await).await;
        // The sender is beside it, so there is always more to wait for.
        match self.watch.told.lock().await.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// What was told and nobody has read.
    #[cfg(test)]
    pub(super) async fn untold(&self) -> Option<MachineNews> {
        self.watch.told.lock().await.try_recv().ok()
    }

    /// Finds what runs, and what ended while nobody listened.
    pub(super) async fn look_around(&self) {
        let records = match self.records(None) {
            Ok(records) => records,
            Err(error) => {
                let error = ErrorChain(&error).to_string();
                return tracing::error!(%error, "machines cannot be listened to");
            }
        };
        for record in records {
            let key = MachineKey::of(&record.spec);
            let turn = self.turn(&key);
            let _turn = turn.lock().await;
            let directory = self.directory(&key);
            // Anew, in its turn: it may have been switched meanwhile.
            let Ok(Some(mut record)) = Record::read(&directory, &key) else { continue };
            // Its listener knows more.
            if locked(&self.watch.heard).contains_key(&record.id) {
                continue;
            }
            match Process::find(&directory, &record.id) {
                Some(process) => self.listen(&key, &record, process).await,
                None if record.complete => {
                    let ending = if record.is_of_this_boot() { Ending::Unseen } else { Ending::WithHost };
                    let _ = close(&directory, &key, &mut record, ending).map(|news| self.watch.teller.send(news));
                }
                None => {}
            }
        }
    }
}

impl Listener {
    async fn run(mut self, mut monitor: Option<Monitor>) {
        let mut ending = None;
        loop {
            if let Some(monitor) = monitor.take() {
                ending = self.hear(monitor).await.or(ending);
            }
            if self.process.has_gone_within(LISTEN_AGAIN).await {
                break;
            }
            monitor = self.connect().await;
        }
        locked(&self.notes).remove(&self.id);
        let _turn = self.turn.lock().await;
        {
            let mut heard = locked(&self.heard);
            // Another process of the machine has a listener of its own.
            if heard.get(&self.id) == Some(&self.process) {
                heard.remove(&self.id);
            }
        }
        let Ok(Some(mut record)) = Record::read(&self.directory, &self.key) else { return };
        let runs_again = Process::find(&self.directory, &record.id).is_some();
        if record.id == self.id && !runs_again {
            let ending = ending.unwrap_or(Ending::Killed);
            let _ = close(&self.directory, &self.key, &mut record, ending).map(|news| self.teller.send(news));
        }
    }

    /// Connects, and notes how the machine stands.
    async fn connect(&self) -> Option<Monitor> {
        let connected = async {
            let mut monitor = Monitor::connect(&self.directory, EVENT_SOCKET, &self.id).await?;
            let status = monitor.execute("query-status", json!({})).await?;
            self.stands(status["status"].as_str().unwrap_or_default());
            Ok::<_, QmpError>(monitor)
        };
        let failed = |error: QmpError| tracing::debug!(NODE = %self.key.name, %error, "a machine cannot be heard");
        connected.await.map_err(failed).ok()
    }

    /// Hears a machine until it hangs up; how it is about to end, if it said so.
    async fn hear(&mut self, mut monitor: Monitor) -> Option<Ending> {
        let mut ending = None;
        loop {
            let event: Result<Value, QmpError> = monitor.event().await;
            match event.as_ref().map(Happening::read) {
                Ok(Some(Happening::Ending(said))) => ending = Some(said),
                Ok(Some(happening)) => self.tell(&happening),
                Ok(None) | Err(QmpError::Malformed) => {}
                Err(_) => return ending,
            }
        }
    }

    /// What was so before anybody listened is shown, and not news.
    fn stands(&self, status: &str) {
        let note = match status {
            "io-error" => "stands still: a disk cannot be read or written on its host",
            "paused" => "stands still",
            "guest-panicked" => "its kernel panicked",
            _ => return,
        };
        locked(&self.notes).insert(self.id.clone(), note.to_owned());
    }

    fn tell(&mut self, happening: &Happening) {
        {
            let mut notes = locked(&self.notes);
            match happening.note() {
                // That it stands still is less than why.
                Some(_) if *happening == Happening::Paused && notes.contains_key(&self.id) => return,
                Some(note) => drop(notes.insert(self.id.clone(), note)),
                None if matches!(happening, Happening::DiskFailed { .. }) => {}
                None => drop(notes.remove(&self.id)),
            }
        }
        let now = Instant::now();
        let Some((kind, message)) = happening.told(&self.key.name) else {
            // A firmware that is reset before it was done resets the machine once more.
            let again = Happening::Restarted { by_guest: true }.told(&self.key.name);
            self.lately.extend(again.map(|(_, message)| (message, now)));
            return;
        };
        self.lately.retain(|_, at| now.duration_since(*at) < TELL_AGAIN);
        if self.lately.insert(message.clone(), now).is_none() {
            let _nobody_listens = self.teller.send(MachineNews { machine: self.key.clone(), kind, message });
        }
    }
}

/// Writes down why a machine is off that should be on; the news of it, `None` if it is as it should be. To be called in
/// the machine's turn.
fn close(directory: &Path, key: &MachineKey, record: &mut Record, ending: Ending) -> Option<MachineNews> {
    record.on_since_boot.take()?;
    record.ended = Some(ending);
    if let Err(error) = record.write(directory) {
        let error = ErrorChain(&error).to_string();
        tracing::warn!(NODE = %key.name, %error, "why the machine is off cannot be kept");
    }
    let (kind, message) = Happening::Ending(ending).told(&key.name)?;
    Some(MachineNews { machine: key.clone(), kind, message })
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
