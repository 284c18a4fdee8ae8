// SPDX-License-Identifier: Apache-2.0
//! Which nodes are asked how they are, for a plan that somebody waits for.

use std::collections::BTreeMap;

use windlass_plan::{NodeWish, Snapshot, Step};
use windlass_proto::refusal::Refusal;
use windlass_types::name::{NodeName, RunId};
use windlass_types::run::StepState;
use windlass_types::survey::SurveyRequest;

use super::Runs;
use super::apply::Metadata;

impl Runs {
    /// Asks the nodes for which something is wished how they are. Those that have not joined cannot be asked yet, and
    /// those that a run has at work would answer after that, of what is not so any more by then.
    pub(super) async fn survey(
        &self,
        snapshot: &mut Snapshot,
        wishes: &BTreeMap<NodeName, NodeWish>,
        metadata: &Metadata,
        by: &str,
    ) -> Result<(), Refusal> {
        let ask = |(node, wish): (&NodeName, &NodeWish)| {
            let is_known = !wish.is_empty() && snapshot.node(node).is_some();
            let refresh = metadata.is_fetched_by(node) && (wish.packages.is_some() || wish.kernel.is_some());
            is_known.then(|| (node.clone(), SurveyRequest { refresh, ..wish.request() }))
        };
        let mut requests: BTreeMap<_, _> = wishes.iter().filter_map(ask).collect();
        let mut at_work = self.at_work();
        at_work.retain(|node, _| requests.remove(node).is_some());
        let mut surveyed = self.with.surveyor.ask(requests, by).await?;
        surveyed
            .unsurveyed
            .extend(at_work.into_iter().map(|(node, run)| (node, format!("run {run} is at work on it"))));
        (snapshot.surveys, snapshot.unsurveyed) = (surveyed.surveys, surveyed.unsurveyed);
        self.with.arbiter.known().write(snapshot);
        Ok(())
    }

    /// Nodes on which a run does something at this moment.
    fn at_work(&self) -> BTreeMap<NodeName, RunId> {
        let mut at_work = BTreeMap::new();
        for run in self.under_way_now() {
            let id = run.id();
            let progress = run.progress();
            let running = progress.records().filter(|(_, record)| record.state == StepState::Running);
            let on_nodes = running.filter_map(|(planned, _)| match &planned.step {
                Step::OnNode { node, .. } => Some((node.clone(), id.clone())),
                _ => None,
            });
            at_work.extend(on_nodes);
        }
        at_work
    }
}
