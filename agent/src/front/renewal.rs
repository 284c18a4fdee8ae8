// SPDX-License-Identifier: Apache-2.0
//! When the certificate is renewed: at half of its life, give or take a tenth, so that a fleet enrolled in one minute
//! does not renew in one minute.

use std::time::Duration;

use windlass_types::time::UnixMillis;

use crate::backoff::Jitter;
use crate::identity::Validity;
use crate::transfer::Credentials;

/// When a certificate of this validity is renewed.
pub(super) fn due(validity: Validity, jitter: &mut Jitter) -> UnixMillis {
    let life = validity.not_after.since(validity.not_before);
    let wait = jitter.between(life * 4 / 10, life * 6 / 10);
    validity.not_before.plus(wait)
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
    fn is_due_around_half_of_the_life() {
        let validity = Validity { not_before: UnixMillis(1000), not_after: UnixMillis(101_000) };
        let dues: Vec<_> = (0..200).map(|seed| due(validity, &mut Jitter::new(seed)).0).collect();
        assert!(dues.iter().all(|due| (41_000..=61_000).contains(due)), "{dues:?}");
        assert!(dues.iter().max() > dues.iter().min());
    }
}
