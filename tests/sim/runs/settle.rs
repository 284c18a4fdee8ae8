// SPDX-License-Identifier: Apache-2.0
//! How an operator brings everything to its end once all is healed: paused runs go on, those that failed are tried again,
//! nodes that are still held are looked at and taken back; then everything is planned anew until there is nothing to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tonic::Status;
use windlass_proto::v1;
use windlass_proto::v1::run_service_client::RunServiceClient;

use super::operators::tell;
use super::wishes::{apply, plan};
use super::{Rules, SpecWish, Tell, What};
use crate::operator::{Operator, until_answered};
use crate::trace;

const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// After so many looks at a run that comes no further somebody tries again what failed there, and after as many again takes
/// the nodes from it: one that failed counts as down, and the others wait for it.
const PATIENCE: u32 = 40;

/// What the last spec says of settings.
pub(crate) const LAST_VALUE: u32 = 1000;

/// What all nodes become in the end: all that one spec says, or only their settings by a spec and the rest by commands.
static BY_SPEC: [What; 1] = [What::Spec(SpecWish { value: LAST_VALUE, has_hooks: true, is_whole: true })];
static BY_COMMANDS: [What; 4] = [
    What::Spec(SpecWish { value: LAST_VALUE, has_hooks: true, is_whole: false }),
    What::PackagesAndReboot,
    What::Kernel,
    What::RebootIfNeeded,
];

const RULES: Rules = Rules { max_unavailable: 3, on_failure: "continue:100", unreachable: "" };

impl Operator {
    /// Does all that, until it is done.
    pub(crate) async fn settle(&self, by_spec: bool) -> Result<String, Status> {
        let wishes = if by_spec { &BY_SPEC[..] } else { &BY_COMMANDS[..] };
        let mut settling = Settling { operator: self, wishes, retried: BTreeSet::new(), looks: BTreeMap::new() };
        for round in 1.. {
            let left = settling.once().await.unwrap_or_else(|status| Some(status.message().to_owned()));
            let is_done = left.is_none();
            self.dealings.left(left);
            if is_done {
                return Ok(format!("settled in {round} rounds"));
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
        Ok(String::new())
    }
}

struct Settling<'a> {
    operator: &'a Operator,
    wishes: &'static [What],
    retried: BTreeSet<String>,
    /// How often a run was seen with so many steps done.
    looks: BTreeMap<(String, u32), u32>,
}

impl Settling<'_> {
    /// What is left.
    async fn once(&mut self) -> Result<Option<String>, Status> {
        let mut under_way = BTreeSet::new();
        for run in runs().await? {
            self.carry_on(&run).await?;
            if matches!(run.state(), v1::RunState::Paused | v1::RunState::Running) {
                under_way.insert(run.id);
            } else if matches!(run.state(), v1::RunState::Failed | v1::RunState::Stopped)
                && self.retried.insert(run.id.clone())
            {
                // Its nodes may be another's by now.
                let again = tell(&run.id, Tell::Retry).await.map(|_| "goes on".to_owned());
                let again = again.unwrap_or_else(|status| status.message().to_owned());
                trace::line(|| format!("run {} is tried again: {again}", run.id));
                return Ok(Some(format!("run {} was tried again", run.id)));
            }
        }
        if let Some(held) = self.take_back(&under_way).await? {
            return Ok(Some(held));
        }
        if !under_way.is_empty() {
            return Ok(Some(format!("{under_way:?} have not ended")));
        }
        self.plan_what_is_left().await
    }

    /// Does what is to be done with a run that has not ended.
    async fn carry_on(&mut self, run: &v1::Run) -> Result<(), Status> {
        if run.state() == v1::RunState::Paused {
            tell(&run.id, Tell::Resume).await?;
        }
        if run.state() != v1::RunState::Running {
            return Ok(());
        }
        let looks = self.looks.entry((run.id.clone(), run.done_count)).or_default();
        *looks += 1;
        if *looks == PATIENCE {
            let again = tell(&run.id, Tell::Retry).await.err();
            trace::line(|| format!("run {} comes no further and is tried again: {again:?}", run.id));
        } else if *looks > 2 * PATIENCE {
            for node in
                self.operator.nodes.iter().filter(|node| run.holds.iter().any(|held| node.name.as_str() == held))
            {
                let released = self.operator.release(node).await?;
                trace::line(|| format!("{} is taken from run {}: {released}", node.name, run.id));
            }
        }
        Ok(())
    }

    /// Takes a node back that no run under way holds; what it was held for.
    async fn take_back(&self, under_way: &BTreeSet<String>) -> Result<Option<String>, Status> {
        let ask = async |channel| RunServiceClient::new(channel).list_holds(v1::ListHoldsRequest {}).await;
        let holds = until_answered(ask).await?.holds;
        let Some(hold) = holds.into_iter().find(|hold| !under_way.contains(&hold.run)) else { return Ok(None) };
        if let Some(node) = self.operator.nodes.iter().find(|node| node.name.as_str() == hold.node) {
            self.operator.release(node).await?;
        }
        Ok(Some(format!("{} was held by run {:?}", hold.node, hold.run)))
    }

    async fn plan_what_is_left(&self) -> Result<Option<String>, Status> {
        let nodes: Vec<_> = (0..self.operator.nodes.len()).collect();
        for what in self.wishes {
            let shown = plan(&self.operator.asked(*what, &nodes, RULES)).await?;
            if shown.plan.is_empty() {
                continue;
            }
            let plan = &shown.plan;
            let left = format!("{what:?}: {} steps, {:?}, {:?}", plan.steps.len(), plan.blocked, plan.queued);
            if !plan.steps.is_empty() {
                apply(shown).await?;
            }
            return Ok(Some(left));
        }
        Ok(None)
    }
}

async fn runs() -> Result<Vec<v1::Run>, Status> {
    let ask = async |channel| RunServiceClient::new(channel).list_runs(v1::ListRunsRequest { newest: 0 }).await;
    Ok(until_answered(ask).await?.runs)
}
