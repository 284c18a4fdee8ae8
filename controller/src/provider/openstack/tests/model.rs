// SPDX-License-Identifier: Apache-2.0
//! A model of a cloud in memory: it refuses what a real one refuses, and loses a question, an answer or its asker when it is
//! told to. Ids count up; nothing takes time.

mod compute;
mod network;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::openstack::compute::{Server, ServerGroup, ServerStatus};
use crate::openstack::error::CloudError;
use crate::openstack::network::{FloatingIp, Network, Port, Router, SecurityGroup, Subnet};
use crate::openstack::refusal::{Kind, Refusal};
use crate::openstack::service::Service;
use crate::openstack::volume::Volume;

/// What is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// It is not done, and nobody knows.
    Question,
    /// It is done, and nobody knows.
    Answer,
    /// It is done, and whoever asked is dead.
    Asker,
}

/// A cloud.
#[derive(Debug, Default)]
pub(super) struct Model {
    state: Mutex<State>,
    kill: Notify,
}

#[derive(Debug, Default)]
struct State {
    changes: Vec<String>,
    loss: Option<(usize, Loss)>,
    ids: u32,
    failing: Option<String>,
    servers: Vec<Server>,
    server_groups: Vec<ServerGroup>,
    volumes: Vec<Volume>,
    networks: Vec<Network>,
    subnets: Vec<Subnet>,
    routers: Vec<Router>,
    ports: Vec<Port>,
    groups: Vec<SecurityGroup>,
    floating: Vec<FloatingIp>,
}

/// Something as the service would describe it.
fn from<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a model describes things as services do")
}

fn silent() -> CloudError {
    CloudError::Silent {
        service: Service::Compute,
        call: "a call of the model".into(),
        change: true,
        patience: Duration::ZERO,
    }
}

fn refused(kind: Kind, status: u16, message: &str) -> CloudError {
    CloudError::Refused(Box::new(Refusal {
        service: Service::Network,
        call: "a call of the model".into(),
        change: true,
        status,
        kind,
        message: message.into(),
        request_id: None,
        retry_after: None,
    }))
}

fn conflict(message: &str) -> CloudError {
    refused(Kind::Conflict, 409, message)
}

impl State {
    fn id(&mut self, kind: &str) -> String {
        self.ids += 1;
        format!("{kind}-0000-4000-8000-{:012}", self.ids)
    }
}

