// SPDX-License-Identifier: Apache-2.0
//! Everything that is known of a cluster at one moment, for the planner: what its provider says exists, which nodes have
//! joined and how they are, which tokens are out, and which nodes this controller has taken on.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windlass_plan::{Hooks, NodeStatus, Snapshot, TokenStatus};
use windlass_types::condition::ConditionKind;
use windlass_types::machine::{MachineReport, ProviderKind};
use windlass_types::name::{ClusterName, NodeName};
use windlass_types::time::UnixMillis;

use crate::fleet::{Fleet, Standing};
use crate::provider::openstack::clouds::Clouds;
use crate::provider::{Provider, ProviderError};
use crate::store::{Committed, Store, StoreError, Transaction};
use crate::tokens::{TokenError, Tokens};

const CLUSTERS: &str = "clusters/";
const MEMBERS: &str = "cluster-members/";

/// The providers this controller has.
#[derive(Debug)]
pub struct Providers {
    /// Those that are always there, by kind.
    pub fixed: BTreeMap<ProviderKind, Arc<dyn Provider>>,
    /// The clouds, each found when it is needed.
    pub clouds: Clouds,
}

impl Providers {
    /// These, and the clouds that the environment of this process knows, for the controller with this uuid.
    #[must_use]
    pub fn new(fixed: impl IntoIterator<Item = Arc<dyn Provider>>, uid: String) -> Self {
        let fixed = fixed.into_iter().map(|provider| (provider.kind(), provider)).collect();
        Self { fixed, clouds: Clouds::of_this_process(uid) }
    }
}

/// What is kept of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterRecord {
    /// Its name.
    pub name: ClusterName,
    /// Who makes its machines.
    pub provider: ProviderKind,
    /// When a plan for it was carried out for the first time.
    pub since: UnixMillis,
    /// The nodes of its spec, as it was last applied: they count when it is asked how many of it are down.
    #[serde(default)]
    pub nodes: Vec<NodeName>,
    /// What is done on them before and after they go down, also by other commands than the spec's.
    #[serde(default)]
    pub hooks: BTreeMap<NodeName, Hooks>,
}

/// A cluster that cannot be observed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record cannot be read.
    #[error("understand the stored record {key}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The tokens.
    #[error("list the tokens")]
    Tokens(#[from] TokenError),
    /// The provider cannot tell.
    #[error("ask the provider {kind} what exists")]
    Provider {
        /// Which.
        kind: ProviderKind,
        /// Why not.
        #[source]
        source: ProviderError,
    },
    /// This controller has no such provider.
    #[error("this controller has no provider {0}")]
    NoProvider(ProviderKind),
}

/// Looks at everything.
#[derive(Debug)]
pub struct Observer {
    /// The state.
    pub store: Arc<dyn Store>,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The providers.
    pub providers: Providers,
}

impl Observer {
    /// A provider.
    ///
    /// # Errors
    /// If this controller has none of that kind, or a cloud cannot be used.
    pub async fn provider(&self, kind: &ProviderKind) -> Result<Arc<dyn Provider>, ObserveError> {
        if let ProviderKind::Openstack(cloud) = kind {
            let provider = self.providers.clouds.provider(cloud).await;
            let provider: Arc<dyn Provider> = provider.map_err(|error| silent(kind, error.into()))?;
            return Ok(provider);
        }
        self.providers.fixed.get(kind).cloned().ok_or_else(|| ObserveError::NoProvider(kind.clone()))
    }

    /// Everything that is known of a cluster now.
    ///
    /// # Errors
    /// If something cannot be asked: then nothing is known, rather than that nothing exists.
    pub async fn snapshot(&self, cluster: &ClusterName, kind: &ProviderKind) -> Result<Snapshot, ObserveError> {
        let provider = self.provider(kind).await?;
        let seen = tokio::try_join!(provider.observe(cluster), provider.shared(cluster));
        let (machines, shared) = seen.map_err(|source| silent(kind, source))?;
        let tokens = self.tokens.list().await?.into_iter().map(|record| TokenStatus {
            node: record.node,
            expires: record.expires,
            is_used: record.used.is_some(),
        });
        let tokens = tokens.collect();
        let members = self.members(cluster).await?;
        Ok(Snapshot { machines, shared, tokens, members, ..self.nodes() })
    }

    /// How the nodes are now, and nothing else.
    #[must_use]
    pub fn nodes(&self) -> Snapshot {
        Snapshot { nodes: self.fleet.standings().iter().map(status).collect(), ..Snapshot::default() }
    }

