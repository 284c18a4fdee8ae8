// SPDX-License-Identifier: Apache-2.0
//! What the store keeps of jobs.
//!
//! `jobs/ID` the record; `job-requests/REQUEST` finds it again; `job-unfinished/ID` until it ends, `job-ended/ID` when it
//! did; `job-nodes/ID/NODE` that a node has begun or how it ended; `job-output/ID/NODE/STREAM` short output. Ids are padded so
//! that they sort.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::poll;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use windlass_proto::v1;
use windlass_proto::v1::OutputStream;
use windlass_types::action::Action;
use windlass_types::job::JobState;
use windlass_types::name::{JobId, NodeName};
use windlass_types::outcome::Outcome;
use windlass_types::time::UnixMillis;

use super::NewJob;
use super::output::Outputs;
use super::run::{Happening, JobRecord, Run};
use crate::store::{Change, Committed, Compare, Store, StoreError, Transaction};

const JOBS: &str = "jobs/";
const UNFINISHED: &str = "job-unfinished/";
/// Old jobs are found by these: a record names all nodes of its job, and would have to be read as a whole.
const ENDED: &str = "job-ended/";
/// The store's key with the id of the next job.
pub(crate) const NEXT_JOB: &str = "meta/next-job";

/// Jobs kept; older ones are forgotten with their output.
const KEEP: u64 = 1000;

/// Old jobs are looked for with every so many that are made, and among so many of the oldest that have ended.
const LOOK_EVERY: u64 = 16;
const LOOK_AT: usize = 64;

/// A job that has ended is kept for so long whatever its number: somebody watches it, or a run waits until its node is well.
const KEEP_AT_LEAST: Duration = Duration::from_secs(3600);

/// The stored jobs.
#[derive(Debug)]
pub struct Records {
    store: Arc<dyn Store>,
    outputs: Outputs,
    /// Above every number that this process has given.
    next: Mutex<u64>,
}

/// What is stored of one node in a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NodeRecord {
    /// It was given the order, or was about to be.
    Begun,
    /// It ended.
    Ended(Outcome),
}

