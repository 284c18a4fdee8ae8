// SPDX-License-Identifier: Apache-2.0
//! What the store keeps of leases and quarantines.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use windlass_types::name::NodeName;
use windlass_types::node_step::Lease;
use windlass_types::time::UnixMillis;

use crate::store::{Store, StoreError};

const LEASES: &str = "leases/";
const QUARANTINE: &str = "quarantine/";

/// The store's key with the number of the next lease.
pub(super) const NEXT: &str = "meta/next-lease";

/// A lease and who has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The lease.
    pub lease: Lease,
    /// Since when.
    pub since: UnixMillis,
    /// Who asked for the run.
    pub by: String,
}

/// Why a node is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: UnixMillis,
    /// Who said so.
    pub by: String,
}

/// Leases that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArbiterError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read. Nothing is granted by a controller that does not know what it granted before.
    #[error("understand the stored record {key}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong; `None` if its key is no node's.
        #[source]
        source: Option<serde_json::Error>,
    },
}

pub(super) type Stored = (BTreeMap<NodeName, Held>, BTreeMap<NodeName, Quarantine>, u64);

/// Everything that is stored.
pub(super) async fn read(store: &dyn Store) -> Result<Stored, ArbiterError> {
    let leases: BTreeMap<_, Held> = all(store, LEASES).await?;
    let quarantined = all(store, QUARANTINE).await?;
    let next = match store.get(NEXT).await? {
        None => 1,
        Some(entry) => std::str::from_utf8(&entry.value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or(ArbiterError::Record { key: entry.key, source: None })?,
    };
    Ok((leases, quarantined, next))
}

async fn all<T: DeserializeOwned>(store: &dyn Store, prefix: &str) -> Result<BTreeMap<NodeName, T>, ArbiterError> {
    let mut found = BTreeMap::new();
    for entry in store.range(prefix, None, usize::MAX).await? {
        let key = entry.key.clone();
        let node = NodeName::new(&entry.key[prefix.len()..]);
        let node = node.map_err(|_| ArbiterError::Record { key: key.clone(), source: None })?;
        let value = serde_json::from_slice(&entry.value);
        found.insert(node, value.map_err(|error| ArbiterError::Record { key, source: Some(error) })?);
    }
    Ok(found)
}

pub(super) fn lease_key(node: &NodeName) -> String {
    format!("{LEASES}{node}")
}

pub(super) fn quarantine_key(node: &NodeName) -> String {
    format!("{QUARANTINE}{node}")
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records are always JSON")
}
