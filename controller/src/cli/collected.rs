// SPDX-License-Identifier: Apache-2.0
//! The result of a job as one JSON document.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::outcome::{Ending, Outcome};

use super::follow::Sink;

/// How one node ended and what it wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct NodeResult {
    /// The node.
    pub(crate) node: String,
    /// Whether it did what was asked.
    pub(crate) ok: bool,
    /// `exited`, `signaled`, `timed-out`, `stopped`, `failed`, `unknown`, `refused`, `unreachable` or `skipped`.
    pub(crate) result: &'static str,
    /// The exit code, if it exited.
    pub(crate) exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) signal: Option<i32>,
    /// What happened, in words.
    pub(crate) message: String,
    /// Wall time, milliseconds.
    pub(crate) duration_millis: u64,
    /// What was kept of its stdout; bytes that are not UTF-8 are replaced.
    pub(crate) stdout: String,
    /// What was kept of its stderr; bytes that are not UTF-8 are replaced.
    pub(crate) stderr: String,
    /// Some bytes were replaced.
    pub(crate) output_replaced: bool,
    /// Bytes of stdout that were not kept.
    pub(crate) stdout_missing_bytes: u64,
    /// Bytes of stderr that were not kept.
    pub(crate) stderr_missing_bytes: u64,
}

/// Collects results.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    output: BTreeMap<String, [Vec<u8>; 2]>,
    results: BTreeMap<String, NodeResult>,
}

/// The whole document.
#[derive(Debug, Serialize)]
pub(crate) struct JobResult {
    /// The job.
    pub(crate) job: String,
    /// The job has ended; otherwise it continues without us.
    pub(crate) ended: bool,
    /// Nodes that ended well.
    pub(crate) succeeded: usize,
    /// Nodes that ended otherwise.
    pub(crate) failed: usize,
    /// Nodes whose turn never came.
    pub(crate) skipped: usize,
    /// Per node, by name.
    pub(crate) items: Vec<NodeResult>,
}

impl Collected {
    /// The document.
    pub(crate) fn into_result(self, job: &str, ended: bool) -> JobResult {
        let items: Vec<_> = self.results.into_values().collect();
        let succeeded = items.iter().filter(|item| item.ok).count();
        let skipped = items.iter().filter(|item| item.result == result_word(&Ending::Skipped)).count();
        JobResult { job: job.to_owned(), ended, succeeded, failed: items.len() - succeeded - skipped, skipped, items }
    }
}

const fn result_word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Exited { .. } => "exited",
        Ending::Signaled { .. } => "signaled",
        Ending::TimedOut => "timed-out",
        Ending::Stopped => "stopped",
        Ending::Failed { .. } => "failed",
        Ending::Unknown { .. } => "unknown",
        Ending::Refused { .. } => "refused",
        Ending::Unreachable => "unreachable",
        Ending::Skipped => "skipped",
    }
}

fn text(bytes: Vec<u8>, replaced: &mut bool) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| {
        *replaced = true;
        String::from_utf8_lossy(error.as_bytes()).into_owned()
    })
}

impl Sink for Collected {
    fn output(&mut self, node: &str, stream: v1::OutputStream, data: &[u8]) -> io::Result<()> {
        let index = usize::from(stream == v1::OutputStream::Stderr);
        self.output.entry(node.to_owned()).or_default()[index].extend_from_slice(data);
        Ok(())
    }

    fn ended(&mut self, node: &str, outcome: &Outcome, missing: [u64; 2]) -> io::Result<()> {
        let [stdout, stderr] = self.output.remove(node).unwrap_or_default();
        let mut replaced = false;
        let result = NodeResult {
            node: node.to_owned(),
            ok: outcome.ending.is_success(),
            result: result_word(&outcome.ending),
            exit_code: if let Ending::Exited { code } = outcome.ending { Some(code) } else { None },
            signal: if let Ending::Signaled { signal } = outcome.ending { Some(signal) } else { None },
            message: outcome.ending.to_string(),
            duration_millis: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
            stdout: text(stdout, &mut replaced),
            stderr: text(stderr, &mut replaced),
            output_replaced: replaced,
            stdout_missing_bytes: missing[0],
            stderr_missing_bytes: missing[1],
        };
        self.results.insert(node.to_owned(), result);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_are_marked() {
        let mut collected = Collected::default();
        collected.output("a", v1::OutputStream::Stdout, b"x\xff").expect("kept");
        collected.ended("a", &Outcome::bare(Ending::Exited { code: 2 }), [7, 0]).expect("kept");
        let result = collected.into_result("42", true);
        let item = &result.items[0];
        assert_eq!((item.stdout.as_str(), item.output_replaced, item.exit_code), ("x\u{fffd}", true, Some(2)));
        assert_eq!((result.succeeded, result.failed, item.stdout_missing_bytes), (0, 1, 7));
    }
}
