// SPDX-License-Identifier: Apache-2.0
//! Changes of what is stored of a node. Each is made in the node's [`Fleet::turn`].

use std::collections::BTreeMap;

use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::name::{LabelKey, LabelValue, NodeName};

use super::node::{NodeRecord, NodeView, Revocation};
use super::{FACTS, Fleet, lock, no_such_node, node_key, put};
use crate::pki::Serial;
use crate::store::{Compare, Transaction};

impl Fleet {
    /// Adds a new node to a transaction; the caller has its [`Fleet::turn`].
    ///
    /// # Errors
    /// If the name is taken.
    pub fn enrol(
        &self,
        name: &NodeName,
        serial: Serial,
        transaction: Transaction,
    ) -> Result<(NodeRecord, Transaction), Refusal> {
        self.require_free(name)?;
        let record = NodeRecord::new(name.clone(), serial, self.clock.now());
        let transaction = transaction.when(Compare::Absent(node_key(name)));
        Ok((record.clone(), put(transaction, &record)))
    }

    /// Adds a renewed certificate to a transaction; the caller has the node's [`Fleet::turn`].
    ///
    /// # Errors
    /// If there is no such node or it is revoked.
    pub fn renewed(
        &self,
        name: &NodeName,
        serial: Serial,
        transaction: Transaction,
    ) -> Result<(NodeRecord, Transaction), Refusal> {
        let mut record = self.record(name)?;
        if record.revoked.is_some() {
            return Err(Refusal::new(Reason::NotTrusted, format!("{name} is revoked")));
        }
        record.serial = serial;
        Ok((record.clone(), put(transaction, &record)))
    }

    /// Changes labels.
    ///
    /// # Errors
    /// If there is no such node or the store cannot be written.
    pub async fn label(
        &self,
        name: &NodeName,
        set: BTreeMap<LabelKey, LabelValue>,
        remove: &[LabelKey],
    ) -> Result<NodeView, Refusal> {
        let _turn = self.turn(name).await;
        let mut record = self.record(name)?;
        record.labels.retain(|key, _| !remove.contains(key));
        record.labels.extend(set);
        self.save(&record).await?;
        self.admit(record);
        let entry = self.entry(name).ok_or_else(|| no_such_node(name))?;
        Ok(lock(&entry).view())
    }

    /// Marks a record as revoked; the caller has the node's [`Fleet::turn`] and commits it together with the certificates.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn revoked(&self, name: &NodeName, reason: &str) -> Result<(NodeRecord, Transaction), Refusal> {
        let mut record = self.record(name)?;
        let at = self.clock.now();
        record.revoked.get_or_insert_with(|| Revocation { at, reason: reason.to_owned() });
        Ok((record.clone(), put(Transaction::new(), &record)))
    }

    /// The removal of a node, to be committed together with the revocation of its certificates; the caller has the node's
    /// [`Fleet::turn`].
    #[must_use]
    pub fn removal(&self, name: &NodeName) -> Transaction {
        Transaction::new().delete(node_key(name)).delete(format!("{FACTS}{name}"))
    }
}
