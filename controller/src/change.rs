// SPDX-License-Identifier: Apache-2.0
//! The one way a request changes something: record who wants what, do it, record how it went, then answer.
//!
//! If the first record cannot be written the change is refused; if the second cannot, the answer says so. Nothing is
//! changed by a request outside of [`Changes::run`].

use std::future::Future;
use std::sync::Arc;

use serde_json::Value;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;

use crate::audit::{AuditError, AuditLog, AuditRequest, AuditResult, redact};
use crate::caller::Caller;
use crate::room::Ballast;

/// Audited changes.
#[derive(Debug, Clone)]
pub struct Changes {
    audit: Arc<AuditLog>,
    ballast: Option<Arc<Ballast>>,
}

/// What somebody wants to change.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Who.
    pub caller: &'a Caller,
    /// The verb, such as `node revoke`.
    pub verb: &'static str,
    /// What it is about, such as `node/node1`.
    pub object: String,
    /// The arguments; secrets are removed before they are written.
    pub arguments: Value,
}

impl Changes {
    /// Changes recorded in this log; `ballast` is given up for those that cannot wait for room on the disk.
    #[must_use]
    pub const fn new(audit: Arc<AuditLog>, ballast: Option<Arc<Ballast>>) -> Self {
        Self { audit, ballast }
    }

    /// The log.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The ballast, where there is one.
    #[must_use]
    pub fn ballast(&self) -> Option<&Ballast> {
        self.ballast.as_deref()
    }

    /// As [`Changes::run`], for what ends somebody's trust: it works on a full disk, too.
    ///
    /// # Errors
    /// As [`Changes::run`].
    pub async fn run_urgent<T>(
        &self,
        wish: Wish<'_>,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let _lent = self.ballast().map(Ballast::lend);
        self.run(wish, work).await
    }

    /// Records, does, records.
    ///
    /// # Errors
    /// What `work` answers, or that the audit log cannot be written.
    pub async fn run<T>(&self, wish: Wish<'_>, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let request = AuditRequest {
            actor: wish.caller.to_string(),
            role: wish.caller.role_name(),
            origin: wish.caller.origin(),
            verb: wish.verb.to_owned(),
            object: wish.object,
            arguments: redact(wish.arguments),
        };
        let ticket = self.audit.requested(request).await.map_err(|error| unavailable(&error, "nothing was changed"))?;
        let result = work.await;
        let outcome = match &result {
            Ok(_) => AuditResult::ok(),
            Err(refusal) => AuditResult::refused(refusal.reason.as_str(), &refusal.message),
        };
        if let Err(error) = self.audit.done(ticket, outcome).await {
            let refusal = unavailable(&error, "the change was made, but its result is not in the audit log");
            // What did not work out has changed nothing, and says why itself.
            return result.and(Err(refusal));
        }
        result
    }
}

fn unavailable(error: &AuditError, consequence: &str) -> Refusal {
    tracing::error!(error = %ErrorChain(error), "the audit log cannot be written");
    Refusal::new(
        Reason::AuditUnavailable,
        format!("the audit log cannot be written: {}; {consequence}", ErrorChain(error)),
    )
    .advise("make room or mend the permissions of the audit directory, then try again")
}
