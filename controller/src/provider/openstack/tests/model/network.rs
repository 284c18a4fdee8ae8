// SPDX-License-Identifier: Apache-2.0
//! Networks of the model, and what belongs to them.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Model, State, conflict, from};
use crate::openstack::error::CloudError;
use crate::openstack::network::{
    Filter, FloatingIp, Network, Networking, NewFloatingIp, NewNetwork, NewPort, NewRouter, NewRule, NewSecurityGroup,
    NewSubnet, Part, Port, Router, Rule, SecurityGroup, Subnet,
};

type Answer<T> = Result<T, CloudError>;

/// As it was asked for, with an id and whatever else.
fn described<T: DeserializeOwned>(new: &impl Serialize, id: &str, more: Value) -> T {
    let mut value = serde_json::to_value(new).expect("JSON");
    let fields = value.as_object_mut().expect("an object");
    fields.insert("id".into(), json!(id));
    fields.extend(more.as_object().expect("an object").clone());
    from(value)
}

fn is_in_use(state: &State, part: Part, id: &str) -> bool {
    match part {
        Part::Network => {
            state.subnets.iter().any(|subnet| subnet.network_id == id)
                || state.ports.iter().any(|port| port.network_id == id)
        }
        Part::Subnet => state.ports.iter().any(|port| port.fixed_ips.iter().any(|fixed| fixed.subnet_id == id)),
        Part::Router => state.ports.iter().any(|port| port.device_id == id),
        Part::SecurityGroup => state.ports.iter().any(|port| port.security_groups.iter().any(|group| group == id)),
        Part::Port => state.ports.iter().any(|port| port.id == id && !port.device_id.is_empty()),
        Part::Rule | Part::FloatingIp => false,
    }
}

#[async_trait::async_trait]
impl Networking for Model {
    async fn external_networks(&self) -> Answer<Vec<Network>> {
        Ok(self.state().networks.iter().filter(|network| network.external).cloned().collect())
    }

    async fn networks(&self, _filter: &Filter) -> Answer<Vec<Network>> {
        Ok(self.state().networks.clone())
    }

    async fn subnets(&self, _filter: &Filter) -> Answer<Vec<Subnet>> {
        Ok(self.state().subnets.clone())
    }

    async fn routers(&self, _filter: &Filter) -> Answer<Vec<Router>> {
        Ok(self.state().routers.clone())
    }

    async fn ports(&self, _filter: &Filter) -> Answer<Vec<Port>> {
        Ok(self.state().ports.clone())
    }

    async fn security_groups(&self, _filter: &Filter) -> Answer<Vec<SecurityGroup>> {
        Ok(self.state().groups.clone())
    }

    async fn floating_ips(&self, _filter: &Filter) -> Answer<Vec<FloatingIp>> {
        Ok(self.state().floating.clone())
    }

