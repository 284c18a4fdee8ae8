// SPDX-License-Identifier: Apache-2.0
//! What has been sent, so that only news is sent again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use windlass_types::facts::{Fact, Subject};

/// The moment of boot is computed from the wall clock and wavers while that is disciplined.
const BOOT_TIME_TOLERANCE_MILLIS: u64 = 2000;

/// The last sent fact of each subject and when it was last observed.
#[derive(Debug, Default)]
pub struct FactTracker {
    facts: BTreeMap<Subject, (Fact, Instant)>,
}

impl FactTracker {
    /// Takes over what was observed at `now` and returns what differs from what was sent before.
    pub fn changed(&mut self, observed: Vec<Fact>, now: Instant) -> Vec<Fact> {
        let mut news = Vec::new();
        for fact in observed {
            let known = self.facts.get_mut(&fact.subject());
            if let Some((_, observed_at)) = known.filter(|(sent, _)| is_same(sent, &fact)) {
                *observed_at = now;
            } else {
                self.facts.insert(fact.subject(), (fact.clone(), now));
                news.push(fact);
            }
        }
        news
    }

    /// How long ago a subject was last observed, changed or not; `None` if never.
    #[must_use]
    pub fn age(&self, subject: Subject, now: Instant) -> Option<Duration> {
        self.facts.get(&subject).map(|(_, observed_at)| now.saturating_duration_since(*observed_at))
    }

    /// Everything known with its age: what a new session starts with.
    #[must_use]
    pub fn all(&self, now: Instant) -> Vec<(Fact, Duration)> {
        let aged = |(fact, observed_at): &(Fact, Instant)| (fact.clone(), now.saturating_duration_since(*observed_at));
        self.facts.values().map(aged).collect()
    }
}

fn is_same(sent: &Fact, observed: &Fact) -> bool {
    match (sent, observed) {
        (Fact::Boot(a), Fact::Boot(b)) => {
            let distance = a.booted_at.offset_millis(b.booted_at).unsigned_abs();
            a.boot_id == b.boot_id && distance <= BOOT_TIME_TOLERANCE_MILLIS
        }
        _ => sent == observed,
    }
}

#[cfg(test)]
mod tests {
    use windlass_types::facts::{Boot, Cpu};
    use windlass_types::time::UnixMillis;

    use super::*;

    fn cpu(logical: u32) -> Fact {
        Fact::Cpu(Cpu { model: String::new(), logical })
    }

    fn boot(id: &str, at: i64) -> Fact {
        Fact::Boot(Boot { boot_id: id.into(), booted_at: UnixMillis(at) })
    }

    #[tokio::test]
    async fn only_what_changed_is_news() {
        let (mut tracker, now) = (FactTracker::default(), Instant::now());
        assert_eq!(tracker.changed(vec![cpu(1), boot("a", 0)], now), [cpu(1), boot("a", 0)]);
        assert_eq!(tracker.changed(vec![cpu(1), boot("a", 0)], now), []);
        assert_eq!(tracker.changed(vec![cpu(2), boot("a", 0)], now), [cpu(2)]);
        let unavailable = Fact::Unavailable { subject: Subject::Cpu, reason: "no".into() };
        assert_eq!(tracker.changed(vec![unavailable.clone()], now), std::slice::from_ref(&unavailable));
        assert_eq!(tracker.changed(vec![unavailable], now), []);
        assert_eq!(tracker.changed(vec![cpu(2)], now), [cpu(2)]);
    }

    #[tokio::test]
    async fn a_wavering_moment_of_boot_is_no_news_but_a_drifting_one_is() {
        let (mut tracker, now) = (FactTracker::default(), Instant::now());
        tracker.changed(vec![boot("a", 10_000)], now);
        assert_eq!(tracker.changed(vec![boot("a", 11_000)], now), []);
        assert_eq!(tracker.changed(vec![boot("a", 9_000)], now), []);
        assert_eq!(tracker.changed(vec![boot("b", 10_000)], now), [boot("b", 10_000)]);
        assert_eq!(tracker.changed(vec![boot("b", 13_000)], now), [boot("b", 13_000)]);
    }

    #[tokio::test]
    async fn the_age_counts_from_the_last_observation() {
        let (mut tracker, start) = (FactTracker::default(), Instant::now());
        let later = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(tracker.age(Subject::Cpu, start), None);
        tracker.changed(vec![cpu(1)], start);
        tracker.changed(vec![cpu(1)], later(10));
        assert_eq!(tracker.age(Subject::Cpu, later(13)), Some(Duration::from_secs(3)));
        assert_eq!(tracker.all(later(13)), [(cpu(1), Duration::from_secs(3))]);
    }
}
