// SPDX-License-Identifier: Apache-2.0
//! Servers of a cloud that are there already, taken over as the machines of a cluster's nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::try_join_all;
use serde_json::json;
use windlass_plan::ClusterSpec;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_types::event::EventKind;
use windlass_types::machine::{MachineSpec, ProviderKind};
use windlass_types::name::{NodeName, VolumeName};

use super::{bad, internal, plans};
use crate::caller::Caller;
use crate::change::Wish;
use crate::execute::apply::{one_provider, unobserved};
use crate::observe::ClusterRecord;
use crate::provider::ProviderError;
use crate::provider::openstack::{Adoption, Claimed, OpenstackProvider};
use crate::server::Controller;

/// What is asked for, understood.
struct Asked {
    spec: ClusterSpec,
    servers: Vec<(MachineSpec, Claimed)>,
    cloud: Arc<OpenstackProvider>,
}

/// Looks, and takes over what was shown before if it is still what would be taken over.
///
/// # Errors
/// If the request cannot be meant, a server cannot be looked at or taken over, or is not as it was shown.
pub(super) async fn adopt(
    controller: &Controller,
    caller: &Caller,
    request: v1::AdoptMachinesRequest,
) -> Result<v1::AdoptMachinesResponse, Refusal> {
    let shown = request.shown.clone();
    let asked = asked(controller, request).await?;
    let look = asked.servers.iter().map(|(spec, claimed)| asked.cloud.adoption(spec, claimed));
    let mut adoptions =
        try_join_all(look).await.map_err(|error| super::machines::refused(&ProviderError::from(error)))?;
    memberships(controller, &asked, &mut adoptions).await?;
    let found = asked.servers.iter().zip(&adoptions).map(|((spec, _), adoption)| on_wire(&spec.name, adoption));
    let found: Vec<_> = found.collect();
    if !shown.is_empty() {
        is_as_shown(&shown, &found)?;
        let servers: Vec<_> =
            asked.servers.iter().map(|(spec, claimed)| json!({"node": spec.name, "server": claimed.server})).collect();
        let object = format!("cluster/{}", asked.spec.name);
        let wish = Wish { caller, verb: "machine adopt", object, arguments: json!({ "servers": servers }) };
        controller.changes.run(wish, take_over(controller, caller, &asked, &adoptions)).await?;
    }
    Ok(v1::AdoptMachinesResponse { adoptions: found })
}

/// Nothing is taken over that nobody has seen: it is what `destroy` removes from then on.
fn is_as_shown(shown: &[v1::Adoption], found: &[v1::Adoption]) -> Result<(), Refusal> {
    let changed = |message: String| {
        Err(Refusal::new(Reason::WorldChanged, message).advise("nothing was taken over: look again, and confirm that"))
    };
    if let Some((node, obstacle)) = found.iter().find_map(|one| Some((&one.node, one.obstacles.first()?))) {
        return changed(format!("{node} cannot be taken over: {obstacle}"));
    }
    if let Some(one) =
        found.iter().find(|one| !shown.iter().any(|seen| seen.node == one.node && seen.parts == one.parts))
    {
        return changed(format!("what belongs to the server of {} is not what was shown", one.node));
    }
    Ok(())
}

async fn asked(controller: &Controller, request: v1::AdoptMachinesRequest) -> Result<Asked, Refusal> {
    let (spec, cloud) = in_cloud(controller, request.spec.unwrap_or_default()).await?;
    let mut seen = BTreeSet::new();
    let mut servers = Vec::new();
    for wire in request.servers {
        let node = NodeName::new(wire.node).map_err(|error| bad(&error))?;
        if !seen.insert(node.to_string()) || !seen.insert(format!("server {}", wire.server)) {
            let message = format!("{node} or its server {} is named twice", wire.server);
            return Err(Refusal::new(Reason::BadRequest, message));
        }
        let machine = spec.machines.iter().find(|machine| machine.name == node).ok_or_else(|| {
            Refusal::new(Reason::BadRequest, format!("the spec has no node {node}")).advise("add it to the spec first")
        })?;
        let volume = |(name, id): (String, String)| Ok((VolumeName::new(name).map_err(|error| bad(&error))?, id));
        let volumes = wire.volumes.into_iter().map(volume).collect::<Result<_, Refusal>>()?;
        servers.push((machine.clone(), Claimed { server: wire.server, volumes }));
    }
    if servers.is_empty() {
        return Err(Refusal::new(Reason::BadRequest, "no server was named"));
    }
    Ok(Asked { spec, servers, cloud })
}

