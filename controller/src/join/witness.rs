// SPDX-License-Identifier: Apache-2.0
//! Whether whoever presents a node's token is the machine that was made for that node. Only a provider can tell; where it
//! cannot, the token alone counts.

use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;
use windlass_types::name::NodeName;
use windlass_types::outcome::ErrorClass;

use crate::execute::apply::unobserved;
use crate::observe::Observer;
use crate::provider::{Claim, MachineKey};

/// Asks the provider of a node's machine.
///
/// # Errors
/// Why it is not that machine, as [`Reason::JoinRefused`]; any other reason where it cannot be asked: nobody joins then.
pub(super) async fn vouch(observer: &Observer, node: &NodeName, claim: &Claim) -> Result<(), Refusal> {
    let memberships = observer.memberships().await.map_err(|error| unobserved(&error))?;
    let Some(cluster) = memberships.get(node) else { return Ok(()) };
    let clusters = observer.clusters().await.map_err(|error| unobserved(&error))?;
    let Some(record) = clusters.iter().find(|record| record.name == *cluster) else { return Ok(()) };
    let silent = |why: String| {
        let message = format!("whether this is the machine of {node} cannot be asked: {why}");
        Refusal::new(Reason::StateUnavailable, message).advise("it is tried again")
    };
    let provider = observer.provider(&record.provider).await.map_err(|error| silent(ErrorChain(&error).to_string()))?;
    let key = MachineKey::new(cluster.clone(), node.clone());
    provider.vouch(&key, claim).await.map_err(|error| match error.class() {
        ErrorClass::Operator => Refusal::new(Reason::JoinRefused, ErrorChain(&error).to_string()),
        ErrorClass::Transient | ErrorClass::Blocked | ErrorClass::Bug => silent(ErrorChain(&error).to_string()),
    })
}
