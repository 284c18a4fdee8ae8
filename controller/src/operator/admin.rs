// SPDX-License-Identifier: Apache-2.0
//! AdminService.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::admin_service_server::AdminService;
use windlass_types::event::EventKind;
use windlass_types::name::OperatorName;
use windlass_types::role::OperatorRole;

use super::{bad, internal};
use crate::caller::Caller;
use crate::change::Wish;
use crate::orders::ConfirmError;
use crate::pki::PublicKey;
use crate::server::{Controller, backup, rotate};
use crate::trust::{OperatorRecord, TrustError};

/// The longest life of an operator's certificate.
const LONGEST_OPERATOR: Duration = Duration::from_secs(825 * 86_400);

/// The calls.
#[derive(Debug)]
pub struct AdminApi(pub Arc<Controller>);

#[tonic::async_trait]
impl AdminService for AdminApi {
    type BackupStream = BoxStream<'static, Result<v1::BackupResponse, Status>>;

    async fn create_operator(
        &self,
        request: Request<v1::CreateOperatorRequest>,
    ) -> Result<Response<v1::CreateOperatorResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = OperatorName::new(message.name).map_err(|error| bad(&error))?;
        let role: OperatorRole = message.role.parse().map_err(|error| bad(&error))?;
        let arguments = json!({ "role": role, "ttl_seconds": message.ttl_seconds });
        let wish = Wish { caller: &caller, verb: "operator create", object: format!("operator/{name}"), arguments };
        let life = match message.ttl_seconds {
            0 => self.0.settings.operator_certificate,
            seconds => Duration::from_secs(seconds),
        };
        let is_limited = message.ttl_seconds != 0;
        let work = async {
            if life > LONGEST_OPERATOR {
                let days = life.as_secs().div_ceil(86_400);
                return Err(Refusal::new(
                    Reason::BadRequest,
                    format!("an operator's certificate lasts 825 days at most, not {days}"),
                )
                .advise("give a shorter --ttl, or none: it is then renewed by itself for as long as it is used"));
            }
            let key = PublicKey::from_request(&message.csr_der).map_err(|error| bad(&error))?;
            self.0.trust.create_operator(&name, role, &key, (life, is_limited)).await.map_err(|error| refusal(&error))
        };
        let (issued, record) = self.0.changes.run(wish, work).await?;
        self.tell(EventKind::OperatorCreated, format!("{caller} made operator {name} with the role {role}"));
        Ok(Response::new(v1::CreateOperatorResponse {
            operator: Some(on_wire(&name, &record)),
            certificate_der: issued.der.into(),
            ca_der: self.0.trust.authority().trusted().into_iter().map(Into::into).collect(),
            endpoint: self.0.agent_endpoint.clone(),
        }))
    }

    async fn renew_operator(
        &self,
        request: Request<v1::RenewOperatorRequest>,
    ) -> Result<Response<v1::RenewOperatorResponse>, Status> {
        let caller = Caller::of(&request);
        let Caller::Operator { name, serial, .. } = &caller else {
            let message = "only an operator with a certificate has one to renew";
            return Err(Refusal::new(Reason::BadRequest, message).into());
        };
        let key = PublicKey::from_request(&request.into_inner().csr_der).map_err(|error| bad(&error))?;
        // Not worth a record: nothing is changed, and every command of an operator for a limited time comes by here.
        self.0.trust.require_due(name, *serial).map_err(|error| refusal(&error))?;
        let wish =
            Wish { caller: &caller, verb: "operator renew", object: format!("operator/{name}"), arguments: json!({}) };
        let life = self.0.settings.operator_certificate;
        let work =
            async { self.0.trust.renew_operator(name, *serial, &key, life).await.map_err(|error| refusal(&error)) };
        let (issued, record) = self.0.changes.run(wish, work).await?;
        self.tell(EventKind::OperatorRenewed, format!("the certificate of operator {name} was renewed"));
        let operator = Some(on_wire(name, &record));
        Ok(Response::new(v1::RenewOperatorResponse { operator, certificate_der: issued.der.into() }))
    }

    async fn list_operators(
        &self,
        _request: Request<v1::ListOperatorsRequest>,
    ) -> Result<Response<v1::ListOperatorsResponse>, Status> {
        let operators = self.0.trust.operators().iter().map(|(name, record)| on_wire(name, record)).collect();
        Ok(Response::new(v1::ListOperatorsResponse { operators }))
    }

    async fn set_operator_role(
        &self,
        request: Request<v1::SetOperatorRoleRequest>,
    ) -> Result<Response<v1::SetOperatorRoleResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let name = OperatorName::new(message.name).map_err(|error| bad(&error))?;
        let role: OperatorRole = message.role.parse().map_err(|error| bad(&error))?;
        let arguments = json!({ "role": role });
        let wish = Wish { caller: &caller, verb: "operator role", object: format!("operator/{name}"), arguments };
        let work = async { self.0.trust.set_role(&name, role).await.map_err(|error| refusal(&error)) };
        let record = self.0.changes.run(wish, work).await?;
        self.tell(EventKind::OperatorChanged, format!("{caller} gave {name} the role {role}"));
        Ok(Response::new(v1::SetOperatorRoleResponse { operator: Some(on_wire(&name, &record)) }))
    }

    async fn remove_operator(
        &self,
        request: Request<v1::RemoveOperatorRequest>,
    ) -> Result<Response<v1::RemoveOperatorResponse>, Status> {
        let caller = Caller::of(&request);
        let name = OperatorName::new(request.into_inner().name).map_err(|error| bad(&error))?;
        let wish =
            Wish { caller: &caller, verb: "operator remove", object: format!("operator/{name}"), arguments: json!({}) };
        let work = async { self.0.trust.remove_operator(&name).await.map_err(|error| refusal(&error)) };
        let closed = self.0.changes.run_urgent(wish, work).await?;
        self.tell(EventKind::OperatorRemoved, format!("{caller} removed operator {name}"));
        let closed_connections = u32::try_from(closed).unwrap_or(u32::MAX);
        Ok(Response::new(v1::RemoveOperatorResponse { closed_connections }))
    }

    async fn rotate_ca(&self, request: Request<v1::RotateCaRequest>) -> Result<Response<v1::RotateCaResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        if message.dry_run {
            return Ok(Response::new(rotate::preview(&self.0)));
        }
        let arguments = json!({ "leave_behind": message.leave_behind });
        let wish = Wish { caller: &caller, verb: "ca rotate", object: "ca".to_owned(), arguments };
        let answer = self.0.changes.run(wish, async { rotate::advance(&self.0, message.leave_behind) }).await?;
        self.tell(EventKind::CaRotated, format!("{caller}: {}", answer.stage));
        Ok(Response::new(answer))
    }

    async fn backup(&self, request: Request<v1::BackupRequest>) -> Result<Response<Self::BackupStream>, Status> {
        let caller = Caller::of(&request);
        let wish = Wish { caller: &caller, verb: "backup", object: "state".to_owned(), arguments: json!({}) };
        let pieces = self.0.changes.run(wish, backup::make(&self.0)).await?;
        self.tell(EventKind::BackupTaken, format!("{caller} took a backup"));
        Ok(Response::new(pieces.map(|piece| piece.map(|data| v1::BackupResponse { data })).boxed()))
    }

    async fn confirm_epoch(
        &self,
        request: Request<v1::ConfirmEpochRequest>,
    ) -> Result<Response<v1::ConfirmEpochResponse>, Status> {
        let caller = Caller::of(&request);
        let wish = Wish { caller: &caller, verb: "epoch confirm", object: "epoch".to_owned(), arguments: json!({}) };
        let work = async {
            if !self.0.epoch.is_read_only() {
                return Err(Refusal::new(
                    Reason::Unsafe,
                    "this controller was not restored: there is nothing to confirm",
                ));
            }
            self.0.epoch.confirm(self.0.clock.now()).await.map_err(|error| unconfirmed(&error))
        };
        let epoch = self.0.changes.run(wish, work).await?;
        self.tell(EventKind::EpochConfirmed, format!("{caller} confirmed epoch {epoch}"));
        // Agents learn the new epoch in a new session.
        self.0.trust.connections().close_certified();
        self.0.jobs.carry_on().await;
        self.0.runs.resume_all();
        Ok(Response::new(v1::ConfirmEpochResponse { epoch }))
    }

    async fn verify_audit(
        &self,
        _request: Request<v1::VerifyAuditRequest>,
    ) -> Result<Response<v1::VerifyAuditResponse>, Status> {
        let directory = self.0.settings.state_dir.join("audit");
        let report = tokio::task::spawn_blocking(move || crate::audit::verify(&directory)).await;
        let report = report.map_err(|error| internal(&error))?.map_err(|error| internal(&error))?;
        Ok(Response::new(v1::VerifyAuditResponse {
            records: report.records,
            fault: report.fault.unwrap_or_default(),
            head: report.head.to_string(),
        }))
    }

    async fn get_status(
        &self,
        request: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(v1::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            epoch: self.0.epoch.number(),
            read_only: self.0.epoch.is_read_only(),
            checks: self.0.checks().await,
            started_unix_millis: self.0.started_at.0,
            sessions: u32::try_from(self.0.fleet.sessions()).unwrap_or(u32::MAX),
            ca_pins: self.0.trust.authority().pins().iter().map(ToString::to_string).collect(),
            caller: caller.to_string(),
            caller_role: caller.role_name(),
            unix_millis: self.0.clock.now().0,
        }))
    }
}

