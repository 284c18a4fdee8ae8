// SPDX-License-Identifier: Apache-2.0
//! What is concluded about a node from what is known of it. Pure: evidence in, conclusions and news out.

use std::net::SocketAddr;
use std::time::Duration;

use windlass_types::condition::{Condition, ConditionKind};
use windlass_types::event::EventKind;
use windlass_types::facts::{Fact, Subject};
use windlass_types::name::NodeName;
use windlass_types::time::UnixMillis;

use super::node::Revocation;
use super::{Facts, KnownFact};

/// Everything the conclusions are drawn from.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// The node.
    pub name: &'a NodeName,
    /// Set if it is revoked.
    pub revoked: Option<&'a Revocation>,
    /// Where its agent is, if it has a session.
    pub address: Option<SocketAddr>,
    /// Why it has none.
    pub disconnected_because: &'a str,
    /// What its agent observed.
    pub facts: &'a Facts,
    /// The boot its agent spoke of last.
    pub boot_id: Option<&'a str>,
    /// Its clock minus the controller's.
    pub clock_offset_millis: i64,
    /// How much of that is too much.
    pub clock_skew_limit: Duration,
}

/// The conditions of a node of which nothing is known.
#[must_use]
pub fn unknown(now: UnixMillis) -> Vec<Condition> {
    let none = |kind| Condition { kind, holds: false, reason: String::new(), since: now };
    ConditionKind::ALL.into_iter().map(none).collect()
}

/// Draws the conclusions anew and returns the news.
pub fn conclude(conditions: &mut [Condition], evidence: &Evidence<'_>, now: UnixMillis) -> Vec<(EventKind, String)> {
    let mut news = Vec::new();
    for condition in conditions {
        let (holds, reason) = evidence.judge(condition.kind);
        if holds != condition.holds {
            condition.since = now;
            news.extend(announce(condition.kind, holds, evidence.name, &reason));
        }
        condition.holds = holds;
        condition.reason = reason;
    }
    news
}

impl Evidence<'_> {
    fn judge(&self, kind: ConditionKind) -> (bool, String) {
        match kind {
            ConditionKind::Connected => match self.address {
                Some(address) => (true, format!("from {}", address.ip())),
                None => (false, self.disconnected_because.to_owned()),
            },
            ConditionKind::Healthy => match self.illness() {
                Some(reason) => (false, reason),
                None => (true, "connected, and everything it watches is well".to_owned()),
            },
            ConditionKind::RebootNeeded => match self.fact(Subject::PendingReboot) {
                Some(Fact::PendingReboot(reasons)) if !reasons.is_empty() => (true, reasons.join("; ")),
                _ => (false, String::new()),
            },
            ConditionKind::ClockSkewed => self.clock(),
            ConditionKind::Revoked => match self.revoked {
                Some(revocation) => (true, revocation.reason.clone()),
                None => (false, String::new()),
            },
        }
    }

    fn illness(&self) -> Option<String> {
        if self.address.is_none() {
            return Some("not connected".to_owned());
        }
        if self.facts.is_empty() {
            return Some("its facts have not arrived yet".to_owned());
        }
        if let (Some(Fact::Boot(boot)), Some(now)) = (self.fact(Subject::Boot), self.boot_id)
            && boot.boot_id != now
        {
            return Some("it was rebooted, and what is known of it is from before".to_owned());
        }
        match self.fact(Subject::Services) {
            Some(Fact::Services(services)) => {
                if let Some(ill) = services.iter().find(|service| !service.is_well()) {
                    return Some(format!("{} is {}", ill.unit, ill.active));
                }
            }
            Some(Fact::Unavailable { reason, .. }) => {
                return Some(format!("nobody can tell how its services are: {reason}"));
            }
            _ => {}
        }
        match self.clock() {
            (true, reason) => Some(reason),
            (false, _) => None,
        }
    }

    fn clock(&self) -> (bool, String) {
        let limit = i64::try_from(self.clock_skew_limit.as_millis()).unwrap_or(i64::MAX);
        let offset = self.clock_offset_millis;
        let skewed = self.address.is_some() && offset.saturating_abs() > limit;
        let way = if offset < 0 { "behind" } else { "ahead" };
        let seconds = offset.unsigned_abs() / 1000;
        (skewed, if skewed { format!("its clock is {seconds} s {way} of the controller's") } else { String::new() })
    }

    fn fact(&self, subject: Subject) -> Option<&Fact> {
        self.facts.get(&subject).map(|KnownFact { fact, .. }| fact)
    }
}