/// A spec, and the cloud in which its machines are.
pub(super) async fn in_cloud(
    controller: &Controller,
    wire: v1::ClusterSpec,
) -> Result<(ClusterSpec, Arc<OpenstackProvider>), Refusal> {
    let (cluster, _) = plans::spec(wire)?;
    let spec = cluster.machines(None).map_err(|error| bad(&error))?;
    let observer = controller.runs.observer();
    let known = observer.clusters().await.map_err(|error| unobserved(&error))?;
    one_provider(&known, &spec.name, &spec.provider)?;
    let ProviderKind::Openstack(cloud) = &spec.provider else {
        let message = format!("machines of the provider {} are not taken over", spec.provider);
        return Err(Refusal::new(Reason::BadRequest, message)
            .advise("with `provider: {existing: {}}` nodes join by themselves: windlass token create NODE"));
    };
    let cloud = observer.providers.clouds.provider(cloud).await;
    Ok((spec, cloud.map_err(|error| super::machines::refused(&ProviderError::from(error)))?))
}

/// A name is one node's, in whichever cluster.
async fn memberships(controller: &Controller, asked: &Asked, adoptions: &mut [Adoption]) -> Result<(), Refusal> {
    let known = controller.runs.observer().memberships().await.map_err(|error| unobserved(&error))?;
    for ((spec, _), adoption) in asked.servers.iter().zip(adoptions) {
        let other = known.get(&spec.name).filter(|cluster| **cluster != spec.cluster);
        adoption.obstacles.extend(other.map(|cluster| format!("{} is a node of cluster {cluster}", spec.name)));
    }
    Ok(())
}

async fn take_over(
    controller: &Controller,
    caller: &Caller,
    asked: &Asked,
    adoptions: &[Adoption],
) -> Result<(), Refusal> {
    let observer = controller.runs.observer();
    let Asked { spec, servers, cloud } = asked;
    let record = ClusterRecord {
        name: spec.name.clone(),
        provider: spec.provider.clone(),
        since: controller.clock.now(),
        nodes: Vec::new(),
        hooks: BTreeMap::new(),
    };
    observer.get_to_know(&record).await.map_err(|error| unobserved(&error))?;
    for ((machine, claimed), adoption) in servers.iter().zip(adoptions) {
        // Known before it is marked, as a machine is before it is made.
        observer.take_on(&spec.name, &machine.name).await.map_err(|error| internal(&error))?;
        let adopted = cloud.adopt(machine, adoption, &spec.shared).await;
        adopted.map_err(|error| super::machines::refused(&ProviderError::from(error)))?;
        let text = format!("{caller} took over the server {} as the machine of {}", claimed.server, machine.name);
        controller.events.emit(EventKind::MachineAdopted, Some(&machine.name), None, text);
    }
    Ok(())
}

fn on_wire(node: &NodeName, adoption: &Adoption) -> v1::Adoption {
    let part = |(kind, id, name): (String, &str, String)| v1::MachinePart { kind, id: id.to_owned(), name };
    v1::Adoption {
        node: node.to_string(),
        parts: adoption.parts().map(part).collect(),
        remarks: adoption.remarks.clone(),
        obstacles: adoption.obstacles.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adoption(node: &str, ids: &[&str]) -> v1::Adoption {
        let part = |id: &&str| v1::MachinePart { kind: "volume".into(), id: (*id).to_owned(), name: String::new() };
        v1::Adoption { node: node.into(), parts: ids.iter().map(part).collect(), ..v1::Adoption::default() }
    }

    #[test]
    fn only_what_was_shown_is_taken_over() {
        let found = [adoption("node1", &["a", "b"]), adoption("node2", &["c"])];
        let refused = |shown: &[v1::Adoption], found: &[v1::Adoption]| {
            let refusal = is_as_shown(shown, found).expect_err("refused");
            assert_eq!(refusal.reason, Reason::WorldChanged);
            refusal.message
        };
        is_as_shown(&found, &found).expect("as it was");
        let less = [adoption("node1", &["a"]), adoption("node2", &["c"])];
        assert!(refused(&less, &found).contains("the server of node1 is not what was shown"));
        assert!(refused(&found[..1], &found).contains("of node2"), "a node that was not shown");
        let mut worse = found.clone();
        worse[1].obstacles.push("it is gone".into());
        assert_eq!(refused(&found, &worse), "node2 cannot be taken over: it is gone");
        let mut remarked = found.clone();
        remarked[0].remarks.push("the server is this machine already".into());
        is_as_shown(&found, &remarked).expect("a remark takes nothing over");
    }
}