    /// The clusters to which nodes belong.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn memberships(&self) -> Result<BTreeMap<NodeName, ClusterName>, ObserveError> {
        let mut found = BTreeMap::new();
        for cluster in self.clusters().await? {
            for node in self.members(&cluster.name).await? {
                found.insert(node, cluster.name.clone());
            }
        }
        Ok(found)
    }

    /// The clusters with which nodes count when it is asked how many are down: those whose spec names them, and to which they
    /// belong.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn companies(&self) -> Result<BTreeMap<NodeName, ClusterName>, ObserveError> {
        let mut found = BTreeMap::new();
        for cluster in self.clusters().await? {
            found.extend(cluster.nodes.into_iter().map(|node| (node, cluster.name.clone())));
        }
        found.extend(self.memberships().await?);
        Ok(found)
    }

    /// What is done on nodes before and after they go down, by the specs of their clusters.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn hooks(&self) -> Result<BTreeMap<NodeName, Hooks>, ObserveError> {
        Ok(self.clusters().await?.into_iter().flat_map(|cluster| cluster.hooks).collect())
    }

    /// What the provider says exists of a cluster.
    ///
    /// # Errors
    /// If it cannot tell.
    pub async fn machines(
        &self,
        cluster: &ClusterName,
        kind: &ProviderKind,
    ) -> Result<Vec<MachineReport>, ObserveError> {
        let observed = self.provider(kind).await?.observe(cluster).await;
        observed.map_err(|source| silent(kind, source))
    }

    /// How one node is; `None` if nobody of this name has joined.
    #[must_use]
    pub fn node(&self, name: &NodeName) -> Option<NodeStatus> {
        self.fleet.standing(name).as_ref().map(status)
    }

    /// The clusters for which plans were carried out.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn clusters(&self) -> Result<Vec<ClusterRecord>, ObserveError> {
        let entries = self.store.range(CLUSTERS, None, usize::MAX).await?;
        let read = |entry: &crate::store::Entry| {
            serde_json::from_slice(&entry.value)
                .map_err(|source| ObserveError::Record { key: entry.key.clone(), source })
        };
        entries.iter().map(read).collect()
    }

    /// Remembers a cluster, unless it is known.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn get_to_know(&self, record: &ClusterRecord) -> Result<(), ObserveError> {
        if !self.clusters().await?.iter().any(|known| known.name == record.name) {
            let _: Committed = self.store.commit(know(Transaction::new(), record)).await?;
        }
        Ok(())
    }

    /// Keeps this of a cluster.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn keep(&self, record: &ClusterRecord) -> Result<(), StoreError> {
        let _: Committed = self.store.commit(know(Transaction::new(), record)).await?;
        Ok(())
    }

    /// Remembers that a node belongs to a cluster, before its machine is made.
    ///
    /// # Errors
    /// If the store cannot be written.
    pub async fn take_on(&self, cluster: &ClusterName, node: &NodeName) -> Result<(), StoreError> {
        let _: Committed = self.store.commit(Transaction::new().put(member_key(cluster, node), "")).await?;
        Ok(())
    }

    /// Forgets that a node belongs to a cluster, and what was to be done before and after it goes down.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn let_go(&self, cluster: &ClusterName, node: &NodeName) -> Result<(), ObserveError> {
        let transaction = Transaction::new().delete(member_key(cluster, node));
        let known = self.clusters().await?.into_iter().find(|record| record.name == *cluster);
        let transaction = match known {
            Some(mut record) => {
                record.nodes.retain(|other| other != node);
                record.hooks.remove(node);
                know(transaction, &record)
            }
            None => transaction,
        };
        let _: Committed = self.store.commit(transaction).await?;
        Ok(())
    }

    /// The nodes of a cluster.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn members(&self, cluster: &ClusterName) -> Result<Vec<NodeName>, StoreError> {
        let prefix = format!("{MEMBERS}{cluster}/");
        let entries = self.store.range(&prefix, None, usize::MAX).await?;
        Ok(entries.iter().filter_map(|entry| NodeName::new(&entry.key[prefix.len()..]).ok()).collect())
    }
}

/// Adds to a transaction that a cluster is known.
///
/// # Panics
/// Never: a record is always JSON.
#[must_use]
pub fn know(transaction: Transaction, record: &ClusterRecord) -> Transaction {
    let value = serde_json::to_vec(record).expect("a cluster record is always JSON");
    transaction.put(format!("{CLUSTERS}{}", record.name), value)
}

fn silent(kind: &ProviderKind, source: ProviderError) -> ObserveError {
    ObserveError::Provider { kind: kind.clone(), source }
}

fn member_key(cluster: &ClusterName, node: &NodeName) -> String {
    format!("{MEMBERS}{cluster}/{node}")
}

fn status(view: &Standing) -> NodeStatus {
    let condition = |kind| view.conditions.iter().find(|condition| condition.kind == kind);
    let holds = |kind| condition(kind).is_some_and(|condition| condition.holds);
    let is_healthy = holds(ConditionKind::Healthy);
    let reason = condition(ConditionKind::Healthy).filter(|_| !is_healthy);
    NodeStatus {
        name: view.record.name.clone(),
        is_connected: holds(ConditionKind::Connected),
        is_healthy,
        is_revoked: view.record.revoked.is_some(),
        reason: reason.map(|condition| condition.reason.clone()).unwrap_or_default(),
        labels: view.record.labels.clone(),
    }
}
