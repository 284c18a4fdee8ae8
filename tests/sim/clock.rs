// SPDX-License-Identifier: Apache-2.0
//! The wall clock of one simulated machine: what the simulation says, plus what that machine's clock is wrong by.

use std::sync::atomic::{AtomicI64, Ordering};

use windlass_types::time::UnixMillis;

/// When every simulation begins.
const BEGINNING: i64 = 1_800_000_000_000;

/// The clock of one machine.
#[derive(Debug, Default)]
pub(crate) struct SimClock {
    wrong_by_millis: AtomicI64,
}

impl SimClock {
    /// Sets the clock wrong by this much; 0 sets it right.
    pub(crate) fn jump(&self, wrong_by_millis: i64) {
        self.wrong_by_millis.store(wrong_by_millis, Ordering::Relaxed);
    }

    fn read(&self) -> UnixMillis {
        let elapsed = turmoil::sim_elapsed().unwrap_or_default();
        let elapsed = i64::try_from(elapsed.as_millis()).expect("a simulation is short");
        UnixMillis(BEGINNING + elapsed + self.wrong_by_millis.load(Ordering::Relaxed))
    }
}

impl windlass_controller::clock::Clock for SimClock {
    fn now(&self) -> UnixMillis {
        self.read()
    }
}

impl windlass_agent::host::clock::Clock for SimClock {
    fn now(&self) -> UnixMillis {
        self.read()
    }
}
