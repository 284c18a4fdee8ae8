// SPDX-License-Identifier: Apache-2.0
//! Who is trusted now: every certificate this controller has signed, and the connections made with them.
//!
//! The controller is the only party that relies on these certificates, so trust is a look-up in memory, made for every
//! request: no revocation lists, and a revocation holds for connections that are already open. The store is written
//! first, then memory, then connections are closed; a crash in between is completed by the next start.

mod connections;
mod records;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use windlass_types::name::{NodeName, OperatorName};
use windlass_types::role::OperatorRole;
use windlass_types::time::UnixMillis;

pub use connections::{ConnectionGuard, Connections};
pub use records::{CertificateRecord, Holder, OperatorRecord};

use crate::clock::Clock;
use crate::pki::{Authority, AuthorityError, Issued, PublicKey, Purpose, Serial};
use crate::store::{Committed, Store, StoreError, Transaction};

/// Certificates of one operator that have not ended: some copies of a profile, and renewals whose answer was lost. It
/// bounds what an operator can make the controller remember.
const MOST_CERTIFICATES: usize = 16;

/// Trust in certificates and operators.
#[derive(Debug)]
pub struct Trust {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    authority: Authority,
    connections: Connections,
    certificates: RwLock<HashMap<Serial, CertificateRecord>>,
    operators: RwLock<BTreeMap<OperatorName, OperatorRecord>>,
    /// One change at a time: whoever is removed must not be left with a certificate that was just being signed.
    changing_operators: tokio::sync::Mutex<()>,
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// Not signed by this controller, or forgotten.
    #[error("this certificate is not known here")]
    Unknown,
    /// Revoked.
    #[error("this certificate was revoked")]
    Revoked,
    /// Past its end.
    #[error("this certificate has expired")]
    Expired,
}

/// A failure to change who is trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The state database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A stored record cannot be read.
    #[error("understand the stored record {key}")]
    Record {
        /// Its key.
        key: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// No such operator.
    #[error("there is no operator {0}")]
    NoSuchOperator(OperatorName),
    /// Renewed too early, or in vain.
    #[error("the certificate of {0} needs no renewal now")]
    NotDue(OperatorName),
    /// Renewed too often.
    #[error("{0} has {MOST_CERTIFICATES} certificates that have not ended")]
    TooMany(OperatorName),
    /// The operator exists.
    #[error("there is already an operator {0}")]
    OperatorExists(OperatorName),
}

/// What a trusted certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A node's agent.
    Node(NodeName),
    /// An operator and their role at this moment.
    Operator(OperatorName, OperatorRole),
}