impl Model {
    /// An empty one, but for what others made.
    pub(super) fn new() -> Arc<Self> {
        let model = Self::default();
        let outside = json!({"id": "outside", "name": "public", "router:external": true});
        model.state().networks.push(from(outside));
        Arc::new(model)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Things of other people, one of them with a tag that looks like ours.
    pub(super) fn add_strangers(&self) {
        let mut state = self.state();
        state.networks.push(from(json!({"id": "stranger-network", "name": "k8s1"})));
        let other = "windlass:cluster=other windlass:node=node1";
        state.ports.push(from(json!({"id": "stranger-port", "name": "k8s1-node1", "description": other})));
        let metadata = json!({"windlass:node": "node1"});
        state.servers.push(from(json!({"id": "stranger", "name": "node1", "status": "ACTIVE", "metadata": metadata})));
        state.volumes.push(from(json!({"id": "stranger-volume", "name": "k8s1-node1-docker", "status": "available"})));
    }

    /// A server that somebody made by hand, with a port, a floating IP and two volumes.
    pub(super) fn add_foreign_server(&self) {
        let mut state = self.state();
        state.networks.push(from(json!({"id": "their-network", "name": "internal"})));
        state.subnets.push(from(json!({"id": "their-subnet", "network_id": "their-network", "cidr": "10.1.0.0/24"})));
        state.ports.push(from(json!({
            "id": "their-port", "network_id": "their-network", "device_id": "their-server", "tags": ["theirs"],
            "device_owner": "compute:nova", "security_groups": ["their-group"],
            "fixed_ips": [{"subnet_id": "their-subnet", "ip_address": "10.1.0.5"}],
        })));
        state.floating.push(from(json!({
            "id": "their-address", "floating_ip_address": "172.24.4.77", "port_id": "their-port",
        })));
        for (id, size) in [("their-docker", 2), ("their-data", 9)] {
            state.volumes.push(from(json!({
                "id": id, "name": id, "size": size, "status": "in-use", "attachments": [{"server_id": "their-server"}],
            })));
        }
        state.servers.push(from(json!({
            "id": "their-server", "name": "k8s-node-1", "status": "ACTIVE", "flavor": {"original_name": "small"},
            "metadata": {"theirs": "yes"}, "image": {"id": "image-1"},
            "OS-SRV-USG:launched_at": "2019-11-26T05:00:00Z",
        })));
    }

    /// From now on servers cannot be made, for this reason.
    pub(super) fn fail_servers(&self, why: Option<&str>) {
        self.state().failing = why.map(str::to_owned);
    }

    /// The router has this address outside.
    pub(super) fn router_is_at(&self, address: &str) {
        for router in &mut self.state().routers {
            let gateway = json!({"network_id": "outside", "external_fixed_ips": [{"ip_address": address}]});
            router.external_gateway_info = Some(from(gateway));
        }
    }

    /// Servers that ran are in error now.
    pub(super) fn break_servers(&self) {
        for server in &mut self.state().servers {
            server.status = ServerStatus::Error;
            server.launched_at = Some("2026-11-26T05:00:00Z".into());
        }
    }

    /// At the change with this number something is lost.
    pub(super) fn lose(&self, nth: usize, loss: Loss) {
        self.state().loss = Some((nth, loss));
    }

    /// Waits until the asker was killed.
    pub(super) async fn killed(&self) {
        self.kill.notified().await;
    }

    /// How many changes there were.
    pub(super) fn changes(&self) -> usize {
        self.state().changes.len()
    }

    /// The changes since there were so many.
    pub(super) fn changes_since(&self, count: usize) -> Vec<String> {
        self.state().changes[count..].to_vec()
    }

    /// A port.
    pub(super) fn port(&self, id: &str) -> Port {
        self.state().ports.iter().find(|port| port.id == id).cloned().expect("a port")
    }

    /// Somebody else changes a port.
    pub(super) fn change_port(&self, id: &str, change: impl FnOnce(&mut Port)) {
        change(self.state().ports.iter_mut().find(|port| port.id == id).expect("a port"));
    }

    /// Somebody else changes a volume.
    pub(super) fn change_volume(&self, id: &str, change: impl FnOnce(&mut Volume)) {
        change(self.state().volumes.iter_mut().find(|volume| volume.id == id).expect("a volume"));
    }

    /// Every volume has so many GiB.
    pub(super) fn resize_volumes(&self, size: u64) {
        self.state().volumes.iter_mut().for_each(|volume| volume.size = size);
    }

    /// Attached volumes.
    pub(super) fn attached(&self) -> usize {
        self.state().volumes.iter().filter(|volume| !volume.attachments.is_empty()).count()
    }

    /// How many there are of a kind.
    pub(super) fn count(&self, kind: &str) -> usize {
        self.everything().iter().filter(|thing| thing.split(' ').next() == Some(kind)).count()
    }

    /// All that there is, by kind and name.
    pub(super) fn everything(&self) -> Vec<String> {
        let state = self.state();
        let mut all: Vec<String> = Vec::new();
        all.extend(state.servers.iter().map(|thing| format!("server {}", thing.name)));
        all.extend(state.server_groups.iter().map(|thing| format!("server-group {}", thing.name)));
        all.extend(state.volumes.iter().map(|thing| format!("volume {}", thing.name)));
        all.extend(state.networks.iter().map(|thing| format!("network {}", thing.name)));
        all.extend(state.subnets.iter().map(|thing| format!("subnet {}", thing.cidr)));
        all.extend(state.routers.iter().map(|thing| format!("router {}", thing.name)));
        all.extend(state.ports.iter().map(|thing| format!("port {}", thing.name)));
        all.extend(state.groups.iter().map(|thing| format!("group {} with {} rules", thing.name, thing.rules.len())));
        all.extend(state.floating.iter().map(|thing| format!("floating {}", thing.floating_ip_address)));
        all.sort();
        all
    }

    /// Changes something, or loses it.
    async fn change<T>(
        &self,
        what: String,
        apply: impl FnOnce(&mut State) -> Result<T, CloudError> + Send,
    ) -> Result<T, CloudError> {
        let (loss, done) = {
            let mut state = self.state();
            let nth = state.changes.len();
            state.changes.push(what);
            let loss = state.loss.filter(|(at, _)| *at == nth).map(|(_, loss)| loss);
            let done = (loss != Some(Loss::Question)).then(|| apply(&mut state));
            (loss, done)
        };
        match (loss, done) {
            (None, Some(done)) => done,
            (Some(Loss::Asker), _) => {
                self.kill.notify_one();
                std::future::pending().await
            }
            _ => Err(silent()),
        }
    }
}
