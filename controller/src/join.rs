// SPDX-License-Identifier: Apache-2.0
//! Enrolment: how a token, and later a certificate's own key, becomes an agent certificate.
//!
//! A caller who fails learns only that they were refused; the audit log and the events have the reason. Failures are
//! limited per address, successes are not, so that a fleet behind one address can join at once and a guesser cannot.

mod failures;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::join_service_server::JoinService;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

use crate::caller::Caller;
use crate::change::{Changes, Wish};
use crate::clock::Clock;
use crate::events::EventLog;
use crate::execute::Runs;
use crate::fleet::Fleet;
use crate::pki::{Issued, OrderKey, PublicKey, Serial, serial_of};
use crate::provider::Claim;
use crate::store::{Committed, Store, StoreError, Transaction};
use crate::tokens::{Token, TokenRecord, TokenUse, Tokens, Verdict, use_up};
use crate::trust::{Holder, Trust};
use failures::Failures;

/// What an agent signs with its old key before the new request, so that the signature fits nothing else.
const RENEW_CONTEXT: &[u8] = b"windlass renew v1";

/// A UUID as text.
const LONGEST_UUID: usize = 36;

/// A node that was off this long after its certificate ended must be enrolled anew.
pub const RENEW_AFTER_EXPIRY: Duration = Duration::from_secs(90 * 86_400);

/// Everything enrolment needs.
#[derive(Debug)]
pub struct Enrolment {
    /// The state.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Who is trusted.
    pub trust: Arc<Trust>,
    /// The key whose orders nodes obey.
    pub order_key: Arc<OrderKey>,
    /// The tokens.
    pub tokens: Arc<Tokens>,
    /// The nodes.
    pub fleet: Arc<Fleet>,
    /// The runs, which know who made the machines.
    pub runs: Arc<Runs>,
    /// The events.
    pub events: Arc<EventLog>,
    /// How changes are made.
    pub changes: Changes,
    /// How long an agent's certificate is valid.
    pub certificate_life: Duration,
    /// Where agents connect afterwards.
    pub agent_endpoint: String,
}

/// The Join and Renew calls.
#[derive(Debug)]
pub struct JoinApi {
    enrolment: Arc<Enrolment>,
    failures: Failures,
}

impl JoinApi {
    /// The calls.
    #[must_use]
    pub fn new(enrolment: Arc<Enrolment>) -> Self {
        Self { enrolment, failures: Failures::default() }
    }

    /// Counts a failure against the caller's address.
    async fn limited<T>(
        &self,
        caller: &Caller,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Response<T>, Status> {
        let address = caller.address();
        if address.is_some_and(|address| self.failures.is_exhausted(address)) {
            crate::metrics::join_attempt("limited");
            return Err(Refusal::new(Reason::RateLimited, "too many failed attempts from this address")
                .advise("wait a minute and try again")
                .into());
        }
        let result = work.await;
        crate::metrics::join_attempt(if result.is_ok() { "ok" } else { "refused" });
        match result {
            Ok(answer) => Ok(Response::new(answer)),
            Err(refusal) => {
                if let (Reason::JoinRefused | Reason::BadRequest, Some(address)) = (refusal.reason, address) {
                    self.failures.count(address);
                }
                Err(veiled(refusal).into())
            }
        }
    }
}

#[tonic::async_trait]
impl JoinService for JoinApi {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let token = Token::parse(&message.token);
        let wish = Wish {
            caller: &caller,
            verb: "join",
            object: format!("token/{}", token.id()),
            arguments: json!({ "agent_version": message.agent_version.chars().take(64).collect::<String>() }),
        };
        let enrolment = &self.enrolment;
        self.limited(&caller, enrolment.changes.run(wish, enrolment.join(&caller, &token, &message))).await
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let serial = serial_of(&message.certificate_der).map(|serial| serial.to_string()).unwrap_or_default();
        let wish =
            Wish { caller: &caller, verb: "renew", object: format!("certificate/{serial}"), arguments: json!({}) };
        let enrolment = &self.enrolment;
        self.limited(&caller, enrolment.changes.run(wish, enrolment.renew_by_possession(&message))).await
    }
}

