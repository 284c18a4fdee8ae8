// SPDX-License-Identifier: Apache-2.0
//! How steps change the model, and how the agent is killed at any moment of that.

use std::io;
use std::path::Path;

use async_trait::async_trait;
use windlass_types::action::Argv;
use windlass_types::name::on_node::BootId;

use super::{FakeHost, State, packages, programs};
use crate::host::change::{Attributes, Change, FileKind, NewFile};
use crate::host::tools::{Program, Ran, ToolError, Tools};

/// When an agent is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Before something is done.
    Before,
    /// When it is done and the agent does not know yet.
    After,
}

/// How far a step is, across the agents that carry it out.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// Things done: files placed, programs run, intentions written down.
    acts: u64,
    kill: Option<(u64, Moment)>,
    intended: bool,
    boot: Option<BootId>,
    left: Option<Ran>,
    /// How many things can still be changed before none can, and why not.
    broken: Option<(u64, String)>,
}

impl Course {
    /// Something is about to be changed. Why it cannot be, if so.
    fn wear(&mut self) -> Option<String> {
        let (left, why) = self.broken.as_mut()?;
        match left.checked_sub(1) {
            Some(fewer) => *left = fewer,
            None => return Some(why.clone()),
        }
        None
    }
}

impl State {
    /// Why a program that would change something cannot.
    pub(super) fn refuses(&mut self, argv: &Argv) -> Option<String> {
        self.course.broken.as_ref()?;
        let tried = programs::run(&mut self.node.clone(), argv);
        let changes = tried.is_none_or(|(_, effects)| !effects.is_empty());
        if changes { self.course.wear() } else { None }
    }
}

impl FakeHost {
    /// Lets so many further things be changed; after them none can be, until [`FakeHost::mend`]. What only looks goes on.
    pub fn break_after(&self, changes: u64, why: &str) {
        self.state().course.broken = Some((changes, why.to_owned()));
    }

    /// Everything can be changed again.
    pub fn mend(&self) {
        self.state().course.broken = None;
    }

    /// Fails if the machine is broken.
    fn require_whole(&self) -> io::Result<()> {
        self.state().course.wear().map_or(Ok(()), |why| Err(io::Error::other(why)))
    }

    /// How many things were done: each is a moment before and a moment after which the agent can be killed.
    #[must_use]
    pub fn acts(&self) -> u64 {
        self.state().course.acts
    }

    /// Kills the agent once, at the `nth` thing it does; 1 is the next one.
    pub fn kill_at(&self, nth: u64, moment: Moment) {
        let course = &mut self.state().course;
        course.kill = Some((course.acts + nth, moment));
    }

    /// Whether an agent is to be killed that was not yet.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        self.state().course.kill.is_some()
    }

    /// Kills nobody any more.
    pub fn spare(&self) {
        self.state().course.kill = None;
    }

    /// Waits until the agent is killed, by [`FakeHost::kill_at`] or because the machine goes down.
    pub async fn killed(&self) {
        self.killed.notified().await;
    }

    /// Whether a step has begun to change something.
    #[must_use]
    pub fn is_intended(&self) -> bool {
        self.state().course.intended
    }

    /// In which boot that was.
    #[must_use]
    pub fn intended_in(&self) -> Option<BootId> {
        self.state().course.boot.clone()
    }

    /// The next step begins.
    pub fn next_step(&self) {
        let course = &mut self.state().course;
        (course.intended, course.boot, course.left) = (false, None, None);
    }

    /// Counts an effect.
    fn count(&self, effect: String) {
        *self.state().effects.entry(effect).or_default() += 1;
    }

    async fn die(&self) -> ! {
        self.answers.forget();
        self.killed.notify_one();
        std::future::pending().await
    }

    async fn act<T>(&self, act: impl FnOnce() -> T) -> T {
        let kill = {
            let course = &mut self.state().course;
            course.acts += 1;
            let acts = course.acts;
            course.kill.take_if(|(at, _)| *at == acts).map(|(_, moment)| moment)
        };
        if kill == Some(Moment::Before) {
            self.die().await;
        }
        let done = act();
        if kill == Some(Moment::After) {
            self.die().await;
        }
        done
    }
}

