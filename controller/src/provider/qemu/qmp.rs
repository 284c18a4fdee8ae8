// SPDX-License-Identifier: Apache-2.0
//! The few commands of QEMU's machine protocol that are used, over its socket in the machine's directory.
//!
//! A connection first sees that it talks to the right machine: a socket may have been left by another. The directory may
//! have a longer path than a socket's address can hold, so it is reached through its descriptor.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use windlass_types::name::MachineId;

/// QEMU answers in milliseconds. On a busy host, or while its disk hangs, in seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What QEMU's own end of a conversation can go wrong with.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// Nobody listens.
    #[error("connect to QEMU's socket")]
    Connect(#[source] std::io::Error),
    /// The connection broke.
    #[error("talk to QEMU")]
    Talk(#[source] std::io::Error),
    /// It hung up.
    #[error("QEMU hung up")]
    HungUp,
    /// No answer.
    #[error("QEMU did not answer within {ANSWER_WITHIN:?}")]
    Silent,
    /// It said something that is no answer.
    #[error("QEMU said something that is not understood")]
    Malformed,
    /// Another machine answers here.
    #[error("another machine answers on this socket: {0}")]
    OtherMachine(String),
    /// It refused.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// What.
        command: &'static str,
        /// Why, in its words.
        reason: String,
    },
}

/// A conversation.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
    /// Events that came before the answer to a command.
    early: VecDeque<Value>,
}

impl Monitor {
    /// Connects and sees that this is the machine.
    pub(super) async fn connect(directory: &Path, socket: &str, id: &MachineId) -> Result<Self, QmpError> {
        let folder = File::open(directory).map_err(QmpError::Connect)?;
        let path = format!("/proc/self/fd/{}/{socket}", folder.as_raw_fd());
        let stream = within(UnixStream::connect(path)).await?.map_err(QmpError::Connect)?;
        let (read, write) = stream.into_split();
        let mut monitor = Self { lines: BufReader::new(read).lines(), write, early: VecDeque::new() };
        let greeting = within(monitor.read()).await??;
        if greeting.get("QMP").is_none() {
            return Err(QmpError::Malformed);
        }
        monitor.execute("qmp_capabilities", json!({})).await?;
        let answer = monitor.execute("query-uuid", json!({})).await?;
        let uuid = answer.get("UUID").and_then(Value::as_str).unwrap_or_default();
        if uuid == id.as_str() { Ok(monitor) } else { Err(QmpError::OtherMachine(uuid.chars().take(64).collect())) }
    }

    /// Gives a command and waits for its answer; events that come meanwhile are kept.
    pub(super) async fn execute(&mut self, command: &'static str, arguments: Value) -> Result<Value, QmpError> {
        let mut line = json!({ "execute": command, "arguments": arguments }).to_string();
        line.push('\n');
        within(self.write.write_all(line.as_bytes())).await?.map_err(QmpError::Talk)?;
        loop {
            let answer = within(self.read()).await??;
            if let Some(value) = answer.get("return") {
                return Ok(value.clone());
            }
            if let Some(error) = answer.get("error") {
                let reason = error.get("desc").and_then(Value::as_str).unwrap_or("no reason given");
                let reason = windlass_types::escape::Escaped(reason).to_string();
                return Err(QmpError::Refused { command, reason });
            }
            self.early.push_back(answer);
        }
    }

    /// The next event, however long that takes.
    pub(super) async fn event(&mut self) -> Result<Value, QmpError> {
        match self.early.pop_front() {
            Some(event) => Ok(event),
            None => self.read().await,
        }
    }

    async fn read(&mut self) -> Result<Value, QmpError> {
        let line = self.lines.next_line().await.map_err(QmpError::Talk)?.ok_or(QmpError::HungUp)?;
        serde_json::from_str(&line).map_err(|_| QmpError::Malformed)
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, QmpError> {
    timeout(ANSWER_WITHIN, work).await.map_err(|_| QmpError::Silent)
}
