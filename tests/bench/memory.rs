// SPDX-License-Identifier: Apache-2.0
//! How much memory a process holds, as the kernel says.

use anyhow::{Context as _, Result};

/// Memory of one process, bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Memory {
    /// Resident, shared pages in full.
    pub(crate) resident: f64,
    /// Resident, shared pages divided among those who share them.
    pub(crate) proportional: f64,
    /// Resident and of nobody else.
    pub(crate) private: f64,
}

impl Memory {
    /// Of a process.
    ///
    /// # Errors
    /// If it has ended or is somebody else's.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/smaps_rollup");
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
            kibibytes.unwrap_or_default() * 1024.0
        };
        Ok(Self {
            resident: field("Rss:"),
            proportional: field("Pss:"),
            private: field("Private_Clean:") + field("Private_Dirty:"),
        })
    }

    /// The mean over processes; those that have ended meanwhile are left out.
    pub(crate) fn mean_of(pids: &[u32]) -> Self {
        let each: Vec<_> = pids.iter().filter_map(|pid| Self::of(*pid).ok()).collect();
        let mean = |value: fn(&Self) -> f64| each.iter().map(value).sum::<f64>() / count(each.len());
        Self {
            resident: mean(|memory| memory.resident),
            proportional: mean(|memory| memory.proportional),
            private: mean(|memory| memory.private),
        }
    }
}

/// A count, for dividing by.
#[expect(clippy::cast_precision_loss, reason = "counts here are small")]
pub(crate) fn count(number: usize) -> f64 {
    number as f64
}