/// The event of a condition that turned; a revocation has its own event with who asked for it.
fn announce(kind: ConditionKind, holds: bool, name: &NodeName, reason: &str) -> Option<(EventKind, String)> {
    Some(match (kind, holds) {
        (ConditionKind::Connected, true) => (EventKind::NodeConnected, format!("{name} connected {reason}")),
        (ConditionKind::Connected, false) => (EventKind::NodeDisconnected, format!("{name} disconnected: {reason}")),
        (ConditionKind::Healthy, true) => (EventKind::NodeHealthy, format!("{name} is healthy")),
        (ConditionKind::Healthy, false) => (EventKind::NodeUnhealthy, format!("{name} is not healthy: {reason}")),
        (ConditionKind::RebootNeeded, true) => (EventKind::RebootNeeded, format!("{name} needs a reboot: {reason}")),
        (ConditionKind::RebootNeeded, false) => {
            (EventKind::RebootNotNeeded, format!("{name} needs no reboot any more"))
        }
        (ConditionKind::ClockSkewed, true) => (EventKind::ClockSkewed, format!("{name}: {reason}")),
        (ConditionKind::ClockSkewed, false) => (EventKind::ClockRight, format!("the clock of {name} is right again")),
        (ConditionKind::Revoked, _) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::facts::{Boot, ServiceState};

    const NOW: UnixMillis = UnixMillis(1_000);

    fn known(fact: Fact) -> (Subject, KnownFact) {
        (fact.subject(), KnownFact { fact, observed_at: NOW })
    }

    fn judge(facts: Facts, connected: bool, clock_offset_millis: i64) -> (Vec<Condition>, Vec<EventKind>) {
        let name = NodeName::new("node1").expect("a name");
        let evidence = Evidence {
            name: &name,
            revoked: None,
            address: connected.then(|| SocketAddr::from(([10, 0, 0, 1], 1))),
            disconnected_because: "no heartbeat for 30 s",
            facts: &facts,
            boot_id: Some("b2"),
            clock_offset_millis,
            clock_skew_limit: Duration::from_secs(10),
        };
        let mut conditions = unknown(NOW);
        let news = conclude(&mut conditions, &evidence, NOW);
        assert!(conclude(&mut conditions, &evidence, NOW).is_empty(), "the same evidence is no news twice");
        (conditions, news.into_iter().map(|(kind, _)| kind).collect())
    }

    fn holds(conditions: &[Condition], kind: ConditionKind) -> bool {
        conditions.iter().any(|condition| condition.kind == kind && condition.holds)
    }

    #[test]
    fn connected_with_facts_is_healthy() {
        let (conditions, news) = judge(Facts::from([known(Fact::PendingReboot(vec![]))]), true, 500);
        assert!(holds(&conditions, ConditionKind::Healthy));
        assert_eq!(news, [EventKind::NodeConnected, EventKind::NodeHealthy]);
    }

    #[test]
    fn what_is_known_from_before_a_reboot_makes_nobody_healthy() {
        for (known_boot, healthy) in [("b1", false), ("b2", true)] {
            let boot = Boot { boot_id: known_boot.into(), booted_at: NOW };
            let (conditions, _) = judge(Facts::from([known(Fact::Boot(boot))]), true, 0);
            assert_eq!(holds(&conditions, ConditionKind::Healthy), healthy, "{known_boot}");
        }
    }

    #[test]
    fn a_failed_service_is_not_healthy_and_named() {
        let service = ServiceState { unit: "docker.service".into(), active: "failed".into(), sub: String::new() };
        let (conditions, _) = judge(Facts::from([known(Fact::Services(vec![service]))]), true, 0);
        let healthy = conditions.iter().find(|condition| condition.kind == ConditionKind::Healthy).expect("present");
        assert_eq!((healthy.holds, healthy.reason.as_str()), (false, "docker.service is failed"));
    }

    #[test]
    fn services_that_start_or_cannot_be_asked_are_not_healthy_yet() {
        let service = |active: &str| {
            Fact::Services(vec![ServiceState {
                unit: "docker.service".into(),
                active: active.into(),
                sub: String::new(),
            }])
        };
        let silent = Fact::Unavailable { subject: Subject::Services, reason: "no answer".into() };
        let other = Fact::Unavailable { subject: Subject::Disks, reason: "no lsblk".into() };
        for (fact, healthy) in [
            (service("active"), true),
            (service("reloading"), true),
            (service("activating"), false),
            (silent, false),
            (other, true),
        ] {
            let (conditions, _) = judge(Facts::from([known(fact.clone())]), true, 0);
            assert_eq!(holds(&conditions, ConditionKind::Healthy), healthy, "{fact:?}");
        }
    }

    #[test]
    fn a_clock_off_by_more_than_the_limit_is_skewed_either_way() {
        for (offset, skewed) in [(0, false), (10_000, false), (10_001, true), (-10_001, true), (i64::MIN, true)] {
            let (conditions, _) = judge(Facts::new(), true, offset);
            assert_eq!(holds(&conditions, ConditionKind::ClockSkewed), skewed, "{offset}");
        }
    }

    #[test]
    fn a_silent_node_has_no_clock_to_judge() {
        let (conditions, news) = judge(Facts::new(), false, 1_000_000);
        assert!(conditions.iter().all(|condition| !condition.holds) && news.is_empty());
    }
}
