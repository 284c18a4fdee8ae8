// SPDX-License-Identifier: Apache-2.0
//! Tokens: got once, used by everybody, renewed before they end and when a service does not take one any more.
//!
//! One renewal runs at a time. Those who wait for it take its token, and its failure too: a wrong password that each of
//! forty tasks tried again would lock the user out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::again;
use super::catalogue::Catalogue;
use super::clouds::{ApplicationCredential, CloudConfig, Domain, Login, Named};
use super::error::CloudError;
use super::http::{Answer, Http, Request, malformed, sensitive};
use super::secret::Secret;
use super::service::Service;

/// A token is not used so close to its end: what it begins may take that long, and services ask each other with it.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);

/// What is assumed of a token that does not say when it ends. The shortest that clouds are known to give is longer.
const UNTOLD_LIFETIME: Duration = Duration::from_secs(10 * 60);

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Who uses the cloud.
    pub user: String,
    /// The project's id.
    pub project_id: String,
    /// The project's name.
    pub project: String,
    /// What the user may do there.
    pub roles: Vec<String>,
}

/// A token and what came with it.
#[derive(Debug)]
pub(super) struct Token {
    pub(super) value: Secret,
    pub(super) catalogue: Catalogue,
    pub(super) account: Account,
    renew_at: Instant,
}

/// Gets tokens.
#[derive(Debug)]
pub(super) struct Identity {
    http: Arc<Http>,
    address: String,
    body: Secret,
    secrets: Vec<Secret>,
    /// How often a token was asked for.
    attempts: AtomicU64,
    last: Mutex<Last>,
}

/// What came of asking.
#[derive(Debug, Default)]
struct Last {
    token: Option<Arc<Token>>,
    failure: Option<CloudError>,
}

impl Identity {
    pub(super) fn new(http: Arc<Http>, config: &CloudConfig) -> Self {
        let body = Secret::new(request_body(config).to_string());
        let secrets = vec![secret_of(&config.login).clone()];
        let address = format!("{}/auth/tokens", versioned(&config.auth_url));
        Self { http, address, body, secrets, attempts: AtomicU64::new(0), last: Mutex::default() }
    }

    /// A token that lasts a while. `not` is one that a service has refused.
    pub(super) async fn token(&self, not: Option<&Arc<Token>>) -> Result<Arc<Token>, CloudError> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        let usable =
            |token: &&Arc<Token>| not.is_none_or(|not| !Arc::ptr_eq(not, token)) && Instant::now() < token.renew_at;
        if let Some(token) = last.token.as_ref().filter(usable) {
            return Ok(Arc::clone(token));
        }
        // Somebody has asked while we waited for our turn, and failed.
        if let Some(failure) = last.failure.as_ref().filter(|_| self.attempts.load(Ordering::Acquire) != seen) {
            return Err(failure.clone());
        }
        let asked = self.ask().await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        *last = Last { token: asked.as_ref().ok().cloned(), failure: asked.as_ref().err().cloned() };
        asked
    }

    /// Two tokens are as good as one, so this may be sent again.
    async fn patiently(&self, request: &Request) -> Result<Answer, CloudError> {
        let mut attempts = 0;
        loop {
            let error = match self.http.send(request).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            attempts += 1;
            let Some(pause) = again::pause(true, &error, attempts) else { return Err(error) };
            tracing::debug!(%error, ?pause, "a token is asked for again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn ask(&self) -> Result<Arc<Token>, CloudError> {
        let request = Request {
            service: Service::Identity,
            method: Method::POST,
            address: self.address.clone(),
            call: "POST /auth/tokens".to_owned(),
            headers: HeaderMap::new(),
            body: Some(Bytes::copy_from_slice(self.body.reveal().as_bytes())),
            secrets: self.secrets.clone(),
        };
        let answer = self.patiently(&request).await?;
        let token = answer.headers.get("x-subject-token").and_then(|value| value.to_str().ok());
        let token = token.ok_or_else(|| malformed(&request, "there is no token in it".to_owned()))?;
        // The reason names a place in the answer and no value of it.
        let told: Envelope = serde_json::from_slice(&answer.body)
            .map_err(|error| malformed(&request, format!("it is no description of a token: {error}")))?;
        let value = Secret::new(token);
        if sensitive(&value).is_none() {
            return Err(malformed(&request, "its token does not fit into a header".to_owned()));
        }
        let project =
            told.token.project.ok_or_else(|| malformed(&request, "its token is for no project".to_owned()))?;
        let account = Account {
            user: told.token.user.name,
            project_id: project.id,
            project: project.name,
            roles: told.token.roles.into_iter().map(|role| role.name).collect(),
        };
        let lifetime = lifetime(told.token.issued_at.as_deref(), told.token.expires_at.as_deref());
        // A token that was got with another ends with it, however often it is renewed: halves keep that from spinning.
        let renew_at = Instant::now() + lifetime.saturating_sub(RENEW_BEFORE.min(lifetime / 2));
        Ok(Arc::new(Token { value, catalogue: told.token.catalog, account, renew_at }))
    }
}

/// By the cloud's clock alone: ours may be wrong.
fn lifetime(issued: Option<&str>, expires: Option<&str>) -> Duration {
    let parse = |text: Option<&str>| text.and_then(|text| text.parse::<Timestamp>().ok());
    let (Some(issued), Some(expires)) = (parse(issued), parse(expires)) else { return UNTOLD_LIFETIME };
    Duration::try_from(expires.duration_since(issued)).unwrap_or(Duration::ZERO)
}

#[derive(Deserialize)]
struct Envelope {
    token: Told,
}

#[derive(Deserialize)]
struct Told {
    issued_at: Option<String>,
    expires_at: Option<String>,
    #[serde(default)]
    catalog: Catalogue,
    project: Option<Id>,
    #[serde(default)]
    user: Id,
    #[serde(default)]
    roles: Vec<Id>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Id {
    id: String,
    name: String,
}

/// The address of version 3, however the cloud's own was written.
fn versioned(url: &str) -> String {
    let url = url.trim_end_matches('/');
    let root = url.strip_suffix("/v3").or_else(|| url.strip_suffix("/v2.0")).unwrap_or(url);
    format!("{root}/v3")
}

const fn secret_of(login: &Login) -> &Secret {
    match login {
        Login::Password { password, .. } => password,
        Login::Token(token) => token,
        Login::ApplicationCredential { secret, .. } => secret,
    }
}

fn request_body(config: &CloudConfig) -> Value {
    let identity = match &config.login {
        Login::Password { user, password } => {
            let mut user = named(user);
            user["password"] = json!(password.reveal());
            json!({"methods": ["password"], "password": {"user": user}})
        }
        Login::Token(token) => json!({"methods": ["token"], "token": {"id": token.reveal()}}),
        Login::ApplicationCredential { credential, secret } => {
            let mut credential = match credential {
                ApplicationCredential::Id(id) => json!({"id": id}),
                ApplicationCredential::Name { name, user } => json!({"name": name, "user": named(user)}),
            };
            credential["secret"] = json!(secret.reveal());
            json!({"methods": ["application_credential"], "application_credential": credential})
        }
    };
    match &config.project {
        Some(project) => json!({"auth": {"identity": identity, "scope": {"project": named(project)}}}),
        None => json!({"auth": {"identity": identity}}),
    }
}

fn named(named: &Named) -> Value {
    match named {
        Named::Id(id) => json!({"id": id}),
        Named::Name { name, domain: Domain::Id(id) } => json!({"name": name, "domain": {"id": id}}),
        Named::Name { name, domain: Domain::Name(domain) } => json!({"name": name, "domain": {"name": domain}}),
    }
}
