// SPDX-License-Identifier: Apache-2.0
//! What the records add up to.

use std::collections::BTreeMap;

use windlass_types::name::JobId;
use windlass_types::name::on_node::BootId;
use windlass_types::outcome::Outcome;

use super::done::DoneJobs;
use super::record::{Ends, Mark, Order, Record};

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStage {
    /// Accepted; whether it was begun is not known from here.
    Accepted,
    /// Begun.
    Started(Mark),
    /// Ended, and the controller does not know yet.
    Ended(Outcome),
    /// Ended, and the controller knows.
    Acknowledged,
}

/// What the records add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalState {
    position: (u64, u64),
    lease: (u64, u64),
    done: DoneJobs,
    jobs: BTreeMap<JobId, (Order, JobStage)>,
    steps: BTreeMap<JobId, StepProgress>,
}

/// How far a step is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StepProgress {
    /// The number of its last program.
    pub program: u32,
    /// How that ends before its time.
    pub ends: Ends,
    /// It may have changed something.
    pub intended: bool,
    /// In which boot of the machine that was, last.
    pub boot: Option<BootId>,
}

impl JournalState {
    /// The highest (epoch, lease) under which a step was begun.
    #[must_use]
    pub const fn lease(&self) -> (u64, u64) {
        self.lease
    }

    /// How far a step is.
    #[must_use]
    pub fn step(&self, job: &JobId) -> StepProgress {
        self.steps.get(job).cloned().unwrap_or_default()
    }

    /// The highest (epoch, sequence) obeyed.
    #[must_use]
    pub const fn position(&self) -> (u64, u64) {
        self.position
    }

    /// Jobs of which only that they were done is known.
    #[must_use]
    pub const fn done(&self) -> &DoneJobs {
        &self.done
    }

    /// A job's order and where it stands.
    #[must_use]
    pub fn job(&self, job: &JobId) -> Option<(&Order, &JobStage)> {
        self.jobs.get(job).map(|(order, stage)| (order, stage))
    }

    /// Whether the controller may not know how a job ended.
    #[must_use]
    pub fn is_open(&self, job: &JobId) -> bool {
        self.jobs.get(job).is_some_and(|(_, stage)| *stage != JobStage::Acknowledged)
    }

    /// How many jobs have not ended.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.jobs.values().filter(|(_, stage)| matches!(stage, JobStage::Accepted | JobStage::Started(_))).count()
    }

    /// Every job that is remembered.
    pub fn jobs(&self) -> impl Iterator<Item = (&Order, &JobStage)> {
        self.jobs.values().map(|(order, stage)| (order, stage))
    }

    /// Adds what a record says. A record about an unknown job says nothing.
    pub(super) fn apply(&mut self, record: Record) {
        match record {
            Record::Position { epoch, sequence, done } => {
                self.position = self.position.max((epoch, sequence));
                self.done.join(done);
            }
            Record::Accepted(order) => {
                self.position = self.position.max((order.epoch, order.sequence));
                self.jobs.insert(order.job.clone(), (order, JobStage::Accepted));
            }
            Record::Started { job, mark } => self.set(&job, JobStage::Started(mark)),
            Record::Program { job, number, ends } => {
                let step = self.steps.entry(job).or_default();
                (step.program, step.ends) = (number, ends);
            }
            Record::Intended { job, boot } => {
                let step = self.steps.entry(job).or_default();
                (step.intended, step.boot) = (true, boot);
            }
            Record::Lease { epoch, number } => self.lease = self.lease.max((epoch, number)),
            Record::Ended { job, outcome } => self.set(&job, JobStage::Ended(outcome)),
            Record::Acknowledged { job } => {
                self.steps.remove(&job);
                self.set(&job, JobStage::Acknowledged);
            }
        }
    }

    fn set(&mut self, job: &JobId, stage: JobStage) {
        if let Some((_, old)) = self.jobs.get_mut(job) {
            *old = stage;
        }
    }

    /// The records that still matter. Of acknowledged jobs only the numbers are kept: their orders can come back under a
    /// higher sequence, when a front does not tell the controller of their ends.
    pub(super) fn essence(&self) -> Vec<Record> {
        let (mut done, (epoch, sequence)) = (self.done.clone(), self.position);
        let acknowledged = self.jobs.iter().filter(|(_, (_, stage))| *stage == JobStage::Acknowledged);
        done.add(acknowledged.map(|(job, _)| job));
        let mut records = vec![Record::Position { epoch, sequence, done }];
        if self.lease > (0, 0) {
            records.push(Record::Lease { epoch: self.lease.0, number: self.lease.1 });
        }
        for (order, stage) in self.jobs.values() {
            let progress = self.steps.get(&order.job).cloned();
            let job = order.job.clone();
            let latest = match stage {
                JobStage::Acknowledged => continue,
                JobStage::Accepted => None,
                JobStage::Started(mark) => Some(Record::Started { job, mark: mark.clone() }),
                JobStage::Ended(outcome) => Some(Record::Ended { job, outcome: outcome.clone() }),
            };
            records.push(Record::Accepted(order.clone()));
            records.extend(latest);
            if let Some(StepProgress { program, ends, intended, boot }) = progress {
                records.push(Record::Program { job: order.job.clone(), number: program, ends });
                records.extend(intended.then(|| Record::Intended { job: order.job.clone(), boot }));
            }
        }
        records
    }
}
