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

/// `2 of 100 nodes failed: node3 (exit code 1), node7 (not connected); 4 skipped: …`; nothing if all went well.
pub(crate) fn summary(outcomes: &BTreeMap<String, Outcome>) -> Option<String> {
    let (skipped, failed): (Vec<_>, Vec<_>) =
        failures(outcomes).partition(|(_, outcome)| outcome.ending == Ending::Skipped);
    let failed = failed.into_iter().map(|(node, outcome)| format!("{} ({})", Escaped(node), outcome.ending));
    let skipped = skipped.into_iter().map(|(node, _)| Escaped(node).to_string());
    let nodes = if outcomes.len() == 1 { "node" } else { "nodes" };
    let (failed, skipped) = (listed("failed", failed), listed("skipped", skipped));
    let of = |part: &str| part.replacen(' ', &format!(" of {} {nodes} ", outcomes.len()), 1);
    match (failed, skipped) {
        (None, None) => None,
        (Some(failed), Some(skipped)) => Some(format!("{}; {skipped}", of(&failed))),
        (Some(one), None) | (None, Some(one)) => Some(of(&one)),
    }
}

/// `2 failed: node3 (exit code 1), node7 (not connected)`.
fn listed(what: &str, items: impl ExactSizeIterator<Item = String>) -> Option<String> {
    let count = items.len();
    let more = if count > MOST_LISTED { format!(" and {} more", count - MOST_LISTED) } else { String::new() };
    let shown: Vec<_> = items.take(MOST_LISTED).collect();
    (count > 0).then(|| format!("{count} {what}: {}{more}", shown.join(", ")))
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
    fn skipped_nodes_have_not_failed() {
        let some = outcomes(&[OK, Ending::Exited { code: 1 }, Ending::Skipped, Ending::Skipped]);
        let expected = "1 of 4 nodes failed: node001 (exit code 1); 2 skipped: node002, node003";
        assert_eq!(summary(&some).as_deref(), Some(expected));
        assert_eq!(exit(&some), Exit::NodesFailed);
        assert_eq!(summary(&outcomes(&[OK, Ending::Skipped])).as_deref(), Some("1 of 2 nodes skipped: node001"));
    }

    #[test]
    fn a_hostile_reason_stays_on_the_line() {
        let hostile = Ending::Refused { message: "no\n\u{1b}[2J".into() };
        let line = summary(&outcomes(&[hostile])).expect("a failure");
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
    }
}
