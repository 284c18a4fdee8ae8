// SPDX-License-Identifier: Apache-2.0
//! Waiting for something to become true, never for time to pass.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

/// How often a condition is looked at that may take [`LONG`]. A condition may start a process, so not more often than that
/// is worth, and of what may take longer less often: looking would slow down what is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY_AT_MOST: Duration = Duration::from_secs(1);

/// Generous, so that a busy machine fails no test; whoever wants to know how long it took gets told.
pub const LONG: Duration = Duration::from_secs(30);

/// Looks until `condition` gives something, and returns that and how long it took.
///
/// # Panics
/// If it has not within `limit`; says `what` was waited for.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> (T, Duration)
where
    F: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    let pause = LOOK_EVERY.mul_f64(limit.div_duration_f64(LONG)).clamp(LOOK_EVERY, LOOK_EVERY_AT_MOST);
    loop {
        if let Some(found) = condition().await {
            return (found, begun.elapsed());
        }
        assert!(begun.elapsed() < limit, "waited {limit:?} in vain for this: {what}");
        tokio::time::sleep(pause).await;
    }
}

/// Looks until `condition` holds, and returns how long it took.
///
/// # Panics
/// If it does not hold within `limit`.
pub async fn wait_until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F) -> Duration
where
    F: Future<Output = bool>,
{
    wait_for(what, limit, || {
        let held = condition();
        async move { held.await.then_some(()) }
    })
    .await
    .1
}
