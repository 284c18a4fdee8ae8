// SPDX-License-Identifier: Apache-2.0
//! What happened in the simulation of this thread, to be printed if it fails.

use std::cell::RefCell;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Adds a line.
pub(crate) fn line(text: impl FnOnce() -> String) {
    let at = turmoil::sim_elapsed().unwrap_or_default().as_secs_f64();
    LINES.with_borrow_mut(|lines| lines.push(format!("{at:8.3} {}", text())));
}

/// Takes all lines.
pub(crate) fn take() -> Vec<String> {
    LINES.with_borrow_mut(std::mem::take)
}
