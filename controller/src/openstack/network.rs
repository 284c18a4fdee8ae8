// SPDX-License-Identifier: Apache-2.0
//! Networks and what belongs to them: subnets, routers, ports, security groups, floating IPs.
//!
//! Tags are written after something was made, and can be lost in between. The description is written with it: whoever
//! looks for what was made looks for both.

mod filter;
mod new;
mod parts;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::call::{Call, encoded};
use super::client::Client;
use super::error::CloudError;
use super::service::Service;

pub use filter::Filter;
pub use new::{NewFloatingIp, NewNetwork, NewPort, NewRouter, NewRule, NewSecurityGroup, NewSubnet};
pub use parts::{
    AddressPair, Direction, EtherType, FixedIp, FloatingIp, Gateway, Network, OutsideAddress, Part, Port, Router, Rule,
    SecurityGroup, Subnet,
};

/// Networks and what belongs to them.
#[async_trait::async_trait]
pub trait Networking {
    /// Networks that lead outside, whoever made them.
    ///
    /// # Errors
    /// If the service cannot tell.
    async fn external_networks(&self) -> Result<Vec<Network>, CloudError>;

    /// Networks.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>, CloudError>;

    /// Subnets.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn subnets(&self, filter: &Filter) -> Result<Vec<Subnet>, CloudError>;

    /// Routers.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn routers(&self, filter: &Filter) -> Result<Vec<Router>, CloudError>;

    /// Ports.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn ports(&self, filter: &Filter) -> Result<Vec<Port>, CloudError>;

    /// Security groups, with their rules.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn security_groups(&self, filter: &Filter) -> Result<Vec<SecurityGroup>, CloudError>;

    /// Floating IPs.
    ///
    /// # Errors
    /// If the service cannot tell. Never an empty list instead.
    async fn floating_ips(&self, filter: &Filter) -> Result<Vec<FloatingIp>, CloudError>;

    /// Makes a network.
    ///
    /// # Errors
    /// If it is refused. [`CloudError::may_be_done`] tells whether to look for it; so for all that follow.
    async fn create_network(&self, new: &NewNetwork) -> Result<Network, CloudError>;

    /// Makes a subnet.
    ///
    /// # Errors
    /// If it is refused.
    async fn create_subnet(&self, new: &NewSubnet) -> Result<Subnet, CloudError>;

    /// Makes a router.
    ///
    /// # Errors
    /// If it is refused.
    async fn create_router(&self, new: &NewRouter) -> Result<Router, CloudError>;

    /// Makes a port.
    ///
    /// # Errors
    /// If it is refused, as where its address is in use.
    async fn create_port(&self, new: &NewPort) -> Result<Port, CloudError>;

    /// Makes a security group. The cloud adds rules that let everything out.
    ///
    /// # Errors
    /// If it is refused.
    async fn create_security_group(&self, new: &NewSecurityGroup) -> Result<SecurityGroup, CloudError>;

    /// Makes a rule of a security group.
    ///
    /// # Errors
    /// If it is refused: a conflict, where there is one that says the same.
    async fn create_rule(&self, new: &NewRule) -> Result<Rule, CloudError>;

    /// Makes a floating IP.
    ///
    /// # Errors
    /// If it is refused, as where there is none left.
    async fn create_floating_ip(&self, new: &NewFloatingIp) -> Result<FloatingIp, CloudError>;

    /// Lets a floating IP lead to a port, or to none.
    ///
    /// # Errors
    /// If it is refused.
    async fn associate_floating_ip(&self, id: &str, port: Option<&str>) -> Result<FloatingIp, CloudError>;

    /// Sets the security groups of a port, by their ids.
    ///
    /// # Errors
    /// If it is refused, as where the port has no security at all.
    async fn set_security_groups(&self, port: &str, groups: &[String]) -> Result<(), CloudError>;

    /// Connects a router with a subnet.
    ///
    /// # Errors
    /// If it is refused, as where they are connected already.
    async fn add_router_interface(&self, router: &str, subnet: &str) -> Result<(), CloudError>;

    /// Disconnects them; those that are not connected are disconnected already.
    ///
    /// # Errors
    /// If it is refused, as while a floating IP needs it.
    async fn remove_router_interface(&self, router: &str, subnet: &str) -> Result<(), CloudError>;

    /// Sets all tags of something.
    ///
    /// # Errors
    /// If it is refused.
    async fn set_tags(&self, part: Part, id: &str, tags: &[String]) -> Result<(), CloudError>;

    /// Removes something; what is not there is removed already.
    ///
    /// # Errors
    /// If it is refused, as while something else uses it.
    async fn delete_part(&self, part: Part, id: &str) -> Result<(), CloudError>;
}