    async fn create_network(&self, new: &NewNetwork) -> Answer<Network> {
        self.change(format!("network {}", new.name), |state| {
            let id = state.id("network");
            let made: Network = described(new, &id, json!({}));
            state.networks.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_subnet(&self, new: &NewSubnet) -> Answer<Subnet> {
        self.change(format!("subnet {}", new.name), |state| {
            let id = state.id("subnet");
            let made: Subnet = described(new, &id, json!({}));
            state.subnets.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_router(&self, new: &NewRouter) -> Answer<Router> {
        self.change(format!("router {}", new.name), |state| {
            let id = state.id("router");
            let made: Router = described(new, &id, json!({}));
            state.routers.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_port(&self, new: &NewPort) -> Answer<Port> {
        self.change(format!("port {}", new.name), |state| {
            let id = state.id("port");
            let address = format!("10.0.0.{}", state.ids);
            let subnet = state.subnets.first().map(|subnet| subnet.id.clone()).unwrap_or_default();
            let made: Port = described(new, &id, json!({"fixed_ips": [{"subnet_id": subnet, "ip_address": address}]}));
            state.ports.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_security_group(&self, new: &NewSecurityGroup) -> Answer<SecurityGroup> {
        self.change(format!("group {}", new.name), |state| {
            let id = state.id("group");
            let out = json!({"id": "out", "security_group_id": id, "direction": "egress", "ethertype": "IPv4"});
            let made: SecurityGroup = described(new, &id, json!({"security_group_rules": [out]}));
            state.groups.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_rule(&self, new: &NewRule) -> Answer<Rule> {
        self.change(format!("rule {}", new.description), |state| {
            let id = state.id("rule");
            let made: Rule = described(new, &id, json!({}));
            let group = state.groups.iter_mut().find(|group| group.id == new.security_group_id).expect("a group");
            if group.rules.iter().any(|rule| Rule { id: made.id.clone(), ..rule.clone() } == made) {
                return Err(conflict("the rule is there"));
            }
            group.rules.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn create_floating_ip(&self, new: &NewFloatingIp) -> Answer<FloatingIp> {
        self.change("floating IP".into(), |state| {
            let id = state.id("floating");
            let address = format!("172.24.4.{}", state.ids);
            let made: FloatingIp = described(new, &id, json!({"floating_ip_address": address}));
            state.floating.push(made.clone());
            Ok(made)
        })
        .await
    }

    async fn associate_floating_ip(&self, id: &str, port: Option<&str>) -> Answer<FloatingIp> {
        self.change(format!("{id} to {port:?}"), |state| {
            let floating = state.floating.iter_mut().find(|floating| floating.id == id).expect("a floating IP");
            floating.port_id = port.map(str::to_owned);
            Ok(floating.clone())
        })
        .await
    }

    async fn set_security_groups(&self, port: &str, groups: &[String]) -> Answer<()> {
        self.change(format!("groups of {port}"), |state| {
            let port = state.ports.iter_mut().find(|known| known.id == port).expect("a port");
            port.security_groups = groups.to_vec();
            Ok(())
        })
        .await
    }

    async fn add_router_interface(&self, router: &str, subnet: &str) -> Answer<()> {
        self.change(format!("{router} at {subnet}"), |state| {
            let id = state.id("interface");
            state.ports.push(from(json!({
                "id": id, "device_id": router, "device_owner": "network:router_interface",
                "fixed_ips": [{"subnet_id": subnet}],
            })));
            Ok(())
        })
        .await
    }

    async fn remove_router_interface(&self, router: &str, _subnet: &str) -> Answer<()> {
        self.change(format!("{router} alone"), |state| {
            state.ports.retain(|port| port.device_id != router);
            Ok(())
        })
        .await
    }

    async fn set_tags(&self, part: Part, id: &str, tags: &[String]) -> Answer<()> {
        self.change(format!("tags of {id}"), |state| {
            let tags = tags.to_vec();
            match part {
                Part::Network => state.networks.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone()),
                Part::Subnet => state.subnets.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone()),
                Part::Router => state.routers.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone()),
                Part::Port => state.ports.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone()),
                Part::SecurityGroup => {
                    state.groups.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone());
                }
                Part::FloatingIp => {
                    state.floating.iter_mut().filter(|t| t.id == id).for_each(|t| t.tags = tags.clone());
                }
                Part::Rule => {}
            }
            Ok(())
        })
        .await
    }

    async fn delete_part(&self, part: Part, id: &str) -> Answer<()> {
        self.change(format!("no {id}"), |state| {
            if is_in_use(state, part, id) {
                return Err(conflict("it is in use"));
            }
            match part {
                Part::Network => state.networks.retain(|thing| thing.id != id),
                Part::Subnet => state.subnets.retain(|thing| thing.id != id),
                Part::Router => state.routers.retain(|thing| thing.id != id),
                Part::Port => state.ports.retain(|thing| thing.id != id),
                Part::SecurityGroup => state.groups.retain(|thing| thing.id != id),
                Part::FloatingIp => state.floating.retain(|thing| thing.id != id),
                Part::Rule => state.groups.iter_mut().for_each(|group| group.rules.retain(|rule| rule.id != id)),
            }
            Ok(())
        })
        .await
    }
}
