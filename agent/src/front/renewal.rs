// SPDX-License-Identifier: Apache-2.0
//! When the certificate is renewed: at half of its life, give or take a tenth of that, so that a fleet enrolled in one minute
//! does not renew in one minute.

use std::time::Duration;

use windlass_types::time::UnixMillis;

use super::link::Credentials;
use crate::backoff::Jitter;
use crate::identity::Validity;

/// The controller dates certificates back by this much for clocks that are behind; it is not part of their life.
const BACKDATED: Duration = Duration::from_secs(300);

/// When a certificate of this validity is renewed.
pub(super) fn due(validity: Validity, jitter: &mut Jitter) -> UnixMillis {
    let life = validity.not_after.since(validity.not_before).saturating_sub(BACKDATED);
    let rest = jitter.between(life * 45 / 100, life * 55 / 100);
    validity.not_after.minus(rest)
}

/// The spread where the controller names none, as one of an older version.
const USUAL_SPREAD: Duration = Duration::from_secs(60);

/// When a certificate is renewed whose CA signs no more.
pub(super) fn hastened(now: UnixMillis, spread_millis: u32, jitter: &mut Jitter) -> UnixMillis {
    let spread = if spread_millis == 0 { USUAL_SPREAD } else { Duration::from_millis(spread_millis.into()) };
    now.plus(jitter.between(Duration::ZERO, spread))
}

/// Whether the certificate cannot be used any more.
pub(super) fn is_expired(credentials: &Credentials) -> bool {
    credentials.clock().now() >= credentials.identity().validity.not_after
}

/// How long after a failed renewal the next one is tried: often enough within half of seven days.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_whose_ca_signs_no_more_renews_within_the_spread_it_was_told() {
        for (told, within) in [(0, 60_000), (5_000, 5_000)] {
            let moments: Vec<_> =
                (0..200).map(|seed| hastened(UnixMillis(0), told, &mut Jitter::new(seed)).0).collect();
            assert!(moments.iter().all(|moment| (0..=within).contains(moment)), "{moments:?}");
            assert!(moments.iter().max() > Some(&(within / 2)) && moments.iter().min() < Some(&(within / 2)));
        }
    }

    #[test]
    fn is_due_around_half_of_the_life() {
        let issued = 1_000_000;
        let validity = Validity { not_before: UnixMillis(issued - 300_000), not_after: UnixMillis(issued + 100_000) };
        let dues: Vec<_> = (0..200).map(|seed| due(validity, &mut Jitter::new(seed)).0 - issued).collect();
        assert!(dues.iter().all(|due| (45_000..=55_000).contains(due)), "{dues:?}");
        assert!(dues.iter().max() > dues.iter().min());
    }
}
