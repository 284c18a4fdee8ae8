// SPDX-License-Identifier: Apache-2.0
//! NodeService.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::node_service_server::NodeService;
use windlass_types::condition::Condition;
use windlass_types::event::EventKind;
use windlass_types::name::{BadName, LabelKey, LabelValue, NodeName};
use windlass_types::selector::NodeSelector;
use windlass_types::time::UnixMillis;

use super::{bad, internal};
use crate::caller::Caller;
use crate::change::Wish;
use crate::fleet::NodeView;
use crate::server::Controller;
use crate::trust::Holder;

/// Nodes in one answer at most: with all facts, this many stay well below a message's limit.
const LARGEST_PAGE: usize = 100;

/// Longest wait for nodes that were asked to observe: below the deadline of every call.
const LONGEST_REFRESH: Duration = Duration::from_secs(25);

/// Characters of a reason that are kept.
const MOST_REASON: usize = 200;

/// The calls.
#[derive(Debug)]
pub struct NodeApi(pub Arc<Controller>);

#[tonic::async_trait]
impl NodeService for NodeApi {
    async fn list_nodes(
        &self,
        request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let message = request.into_inner();
        let size = page_size(message.page_size);
        let after = Some(message.page_token.as_str()).filter(|token| !token.is_empty());
        let mut views = match message.selector {
            None => self.0.fleet.list(after, size + 1),
            Some(selector) => {
                let selector = NodeSelector::try_from(selector).map_err(|error| bad(&error))?;
                let mut views = self.0.fleet.select(&selector)?;
                views.retain(|view| after.is_none_or(|after| view.record.name.as_str() > after));
                views
            }
        };
        let has_more = views.len() > size;
        views.truncate(size);
        let next_page_token =
            views.last().filter(|_| has_more).map(|view| view.record.name.to_string()).unwrap_or_default();
        let now = self.0.clock.now();
        let nodes = views.into_iter().map(|view| self.on_wire(view, now)).collect();
        Ok(Response::new(v1::ListNodesResponse { nodes, next_page_token }))
    }

    async fn refresh_nodes(
        &self,
        request: Request<v1::RefreshNodesRequest>,
    ) -> Result<Response<v1::RefreshNodesResponse>, Status> {
        let message = request.into_inner();
        let selector = NodeSelector::try_from(message.selector.unwrap_or_default()).map_err(|error| bad(&error))?;
        let views = self.0.fleet.select(&selector)?;
        let names: Vec<_> = views.into_iter().map(|view| view.record.name).collect();
        let timeout = Duration::from_millis(message.timeout_millis.into()).min(LONGEST_REFRESH);
        let refreshed = self.0.fleet.refresh(&names, timeout).await;
        let silent = names.iter().filter(|name| !refreshed.contains(name)).map(ToString::to_string).collect();
        let refreshed = refreshed.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::RefreshNodesResponse { refreshed, silent }))
    }

    async fn label_node(
        &self,
        request: Request<v1::LabelNodeRequest>,
    ) -> Result<Response<v1::LabelNodeResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = NodeName::new(message.node).map_err(|error| bad(&error))?;
        let arguments = json!({ "set": message.set, "remove": message.remove });
        let wish = Wish { caller: &caller, verb: "node label", object: format!("node/{name}"), arguments };
        let work = async {
            let set = message.set.into_iter().map(label).collect::<Result<_, _>>().map_err(|error| bad(&error))?;
            let remove: Vec<_> =
                message.remove.into_iter().map(LabelKey::new).collect::<Result<_, _>>().map_err(|error| bad(&error))?;
            let view = self.0.fleet.label(&name, set, &remove).await?;
            let text = format!("{caller} changed the labels of {name}");
            self.0.events.emit(EventKind::NodeLabelled, Some(&name), None, text);
            Ok(view)
        };
        let view = self.0.changes.run(wish, work).await?;
        Ok(Response::new(v1::LabelNodeResponse { node: Some(self.on_wire(view, self.0.clock.now())) }))
    }

    async fn revoke_node(
        &self,
        request: Request<v1::RevokeNodeRequest>,
    ) -> Result<Response<v1::RevokeNodeResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = NodeName::new(message.node).map_err(|error| bad(&error))?;
        let reason = match message.reason.trim() {
            "" => format!("revoked by {caller}"),
            reason => reason.chars().take(200).collect(),
        };
        let arguments = json!({ "reason": reason });
        let wish = Wish { caller: &caller, verb: "node revoke", object: format!("node/{name}"), arguments };
        let closed = self.0.changes.run_urgent(wish, self.revoke(&name, &reason)).await?;
        let text = match message.reason.trim() {
            "" => format!("{caller} revoked {name}"),
            _ => format!("{caller} revoked {name}: {reason}"),
        };
        self.0.events.emit(EventKind::NodeRevoked, Some(&name), None, text);
        Ok(Response::new(v1::RevokeNodeResponse { closed_connections: closed }))
    }

    async fn quarantine_node(
        &self,
        request: Request<v1::QuarantineNodeRequest>,
    ) -> Result<Response<v1::QuarantineNodeResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = NodeName::new(message.node).map_err(|error| bad(&error))?;
        let reason = shortened(&message.reason);
        let arguments = json!({ "reason": reason });
        let wish = Wish { caller: &caller, verb: "node quarantine", object: format!("node/{name}"), arguments };
        let by = caller.to_string();
        let work = async {
            if reason.is_empty() {
                let refusal = Refusal::new(Reason::BadRequest, "a quarantine needs a reason");
                return Err(refusal.advise("whoever meets it wants to know why: --reason TEXT"));
            }
            self.0.fleet.record(&name)?;
            self.0.runs.arbiter().quarantine(&name, &reason, &by).await
        };
        self.0.changes.run(wish, work).await?;
        Ok(Response::new(v1::QuarantineNodeResponse {}))
    }

    async fn release_node(
        &self,
        request: Request<v1::ReleaseNodeRequest>,
    ) -> Result<Response<v1::ReleaseNodeResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = NodeName::new(message.node).map_err(|error| bad(&error))?;
        let reason = shortened(&message.reason);
        let arguments = json!({ "reason": reason });
        let wish = Wish { caller: &caller, verb: "node release", object: format!("node/{name}"), arguments };
        let by = caller.to_string();
        let released = self.0.changes.run(wish, self.0.runs.release(&name, &reason, &by)).await?;
        let (was_quarantined, held) = released;
        let run = held.map(|held| held.lease.run.to_string()).unwrap_or_default();
        Ok(Response::new(v1::ReleaseNodeResponse { was_quarantined, run }))
    }

    async fn remove_node(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        let caller = Caller::of(&request);
        let name = NodeName::new(request.into_inner().node).map_err(|error| bad(&error))?;
        let wish = Wish { caller: &caller, verb: "node remove", object: format!("node/{name}"), arguments: json!({}) };
        self.0.changes.run_urgent(wish, self.remove(&name)).await?;
        self.0.events.emit(EventKind::NodeRemoved, Some(&name), None, format!("{caller} removed {name}"));
        Ok(Response::new(v1::RemoveNodeResponse {}))
    }
}

