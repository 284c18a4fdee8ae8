// SPDX-License-Identifier: Apache-2.0
//! Which orders are obeyed: ours, current, in sequence, in time, and possible here. Nothing else, and nothing twice.

use std::time::Duration;

use windlass_proto::convert::order::ordered_action;
use windlass_proto::v1;
use windlass_types::action::Action;
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::name::{JobId, NodeName};
use windlass_types::node_step::NodeStep;
use windlass_types::time::UnixMillis;

use crate::journal::Order;

/// What this node knows when an order comes.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// This node.
    pub node: &'a NodeName,
    /// Whether programs may be run.
    pub exec: bool,
    /// Whether steps of runs can be done.
    pub steps: bool,
    /// The highest (epoch, sequence) obeyed.
    pub position: (u64, u64),
    /// The time.
    pub now: UnixMillis,
}

/// Whether the job was obeyed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Never.
    No,
    /// It is under way, or done with.
    Yes,
    /// It ended and the controller does not seem to know.
    EndedUnacknowledged,
    /// It ended, the controller knew, and how it ended is not kept.
    Acknowledged,
    /// It is so old that this is not known any more.
    TooOld,
}

/// What is done with an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Begin.
    Accept(Order),
    /// It was obeyed before: tell how it ended.
    ReportAgain,
    /// It was obeyed before: nothing.
    Ignore,
    /// It was obeyed before, or may have been: tell that nobody here knows any more how it ended, in these words.
    Forgotten(&'static str),
    /// Refuse, and say why.
    Refuse(String),
}

/// Only a controller that was restored from a backup asks for what it has acknowledged, or one whom the front did not tell.
const DONE_BEFORE: &str = "the node did this before, told how it ended, and did not keep it; it is not done again";

const TOO_OLD: &str = "the job is older than those this node remembers, so it may have done it before: if it did not, order it \
                       as a new job";

/// Decides.
#[must_use]
pub fn judge(wire: v1::Order, job: &JobId, known: Known, rules: &Rules<'_>) -> Verdict {
    if wire.node != rules.node.as_str() {
        let node = rules.node;
        return Verdict::Refuse(format!("the order is for node {}, this is {node}", Escaped(&wire.node)));
    }
    match known {
        Known::EndedUnacknowledged => return Verdict::ReportAgain,
        Known::Yes => return Verdict::Ignore,
        Known::Acknowledged => return Verdict::Forgotten(DONE_BEFORE),
        Known::TooOld => return Verdict::Forgotten(TOO_OLD),
        Known::No => {}
    }
    if let Some(message) = stale(&wire, rules) {
        return Verdict::Refuse(message);
    }
    match ordered_action(wire.action) {
        Err(error) => Verdict::Refuse(ErrorChain(&error).to_string()),
        Ok(Action::Exec(_)) if !rules.exec => {
            Verdict::Refuse("running programs is switched off on this node: see `exec` in its agent.toml".to_owned())
        }
        Ok(Action::Step(_)) if !rules.steps => {
            let why = "steps need programs outside of the agent's sandbox, and the systemd of this node starts none for it: it \
                       has to be 236 or newer, and answer on D-Bus, and `jobs` in agent.toml must not be \"process-group\"; the \
                       agent's journal says which it is";
            Verdict::Refuse(why.to_owned())
        }
        Ok(Action::Step(order)) if !rules.exec && matches!(order.step, NodeStep::Hook { .. }) => {
            Verdict::Refuse("a hook is a program, and running programs is switched off on this node".to_owned())
        }
        Ok(action) => Verdict::Accept(Order {
            job: job.clone(),
            epoch: wire.epoch,
            sequence: wire.sequence,
            expires: (wire.expires_unix_millis != 0).then_some(UnixMillis(wire.expires_unix_millis)),
            timeout: (wire.timeout_millis != 0).then(|| Duration::from_millis(wire.timeout_millis)),
            output_limit: wire.output_limit_bytes,
            action,
        }),
    }
}