impl AdminApi {
    fn tell(&self, kind: EventKind, message: String) {
        self.0.events.emit(kind, None, None, message);
    }
}

fn on_wire(name: &OperatorName, record: &OperatorRecord) -> v1::Operator {
    v1::Operator {
        name: name.to_string(),
        role: record.role.to_string(),
        certificate_serial: record.serial.to_string(),
        not_after_unix_millis: record.not_after.0,
    }
}

fn unconfirmed(error: &ConfirmError) -> Refusal {
    match error {
        ConfirmError::Store(error) => crate::join::store(error),
        ConfirmError::Exhausted { .. } => Refusal::new(Reason::LimitReached, error.to_string())
            .advise("restore another backup: the numbers in this one are damaged"),
    }
}

fn refusal(error: &TrustError) -> Refusal {
    match error {
        TrustError::NoSuchOperator(_) => {
            Refusal::new(Reason::NotFound, error.to_string()).advise("`windlass get operators` lists them")
        }
        TrustError::OperatorExists(name) => Refusal::new(Reason::AlreadyExists, error.to_string())
            .advise(format!("choose another name, or `windlass operator remove {name}` first")),
        TrustError::NotDue(_) => Refusal::new(Reason::BadRequest, error.to_string()),
        TrustError::TooMany(name) => Refusal::new(Reason::LimitReached, error.to_string()).advise(format!(
            "wait until some have ended, or have an admin remove and make {name} again: windlass operator remove {name}"
        )),
        TrustError::Store(error) => crate::join::store(error),
        TrustError::Authority(_) | TrustError::Record { .. } => internal(error),
    }
}
