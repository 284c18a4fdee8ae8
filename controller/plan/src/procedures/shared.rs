// SPDX-License-Identifier: Apache-2.0
//! What to do about what the machines of a cluster share.

use windlass_types::cloud::{SharedKind, SharedReport, SharedSpec};

use super::Decided;
use crate::snapshot::Snapshot;
use crate::spec::ClusterSpec;
use crate::step::Step;

/// Makes what is missing and changes what can be changed. What is there and no longer in the spec stays until the cluster
/// is destroyed: machines may still be in it.
///
/// # Errors
/// What is there, is another than the spec wants, and cannot be changed, in words.
pub(crate) fn shared(snapshot: &Snapshot, spec: &ClusterSpec, decided: &mut Decided) -> Result<(), String> {
    let there = |kind: SharedKind| snapshot.shared.iter().find(|report| report.is.kind() == kind);
    let (mut todo, mut missing, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for wished in &spec.shared {
        let kind = wished.kind();
        match there(kind) {
            None => missing.push(kind.to_string()),
            Some(report) if !report.complete => reasons.push(format!("the making of the {kind} was interrupted")),
            Some(report) if report.is == *wished => continue,
            Some(report) if kind == SharedKind::SecurityGroup => reasons.push(rules_changed(&report.is, wished)),
            Some(report) => return Err(unlike(report, wished)),
        }
        todo.push(wished.clone());
    }
    if !missing.is_empty() {
        reasons.insert(0, format!("it is in the spec, and not there: {}", missing.join(", ")));
    }
    if !todo.is_empty() {
        decided.step(Step::PrepareCloud { shared: todo }, reasons.join("; "));
    }
    Ok(())
}

/// Removes all of it, in the opposite order in which it is made.
pub(crate) fn clearance(snapshot: &Snapshot, decided: &mut Decided) {
    let mut shared: Vec<SharedReport> = snapshot.shared.clone();
    shared.sort_by(|one, other| other.is.kind().cmp(&one.is.kind()).then_with(|| one.id.cmp(&other.id)));
    if !shared.is_empty() {
        decided.step(Step::ClearCloud { shared }, "no machine of the cluster needs it any more");
    }
}

fn unlike(report: &SharedReport, wished: &SharedSpec) -> String {
    let (is, shall) = (report.is.particulars().join(", "), wished.particulars().join(", "));
    format!("the {} is {is} and shall be {shall}", wished.kind())
}

fn rules_changed(is: &SharedSpec, shall: &SharedSpec) -> String {
    let (SharedSpec::SecurityGroup { rules: is }, SharedSpec::SecurityGroup { rules: shall }) = (is, shall) else {
        return "the security group is another".to_owned();
    };
    let added = shall.difference(is).map(|rule| format!("now {rule}"));
    let removed = is.difference(shall).map(|rule| format!("no longer {rule}"));
    format!("the security group {}", added.chain(removed).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use windlass_types::cloud::{Ports, Rule, RuleSource, SharedKind, SharedReport, SharedSpec, Traffic};

    use crate::example::{self, NOW};
    use crate::{ClusterSpec, Policy, Snapshot, Step};

    fn group(ports: &[u16]) -> SharedSpec {
        let rule = |port: &u16| Rule {
            from: RuleSource::Addresses("203.0.113.0/24".into()),
            traffic: Traffic::Tcp(Ports { first: *port, last: *port }),
        };
        SharedSpec::SecurityGroup { rules: ports.iter().map(rule).collect() }
    }

    fn wished(cidr: &str, ports: &[u16]) -> Vec<SharedSpec> {
        let subnet = SharedSpec::Subnet { cidr: cidr.into(), name_servers: BTreeSet::new() };
        vec![SharedSpec::Network, subnet, group(ports)]
    }

    fn exists(shared: Vec<SharedSpec>) -> Vec<SharedReport> {
        shared.into_iter().map(|is| SharedReport { id: format!("id-of-{}", is.kind()), is, complete: true }).collect()
    }

    fn plan(snapshot: &Snapshot, shared: Vec<SharedSpec>, nodes: &[&str]) -> crate::Plan {
        let spec = ClusterSpec { shared, ..example::spec(nodes) };
        crate::plan(snapshot, &spec, &Policy::default(), NOW)
    }

    #[test]
    fn what_is_shared_is_made_before_machines_and_only_what_is_missing_of_it() {
        let world = Snapshot { shared: exists(vec![SharedSpec::Network]), ..Snapshot::default() };
        let plan = plan(&world, wished("10.0.0.0/24", &[6443]), &["node1"]);
        let [prepare, create] = &plan.steps[..] else { panic!("{plan}") };
        let Step::PrepareCloud { shared } = &prepare.step else { panic!("{plan}") };
        assert_eq!(
            shared.iter().map(SharedSpec::kind).collect::<Vec<_>>(),
            [SharedKind::Subnet, SharedKind::SecurityGroup]
        );
        assert_eq!(create.after, std::slice::from_ref(&prepare.id));
    }

    #[test]
    fn rules_are_changed_in_place_and_each_change_is_named() {
        let mut world = Snapshot { shared: exists(wished("10.0.0.0/24", &[6443])), ..Snapshot::default() };
        example::add(&mut world, "node1");
        assert!(plan(&world, wished("10.0.0.0/24", &[6443]), &["node1"]).is_empty());
        let changed = plan(&world, wished("10.0.0.0/24", &[443]), &["node1"]);
        assert_eq!(
            changed.steps[0].reason,
            "the security group now lets in tcp 443 from 203.0.113.0/24, no longer lets in tcp 6443 from 203.0.113.0/24"
        );
    }

    #[test]
    fn what_cannot_be_changed_blocks_every_machine_and_destroys_nothing() {
        let world = Snapshot { shared: exists(wished("10.0.0.0/24", &[])), ..Snapshot::default() };
        let plan = plan(&world, wished("10.9.0.0/24", &[]), &["node1", "node2"]);
        assert!(plan.steps.is_empty() && plan.blocked.len() == 2, "{plan}");
        assert!(plan.blocked[0].reason.contains("the subnet is 10.0.0.0/24 and shall be 10.9.0.0/24"), "{plan}");
    }

    #[test]
    fn it_goes_last_and_only_with_the_whole_cluster() {
        let mut world = Snapshot { shared: exists(wished("10.0.0.0/24", &[])), ..Snapshot::default() };
        example::add(&mut world, "node1");
        let spec = example::spec(&[]);
        let destroy = |names: &[_]| crate::plan_destroy(&world, &spec.name, &spec.provider, names, &Policy::default());
        let whole = destroy(&[]);
        let [delete, clear] = &whole.steps[..] else { panic!("{whole}") };
        let Step::ClearCloud { shared } = &clear.step else { panic!("{whole}") };
        assert_eq!((clear.after.clone(), shared[0].is.kind()), (vec![delete.id.clone()], SharedKind::SecurityGroup));
        assert_eq!(shared[2].is.kind(), SharedKind::Network);
        assert_eq!(destroy(&[example::name("node1")]).steps.len(), 1);
    }
}
