// SPDX-License-Identifier: Apache-2.0
//! The jobs that were done and whose ends the controller has stored: numbers only, and few bytes of them.
//!
//! A controller numbers an order anew when it thinks that it was lost, and whoever carries messages can make it think so.
//! What was done must therefore be known by its job, for longer than anything else of it.

use serde::{Deserialize, Serialize};
use windlass_types::name::JobId;

/// Jobs that follow one another take one span, so that a thousand spans, 16 KiB, are many thousand jobs of a quiet fleet.
const MOST_SPANS: usize = 1024;

/// Which jobs were done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoneJobs {
    /// Which jobs up to this number were done is not kept any more.
    up_to: u64,
    /// First and last number of jobs that were all done; rising, with gaps between them.
    spans: Vec<(u64, u64)>,
}

impl DoneJobs {
    /// Whether this job was done.
    #[must_use]
    pub fn has(&self, job: &JobId) -> bool {
        number(job).is_some_and(|number| {
            let next = self.spans.partition_point(|(first, _)| *first <= number);
            next > 0 && number <= self.spans[next - 1].1
        })
    }

    /// Whether this job is so old that nobody knows any more whether it was done.
    #[must_use]
    pub fn is_too_old(&self, job: &JobId) -> bool {
        number(job).is_some_and(|number| number <= self.up_to)
    }

    /// Whether nothing was done yet.
    pub(super) const fn is_empty(&self) -> bool {
        self.up_to == 0 && self.spans.is_empty()
    }

    /// These were done too.
    pub(super) fn add<'a>(&mut self, jobs: impl Iterator<Item = &'a JobId>) {
        self.spans.extend(jobs.filter_map(number).map(|number| (number, number)));
        self.tidy();
    }

    /// What the other one knows is known here too.
    pub(super) fn join(&mut self, other: Self) {
        self.up_to = self.up_to.max(other.up_to);
        self.spans.extend(other.spans);
        self.tidy();
    }

    /// Joins spans that touch. Of too many the oldest go.
    fn tidy(&mut self) {
        self.spans.sort_unstable();
        self.spans.dedup_by(|next, span| {
            let touches = next.0 <= span.1.saturating_add(1);
            if touches {
                span.1 = span.1.max(next.1);
            }
            touches
        });
        let surplus = self.spans.len().saturating_sub(MOST_SPANS);
        if let Some((_, last)) = self.spans.drain(..surplus).next_back() {
            self.up_to = self.up_to.max(last);
        }
        self.spans.shrink_to_fit();
    }
}

/// A controller counts its jobs in 64 bits.
fn number(job: &JobId) -> Option<u64> {
    job.as_str().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(number: u64) -> JobId {
        JobId::new(number.to_string()).expect("digits")
    }

    fn of(numbers: impl IntoIterator<Item = u64>) -> DoneJobs {
        let (mut done, jobs) = (DoneJobs::default(), numbers.into_iter().map(job).collect::<Vec<_>>());
        done.add(jobs.iter());
        done
    }

    #[test]
    fn knows_each_job_in_whatever_order_they_were_done() {
        let mut done = of([9, 3, 4, 7, 5, 4]);
        assert_eq!(done.spans, [(3, 5), (7, 7), (9, 9)]);
        done.join(of([6, 8, u64::MAX]));
        assert_eq!(done.spans, [(3, 9), (u64::MAX, u64::MAX)]);
        let known: Vec<_> = (0..12).filter(|number| done.has(&job(*number))).collect();
        assert_eq!(known, [3, 4, 5, 6, 7, 8, 9]);
        assert!(done.has(&job(u64::MAX)) && !done.is_too_old(&job(1)));
    }

    #[test]
    fn of_too_many_the_oldest_go_and_are_known_to_be_too_old() {
        let most = MOST_SPANS as u64;
        let mut done = of((1..=most + 2).map(|number| number * 10));
        assert_eq!(done.spans.len(), MOST_SPANS);
        assert!(!done.has(&job(20)) && done.is_too_old(&job(20)) && done.is_too_old(&job(15)));
        assert!(done.has(&job(30)) && !done.is_too_old(&job(25)));
        done.join(DoneJobs::default());
        assert!(done.is_too_old(&job(20)));
    }
}