impl Enrolment {
    async fn join(
        &self,
        caller: &Caller,
        token: &Token,
        request: &v1::JoinRequest,
    ) -> Result<v1::JoinResponse, Refusal> {
        let key = PublicKey::from_request(&request.csr_der)
            .map_err(|error| Refusal::new(Reason::BadRequest, ErrorChain(&error).to_string()))?;
        let digest = crate::pki::key_digest(key.spki_der());
        loop {
            match self.tokens.examine(token, digest).await.map_err(|error| internal(&error))? {
                Verdict::Usable(record, revision) => {
                    self.vouched(caller, &record.node, request).await?;
                    if let Some(issued) = self.enrol(&record, revision, &key).await? {
                        let at = caller.address().map_or_else(String::new, |address| format!(" from {address}"));
                        self.tell(EventKind::NodeJoined, &record.node, format!("{} joined{at}", record.node));
                        return Ok(self.answer(&record.node, issued.der, issued.not_after.0));
                    }
                    // Somebody used it a moment ago; look again.
                }
                Verdict::Again(record, used) => {
                    if let Err(why) = self.trust.identify(used.serial) {
                        return Err(self.turned_away(caller, &format!("the token of {} was used: {why}", record.node)));
                    }
                    let certificate = self.trust.certificate(used.serial);
                    let not_after = certificate.map(|record| record.not_after.0).unwrap_or_default();
                    return Ok(self.answer(&record.node, used.certificate_der, not_after));
                }
                Verdict::Reused(record) => {
                    let message =
                        format!("the used token of {} was presented with another key by {caller}", record.node);
                    self.tell(EventKind::TokenReused, &record.node, message.clone());
                    return Err(refused(message));
                }
                Verdict::Refused(why) => return Err(self.turned_away(caller, &why.to_string())),
            }
        }
    }

    /// Whether the caller is the machine that was made for a node. The token stays usable for the one that is.
    async fn vouched(&self, caller: &Caller, node: &NodeName, request: &v1::JoinRequest) -> Result<(), Refusal> {
        let system_uuid = request.system_uuid.chars().take(LONGEST_UUID).collect();
        let claim = Claim { address: caller.address(), system_uuid };
        witness::vouch(self.runs.observer(), node, &claim).await.map_err(|refusal| match refusal.reason {
            Reason::JoinRefused => self.turned_away(caller, &refusal.message),
            _ => refusal,
        })
    }

    /// One transaction uses up the token, records the certificate and makes the node; `None` if the token was just used.
    async fn enrol(
        &self,
        token: &TokenRecord,
        revision: crate::store::Revision,
        key: &PublicKey,
    ) -> Result<Option<Issued>, Refusal> {
        let _turn = self.fleet.turn(&token.node).await;
        // Whoever had the turn before may have joined with it: that is to be told, and not that the name is taken.
        if !self.tokens.is_as_examined(token, revision).await.map_err(|error| store(&error))? {
            return Ok(None);
        }
        let (issued, record, transaction) = self
            .trust
            .sign_for_node(&token.node, key, self.certificate_life, Transaction::new())
            .map_err(|error| internal(&error))?;
        let used = TokenUse { key: record.key, serial: issued.serial, certificate_der: issued.der.clone() };
        let transaction = use_up(transaction, token, revision, used);
        let (node, transaction) = self.fleet.enrol(&token.node, issued.serial, transaction)?;
        match self.store.commit(transaction).await.map_err(|error| store(&error))? {
            Committed::Conflict => Ok(None),
            Committed::Yes(_) => {
                self.trust.admit(issued.serial, record);
                self.fleet.admit(node);
                Ok(Some(issued))
            }
        }
    }

    async fn renew_by_possession(&self, request: &v1::RenewRequest) -> Result<v1::RenewResponse, Refusal> {
        let why = |why: &str| {
            self.events.emit(EventKind::JoinRefused, None, None, format!("a renewal was refused: {why}"));
            refused(why)
        };
        let serial = serial_of(&request.certificate_der).ok_or_else(|| why("not a certificate"))?;
        let record = self.trust.certificate(serial).ok_or_else(|| why("unknown certificate"))?;
        let Holder::Node(node) = &record.holder else { return Err(why("not a node's certificate")) };
        if record.revoked_at.is_some() {
            return Err(why(&format!("the certificate of {node} was revoked")));
        }
        if record.not_after.plus(RENEW_AFTER_EXPIRY) < self.clock.now() {
            return Err(why(&format!("the certificate of {node} ended too long ago")));
        }
        if crate::pki::key_of(&request.certificate_der) != Some(record.key) {
            return Err(why(&format!("a forged certificate of {node}")));
        }
        let message = [RENEW_CONTEXT, &request.csr_der].concat();
        crate::pki::verify_by_certificate(&request.certificate_der, &message, &request.proof)
            .map_err(|_| why(&format!("no proof of the key of {node}")))?;
        let issued = self.renew(node, serial, &request.csr_der).await?;
        Ok(v1::RenewResponse { issued: Some(issued) })
    }

