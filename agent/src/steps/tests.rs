// SPDX-License-Identifier: Apache-2.0
//! Every kind of step on the model of a node: killed at every moment, carried out twice, and on a node that is not as it
//! was.

mod boot;
mod kernel;
mod menu;
mod packages;
mod repositories;
mod settings;
mod strange_nodes;
mod yum;

use std::collections::BTreeMap;

use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;

use super::{Beginning, Done, StepError, carry_out};
use crate::host::fake::{FakeHost, Moment, Node};

/// More agents than a step should need.
const MOST_AGENTS: u32 = 4;

/// Carries a step out by one agent after another.
async fn to_the_end(host: &FakeHost, step: &NodeStep) -> Result<Done, StepError> {
    host.next_step();
    let mut beginning = Beginning::Fresh;
    for _ in 0..MOST_AGENTS {
        tokio::select! {
            biased;
            ended = carry_out(host, host, step, beginning) => return ended,
            () = host.killed() => beginning = Beginning::Again { intended: host.is_intended(), boot: host.intended_in() },
        }
    }
    panic!("{step} does not come to an end");
}

async fn refused(host: &FakeHost, step: &NodeStep, words: &str) -> ErrorClass {
    let (node, effects) = (still(host), host.effects());
    let error = to_the_end(host, step).await.expect_err("it must not be done");
    assert!(error.to_string().contains(words), "{error}");
    assert_eq!((still(host), host.effects()), (node, effects), "nothing was changed");
    error.class()
}

/// The node without what differs from one course to another.
fn still(host: &FakeHost) -> Node {
    host.node()
}

/// A step comes to the same end wherever its agent is killed, none of its effects happens twice, and done again it changes
/// nothing. Gives the effects.
async fn survives_everything(make: impl Fn() -> FakeHost, step: &NodeStep) -> BTreeMap<String, u64> {
    let calm = make();
    let done = to_the_end(&calm, step).await.expect("done");
    assert!(done.changed, "{step} changes something");
    let (acts, effects) = (calm.acts(), calm.effects());
    assert!(acts > 1 && !effects.is_empty());
    let again = to_the_end(&calm, step).await.expect("done again");
    assert!(!again.changed && calm.effects() == effects, "{step} done again: {:?}", calm.effects());
    for nth in 1..=acts {
        for moment in [Moment::Before, Moment::After] {
            let host = make();
            host.kill_at(nth, moment);
            to_the_end(&host, step).await.unwrap_or_else(|error| panic!("{step}, {moment:?} {nth}: {error}"));
            assert_eq!(host.effects(), effects, "{step}, killed {moment:?} act {nth}");
            assert_eq!(still(&host), still(&calm), "{step}, killed {moment:?} act {nth}");
        }
    }
    effects
}