impl Records {
    /// Jobs in a store; the output of forgotten ones is removed.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, outputs: Outputs) -> Self {
        Self { store, outputs, next: Mutex::default() }
    }

    /// Stores a new job, or finds the one this request made before. Says whether it is new.
    pub(super) async fn create(&self, new: NewJob, now: UnixMillis) -> Result<(JobRecord, bool), StoreError> {
        if let Some(record) = self.of_request(&new.request_id).await? {
            return Ok((record, false));
        }
        let mut next = self.next.lock().await;
        let number = self.text(NEXT_JOB).await?.and_then(|text| text.parse().ok()).unwrap_or(1).max(*next);
        let record = record(new, number, now);
        let (key, request) = (job_key(&record.id), request_key(&record.request_id));
        let transaction = Transaction::new()
            .when(Compare::Absent(key.clone()))
            .when(Compare::Absent(request.clone()))
            .put(NEXT_JOB, (number + 1).to_string())
            .put(request, record.id.to_string())
            .put(format!("{UNFINISHED}{}", padded(&record.id)), [])
            .put(key, json(&record));
        let transaction = self.forget_old(number, now, transaction).await?;
        // Sent while nobody else can, so that numbers come to the store in their order; its flush is waited for with others.
        let mut commit = self.store.commit(transaction);
        let sent = poll!(&mut commit);
        *next = number + 1;
        drop(next);
        let committed = match sent {
            Poll::Ready(committed) => committed?,
            Poll::Pending => commit.await?,
        };
        match committed {
            Committed::Yes(_) => Ok((record, true)),
            // The same request came twice at once; otherwise another process wrote to this store, which the lock on it
            // rules out.
            Committed::Conflict => match self.of_request(&record.request_id).await? {
                Some(first) => Ok((first, false)),
                None => Err(StoreError::Closed),
            },
        }
    }

    /// The job that a request made.
    async fn of_request(&self, request_id: &str) -> Result<Option<JobRecord>, StoreError> {
        match self.text(&request_key(request_id)).await?.and_then(|id| JobId::new(id).ok()) {
            Some(id) => self.get(&id).await,
            None => Ok(None),
        }
    }

    /// Whether a job was made for this request.
    pub(super) async fn is_known(&self, request_id: &str) -> Result<bool, StoreError> {
        Ok(self.text(&request_key(request_id)).await?.is_some())
    }

    /// Removes all that is kept of a job that has ended.
    pub(super) async fn forget(&self, id: &JobId) -> Result<(), StoreError> {
        let Some(record) = self.get(id).await?.filter(|record| record.state.is_final()) else { return Ok(()) };
        self.store.commit(self.without(&record, Transaction::new())).await.map(|_| ())
    }

    fn without(&self, record: &JobRecord, mut transaction: Transaction) -> Transaction {
        let padded = padded(&record.id);
        transaction = transaction.delete(job_key(&record.id)).delete(request_key(&record.request_id));
        transaction = transaction.delete(format!("{ENDED}{padded}"));
        transaction.changes.push(Change::DeletePrefix(format!("job-nodes/{padded}/")));
        transaction.changes.push(Change::DeletePrefix(format!("job-output/{padded}/")));
        self.outputs.remove(&record.id);
        transaction
    }

    /// Whichever are left of old ones, wherever the gaps are: a number may have been given in vain.
    async fn forget_old(
        &self,
        number: u64,
        now: UnixMillis,
        mut transaction: Transaction,
    ) -> Result<Transaction, StoreError> {
        let Some(newest) = number.checked_sub(KEEP).filter(|_| number.is_multiple_of(LOOK_EVERY)) else {
            return Ok(transaction);
        };
        for entry in self.store.range(ENDED, None, LOOK_AT).await? {
            let id = &entry.key[ENDED.len()..];
            let is_old = id.parse().is_ok_and(|number: u64| number <= newest);
            if is_old && now.since(ended_at(&entry.value)) > KEEP_AT_LEAST {
                transaction = self.forgotten(id, transaction).await?;
            }
        }
        Ok(transaction)
    }

    /// Of a job whose record cannot be read only the mark that it has ended is removed.
    async fn forgotten(&self, padded: &str, transaction: Transaction) -> Result<Transaction, StoreError> {
        let entry = self.store.get(&format!("{JOBS}{padded}")).await?;
        Ok(match entry.and_then(|entry| readable(&entry.key, &entry.value)) {
            Some(record) => self.without(&record, transaction),
            None => transaction.delete(format!("{ENDED}{padded}")),
        })
    }

    /// Stores a job's record.
    pub(super) async fn save(&self, record: &JobRecord) -> Result<(), StoreError> {
        let mut transaction = Transaction::new().put(job_key(&record.id), json(record));
        if let Some(ended_at) = record.ended_at {
            let id = padded(&record.id);
            transaction =
                transaction.delete(format!("{UNFINISHED}{id}")).put(format!("{ENDED}{id}"), ended_at.0.to_string());
        }
        self.store.commit(transaction).await.map(|_| ())
    }

    /// Stores whose turn it is.
    pub(super) async fn begun(&self, id: &JobId, nodes: &[NodeName]) -> Result<(), StoreError> {
        let begun = |transaction: Transaction, node| transaction.put(node_key(id, node), json(&NodeRecord::Begun));
        let transaction = nodes.iter().fold(Transaction::new(), begun);
        self.store.commit(transaction).await.map(|_| ())
    }

    /// Stores how a node ended, with its short output.
    pub(super) async fn ended(
        &self,
        id: &JobId,
        node: &NodeName,
        outcome: &Outcome,
        message: &v1::JobOutcome,
    ) -> Result<(), StoreError> {
        let mut transaction = Transaction::new().put(node_key(id, node), json(&NodeRecord::Ended(outcome.clone())));
        for (stream, data) in [(OutputStream::Stdout, &message.stdout), (OutputStream::Stderr, &message.stderr)] {
            if !data.is_empty() {
                transaction = transaction.put(output_key(id, node, stream), data.to_vec());
            }
        }
        self.store.commit(transaction).await.map(|_| ())
    }

    /// The record of a job.
    pub(super) async fn get(&self, id: &JobId) -> Result<Option<JobRecord>, StoreError> {
        let entry = self.store.get(&job_key(id)).await?;
        Ok(entry.and_then(|entry| readable(&entry.key, &entry.value)))
    }

    /// Jobs that were under way.
    pub(super) async fn unfinished(&self) -> Result<Vec<JobRecord>, StoreError> {
        let mut all = Vec::new();
        for entry in self.store.range(UNFINISHED, None, usize::MAX).await? {
            let number = entry.key[UNFINISHED.len()..].trim_start_matches('0').to_owned();
            if let Ok(id) = JobId::new(number) {
                all.extend(self.get(&id).await?);
            }
        }
        Ok(all)
    }

    /// Jobs, newest first, without the steps of runs, which are shown there.
    pub(super) async fn newest(&self, before: Option<&JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
        let before = before.map(job_key);
        let mut entries = self.store.range(JOBS, None, usize::MAX).await?;
        entries.retain(|entry| before.as_ref().is_none_or(|before| entry.key < *before));
        let newest = entries
            .iter()
            .rev()
            .filter_map(|entry| readable(&entry.key, &entry.value))
            .filter(|record: &JobRecord| !matches!(record.action, Action::Step(_)));
        Ok(newest.take(limit).collect())
    }

    /// A job with all that is known of its nodes. `resumed` is given for a job that goes on: without a batch every node
    /// that has not ended may have been given its order.
    pub(super) async fn load_run(&self, record: JobRecord, resumed: Option<Duration>) -> Result<Run, StoreError> {
        let id = record.id.clone();
        let all_at_once = record.batch == 0;
        let mut run = Run::new(record);
        for node in run.record.nodes.clone() {
            let stored = self.store.get(&node_key(&id, &node)).await?;
            let stored = stored.and_then(|entry| readable::<NodeRecord>(&entry.key, &entry.value));
            match (stored, resumed) {
                (Some(NodeRecord::Ended(outcome)), _) => self.replay(&mut run, &id, node, outcome).await?,
                (Some(NodeRecord::Begun), Some(give_up_at)) => self.resume(&mut run, &id, &node, give_up_at),
                (None, Some(give_up_at)) if all_at_once => self.resume(&mut run, &id, &node, give_up_at),
                (Some(NodeRecord::Begun) | None, _) => {}
            }
        }
        Ok(run)
    }

    fn resume(&self, run: &mut Run, id: &JobId, node: &NodeName, give_up_at: Duration) {
        run.resume(node, give_up_at);
        self.replay_output(run, id, node);
    }

    fn replay_output(&self, run: &mut Run, id: &JobId, node: &NodeName) {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let end = self.outputs.length(id, node, stream);
            if end > 0 {
                run.happened(Happening::Spooled { node: node.clone(), stream, offset: 0, end });
            }
        }
    }

    async fn replay(&self, run: &mut Run, id: &JobId, node: NodeName, outcome: Outcome) -> Result<(), StoreError> {
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            if let Some(entry) = self.store.get(&output_key(id, &node, stream)).await? {
                run.happened(Happening::Inline { node: node.clone(), stream, data: Bytes::from(entry.value) });
            }
        }
        self.replay_output(run, id, &node);
        if run.begin_recording(&node) {
            run.recorded(&node, outcome);
        }
        Ok(())
    }

    async fn text(&self, key: &str) -> Result<Option<String>, StoreError> {
        Ok(self.store.get(key).await?.and_then(|entry| String::from_utf8(entry.value).ok()))
    }
}

