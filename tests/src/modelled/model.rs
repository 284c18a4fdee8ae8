// SPDX-License-Identifier: Apache-2.0
//! Answers what the halves of an agent ask of the model.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use windlass_agent::host::change::{Change as _, NewFile};
use windlass_agent::host::fake::{FakeHost, Node};

use super::programs::Programs;
use super::question::Question;
use super::trap::Trap;

/// The model of a machine.
#[derive(Debug, Clone)]
pub struct Model {
    /// The machine.
    pub host: FakeHost,
    /// Its programs.
    pub programs: Programs,
    /// Where its agent is killed.
    pub trap: Arc<Trap>,
    /// How it was when somebody asked last, and how often it was another one before.
    pub told: Arc<Mutex<(u64, Node)>>,
}

impl Model {
    /// Answers for ever.
    pub async fn serve(self, listener: UnixListener) {
        // When descriptors are scarce whoever asked is told nothing, and says so.
        while let Ok((stream, _)) = listener.accept().await {
            let model = self.clone();
            // Whoever was killed meanwhile is told nothing.
            tokio::spawn(async move { drop(model.hear(stream).await) });
        }
    }

    async fn hear(&self, stream: UnixStream) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        let mut question = Vec::new();
        stream.read_until(b'\n', &mut question).await?;
        let answer = tokio::select! {
            answer = self.answer(serde_json::from_slice(&question)?) => answer?,
            // The end of whoever asked.
            gone = stream.read_u8() => return gone.map(drop),
        };
        stream.write_all(&answer).await
    }

    async fn answer(&self, question: Question) -> io::Result<Vec<u8>> {
        match question {
            Question::Node { known } => json(&self.node(known)),
            Question::Place { path, content, attributes: (mode, uid, gid) } => {
                let file = NewFile { content: &content, mode, uid, gid };
                changed(self.host.place(&path, &file).await)
            }
            Question::MakeDirectory { path, attributes: (mode, uid, gid) } => {
                changed(self.host.make_directory(&path, mode, uid, gid).await)
            }
            Question::Remove { path } => changed(self.host.remove(&path).await),
            Question::Start { job, argv } => json(&self.programs.start(job, &argv).await),
            Question::Find { job } => json(&self.programs.is_known(&job)),
            Question::Ended { job } => json(&self.programs.ended(&job)),
            Question::Forget { job } => json(&self.programs.forget(&job)),
            Question::At { step, point } => json(&self.trap.at(&step, point).await),
        }
    }

    fn node(&self, known: u64) -> Option<(u64, Node)> {
        let now = self.host.node();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.1 != now {
            *told = (told.0 + 1, now);
        }
        (told.0 != known).then(|| told.clone())
    }
}

fn changed(done: io::Result<()>) -> io::Result<Vec<u8>> {
    json(&done.map_err(|error| error.to_string()))
}

fn json(answer: &impl Serialize) -> io::Result<Vec<u8>> {
    Ok(serde_json::to_vec(answer)?)
}
