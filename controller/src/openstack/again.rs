// SPDX-License-Identifier: Apache-2.0
//! Whether a request that failed is sent again, and when.

use std::time::Duration;

use super::error::CloudError;
use super::refusal::Kind;

/// How often something is sent at most. The pauses between are up to six seconds together: a service that restarts.
const MOST_ATTEMPTS: u32 = 6;

/// The first pause, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// A service that asks for more patience than this is not waited for here: the caller has other things to do.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How long to wait before sending again what failed so many times; `None` if it is not sent again. `safe` says that twice
/// is the same as once.
pub(super) fn pause(safe: bool, error: &CloudError, attempts: u32) -> Option<Duration> {
    let again = match error {
        CloudError::Connect { untrusted, .. } => !untrusted,
        CloudError::Broken { .. } | CloudError::Silent { .. } => safe,
        CloudError::Refused(refusal) => safe && matches!(refusal.kind, Kind::TooMany | Kind::Failed),
        CloudError::Tls(_)
        | CloudError::Proxy(_)
        | CloudError::Malformed { .. }
        | CloudError::Catalogue(_)
        | CloudError::TooOld { .. } => false,
    };
    if !again || attempts >= MOST_ATTEMPTS {
        return None;
    }
    let asked = error.refusal().and_then(|refusal| refusal.retry_after).unwrap_or_default();
    let longest = FIRST_PAUSE * 2_u32.saturating_pow(attempts.saturating_sub(1));
    Some(asked.max(jittered(longest))).filter(|pause| *pause <= LONGEST_PAUSE)
}

/// Between half of it and all of it: what failed together is not sent again together.
fn jittered(longest: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness, the longest.
    let part = aws_lc_rs::rand::fill(&mut byte).map_or(u32::from(u8::MAX), |()| u32::from(byte[0]));
    longest / 2 + longest / 2 * part / u32::from(u8::MAX)
}