fn stale(wire: &v1::Order, rules: &Rules<'_>) -> Option<String> {
    let (epoch, sequence) = rules.position;
    if wire.epoch < epoch {
        return Some(format!("the order is of epoch {}, but this node has obeyed epoch {epoch}", wire.epoch));
    }
    if wire.epoch == epoch && wire.sequence <= sequence {
        return Some(format!("the order has number {}, but this node has obeyed number {sequence}", wire.sequence));
    }
    let expires = UnixMillis(wire.expires_unix_millis);
    if wire.expires_unix_millis != 0 && rules.now > expires {
        let late = rules.now.since(expires).as_secs();
        return Some(format!("the order came {late} s after it expired; if that cannot be, compare the clocks"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> v1::Order {
        v1::Order {
            job: "5".into(),
            node: "node1".into(),
            epoch: 3,
            sequence: 11,
            expires_unix_millis: 1000,
            action: Some(v1::order::Action::Exec(v1::ExecAction { argv: vec!["true".into()] })),
            ..v1::Order::default()
        }
    }

    fn judged(order: v1::Order, known: Known, exec: bool, now: i64) -> Verdict {
        let node = NodeName::new("node1").expect("valid");
        let rules = Rules { node: &node, exec, steps: true, position: (3, 10), now: UnixMillis(now) };
        judge(order, &JobId::new("5").expect("digits"), known, &rules)
    }

    #[test]
    fn obeys_a_current_order_for_this_node() {
        let cases =
            [order(), v1::Order { epoch: 4, sequence: 1, ..order() }, v1::Order { expires_unix_millis: 0, ..order() }];
        for order in cases {
            assert!(matches!(judged(order, Known::No, true, 1000), Verdict::Accept(_)));
        }
    }

    #[test]
    fn refuses_everything_else_and_says_why() {
        let cases = [
            (v1::Order { node: "node2".into(), ..order() }, "for node node2"),
            (v1::Order { epoch: 2, sequence: 99, ..order() }, "epoch 2"),
            (v1::Order { sequence: 10, ..order() }, "number 10"),
            (v1::Order { sequence: 9, ..order() }, "number 9"),
            (v1::Order { expires_unix_millis: 999, ..order() }, "expired"),
            (v1::Order { action: None, ..order() }, "no action"),
            (v1::Order { node: "a\u{1b}[2J".into(), ..order() }, r"a\u{1b}[2J"),
        ];
        for (order, words) in cases {
            match judged(order, Known::No, true, 1000) {
                Verdict::Refuse(message) => assert!(message.contains(words), "{message}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_node_can_switch_programs_off() {
        assert!(matches!(judged(order(), Known::No, false, 0), Verdict::Refuse(_)));
        let hook = r#"{"id":"a","step":{"kind":"hook","argv":["true"],"timeout_millis":1}}"#;
        let hook = Some(v1::order::Action::Step(v1::StepAction { order: hook.into() }));
        assert!(matches!(judged(v1::Order { action: hook, ..order() }, Known::No, false, 0), Verdict::Refuse(_)));
        let get = Some(v1::order::Action::GetFile(v1::GetFileAction { path: "/etc/motd".into() }));
        let order = v1::Order { action: get, ..order() };
        assert!(matches!(judged(order, Known::No, false, 0), Verdict::Accept(_)));
    }

    #[test]
    fn steps_are_refused_where_programs_cannot_leave_the_sandbox() {
        let node = NodeName::new("node1").expect("valid");
        let repair = r#"{"id":"a","step":{"kind":"repair-packages"}}"#;
        let action = Some(v1::order::Action::Step(v1::StepAction { order: repair.into() }));
        let judged = |steps| {
            let rules = Rules { node: &node, exec: true, steps, position: (3, 10), now: UnixMillis(0) };
            judge(v1::Order { action: action.clone(), ..order() }, &JobId::new("5").expect("digits"), Known::No, &rules)
        };
        assert!(matches!(judged(true), Verdict::Accept(_)));
        assert!(matches!(judged(false), Verdict::Refuse(why) if why.contains("systemd")));
    }

    #[test]
    fn a_repeated_order_is_never_obeyed_again() {
        for sequence in [1, 10, 11, 99] {
            let order = v1::Order { sequence, ..order() };
            assert_eq!(judged(order.clone(), Known::Yes, true, 5000), Verdict::Ignore);
            assert_eq!(judged(order.clone(), Known::EndedUnacknowledged, true, 5000), Verdict::ReportAgain);
            assert_eq!(judged(order.clone(), Known::Acknowledged, true, 5000), Verdict::Forgotten(DONE_BEFORE));
            assert_eq!(judged(order, Known::TooOld, true, 0), Verdict::Forgotten(TOO_OLD));
        }
    }
}
