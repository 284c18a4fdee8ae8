// SPDX-License-Identifier: Apache-2.0
//! How this machine becomes a node: a one-time token and a certificate request in, a certificate out.
//!
//! The controller is verified against the pinned CA before the token leaves this machine. The key is on disk before it is
//! asked for, so a lost reply is asked for again with the same key and answered with the same certificate.
//! [`renew`] is for a node that was away longer than its certificate lived: it proves that it holds the old key.

mod endpoint;
mod error;
mod token;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::SigningKey as _;
use tokio::time::Instant;
use windlass_proto::v1;
use windlass_proto::v1::join_service_client::JoinServiceClient;
use windlass_types::name::NodeName;
use windlass_types::pin::SpkiPin;

pub use endpoint::{BadEndpoint, Endpoint};
pub use error::JoinError;
use token::Token;

use crate::backoff::Backoff;
use crate::dial::verify::{join_config, pin_of, renewal_config};
use crate::dial::{Dial, connect_as_stranger};
use crate::executor::mandate::Mandate;
use crate::host::clock::Clock;
use crate::identity::{Identity, IdentityError, IdentityStore, certificate_request};

/// How long transient failures are tried again: a controller that restarts is back by then, and a person still waits.
const RETRY_FOR: Duration = Duration::from_secs(20);

const FIRST_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_millis(600));
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long one answer may take; the controller's own limit is the same.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// What the proof of possession signs before the request.
const RENEW_CONTEXT: &[u8] = b"windlass renew v1";

/// Where Linux tells the UUID of the machine. Only root can read it, and joining is root's.
const SYSTEM_UUID: &str = "/sys/class/dmi/id/product_uuid";

/// As text.
const LONGEST_UUID: usize = 36;

/// Where agents connect after joining, unless the controller says otherwise.
pub const DEFAULT_AGENT_PORT: u16 = 7600;

/// What an operator told us.
#[derive(Debug, Clone)]
pub struct JoinPlan {
    /// The join listener.
    pub controller: Endpoint,
    /// Pins of the controller's CA.
    pub pins: Vec<SpkiPin>,
    /// The file with the token.
    pub token_file: PathBuf,
    /// Where the identity goes: the front's directory.
    pub state_dir: PathBuf,
    /// Where it is kept whose orders are obeyed: the executor's directory.
    pub executor_dir: PathBuf,
}

/// How joining went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// This machine is a node now.
    Now(NodeName),
    /// It was one already, of the same controller.
    Already(NodeName),
}

/// Joins.
///
/// # Errors
/// The kind tells what to do and which exit code fits.
pub async fn join(plan: &JoinPlan, dial: &dyn Dial, clock: &Arc<dyn Clock>, seed: u64) -> Result<Joined, JoinError> {
    let store = IdentityStore::new(&plan.state_dir);
    if let Some(identity) = store.load()? {
        return already(identity, plan);
    }
    store.prepare()?;
    let token = Token::read(&plan.token_file)?;
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT, seed);
    let give_up = Instant::now() + RETRY_FOR;
    let node = loop {
        match attempt(plan, &store, &token, dial, clock).await {
            Err(error) if error.is_transient() && Instant::now() < give_up => {
                let wait = backoff.next_wait();
                tracing::info!(error = %error.chain(), "not joined yet; trying again in {} ms", wait.as_millis());
                tokio::time::sleep(wait).await;
            }
            other => break other?,
        }
    };
    remove_token(&plan.token_file);
    Ok(Joined::Now(node))
}

fn already(identity: Identity, plan: &JoinPlan) -> Result<Joined, JoinError> {
    let same = identity.ca.iter().filter_map(pin_of).any(|pin| plan.pins.contains(&pin));
    if same {
        return Ok(Joined::Already(identity.node));
    }
    Err(JoinError::OtherController {
        node: identity.node,
        endpoint: identity.join_endpoint,
        state_dir: plan.state_dir.clone(),
    })
}

/// What the firmware calls this machine; nothing if it does not tell. A claim: the controller asks who made the machine.
fn system_uuid() -> String {
    let text = std::fs::read_to_string(SYSTEM_UUID).unwrap_or_default();
    text.trim().to_ascii_lowercase().chars().take(LONGEST_UUID).collect()
}

async fn attempt(
    plan: &JoinPlan,
    store: &IdentityStore,
    token: &Token,
    dial: &dyn Dial,
    clock: &Arc<dyn Clock>,
) -> Result<NodeName, JoinError> {
    let key = store.pending_key()?;
    let request = v1::JoinRequest {
        token: token.expose().to_owned(),
        csr_der: certificate_request(&key)?,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        system_uuid: system_uuid(),
    };
    let channel = connect_as_stranger(dial, join_config(&plan.pins, clock)?).await?;
    let mut client = JoinServiceClient::new(channel);
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.join(request)).await.map_err(|_| JoinError::NoAnswer)?;
    let answer = answer.map_err(|status| JoinError::refused(&status))?.into_inner();
    let node = NodeName::new(answer.node).map_err(|source| JoinError::Identity(IdentityError::Name(source)))?;
    let issued = answer.issued.ok_or(IdentityError::Answer("it has no certificate"))?;
    let endpoint = plan.controller.completed(&answer.agent_endpoint, DEFAULT_AGENT_PORT);
    let identity = Identity::new(node.clone(), &key, &issued, (endpoint, plan.controller.to_string()))?;
    // First: a machine with an identity has joined.
    Mandate { node: node.clone(), order_key: issued.order_key.to_vec() }.save(&plan.executor_dir)?;
    store.save(&identity)?;
    store.forget_pending_key()?;
    Ok(node)
}

/// The token is used up; a file that stays is untidy, not dangerous.
fn remove_token(path: &Path) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::info!(path = %path.display(), %error, "the token file could not be removed; its token is used up");
    }
}

/// Renews an expired certificate by proof of possession of its key, on the join listener.
///
/// # Errors
/// As [`join`]; if it is refused, the node needs a new token.
pub async fn renew(
    identity: &Identity,
    store: &IdentityStore,
    dial: &dyn Dial,
    clock: &Arc<dyn Clock>,
) -> Result<Identity, JoinError> {
    let key = store.pending_key()?;
    let csr_der = certificate_request(&key)?;
    let signed = [RENEW_CONTEXT, &csr_der].concat();
    let proof = identity.key()?.sign(&signed).map_err(IdentityError::Key)?;
    let certificate_der = bytes::Bytes::copy_from_slice(&identity.certificate);
    let request = v1::RenewRequest { certificate_der, csr_der, proof: proof.into() };
    let mut client = JoinServiceClient::new(connect_as_stranger(dial, renewal_config(identity, clock)?).await?);
    let answer = tokio::time::timeout(CALL_TIMEOUT, client.renew(request)).await.map_err(|_| JoinError::NoAnswer)?;
    let answer = answer.map_err(|status| JoinError::refused(&status))?.into_inner();
    let issued = answer.issued.ok_or(IdentityError::Answer("it has no certificate"))?;
    let renewed = identity.renewed(&key, &issued)?;
    store.save(&renewed)?;
    store.forget_pending_key()?;
    Ok(renewed)
}

#[cfg(test)]
mod tests;