    /// Signs a new certificate for a node that has proved who it is with the certificate `used`.
    ///
    /// # Errors
    /// If the request is bad, the node is gone or revoked, or the certificate cannot be recorded.
    pub async fn renew(&self, node: &NodeName, used: Serial, csr_der: &[u8]) -> Result<v1::IssuedCertificate, Refusal> {
        let key = PublicKey::from_request(csr_der)
            .map_err(|error| Refusal::new(Reason::BadRequest, ErrorChain(&error).to_string()))?;
        let turn = self.fleet.turn(node).await;
        // Looked at again: the node may have been removed since, and another may have its name by now.
        if self.trust.certificate(used).is_none_or(|record| record.revoked_at.is_some()) {
            return Err(Refusal::new(Reason::NotTrusted, format!("the certificate of {node} was revoked")));
        }
        let (issued, record, transaction) = self
            .trust
            .sign_for_node(node, &key, self.certificate_life, Transaction::new())
            .map_err(|error| internal(&error))?;
        let (renewed, transaction) = self.fleet.renewed(node, issued.serial, transaction)?;
        let _: Committed = self.store.commit(transaction).await.map_err(|error| store(&error))?;
        self.trust.admit(issued.serial, record);
        self.fleet.admit(renewed);
        drop(turn);
        self.tell(EventKind::CertificateRenewed, node, format!("{node} renewed its certificate"));
        Ok(self.issued(issued.der, issued.not_after.0))
    }

    fn answer(&self, node: &NodeName, certificate_der: Vec<u8>, not_after: i64) -> v1::JoinResponse {
        v1::JoinResponse {
            node: node.to_string(),
            issued: Some(self.issued(certificate_der, not_after)),
            agent_endpoint: self.agent_endpoint.clone(),
        }
    }

    fn issued(&self, certificate_der: Vec<u8>, not_after_unix_millis: i64) -> v1::IssuedCertificate {
        v1::IssuedCertificate {
            certificate_der: certificate_der.into(),
            ca_der: self.trust.authority().trusted().into_iter().map(Into::into).collect(),
            not_after_unix_millis,
            order_key: bytes::Bytes::copy_from_slice(self.order_key.public()),
        }
    }

    fn turned_away(&self, caller: &Caller, why: &str) -> Refusal {
        self.events.emit(EventKind::JoinRefused, None, None, format!("{caller} was refused: {why}"));
        refused(why)
    }

    fn tell(&self, kind: EventKind, node: &NodeName, message: String) {
        self.events.emit(kind, Some(node), None, message);
    }
}

/// For the audit log; strangers get [`veiled`].
fn refused(why: impl Into<String>) -> Refusal {
    Refusal::new(Reason::JoinRefused, why)
}

/// What a stranger is told: never why.
fn veiled(refusal: Refusal) -> Refusal {
    if refusal.reason != Reason::JoinRefused {
        return refusal;
    }
    Refusal::new(Reason::JoinRefused, "the controller refused this token or certificate")
        .advise("on the bastion, `windlass events` says why; `windlass token create NODE` makes a new token")
}

fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise("see the controller's log")
}

/// Maps a failure of the state database.
#[must_use]
pub fn store(error: &StoreError) -> Refusal {
    let text = ErrorChain(error).to_string();
    match error {
        StoreError::DiskFull => Refusal::new(Reason::DiskFull, text),
        StoreError::Closed => Refusal::new(Reason::ShuttingDown, text),
        StoreError::Database { .. } => {
            Refusal::new(Reason::StateUnavailable, text).advise("see the controller's log and `windlass check`")
        }
    }
}
