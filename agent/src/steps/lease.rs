// SPDX-License-Identifier: Apache-2.0
//! The right to take this node down, checked at the moment of acting.
//!
//! The arbiter has granted it already. This is the second lock: an order that was made under a lease that is over, or
//! for another node, is not carried out. Numbers rise with every lease of a controller. They are compared within its epoch,
//! because a controller that was restored from a backup begins an epoch of its own with numbers it may have used before.

use windlass_types::name::NodeName;
use windlass_types::node_step::StepOrder;

/// The epoch and number of a lease.
pub type Rank = (u64, u64);

/// What is to be remembered before the step is begun; `None` if it needs no lease.
///
/// # Errors
/// If the step needs a lease and this is not a good one; the text says why.
pub fn checked(node: &NodeName, epoch: u64, order: &StepOrder, highest: Rank) -> Result<Option<Rank>, String> {
    if !order.step.needs_lease() {
        return Ok(None);
    }
    let step = order.step.verb();
    let lease =
        order.lease.as_ref().ok_or_else(|| format!("{step} takes something down, and the order has no lease"))?;
    if lease.node != *node {
        return Err(format!("the lease is for node {}, this is {node}", lease.node));
    }
    if order.run.as_ref() != Some(&lease.run) {
        return Err(format!("the lease is for run {}, and the order is not of it", lease.run));
    }
    let rank = (epoch, lease.number);
    if rank < highest {
        let (epoch, number) = highest;
        return Err(format!("lease {} is over: this node has seen lease {number} of epoch {epoch}", lease.number));
    }
    Ok(Some(rank))
}

#[cfg(test)]
mod tests {
    use windlass_types::name::RunId;
    use windlass_types::node_step::{Lease, NodeStep};

    use super::*;

    fn order(lease: Option<(u64, &str, &str)>) -> StepOrder {
        let lease = lease.map(|(number, node, run)| Lease {
            number,
            node: NodeName::new(node).unwrap(),
            run: RunId::new(run).unwrap(),
        });
        StepOrder { run: RunId::new("r1").ok(), id: "a".into(), step: NodeStep::RepairPackages, lease }
    }

    #[test]
    fn a_step_that_takes_something_down_needs_a_lease_of_this_node_and_run_that_is_not_over() {
        let node = NodeName::new("node1").unwrap();
        for (lease, words) in [
            (None, "no lease"),
            (Some((9, "node2", "r1")), "node2"),
            (Some((9, "node1", "r2")), "run r2"),
            (Some((4, "node1", "r1")), "is over"),
        ] {
            let refusal = checked(&node, 2, &order(lease), (2, 5)).unwrap_err();
            assert!(refusal.contains(words), "{refusal}");
        }
        for number in [5, 6] {
            assert_eq!(checked(&node, 2, &order(Some((number, "node1", "r1"))), (2, 5)), Ok(Some((2, number))));
        }
    }

    #[test]
    fn a_restored_controller_counts_anew() {
        let node = NodeName::new("node1").unwrap();
        assert_eq!(checked(&node, 3, &order(Some((1, "node1", "r1"))), (2, 5)), Ok(Some((3, 1))));
    }

    #[test]
    fn a_step_that_takes_nothing_down_needs_none() {
        let node = NodeName::new("node1").unwrap();
        let order = StepOrder { step: NodeStep::Survey(Box::default()), ..order(None) };
        assert_eq!(checked(&node, 1, &order, (9, 9)), Ok(None));
    }
}
