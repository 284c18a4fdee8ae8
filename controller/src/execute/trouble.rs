// SPDX-License-Identifier: Apache-2.0
//! What is said of a machine that does not become a node: what failed, why, what to do. Pure.

use windlass_types::machine::MachineStage;
use windlass_types::name::NodeName;

use super::steps::StepFailure;
use crate::cloud_init::mark;
use crate::provider::MachineKey;

/// What it means that a machine, before it was looked at, gave up its first boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Past {
    /// It has failed.
    Counts,
    /// It was switched on since, and begins again.
    IsOver,
    /// It shall begin again: what failed may have been mended since.
    TryAgain,
}

/// What a machine told last about something that does not go as it should.
pub(super) enum Trouble {
    Retrying(mark::Trouble),
    GivenUp(mark::Trouble),
}

/// Where a machine hangs that tells nothing, and what may be the cause.
pub(super) fn stuck_at(name: &NodeName, stage: Option<MachineStage>) -> (String, String) {
    let (what, cause) = match stage {
        None | Some(MachineStage::Created | MachineStage::Booting) => (
            "it has booted, and cloud-init has not begun",
            "see that the image has cloud-init, switched on, and finds its source: NoCloud, or in a cloud ConfigDrive",
        ),
        Some(MachineStage::CloudInit) => (
            "cloud-init has begun, and the agent is not installed",
            "its console shows what cloud-init could not do, or what it waits for",
        ),
        Some(_) => {
            ("the agent is installed, and has not joined", "see that the machine reaches the controller's join port")
        }
    };
    (what.to_owned(), format!("{cause}: windlass console {name} --tail 50"))
}

/// A machine that tries nothing more before its next boot.
pub(super) fn given_up(key: &MachineKey, why: &mark::Trouble, console_tail: String) -> StepFailure {
    let mut advice = why.advice().to_owned();
    if why.is_worth_another_try() {
        let MachineKey { cluster, name } = key;
        advice.push_str("; then windlass apply lets it try again. If the spec was wrong: mend it, ");
        advice.push_str(&format!("windlass destroy --cluster {cluster} --node {name}, and apply"));
    }
    StepFailure::Said { message: format!("{}: {}", why.code, why.detail), advice, console_tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> NodeName {
        NodeName::new("node1").expect("a name")
    }

    #[test]
    fn each_place_to_hang_at_has_its_own_cause() {
        let all = [None].into_iter().chain(MachineStage::ALL.map(Some)).map(|stage| stuck_at(&name(), stage).1);
        let mut told: Vec<_> = all.collect();
        told.dedup();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told.iter().all(|advice| advice.ends_with("windlass console node1 --tail 50")), "{told:?}");
    }

    #[test]
    fn what_was_refused_is_not_tried_again() {
        let told = |code: &str| {
            let why = mark::Trouble { code: code.to_owned(), attempt: 6, detail: "no".to_owned() };
            let key = MachineKey::new("k8s1".parse().expect("a name"), name());
            let StepFailure::Said { message, advice, .. } = given_up(&key, &why, String::new()) else {
                panic!("nothing said")
            };
            format!("{message}; {advice}")
        };
        assert!(told("wrong-signature").contains("windlass apply lets it try again"), "{}", told("wrong-signature"));
        assert!(!told("join-refused").contains("try again"), "{}", told("join-refused"));
    }
}
