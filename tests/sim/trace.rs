// SPDX-License-Identifier: Apache-2.0
//! What happened in the simulation of this thread, to be printed if it fails.

use std::cell::{Cell, RefCell};
use std::time::Duration;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// It is this time now, for what is said from outside of the simulated machines.
pub(crate) fn time(now: Duration) {
    NOW.set(now);
}

/// Adds a line.
pub(crate) fn line(text: impl FnOnce() -> String) {
    let at = turmoil::sim_elapsed().unwrap_or_else(|| NOW.get()).as_secs_f64();
    LINES.with_borrow_mut(|lines| lines.push(format!("{at:8.3} {}", text())));
}

/// Takes all lines.
pub(crate) fn take() -> Vec<String> {
    LINES.with_borrow_mut(std::mem::take)
}
