// SPDX-License-Identifier: Apache-2.0
//! What another controller made of a cluster, taken over: for when that controller is gone for good.

use std::collections::BTreeMap;

use serde_json::json;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_types::event::EventKind;

use super::adoption::in_cloud;
use super::machines::refused;
use crate::caller::Caller;
use crate::change::Wish;
use crate::execute::apply::unobserved;
use crate::observe::ClusterRecord;
use crate::provider::ProviderError;
use crate::provider::openstack::Marked;
use crate::server::Controller;

/// Looks, and takes over what was shown before if it is still that.
///
/// # Errors
/// If the request cannot be meant, or the cloud cannot tell or refuses.
pub(super) async fn claim(
    controller: &Controller,
    caller: &Caller,
    request: v1::ClaimClusterRequest,
) -> Result<v1::ClaimClusterResponse, Refusal> {
    let (spec, cloud) = in_cloud(controller, request.spec.unwrap_or_default()).await?;
    let foreign = cloud.foreign(&spec.name).await.map_err(|error| refused(&ProviderError::from(error)))?;
    let parts: Vec<_> = foreign.iter().map(on_wire).collect();
    if !request.shown.is_empty() {
        is_as_shown(&request.shown, &parts)?;
        let object = format!("cluster/{}", spec.name);
        let wish = Wish { caller, verb: "cluster claim", object, arguments: json!({ "parts": foreign.len() }) };
        let work = async {
            let (name, provider) = (spec.name.clone(), spec.provider.clone());
            let record = ClusterRecord {
                name,
                provider,
                since: controller.clock.now(),
                nodes: Vec::new(),
                hooks: BTreeMap::new(),
            };
            let observer = controller.runs.observer();
            observer.get_to_know(&record).await.map_err(|error| unobserved(&error))?;
            let claimed = cloud.claim(&spec.name, &foreign).await;
            claimed.map_err(|error| refused(&ProviderError::from(error)))?;
            let text = format!("{caller} took over {} things of cluster {}", foreign.len(), spec.name);
            controller.events.emit(EventKind::MachineAdopted, None, None, text);
            Ok(())
        };
        controller.changes.run(wish, work).await?;
    }
    Ok(v1::ClaimClusterResponse { parts })
}

fn is_as_shown(shown: &[v1::ForeignPart], found: &[v1::ForeignPart]) -> Result<(), Refusal> {
    if shown == found {
        return Ok(());
    }
    let message = "what another controller made is not what was shown";
    Err(Refusal::new(Reason::WorldChanged, message).advise("nothing was taken over: look again, and confirm that"))
}

fn on_wire(foreign: &Marked) -> v1::ForeignPart {
    let controller = foreign.uid.clone().unwrap_or_default();
    v1::ForeignPart { kind: foreign.kind.to_string(), id: foreign.id.clone(), controller }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_shown_is_taken_over() {
        let part = |id: &str| v1::ForeignPart { kind: "server".into(), id: id.into(), controller: "a".into() };
        let found = [part("1"), part("2")];
        is_as_shown(&found, &found).expect("as it was");
        let refused = is_as_shown(&found[..1], &found).expect_err("one more");
        assert_eq!(refused.reason, Reason::WorldChanged);
        is_as_shown(&[part("1"), part("3")], &found).expect_err("another");
    }
}