impl NodeApi {
    async fn revoke(&self, name: &NodeName, reason: &str) -> Result<u32, Refusal> {
        let turn = self.0.fleet.turn(name).await;
        let (record, transaction) = self.0.fleet.revoked(name, reason)?;
        let closed = self.0.trust.revoke(&Holder::Node(name.clone()), transaction).await;
        let closed = closed.map_err(|error| internal(&error))?;
        self.0.fleet.admit(record);
        drop(turn);
        self.0.jobs.lost(name).await;
        Ok(u32::try_from(closed).unwrap_or(u32::MAX))
    }

    async fn remove(&self, name: &NodeName) -> Result<(), Refusal> {
        let turn = self.0.fleet.turn(name).await;
        self.0.fleet.record(name)?;
        self.0.runs.arbiter().forget(name, None).await.map_err(|error| internal(&error))?;
        let transaction = self.0.tokens.forget_unused(name, self.0.fleet.removal(name)).await;
        let transaction = transaction.map_err(|error| internal(&error))?;
        self.0.trust.revoke(&Holder::Node(name.clone()), transaction).await.map_err(|error| internal(&error))?;
        self.0.fleet.forget(name);
        drop(turn);
        self.0.jobs.lost(name).await;
        Ok(())
    }

    fn on_wire(&self, view: NodeView, now: UnixMillis) -> v1::Node {
        let certificate = self.0.trust.certificate(view.record.serial);
        let facts = view.facts.into_values().map(|known| {
            let age = now.since(known.observed_at);
            let age_millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            v1::NodeFact { age_millis, fact: Some(windlass_proto::convert::facts::to_wire(known.fact, age)) }
        });
        v1::Node {
            name: view.record.name.to_string(),
            labels: view.record.labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            conditions: view.conditions.into_iter().map(condition).collect(),
            facts: facts.collect(),
            agent_version: view.session.as_ref().map(|session| session.agent_version.clone()).unwrap_or_default(),
            address: view.session.as_ref().map(|session| session.address.ip().to_string()).unwrap_or_default(),
            joined_unix_millis: view.record.joined_at.0,
            last_seen_unix_millis: view.last_seen.0,
            certificate_serial: view.record.serial.to_string(),
            certificate_not_after_unix_millis: certificate.map(|record| record.not_after.0).unwrap_or_default(),
            clock_offset_millis: view.clock_offset_millis,
            load_one_centi: view.load_one_centi,
            memory_available_mebibytes: view.memory_available_mebibytes,
        }
    }
}

/// What a person wrote, as long as a line.
fn shortened(text: &str) -> String {
    text.trim().chars().take(MOST_REASON).collect()
}

fn condition(condition: Condition) -> v1::NodeCondition {
    v1::NodeCondition {
        kind: v1::ConditionKind::from(condition.kind).into(),
        holds: condition.holds,
        reason: condition.reason,
        since_unix_millis: condition.since.0,
    }
}

fn label((key, value): (String, String)) -> Result<(LabelKey, LabelValue), BadName> {
    Ok((LabelKey::new(key)?, LabelValue::new(value)?))
}

fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => LARGEST_PAGE,
        asked => asked.min(LARGEST_PAGE),
    }
}

/// Reads a selector and says which nodes it means.
///
/// # Errors
/// If a name is wrong or does not exist.
pub(super) fn chosen(controller: &Controller, selector: Option<v1::NodeSelector>) -> Result<Vec<NodeName>, Refusal> {
    let selector = NodeSelector::try_from(selector.unwrap_or_default()).map_err(|error| bad(&error))?;
    let views = controller.fleet.select(&selector)?;
    let (revoked, chosen): (Vec<_>, Vec<_>) = views.into_iter().partition(|view| view.record.revoked.is_some());
    if let Some(view) = revoked.first() {
        return Err(Refusal::new(Reason::Unsafe, format!("{} is revoked", view.record.name))
            .advise("leave it out, or enrol it anew after `windlass node remove`"));
    }
    Ok(chosen.into_iter().map(|view| view.record.name).collect())
}