impl Trust {
    /// Reads everything that was ever signed and has not been forgotten.
    ///
    /// # Errors
    /// If the store cannot be read or holds something else.
    pub async fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        authority: Authority,
    ) -> Result<Arc<Self>, TrustError> {
        let certificates = records::read_all(&*store, records::CERTIFICATES).await?;
        let operators = records::read_all(&*store, records::OPERATORS).await?;
        Ok(Arc::new(Self {
            store,
            clock,
            authority,
            connections: Connections::default(),
            certificates: RwLock::new(certificates.into_iter().collect()),
            operators: RwLock::new(operators.into_iter().collect()),
            changing_operators: tokio::sync::Mutex::default(),
        }))
    }

    /// The certificate authority.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The open connections.
    #[must_use]
    pub const fn connections(&self) -> &Connections {
        &self.connections
    }

    /// What a certificate says now.
    ///
    /// # Errors
    /// If it is not trusted (any more).
    pub fn identify(&self, serial: Serial) -> Result<Identity, NotTrusted> {
        let certificates = self.certificates();
        let record = certificates.get(&serial).ok_or(NotTrusted::Unknown)?;
        if record.revoked_at.is_some() {
            return Err(NotTrusted::Revoked);
        }
        if record.not_after <= self.clock.now() {
            return Err(NotTrusted::Expired);
        }
        match &record.holder {
            Holder::Node(name) => Ok(Identity::Node(name.clone())),
            Holder::Operator(name) => {
                let operators = self.operators.read().unwrap_or_else(PoisonError::into_inner);
                let operator = operators.get(name).ok_or(NotTrusted::Revoked)?;
                Ok(Identity::Operator(name.clone(), operator.role))
            }
        }
    }

    /// The record of a certificate.
    #[must_use]
    pub fn certificate(&self, serial: Serial) -> Option<CertificateRecord> {
        self.certificates().get(&serial).cloned()
    }

    /// Trusted certificates of nodes that were signed before `moment`, by node.
    #[must_use]
    pub fn nodes_signed_before(&self, moment: UnixMillis) -> Vec<NodeName> {
        let now = self.clock.now();
        let newest = self.newest_by_node(now);
        newest.into_iter().filter(|(_, issued_at)| *issued_at < moment).map(|(name, _)| name).collect()
    }

    fn newest_by_node(&self, now: UnixMillis) -> BTreeMap<NodeName, UnixMillis> {
        let mut newest = BTreeMap::new();
        for record in self.certificates().values() {
            if let Holder::Node(name) = &record.holder
                && record.revoked_at.is_none()
                && record.not_after > now
            {
                let issued_at = newest.entry(name.clone()).or_insert(record.issued_at);
                *issued_at = record.issued_at.max(*issued_at);
            }
        }
        newest
    }

    /// Forgets certificates that ended before `moment`: nobody can use them, not even to renew.
    ///
    /// # Errors
    /// If the store cannot be written; then nothing is forgotten.
    pub async fn forget_ended_before(&self, moment: UnixMillis) -> Result<usize, TrustError> {
        let ended: Vec<_> = self
            .certificates()
            .iter()
            .filter(|(_, record)| record.not_after < moment)
            .map(|(serial, _)| *serial)
            .collect();
        let remove = |transaction: Transaction, serial: &Serial| transaction.delete(records::certificate_key(*serial));
        let _: Committed = self.store.commit(ended.iter().fold(Transaction::new(), remove)).await?;
        self.certificates_mut().retain(|serial, _| !ended.contains(serial));
        Ok(ended.len())
    }

    /// Signs a certificate for a node and adds its record to `transaction`. The certificate is trusted once that
    /// transaction is committed and [`Trust::admit`] was called.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn sign_for_node(
        &self,
        name: &NodeName,
        key: &PublicKey,
        life: Duration,
        transaction: Transaction,
    ) -> Result<(Issued, CertificateRecord, Transaction), TrustError> {
        let issued = self.authority.issue(&Purpose::Node(name.clone()), key, self.clock.now(), life)?;
        let record = CertificateRecord::new(Holder::Node(name.clone()), &issued, key);
        let transaction = transaction.put(records::certificate_key(issued.serial), records::to_json(&record));
        Ok((issued, record, transaction))
    }

    /// Trusts a certificate whose record is committed.
    pub fn admit(&self, serial: Serial, record: CertificateRecord) {
        self.certificates_mut().insert(serial, record);
    }

    /// Revokes every certificate of a holder and closes their connections; returns how many were open.
    ///
    /// # Errors
    /// If the store cannot be written; then nothing has changed.
    pub async fn revoke(&self, holder: &Holder, transaction: Transaction) -> Result<usize, TrustError> {
        let now = self.clock.now();
        let revoked: Vec<_> = self
            .certificates()
            .iter()
            .filter(|(_, record)| record.holder == *holder && record.revoked_at.is_none())
            .map(|(serial, record)| (*serial, CertificateRecord { revoked_at: Some(now), ..record.clone() }))
            .collect();
        let mut transaction = transaction;
        for (serial, record) in &revoked {
            transaction = transaction.put(records::certificate_key(*serial), records::to_json(record));
        }
        let _: Committed = self.store.commit(transaction).await?;
        let mut certificates = self.certificates_mut();
        let mut serials = Vec::with_capacity(revoked.len());
        for (serial, record) in revoked {
            certificates.insert(serial, record);
            serials.push(serial);
        }
        drop(certificates);
        Ok(self.connections.close(&serials))
    }

    /// Whether renewing this certificate gains anything: a third of its life is over, or another CA signs by now. One
    /// that was made for a limited time never lives longer.
    ///
    /// # Errors
    /// If it gains nothing, or there is no such operator.
    pub fn require_due(&self, name: &OperatorName, used: Serial) -> Result<(), TrustError> {
        let operator = self.operator(name).ok_or_else(|| TrustError::NoSuchOperator(name.clone()))?;
        let used = self.certificate(used).ok_or_else(|| TrustError::NoSuchOperator(name.clone()))?;
        let is_of_old_ca = self.authority.signing_since().is_some_and(|moment| used.issued_at < moment);
        let aged = used.issued_at.plus(used.not_after.since(used.issued_at) / 3);
        let may_live_longer = operator.until.is_none_or(|until| used.not_after < until);
        if is_of_old_ca || (self.clock.now() >= aged && may_live_longer) {
            return Ok(());
        }
        Err(TrustError::NotDue(name.clone()))
    }

    /// Signs an operator's next certificate; the one they used for asking stays good until it ends, because the answer
    /// may be lost and because a profile may have been copied.
    ///
    /// # Errors
    /// If it is not due, the key cannot be signed, or the store cannot be written.
    pub async fn renew_operator(
        &self,
        name: &OperatorName,
        used: Serial,
        key: &PublicKey,
        life: Duration,
    ) -> Result<(Issued, OperatorRecord), TrustError> {
        let _turn = self.changing_operators.lock().await;
        let holder = Holder::Operator(name.clone());
        let mut operator = self.operator(name).ok_or_else(|| TrustError::NoSuchOperator(name.clone()))?;
        self.require_due(name, used)?;
        let now = self.clock.now();
        let lives = |record: &&CertificateRecord| record.holder == holder && record.not_after > now;
        if self.certificates().values().filter(lives).count() >= MOST_CERTIFICATES {
            return Err(TrustError::TooMany(name.clone()));
        }
        let life = operator.until.map_or(life, |until| until.since(now).min(life));
        let issued = self.authority.issue(&Purpose::Operator(name.clone()), key, now, life)?;
        let certificate = CertificateRecord::new(holder, &issued, key);
        (operator.serial, operator.not_after) = (issued.serial, issued.not_after);
        let transaction = Transaction::new()
            .put(records::operator_key(name), records::to_json(&operator))
            .put(records::certificate_key(issued.serial), records::to_json(&certificate));
        let _: Committed = self.store.commit(transaction).await?;
        self.certificates_mut().insert(issued.serial, certificate);
        self.operators_mut().insert(name.clone(), operator.clone());
        Ok((issued, operator))
    }

    /// Operators whose newest certificate was signed before `moment` and has not ended.
    #[must_use]
    pub fn operators_signed_before(&self, moment: UnixMillis) -> Vec<OperatorName> {
        let now = self.clock.now();
        let operators = self.operators().into_iter().filter(|(_, record)| record.not_after > now);
        let is_old = |record: &OperatorRecord| {
            self.certificate(record.serial).is_some_and(|certificate| certificate.issued_at < moment)
        };
        operators.filter(|(_, record)| is_old(record)).map(|(name, _)| name).collect()
    }

    /// Signs an operator's first certificate; with `is_limited` it is never extended.
    ///
    /// # Errors
    /// If the operator exists, the key cannot be signed, or the store cannot be written.
    pub async fn create_operator(
        &self,
        name: &OperatorName,
        role: OperatorRole,
        key: &PublicKey,
        (life, is_limited): (Duration, bool),
    ) -> Result<(Issued, OperatorRecord), TrustError> {
        let _turn = self.changing_operators.lock().await;
        let issued = self.authority.issue(&Purpose::Operator(name.clone()), key, self.clock.now(), life)?;
        let certificate = CertificateRecord::new(Holder::Operator(name.clone()), &issued, key);
        let until = is_limited.then_some(issued.not_after);
        let operator = OperatorRecord { role, serial: issued.serial, not_after: issued.not_after, until };
        let transaction = Transaction::new()
            .when(crate::store::Compare::Absent(records::operator_key(name)))
            .put(records::operator_key(name), records::to_json(&operator))
            .put(records::certificate_key(issued.serial), records::to_json(&certificate));
        match self.store.commit(transaction).await? {
            Committed::Conflict => Err(TrustError::OperatorExists(name.clone())),
            Committed::Yes(_) => {
                self.certificates_mut().insert(issued.serial, certificate);
                self.operators_mut().insert(name.clone(), operator.clone());
                Ok((issued, operator))
            }
        }
    }

    /// Changes an operator's role; it holds from their next request.
    ///
    /// # Errors
    /// If there is no such operator or the store cannot be written.
    pub async fn set_role(&self, name: &OperatorName, role: OperatorRole) -> Result<OperatorRecord, TrustError> {
        let _turn = self.changing_operators.lock().await;
        let mut record = self.operator(name).ok_or_else(|| TrustError::NoSuchOperator(name.clone()))?;
        record.role = role;
        let transaction = Transaction::new().put(records::operator_key(name), records::to_json(&record));
        let _: Committed = self.store.commit(transaction).await?;
        self.operators_mut().insert(name.clone(), record.clone());
        Ok(record)
    }

    /// Ends the trust in an operator; returns how many connections were open.
    ///
    /// # Errors
    /// If there is no such operator or the store cannot be written.
    pub async fn remove_operator(&self, name: &OperatorName) -> Result<usize, TrustError> {
        let _turn = self.changing_operators.lock().await;
        self.operator(name).ok_or_else(|| TrustError::NoSuchOperator(name.clone()))?;
        let transaction = Transaction::new().delete(records::operator_key(name));
        let closed = self.revoke(&Holder::Operator(name.clone()), transaction).await?;
        self.operators_mut().remove(name);
        Ok(closed)
    }

    /// Every operator.
    #[must_use]
    pub fn operators(&self) -> Vec<(OperatorName, OperatorRecord)> {
        let operators = self.operators.read().unwrap_or_else(PoisonError::into_inner);
        operators.iter().map(|(name, record)| (name.clone(), record.clone())).collect()
    }

    fn operator(&self, name: &OperatorName) -> Option<OperatorRecord> {
        self.operators.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    fn certificates(&self) -> RwLockReadGuard<'_, HashMap<Serial, CertificateRecord>> {
        self.certificates.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn certificates_mut(&self) -> RwLockWriteGuard<'_, HashMap<Serial, CertificateRecord>> {
        self.certificates.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn operators_mut(&self) -> RwLockWriteGuard<'_, BTreeMap<OperatorName, OperatorRecord>> {
        self.operators.write().unwrap_or_else(PoisonError::into_inner)
    }
}
