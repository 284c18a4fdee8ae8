// SPDX-License-Identifier: Apache-2.0
//! Failed attempts per address, or per /64 of IPv6: a bucket that holds ten and gains one a second.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::listener::per_address::counted_as;

/// How many failures an address may make at once: a person mistyping, a template gone wrong.
const BURST: u32 = 10;

/// One more failure is forgiven this often, so a guesser makes one attempt a second.
const FORGIVE_EVERY: Duration = Duration::from_secs(1);

/// Addresses remembered; beyond that, those that are forgiven are dropped, and then everyone waits.
const MOST_ADDRESSES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Failures {
    /// When all failures of an address are forgiven.
    forgiven: Mutex<HashMap<IpAddr, Instant>>,
}

impl Failures {
    /// Whether the address must wait.
    pub(super) fn is_exhausted(&self, address: IpAddr) -> bool {
        let forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match forgiven.get(&counted_as(address)) {
            Some(until) => until.saturating_duration_since(now) >= FORGIVE_EVERY * BURST,
            None => forgiven.len() >= MOST_ADDRESSES && forgiven.values().all(|until| *until > now),
        }
    }

    /// Counts one.
    pub(super) fn count(&self, address: IpAddr) {
        let mut forgiven = self.forgiven.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if forgiven.len() >= MOST_ADDRESSES {
            forgiven.retain(|_, until| *until > now);
        }
        let until = forgiven.entry(counted_as(address)).or_insert(now);
        *until = (*until).max(now) + FORGIVE_EVERY;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_guesser_with_many_ipv6_addresses_gets_no_more_than_others() {
        let failures = Failures::default();
        for last in 0..BURST {
            failures.count(format!("2001:db8:0:1::{last}").parse().expect("an address"));
        }
        assert!(failures.is_exhausted("2001:db8:0:1::ffff".parse().expect("an address")));
        assert!(!failures.is_exhausted("2001:db8:0:2::ffff".parse().expect("an address")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guesser_gets_one_attempt_a_second() {
        let failures = Failures::default();
        let address = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..BURST {
            assert!(!failures.is_exhausted(address));
            failures.count(address);
        }
        assert!(failures.is_exhausted(address));
        assert!(!failures.is_exhausted(IpAddr::from([127, 0, 0, 2])));
        tokio::time::advance(FORGIVE_EVERY).await;
        assert!(!failures.is_exhausted(address));
        failures.count(address);
        assert!(failures.is_exhausted(address));
    }
}
