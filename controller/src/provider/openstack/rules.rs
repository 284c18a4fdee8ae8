// SPDX-License-Identifier: Apache-2.0
//! Rules of security groups, in our words and in the cloud's.

use std::collections::BTreeSet;

use windlass_types::cloud::{Ports, Rule, RuleSource, Traffic};

use crate::openstack::network::{Direction, EtherType, NewRule, Rule as CloudRule, SecurityGroup};

/// A rule that says nothing of addresses lets in all.
const ANYWHERE: &str = "0.0.0.0/0";
const ANYWHERE_V6: &str = "::/0";

/// What a group lets in. What it lets out is the cloud's own default and not looked at.
pub(super) fn of(group: &SecurityGroup) -> BTreeSet<Rule> {
    group.rules.iter().filter(|rule| rule.direction == Direction::Ingress).map(understood).collect()
}

/// A rule in our words.
pub(super) fn understood(rule: &CloudRule) -> Rule {
    let from = match (&rule.remote_group_id, &rule.remote_ip_prefix) {
        (Some(group), _) if *group == rule.security_group_id => RuleSource::Nodes,
        (Some(group), _) => RuleSource::Addresses(format!("the security group {group}")),
        (None, Some(prefix)) => RuleSource::Addresses(prefix.clone()),
        (None, None) if rule.ethertype == EtherType::V6 => RuleSource::Addresses(ANYWHERE_V6.to_owned()),
        (None, None) => RuleSource::Addresses(ANYWHERE.to_owned()),
    };
    let ports = rule.port_range_min.zip(rule.port_range_max).map(|(first, last)| Ports { first, last });
    let traffic = match (rule.protocol.as_deref(), ports) {
        (Some("icmp" | "1"), None) => Traffic::Icmp,
        (Some("tcp" | "6"), Some(ports)) => Traffic::Tcp(ports),
        (Some("udp" | "17"), Some(ports)) => Traffic::Udp(ports),
        _ => Traffic::Other,
    };
    Rule { from, traffic }
}

/// A rule in the cloud's words; `None` for what no spec asks for.
pub(super) fn to_make(rule: &Rule, group: &str) -> Option<NewRule> {
    let (protocol, ports) = match rule.traffic {
        Traffic::Icmp => ("icmp", None),
        Traffic::Tcp(ports) => ("tcp", Some(ports)),
        Traffic::Udp(ports) => ("udp", Some(ports)),
        Traffic::Other => return None,
    };
    let (prefix, from_group) = match &rule.from {
        RuleSource::Nodes => (None, Some(group.to_owned())),
        RuleSource::Addresses(addresses) => (Some(addresses.clone()), None),
    };
    let is_v6 = prefix.as_ref().is_some_and(|prefix| prefix.contains(':'));
    Some(NewRule {
        security_group_id: group.to_owned(),
        direction: Direction::Ingress,
        ethertype: if is_v6 { EtherType::V6 } else { EtherType::V4 },
        protocol: Some(protocol.to_owned()),
        port_range_min: ports.map(|ports| ports.first),
        port_range_max: ports.map(|ports| ports.last),
        remote_ip_prefix: prefix,
        remote_group_id: from_group,
        description: rule.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cloud_rule(extra: serde_json::Value) -> CloudRule {
        let mut rule = json!({"id": "r1", "security_group_id": "g1", "direction": "ingress", "ethertype": "IPv4"});
        rule.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        serde_json::from_value(rule).expect("a rule")
    }

    #[test]
    fn each_rule_is_understood_as_it_was_made() {
        let ports = Ports { first: 2379, last: 2380 };
        for rule in [
            Rule { from: RuleSource::Nodes, traffic: Traffic::Tcp(ports) },
            Rule { from: RuleSource::Nodes, traffic: Traffic::Icmp },
            Rule { from: RuleSource::Addresses("203.0.113.0/24".into()), traffic: Traffic::Udp(ports) },
        ] {
            let new = serde_json::to_value(to_make(&rule, "g1").expect("a rule")).expect("JSON");
            assert_eq!(understood(&cloud_rule(new)), rule);
        }
    }

    #[test]
    fn what_lets_in_everybody_is_seen_however_it_is_written() {
        let everywhere = RuleSource::Addresses(ANYWHERE.into());
        let tcp = json!({"protocol": "tcp", "port_range_min": 22, "port_range_max": 22});
        assert_eq!(understood(&cloud_rule(tcp)).from, everywhere);
        let any = understood(&cloud_rule(json!({"protocol": null, "remote_ip_prefix": ANYWHERE})));
        assert_eq!(any, Rule { from: everywhere, traffic: Traffic::Other });
        let foreign = understood(&cloud_rule(json!({"remote_group_id": "g2"})));
        assert_eq!(foreign.from.to_string(), "the security group g2");
    }
}
