// SPDX-License-Identifier: Apache-2.0
//! The machine of the model: looked at in an image that is brought up to date before each look, changed where it is.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use windlass_agent::host::answers::Source;
use windlass_agent::host::change::{Attributes, Change, NewFile};
use windlass_agent::host::exec::ExecError;
use windlass_agent::host::fake::{FakeHost, Node};
use windlass_agent::host::tools::{Ran, ToolError};
use windlass_agent::host::{Asking, Look, Machine, MemoryReading, Observe, lsblk};
use windlass_tests::modelled::question::{Question, RemoteModel};
use windlass_types::action::Argv;
use windlass_types::facts::Cpu;

/// The machine.
#[derive(Debug)]
pub(crate) struct Mirror {
    model: RemoteModel,
    image: FakeHost,
    /// The number of what the image shows.
    known: Mutex<u64>,
}

impl Mirror {
    /// Of this model.
    pub(crate) fn new(model: RemoteModel) -> Self {
        Self { model, image: FakeHost::new(""), known: Mutex::new(0) }
    }

    fn now(&self) -> &FakeHost {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let told: Option<(u64, Node)> = self.model.ask(&Question::Node { known: *known });
        if let Some((number, node)) = told {
            *known = number;
            self.image.change(|image| *image = node);
        }
        &self.image
    }

    async fn change(&self, question: Question) -> io::Result<()> {
        let done: Result<(), String> = self.model.ask_patiently(&question).await;
        done.map_err(io::Error::other)
    }
}

#[async_trait]
impl Observe for Mirror {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.now().read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.now().list(directory)
    }

    fn link(&self, path: &Path) -> io::Result<String> {
        self.now().link(path)
    }

    fn modified(&self, path: &Path) -> io::Result<SystemTime> {
        self.now().modified(path)
    }

    fn machine(&self) -> io::Result<Machine> {
        self.now().machine()
    }

    fn cpu(&self) -> io::Result<Cpu> {
        self.now().cpu()
    }

    fn memory(&self) -> io::Result<MemoryReading> {
        self.now().memory()
    }

    fn load(&self) -> io::Result<[f64; 3]> {
        self.now().load()
    }

    fn interface_addresses(&self) -> io::Result<Vec<(String, String)>> {
        self.now().interface_addresses()
    }

    async fn lsblk(&self, look: Look) -> Result<lsblk::Printed, ExecError> {
        self.now().lsblk(look).await
    }

    async fn systemctl_show(&self, units: &[String]) -> Result<String, ExecError> {
        self.now().systemctl_show(units).await
    }

    async fn grubby_default_kernel(&self) -> Result<String, ExecError> {
        self.now().grubby_default_kernel().await
    }

    async fn package_manager_version(&self, program: &Path) -> Result<String, ExecError> {
        self.now().package_manager_version(program).await
    }

    fn rpm_is_at_work(&self) -> bool {
        self.now().rpm_is_at_work()
    }

    async fn core_packages(&self) -> Result<String, ExecError> {
        self.now().core_packages().await
    }

    fn checksum(&self, path: &Path) -> io::Result<u32> {
        self.now().checksum(path)
    }

    async fn answer(&self, question: (&Argv, Source), look: Look, ask: Asking<'_>) -> Result<Ran, ToolError> {
        self.now().answer(question, look, ask).await
    }

    fn learn(&self, question: (&Argv, Source), answer: Ran) {
        self.now().learn(question, answer);
    }
}

#[async_trait]
impl Change for Mirror {
    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        self.now().attributes(path)
    }

    fn file(&self, path: &Path) -> io::Result<(Attributes, Vec<u8>)> {
        self.now().file(path)
    }

    async fn place(&self, path: &Path, file: &NewFile<'_>) -> io::Result<()> {
        let attributes = (file.mode, file.uid, file.gid);
        self.change(Question::Place { path: path.to_owned(), content: file.content.to_vec(), attributes }).await
    }

    async fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        self.change(Question::MakeDirectory { path: path.to_owned(), attributes: (mode, uid, gid) }).await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.change(Question::Remove { path: path.to_owned() }).await
    }
}