fn record(new: NewJob, number: u64, now: UnixMillis) -> JobRecord {
    JobRecord {
        id: JobId::new(number.to_string()).expect("a number is a job id"),
        request_id: new.request_id,
        action: new.action,
        nodes: new.nodes,
        batch: new.batch,
        max_failures: new.max_failures,
        timeout: new.timeout,
        created_by: new.created_by,
        created_at: now,
        stop_requested: false,
        restored: false,
        withdrawn: false,
        state: JobState::Running,
        ended_at: None,
        tally: None,
    }
}

fn padded(id: &JobId) -> String {
    format!("{:0>20}", id.as_str())
}

fn job_key(id: &JobId) -> String {
    format!("{JOBS}{}", padded(id))
}

fn request_key(request_id: &str) -> String {
    format!("job-requests/{request_id}")
}

fn node_key(id: &JobId, node: &NodeName) -> String {
    format!("job-nodes/{}/{node}", padded(id))
}

fn output_key(id: &JobId, node: &NodeName, stream: OutputStream) -> String {
    format!("job-output/{}/{node}/{}", padded(id), stream as i32)
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have string keys and no failing parts")
}

/// What is no moment is long ago: it was not written by this program.
fn ended_at(value: &[u8]) -> UnixMillis {
    let millis = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    UnixMillis(millis.unwrap_or(0))
}