#[async_trait::async_trait]
impl Networking for Client {
    async fn external_networks(&self) -> Result<Vec<Network>, CloudError> {
        self.all(Call::get(NETWORK, Part::Network.path()).with("router:external", "true"), "networks").await
    }

    async fn networks(&self, filter: &Filter) -> Result<Vec<Network>, CloudError> {
        list(self, Part::Network, filter).await
    }

    async fn subnets(&self, filter: &Filter) -> Result<Vec<Subnet>, CloudError> {
        list(self, Part::Subnet, filter).await
    }

    async fn routers(&self, filter: &Filter) -> Result<Vec<Router>, CloudError> {
        list(self, Part::Router, filter).await
    }

    async fn ports(&self, filter: &Filter) -> Result<Vec<Port>, CloudError> {
        list(self, Part::Port, filter).await
    }

    async fn security_groups(&self, filter: &Filter) -> Result<Vec<SecurityGroup>, CloudError> {
        list(self, Part::SecurityGroup, filter).await
    }

    async fn floating_ips(&self, filter: &Filter) -> Result<Vec<FloatingIp>, CloudError> {
        list(self, Part::FloatingIp, filter).await
    }

    async fn create_network(&self, new: &NewNetwork) -> Result<Network, CloudError> {
        create(self, Part::Network, new).await
    }

    async fn create_subnet(&self, new: &NewSubnet) -> Result<Subnet, CloudError> {
        create(self, Part::Subnet, new).await
    }

    async fn create_router(&self, new: &NewRouter) -> Result<Router, CloudError> {
        create(self, Part::Router, new).await
    }

    async fn create_port(&self, new: &NewPort) -> Result<Port, CloudError> {
        create(self, Part::Port, new).await
    }

    async fn create_security_group(&self, new: &NewSecurityGroup) -> Result<SecurityGroup, CloudError> {
        create(self, Part::SecurityGroup, new).await
    }

    async fn create_rule(&self, new: &NewRule) -> Result<Rule, CloudError> {
        create(self, Part::Rule, new).await
    }

    async fn create_floating_ip(&self, new: &NewFloatingIp) -> Result<FloatingIp, CloudError> {
        create(self, Part::FloatingIp, new).await
    }

    async fn associate_floating_ip(&self, id: &str, port: Option<&str>) -> Result<FloatingIp, CloudError> {
        let body = json!({"floatingip": {"port_id": port}});
        self.one(&Call::put(NETWORK, of(Part::FloatingIp, id, ""), body).safe(), "floatingip").await
    }

    async fn set_security_groups(&self, port: &str, groups: &[String]) -> Result<(), CloudError> {
        let body = json!({"port": {"security_groups": groups}});
        self.send(&Call::put(NETWORK, of(Part::Port, port, ""), body).safe()).await.map(|_| ())
    }

    async fn add_router_interface(&self, router: &str, subnet: &str) -> Result<(), CloudError> {
        let path = of(Part::Router, router, "/add_router_interface");
        self.send(&Call::put(NETWORK, path, json!({"subnet_id": subnet}))).await.map(|_| ())
    }

    async fn remove_router_interface(&self, router: &str, subnet: &str) -> Result<(), CloudError> {
        let path = of(Part::Router, router, "/remove_router_interface");
        self.remove(&Call::put(NETWORK, path, json!({"subnet_id": subnet})).safe()).await
    }

    async fn set_tags(&self, part: Part, id: &str, tags: &[String]) -> Result<(), CloudError> {
        self.send(&Call::put(NETWORK, of(part, id, "/tags"), json!({"tags": tags})).safe()).await.map(|_| ())
    }

    async fn delete_part(&self, part: Part, id: &str) -> Result<(), CloudError> {
        self.remove(&Call::delete(NETWORK, of(part, id, ""))).await
    }
}

const NETWORK: Service = Service::Network;

fn of(part: Part, id: &str, rest: &str) -> String {
    format!("{}/{}{rest}", part.path(), encoded(id))
}

async fn list<T: DeserializeOwned>(client: &Client, part: Part, filter: &Filter) -> Result<Vec<T>, CloudError> {
    let mut call = Call::get(NETWORK, part.path());
    call.query = filter.query();
    if filter.is_own() {
        call = call.with("project_id", client.project().await?);
    }
    client.all(call, part.many()).await
}

async fn create<T: DeserializeOwned>(client: &Client, part: Part, new: &impl Serialize) -> Result<T, CloudError> {
    let body = json!({part.one(): new});
    client.one(&Call::post(NETWORK, part.path(), body), part.one()).await
}
