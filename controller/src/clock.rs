// SPDX-License-Identifier: Apache-2.0
//! The only place the controller reads the wall clock. Durations are measured with `tokio::time`, which tests can pause.

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

/// A clock that tests set.
#[cfg(test)]
pub(crate) mod fixed {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicI64, Ordering};
    use std::time::Duration;

    use super::{Clock, UnixMillis};

    #[derive(Debug)]
    pub(crate) struct FixedClock(AtomicI64);

    impl FixedClock {
        pub(crate) fn at(moment: UnixMillis) -> Arc<Self> {
            Arc::new(Self(AtomicI64::new(moment.0)))
        }

        pub(crate) fn advance(&self, by: Duration) {
            self.0.fetch_add(i64::try_from(by.as_millis()).expect("a short time"), Ordering::Relaxed);
        }
    }

    impl Clock for FixedClock {
        fn now(&self) -> UnixMillis {
            UnixMillis(self.0.load(Ordering::Relaxed))
        }
    }
}
