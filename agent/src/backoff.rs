// SPDX-License-Identifier: Apache-2.0
//! How long to wait before trying again: exponential, jittered, capped.
//!
//! Jitter spreads a fleet that lost its controller at one instant. It comes from a seed that is passed in, so that a
//! simulation can repeat itself.

use std::time::Duration;

/// A source of jitter (splitmix64). Not for secrets.
#[derive(Debug, Clone)]
pub struct Jitter(u64);

impl Jitter {
    /// From a seed; different agents need different seeds.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A duration between the two.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX - 1);
        least + Duration::from_millis(mixed % (span + 1))
    }
}

/// The waits between attempts.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: (Duration, Duration),
    cap: Duration,
    attempts: u32,
    jitter: Jitter,
}

impl Backoff {
    /// The first wait lies in `first`; each further one is drawn from a span twice as long, never beyond `cap`.
    #[must_use]
    pub const fn new(first: (Duration, Duration), cap: Duration, seed: u64) -> Self {
        Self { first, cap, attempts: 0, jitter: Jitter::new(seed) }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX);
        self.attempts = self.attempts.saturating_add(1).min(31);
        let most = self.first.1.saturating_mul(factor).min(self.cap);
        let least = self.first.0.saturating_mul(factor).min(most / 2);
        self.jitter.between(least, most)
    }

    /// Begins again with the first wait.
    pub const fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(500));
    const CAP: Duration = Duration::from_secs(15);

    #[test]
    fn stays_within_its_bounds_for_every_seed() {
        for seed in 0..200 {
            let mut backoff = Backoff::new(FIRST, CAP, seed);
            let first = backoff.next_wait();
            assert!(first >= FIRST.0 && first <= FIRST.1, "{first:?}");
            let waits: Vec<_> = (0..100).map(|_| backoff.next_wait()).collect();
            assert!(waits.iter().all(|wait| *wait <= CAP && *wait >= FIRST.0), "{waits:?}");
            assert!(waits.iter().any(|wait| *wait > CAP / 2), "it grows");
            backoff.reset();
            assert!(backoff.next_wait() <= FIRST.1);
        }
    }

    #[test]
    fn a_fleet_does_not_come_back_at_once() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|seed| Backoff::new(FIRST, CAP, seed).next_wait()).collect();
        assert!(waits.len() > 60, "only {} different waits", waits.len());
    }
}