/// A record that cannot be read is reported and left alone; one bad record must not hide all others.
fn readable<T: for<'a> Deserialize<'a>>(key: &str, value: &[u8]) -> Option<T> {
    serde_json::from_slice(value)
        .inspect_err(|error| tracing::error!(%key, %error, "a stored record cannot be read"))
        .ok()
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use windlass_types::action::Argv;

    use super::*;
    use crate::room::Room;
    use crate::store::sqlite::SqliteStore;

    fn records() -> (tempfile::TempDir, Records) {
        let directory = tempfile::tempdir().expect("a directory");
        let outputs = Outputs::new(directory.path(), Room::new(directory.path(), 1).expect("a disk"));
        let store = SqliteStore::open(directory.path()).expect("a new store");
        (directory, Records::new(store, outputs))
    }

    fn new(request: &str) -> NewJob {
        NewJob {
            request_id: request.to_owned(),
            action: Action::Exec(Argv::new(vec!["true".to_owned()]).expect("a program")),
            nodes: vec!["node1".parse().expect("a name")],
            batch: 0,
            max_failures: None,
            timeout: Duration::from_secs(1),
            created_by: "ops".to_owned(),
        }
    }

    #[tokio::test]
    async fn jobs_made_at_the_same_time_have_numbers_of_their_own_and_one_request_makes_one_job() {
        let (_directory, records) = records();
        let requests = (0..40).map(|n| new(&format!("request-{}", n % 20)));
        let made = join_all(requests.map(|new| records.create(new, UnixMillis(0)))).await;
        let made: Vec<_> = made.into_iter().map(|made| made.expect("made")).collect();
        assert_eq!(made.iter().filter(|(_, is_new)| *is_new).count(), 20);
        for (record, _) in &made {
            let of_request = made.iter().filter(|(other, _)| other.request_id == record.request_id);
            assert!(of_request.clone().all(|(other, _)| other.id == record.id), "{record:?}");
            assert_eq!(of_request.count(), 2);
        }
    }

    #[tokio::test]
    async fn old_jobs_are_forgotten_once_they_have_ended_whatever_numbers_were_given_in_vain() {
        let (_directory, records) = records();
        let (day, later) = (UnixMillis(86_400_000), UnixMillis(86_400_000 + 3_601_000));
        let (old, _) = records.create(new("old"), day).await.expect("made");
        records.create(new("never ends"), day).await.expect("made");
        let made_at = async |request: &str, number: u64, now: UnixMillis| {
            let next = Transaction::new().put(NEXT_JOB, number.to_string());
            records.store.commit(next).await.map(drop).expect("stored");
            records.create(new(request), now).await.expect("made");
        };
        let number = (KEEP + LOOK_EVERY).next_multiple_of(LOOK_EVERY);
        made_at("second", number, later).await;
        assert!(records.is_known("old").await.expect("read"), "it is under way");
        let ended = JobRecord { state: JobState::Succeeded, ended_at: Some(day), ..old };
        records.save(&ended).await.expect("stored");
        made_at("third", number + LOOK_EVERY, day).await;
        assert!(records.is_known("old").await.expect("read"), "it has just ended");
        made_at("fourth", number + 2 * LOOK_EVERY, later).await;
        assert!(!records.is_known("old").await.expect("read"));
        for kept in ["never ends", "second", "third"] {
            assert!(records.is_known(kept).await.expect("read"), "{kept}");
        }
    }
}
