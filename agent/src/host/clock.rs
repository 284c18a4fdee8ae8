// SPDX-License-Identifier: Apache-2.0
//! The only place the agent reads the wall clock. Durations are measured with `tokio::time`, which tests can pause.

use std::fmt::Debug;
use std::time::{SystemTime, UNIX_EPOCH};

use windlass_types::time::UnixMillis;

/// Where the time comes from.
pub trait Clock: Send + Sync + Debug {
    /// Now, by the wall clock.
    fn now(&self) -> UnixMillis;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
    fn now(&self) -> UnixMillis {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The clock of this machine, and so many milliseconds more.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Ahead(pub(crate) std::sync::atomic::AtomicI64);

#[cfg(test)]
impl Clock for Ahead {
    fn now(&self) -> UnixMillis {
        UnixMillis(SystemClock.now().0 + self.0.load(std::sync::atomic::Ordering::Relaxed))
    }
}
