// SPDX-License-Identifier: Apache-2.0
//! What would be done now and was not planned, and the other way round: why a saved plan is refused.

use std::collections::BTreeSet;

use windlass_types::name::NodeName;

use crate::plan::{Blocked, Plan};
use crate::step::PlannedStep;

/// The differences between a saved plan and the one that would be made now, in sentences; empty if they do the same.
#[must_use]
pub fn differences(saved: &Plan, now: &Plan) -> Vec<String> {
    if saved.hash() == now.hash() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for step in &saved.steps {
        match now.step(&step.id) {
            None => found.push(format!("{}: planned, and no longer needed or possible", step.id)),
            Some(other) if other.step != step.step => {
                found.push(format!("{}: would be done with other particulars now", step.id));
            }
            Some(_) => {}
        }
    }
    let is_new = |step: &&PlannedStep| saved.step(&step.id).is_none();
    found.extend(now.steps.iter().filter(is_new).map(|step| format!("{}: needed now ({})", step.id, step.reason)));
    let is_new = |block: &&Blocked| !saved.blocked.iter().any(|other| other.is_of(block));
    found.extend(now.blocked.iter().filter(is_new).map(|block| format!("{}: {}", block.node, block.reason)));
    let queued = |plan: &Plan| -> BTreeSet<NodeName> {
        let away = plan.queued.iter().filter(|queued| queued.after.is_none());
        away.map(|queued| queued.node.clone()).collect()
    };
    let (before, since) = (queued(saved), queued(now));
    found.extend(since.difference(&before).map(|node| format!("{node}: cannot be asked any more")));
    found.extend(before.difference(&since).map(|node| format!("{node}: could not be asked, and is back")));
    if found.is_empty() {
        found.push("the order or the limits of the steps changed".to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{self, NOW, name};
    use crate::scenes::{packages_wish, survey, world};
    use crate::{NodeWish, Policy, Snapshot, plan_nodes};
    use windlass_types::survey::{Found, Survey};

    #[test]
    fn a_plan_for_another_world_is_told_apart_and_why() {
        let saved = example::plan_of(&example::empty(), &["node1", "node2"]);
        assert!(differences(&saved, &saved.clone()).is_empty());
        let mut world = example::empty();
        example::add(&mut world, "node1");
        let now = example::plan_of(&world, &["node1", "node2"]);
        assert_eq!(differences(&saved, &now), ["create/node1: planned, and no longer needed or possible"]);
        assert_eq!(
            differences(&now, &saved),
            ["create/node1: needed now (it is in the spec, and there is no such machine)"]
        );
    }

    #[test]
    fn a_node_that_went_away_is_named_and_the_words_for_its_absence_do_not_matter() {
        let wish = NodeWish { packages: packages_wish(), ..NodeWish::default() };
        let surveyed = Survey { packages: Some(Found::AsWished), ..survey() };
        let (mut snapshot, wishes) = world(&[("node1", wish, surveyed)]);
        let plan = |snapshot: &Snapshot| plan_nodes(snapshot, &wishes, &Policy::default(), NOW);
        let there = plan(&snapshot);
        snapshot.unsurveyed.insert(name("node1"), "no answer for 10 s".into());
        let gone = plan(&snapshot);
        snapshot.unsurveyed.insert(name("node1"), "no answer for 20 s".into());
        let still_gone = plan(&snapshot);
        assert_eq!(differences(&there, &gone), ["node1: cannot be asked any more"]);
        assert_eq!(differences(&gone, &there), ["node1: could not be asked, and is back"]);
        assert!(differences(&gone, &still_gone).is_empty());
    }
}
