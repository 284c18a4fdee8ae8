// SPDX-License-Identifier: Apache-2.0
//! What a job on many nodes comes to: an exit code, and one line about the nodes that failed.

use std::collections::BTreeMap;

use windlass_types::escape::Escaped;
use windlass_types::outcome::{Ending, Outcome};

use super::exit::Exit;

/// More failures than this are counted, not listed: the line must stay readable.
const MOST_LISTED: usize = 10;

/// The exit code of a job.
pub(crate) fn exit(outcomes: &BTreeMap<String, Outcome>) -> Exit {
    let mut failures = failures(outcomes).peekable();
    if failures.peek().is_none() {
        Exit::Done
    } else if failures.all(|(_, outcome)| outcome.ending == Ending::TimedOut) {
        Exit::TimedOut
    } else {
        Exit::NodesFailed
    }
}

/// `2 of 100 nodes failed: node3 (exit code 1), node7 (not connected)`; nothing if all went well.
pub(crate) fn summary(outcomes: &BTreeMap<String, Outcome>) -> Option<String> {
    let failed = failures(outcomes).count();
    if failed == 0 {
        return None;
    }
    let listed: Vec<_> = failures(outcomes)
        .take(MOST_LISTED)
        .map(|(node, outcome)| format!("{} ({})", Escaped(node), outcome.ending))
        .collect();
    let more = if failed > MOST_LISTED { format!(" and {} more", failed - MOST_LISTED) } else { String::new() };
    let nodes = if outcomes.len() == 1 { "node" } else { "nodes" };
    Some(format!("{failed} of {} {nodes} failed: {}{more}", outcomes.len(), listed.join(", ")))
}

fn failures(outcomes: &BTreeMap<String, Outcome>) -> impl Iterator<Item = (&String, &Outcome)> {
    outcomes.iter().filter(|(_, outcome)| !outcome.ending.is_success())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(endings: &[Ending]) -> BTreeMap<String, Outcome> {
        endings.iter().enumerate().map(|(i, ending)| (format!("node{i:03}"), Outcome::bare(ending.clone()))).collect()
    }

    const OK: Ending = Ending::Exited { code: 0 };

    #[test]
    fn the_exit_code_tells_timeouts_from_other_failures() {
        assert_eq!(exit(&outcomes(&[])), Exit::Done);
        assert_eq!(exit(&outcomes(&[OK, OK])), Exit::Done);
        assert_eq!(exit(&outcomes(&[OK, Ending::TimedOut])), Exit::TimedOut);
        assert_eq!(exit(&outcomes(&[Ending::Unreachable, Ending::TimedOut])), Exit::NodesFailed);
        assert_eq!(exit(&outcomes(&[Ending::Exited { code: 1 }])), Exit::NodesFailed);
    }

    #[test]
    fn failures_are_listed_with_reasons_and_bounded() {
        assert_eq!(summary(&outcomes(&[OK])), None);
        let some = outcomes(&[OK, Ending::Exited { code: 1 }, Ending::Unreachable]);
        let expected = "2 of 3 nodes failed: node001 (exit code 1), node002 (not connected)";
        assert_eq!(summary(&some).as_deref(), Some(expected));
        let many = summary(&outcomes(&vec![Ending::TimedOut; 100])).expect("failures");
        assert!(many.ends_with("node009 (timed out) and 90 more"), "{many}");
    }

    #[test]
    fn a_hostile_reason_stays_on_the_line() {
        let hostile = Ending::Refused { message: "no\n\u{1b}[2J".into() };
        let line = summary(&outcomes(&[hostile])).expect("a failure");
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
    }
}
