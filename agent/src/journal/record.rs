// SPDX-License-Identifier: Apache-2.0
//! One record of the journal and its bytes.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use windlass_types::action::Action;
use windlass_types::name::JobId;
use windlass_types::name::on_node::BootId;
use windlass_types::outcome::Outcome;
use windlass_types::time::UnixMillis;

use super::done::DoneJobs;
use super::{HEADER_BYTES, LONGEST_RECORD_BYTES};

/// One thing to do, as the controller ordered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The job.
    pub job: JobId,
    /// The controller's epoch.
    pub epoch: u64,
    /// Rises with every order within an epoch.
    pub sequence: u64,
    /// Not to be begun after this moment.
    pub expires: Option<UnixMillis>,
    /// Wall time the work may take.
    pub timeout: Option<Duration>,
    /// How much of each output is kept, bytes.
    pub output_limit: u64,
    /// What to do.
    pub action: Action,
}

/// By what a started process is known after the agent restarted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Its process id; 0 if it has none.
    pub pid: u32,
    /// When the kernel started it, clock ticks since boot: a process id alone is used again.
    pub start_ticks: u64,
    /// The boot it was started in.
    pub boot_id: String,
    /// When it was started.
    pub at: UnixMillis,
}

/// How a program of a step ends before its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// It is killed if it does not end when it is asked to.
    pub may_be_killed: bool,
    /// Only its own time is over, whoever asks.
    pub ignores_stop: bool,
}

/// One record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Record {
    /// The highest order obeyed, after older records were dropped.
    Position {
        /// The epoch.
        epoch: u64,
        /// The sequence within it.
        sequence: u64,
        /// The jobs the dropped records were about.
        #[serde(default, skip_serializing_if = "DoneJobs::is_empty")]
        done: DoneJobs,
    },
    /// An order was accepted.
    Accepted(Order),
    /// Its process was started.
    Started {
        /// The job.
        job: JobId,
        /// The process.
        mark: Mark,
    },
    /// Its next program is to be started: a step has several.
    Program {
        /// The job.
        job: JobId,
        /// Counted from 1.
        number: u32,
        /// How it ends before its time.
        #[serde(default)]
        ends: Ends,
    },
    /// From now on its step may change something.
    Intended {
        /// The job.
        job: JobId,
        /// The boot of the machine in which it was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<BootId>,
    },
    /// The highest lease under which a step was begun.
    Lease {
        /// The controller's epoch.
        epoch: u64,
        /// Its number.
        number: u64,
    },
    /// It ended.
    Ended {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
    },
    /// The controller knows how.
    Acknowledged {
        /// The job.
        job: JobId,
    },
}

/// What bytes turned out to be.
#[derive(Debug)]
pub(super) enum Decoded {
    /// A record and its length in bytes.
    Record(Record, usize),
    /// Nothing more.
    End,
    /// Not a record; it claims this length.
    Damaged(usize),
}

impl Record {
    /// Header and payload.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = vec![0; HEADER_BYTES];
        serde_json::to_writer(&mut bytes, self)?;
        let length = u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX).to_le_bytes();
        bytes[..4].copy_from_slice(&length);
        let crc = checksum(&length, &bytes[HEADER_BYTES..]);
        bytes[4..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        Ok(bytes)
    }

    /// The first record of `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Decoded {
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else {
            return if bytes.iter().all(|byte| *byte == 0) { Decoded::End } else { Decoded::Damaged(bytes.len()) };
        };
        let claimed = u32::from_le_bytes(*length) as usize;
        if claimed == 0 {
            return Decoded::End;
        }
        let damaged = Decoded::Damaged(HEADER_BYTES.saturating_add(claimed));
        let Some((crc, rest)) = rest.split_first_chunk::<4>() else { return damaged };
        let Some(payload) = rest.get(..claimed).filter(|_| claimed <= LONGEST_RECORD_BYTES) else { return damaged };
        if checksum(length, payload) != u32::from_le_bytes(*crc) {
            return damaged;
        }
        match serde_json::from_slice(payload) {
            Ok(record) => Decoded::Record(record, HEADER_BYTES + claimed),
            Err(_) => damaged,
        }
    }
}

fn checksum(length: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(length);
    hasher.update(payload);
    hasher.finalize()
}
