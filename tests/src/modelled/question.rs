// SPDX-License-Identifier: Apache-2.0
//! What a half of an agent, which is a process of its own, asks the model of its machine, which is in the test: each question
//! on a connection of its own to a socket, question and answer a line of JSON each. Whoever is killed meanwhile gets no answer,
//! and what they asked for is not done any more.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use windlass_types::action::Argv;
use windlass_types::name::JobId;

use super::trap::{Point, Victim};

/// How a half begins: its only argument, as JSON.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beginning {
    /// Which half it is.
    pub half: Victim,
    /// Where it keeps what it must remember.
    pub state_dir: PathBuf,
    /// The socket of the model.
    pub model: PathBuf,
    /// The socket of the executor, which it has as its standard input.
    pub executor: PathBuf,
    /// Where agents connect.
    pub agents_at: SocketAddr,
    /// Where machines join.
    pub join_at: SocketAddr,
    /// For jitter.
    pub seed: u64,
}

/// A question, and in its description what is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// How is the machine? Its number and the [`windlass_agent::host::fake::Node`], or nothing if it is as `known`.
    Node {
        /// The number that was told last.
        known: u64,
    },
    /// Put a file there. Nothing, or why not.
    Place {
        /// Where.
        path: PathBuf,
        /// What is in it.
        content: Vec<u8>,
        /// Mode, owner and group.
        attributes: (u32, u32, u32),
    },
    /// Make a directory. Nothing, or why not.
    MakeDirectory {
        /// Where.
        path: PathBuf,
        /// Mode, owner and group.
        attributes: (u32, u32, u32),
    },
    /// Remove a file. Nothing, or why not.
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Run a program. Nothing.
    Start {
        /// By what it is known.
        job: JobId,
        /// Which.
        argv: Argv,
    },
    /// Is it known? Whether it is.
    Find {
        /// Which.
        job: JobId,
    },
    /// How has it ended? Its code and what it printed, if that was not told before; nothing if it is not known.
    Ended {
        /// Which.
        job: JobId,
    },
    /// Forget it. Nothing.
    Forget {
        /// Which.
        job: JobId,
    },
    /// The executor is here. Nothing, unless it is killed.
    At {
        /// In which step.
        step: String,
        /// Where in it.
        point: Point,
    },
}

/// The model, seen from a half of an agent.
#[derive(Debug, Clone)]
pub struct RemoteModel {
    /// Its socket.
    pub socket: PathBuf,
}

impl RemoteModel {
    /// Asks, and does nothing else until there is an answer.
    ///
    /// # Panics
    /// If the test is gone.
    pub fn ask<Answer: DeserializeOwned>(&self, question: &Question) -> Answer {
        let asked = || {
            let mut stream = UnixStream::connect(&self.socket)?;
            stream.write_all(&line(question)?)?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer)
        };
        read(asked())
    }

    /// Asks what may take as long as somebody likes.
    ///
    /// # Panics
    /// If the test is gone.
    pub async fn ask_patiently<Answer: DeserializeOwned>(&self, question: &Question) -> Answer {
        let asked = async {
            let mut stream = tokio::net::UnixStream::connect(&self.socket).await?;
            stream.write_all(&line(question)?).await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok(answer)
        };
        read(asked.await)
    }
}

fn line(question: &Question) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    Ok(line)
}

fn read<Answer: DeserializeOwned>(asked: io::Result<Vec<u8>>) -> Answer {
    asked.and_then(|answer| Ok(serde_json::from_slice(&answer)?)).expect("the model answers")
}
