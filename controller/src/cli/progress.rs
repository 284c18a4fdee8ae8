// SPDX-License-Identifier: Apache-2.0
//! A bar while bytes move, where a person looks; nothing anywhere else.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::terminal::Terminal;

/// Smaller copies are over before a bar can be read.
const LEAST_BYTES: u64 = 1 << 20;

/// A bar, or nothing.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins at nothing of `total` bytes.
    pub(crate) fn bytes(terminal: &Terminal, total: u64) -> Self {
        if !terminal.stderr_is_terminal || !terminal.animates || total < LEAST_BYTES {
            return Self { bar: None };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
        Self { bar: Some(style.map_or_else(|_| bar.clone(), |style| bar.clone().with_style(style))) }
    }

    /// So many bytes are done.
    pub(crate) fn at(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    /// All is done; the bar goes away.
    pub(crate) fn finish(&self, bytes: u64) {
        self.at(bytes);
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