#[async_trait]
impl Change for FakeHost {
    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        let node = self.node();
        if let Some(link) = node.links.iter().find(|link| path.starts_with(link)) {
            let link_itself = Attributes { kind: FileKind::Other, mode: 0o777, uid: 1000, gid: 1000, size: 0 };
            return if link == path { Ok(link_itself) } else { Err(io::ErrorKind::PermissionDenied.into()) };
        }
        let files = node.all_files();
        let (mode, uid, gid) = node.attributes.get(path).copied().unwrap_or((0o644, 0, 0));
        if let Some(content) = files.get(path) {
            return Ok(Attributes { kind: FileKind::File, mode, uid, gid, size: content.len() as u64 });
        }
        let is_directory = files.keys().chain(node.attributes.keys()).any(|file| file.starts_with(path));
        let kind = FileKind::Directory;
        if is_directory {
            Ok(Attributes { kind, mode, uid, gid, size: 0 })
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn file(&self, path: &Path) -> io::Result<(Attributes, Vec<u8>)> {
        let content = self.node().all_files().remove(path);
        let content = content.map(String::into_bytes).ok_or(io::ErrorKind::NotFound)?;
        Ok((self.attributes(path)?, content))
    }

    async fn place(&self, path: &Path, file: &NewFile<'_>) -> io::Result<()> {
        let content = String::from_utf8_lossy(file.content).into_owned();
        self.act(|| {
            let (old, attributes) = (self.content(path).ok(), (file.mode, file.uid, file.gid));
            let was = self.attributes(path).ok().map(|a| (a.mode, a.uid, a.gid));
            if old.as_deref() != Some(file.content) || was != Some(attributes) {
                self.require_whole()?;
                self.count(format!("write {}", path.display()));
            }
            self.change(|node| {
                node.files.insert(path.to_owned(), content);
                node.attributes.insert(path.to_owned(), attributes);
            });
            Ok(())
        })
        .await
    }

    async fn make_directory(&self, path: &Path, mode: u32, uid: u32, gid: u32) -> io::Result<()> {
        self.act(|| {
            self.require_whole()?;
            self.count(format!("make {}", path.display()));
            self.change(|node| {
                node.attributes.insert(path.to_owned(), (mode, uid, gid));
            });
            Ok(())
        })
        .await
    }

    async fn remove(&self, path: &Path) -> io::Result<()> {
        self.act(|| {
            if self.node().files.contains_key(path) {
                self.require_whole()?;
            }
            let mut removed = false;
            self.change(|node| removed = node.files.remove(path).is_some());
            if removed {
                self.count(format!("remove {}", path.display()));
            }
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl Tools for FakeHost {
    async fn run(&self, program: &Program) -> Result<Ran, ToolError> {
        let boots = self.node().boots;
        let ran = self
            .act(|| {
                let stderr = packages::complaint(&self.node(), &program.argv);
                let scripted = FakeHost::run(self, &program.argv);
                let ran = Ran { code: scripted.exit_code, stdout: scripted.stdout, stderr };
                self.state().course.left = Some(ran.clone());
                ran
            })
            .await;
        if self.node().boots != boots {
            self.state().course.left = None;
            self.die().await;
        }
        self.state().course.left = None;
        ran.answered(program)
    }

    async fn settle(&self) -> Option<Ran> {
        self.state().course.left.take()
    }

    async fn intend(&self, boot: Option<BootId>) -> Result<(), ToolError> {
        self.act(|| {
            let course = &mut self.state().course;
            (course.intended, course.boot) = (true, boot);
        })
        .await;
        Ok(())
    }

    async fn reached(&self) {
        let node = self.node();
        if node.deaf_kernels.contains(&node.running_kernel) {
            std::future::pending::<()>().await;
        }
    }
}

impl FakeHost {
    /// The machine loses power and boots again: nothing that ran goes on, and nobody knows how it ended.
    pub fn lose_power(&self) {
        self.state().course.left = None;
        self.answers.forget();
        self.change(programs::boot);
    }
}
