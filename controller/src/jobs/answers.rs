// SPDX-License-Identifier: Apache-2.0
//! What the nodes of a job answered, for parts of the controller that ordered it: how each ended and what it wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use windlass_proto::refusal::Refusal;
use windlass_proto::v1::OutputStream;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::Outcome;

use super::run::Happening;
use super::{ActiveJob, Jobs};

/// Most of a node's answer that is taken: a survey of everything on a large node has some hundred KiB.
const MOST_BYTES: usize = 4 << 20;

/// How a node ended, and what it wrote to stdout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// How it ended.
    pub outcome: Outcome,
    /// What it wrote; cut off at some MiB.
    pub stdout: Vec<u8>,
}

impl Jobs {
    /// Waits until every node of a job has ended, or no longer than `within`; nodes that have not ended are left out.
    ///
    /// # Errors
    /// If there is no such job or the store cannot be read.
    pub async fn answers(&self, id: &JobId, within: Option<Duration>) -> Result<BTreeMap<NodeName, Answer>, Refusal> {
        let job = match self.find(id) {
            Some(job) => job,
            None => ActiveJob::new(self.load(id).await?),
        };
        let mut taken = Taken::default();
        let all = async {
            let mut changed = job.changed.subscribe();
            loop {
                changed.mark_unchanged();
                let is_over = self.take(&job, &mut taken);
                // The sender lives as long as the job that is held here.
                if is_over || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        match within {
            None => all.await,
            // Whoever is late is left out.
            Some(within) => drop(tokio::time::timeout(within, all).await),
        }
        Ok(taken.ended)
    }

    /// Takes what is new; says whether that was all.
    fn take(&self, job: &ActiveJob, taken: &mut Taken) -> bool {
        let (new, id, is_final) = {
            let run = job.run();
            (run.since(taken.index).to_vec(), run.record.id.clone(), run.record.state.is_final())
        };
        taken.index += new.len();
        for happening in new {
            match happening {
                Happening::Inline { node, stream: OutputStream::Stdout, data } => taken.write(node, &data),
                Happening::Spooled { node, stream: OutputStream::Stdout, offset, end } => {
                    let most = usize::try_from(end - offset).unwrap_or(MOST_BYTES).min(MOST_BYTES);
                    match self.outputs.read(&id, &node, OutputStream::Stdout, offset, most) {
                        Ok(data) => taken.write(node, &data),
                        Err(error) => tracing::warn!(job = %id, %node, %error, "stored output cannot be read"),
                    }
                }
                Happening::Ended { node, outcome } => {
                    let stdout = taken.written.remove(&node).unwrap_or_default();
                    taken.ended.insert(node, Answer { outcome, stdout });
                }
                Happening::Inline { .. } | Happening::Spooled { .. } | Happening::Started { .. } => {}
            }
        }
        is_final
    }
}

#[derive(Debug, Default)]
struct Taken {
    index: usize,
    written: BTreeMap<NodeName, Vec<u8>>,
    ended: BTreeMap<NodeName, Answer>,
}

impl Taken {
    fn write(&mut self, node: NodeName, data: &[u8]) {
        let written = self.written.entry(node).or_default();
        let room = MOST_BYTES.saturating_sub(written.len());
        written.extend_from_slice(&data[..room.min(data.len())]);
    }
}
