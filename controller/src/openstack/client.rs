// SPDX-License-Identifier: Apache-2.0
//! Asks the services of one cloud: with a token, at the right address, and again where that is safe.
//!
//! What is sent again, and when:
//! - Anything to which nobody answered at all: nothing was sent then.
//! - Once, with a new token, what was refused because of the token: nothing was done then.
//! - Reads, and changes of which the caller knows that twice is the same as once: after a lost connection, no answer, a
//!   failure of the service, or when it asks for patience.
//! - Nothing else. A change that may have been done is looked for by the caller, who knows by which tag.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::again;
use super::call::Call;
use super::clouds::CloudConfig;
use super::error::CloudError;
use super::http::{Answer, Http, Request, malformed, sensitive};
use super::identity::{Account, Identity, Token};
use super::microversion::Microversion;
use super::pages;
use super::refusal::Kind;
use super::service::Service;

/// A client for one cloud, as one user, for one project. Cheap to share by `Arc`, and best shared: it holds the token.
#[derive(Debug)]
pub struct Client {
    config: CloudConfig,
    http: Arc<Http>,
    identity: Identity,
    /// What of compute is spoken, once it was asked.
    compute: OnceCell<Option<Microversion>>,
}

impl Client {
    /// Prepares to use a cloud. Nothing is sent yet.
    ///
    /// # Errors
    /// If the certificate authorities or a proxy cannot be used.
    pub fn new(config: CloudConfig) -> Result<Self, CloudError> {
        let http = Arc::new(Http::new(&config)?);
        let identity = Identity::new(Arc::clone(&http), &config);
        Ok(Self { config, http, identity, compute: OnceCell::new() })
    }

    /// As whom and for which project the cloud is used; gets a token if there is none.
    ///
    /// # Errors
    /// If the cloud cannot be reached or does not take the credential.
    pub async fn account(&self) -> Result<Account, CloudError> {
        Ok(self.identity.token(None).await?.account.clone())
    }

    /// Where a service is.
    ///
    /// # Errors
    /// As [`Client::account`], or if it is not in the catalogue.
    pub async fn address(&self, service: Service) -> Result<String, CloudError> {
        self.address_by(&*self.identity.token(None).await?, service)
    }

    fn address_by(&self, token: &Token, service: Service) -> Result<String, CloudError> {
        let (interface, region) = (self.config.interface, self.config.region.as_deref());
        Ok(token.catalogue.address(service, interface, region, &token.account.project_id)?)
    }

    /// In which project the cloud is used.
    pub(super) async fn project(&self) -> Result<String, CloudError> {
        Ok(self.identity.token(None).await?.account.project_id.clone())
    }

    /// The microversion in which compute is spoken to; `None` where it has none.
    ///
    /// # Errors
    /// If it cannot be asked, or is too old.
    pub(super) async fn compute_version(&self) -> Result<Option<Microversion>, CloudError> {
        let ask = || async {
            let token = self.identity.token(None).await?;
            let root = super::catalogue::up_to_version(&self.address_by(&token, Service::Compute)?).to_owned();
            let call = Call::get(Service::Compute, "/");
            let answer = self.attempt(&call, |token| self.request(&call, token, &root, HeaderMap::new())).await?;
            Microversion::offered(&answer.1.body).map_err(|reason| malformed(&answer.0, reason))
        };
        self.compute.get_or_try_init(ask).await.copied()
    }

    /// Asks, and takes whatever is answered.
    pub(super) async fn send(&self, call: &Call) -> Result<Bytes, CloudError> {
        Ok(self.answer(call).await?.1.body)
    }

    async fn answer(&self, call: &Call) -> Result<(Request, Answer), CloudError> {
        let headers = match call.service {
            // Block-storage answers 400 to the same header, so only compute gets it.
            Service::Compute => self.compute_version().await?.map(version_headers).unwrap_or_default(),
            _ => HeaderMap::new(),
        };
        self.attempt(call, |token| {
            let address = self.address_by(token, call.service)?;
            self.request(call, token, &address, headers.clone())
        })
        .await
    }

    /// Asks for one thing, which the answer has under this name.
    pub(super) async fn one<T: DeserializeOwned>(&self, call: &Call, name: &str) -> Result<T, CloudError> {
        let (request, answer) = self.answer(call).await?;
        let mut body = parsed(&request, &answer)?;
        take(&request, body.get_mut(name).map(Value::take).unwrap_or_default(), name)
    }

    /// Asks for one thing, which is the whole answer.
    pub(super) async fn whole<T: DeserializeOwned>(&self, call: &Call) -> Result<T, CloudError> {
        let (request, answer) = self.answer(call).await?;
        take(&request, parsed(&request, &answer)?, "")
    }

    /// Asks for one thing; `None` if it is not there.
    pub(super) async fn maybe<T: DeserializeOwned>(&self, call: &Call, name: &str) -> Result<Option<T>, CloudError> {
        match self.one(call, name).await {
            Err(error) if error.is_not_found() => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Asks for all of something, page by page.
    pub(super) async fn all<T: DeserializeOwned>(&self, call: Call, name: &str) -> Result<Vec<T>, CloudError> {
        let mut found = Vec::new();
        let mut next = Some(call);
        let mut turned = 0;
        while let Some(call) = next {
            let (request, answer) = self.answer(&call).await?;
            let mut body = parsed(&request, &answer)?;
            let page: Vec<T> = take(&request, body.get_mut(name).map(Value::take).unwrap_or_default(), name)?;
            next = if page.is_empty() { None } else { pages::next(&call, &body, name) };
            turned += 1;
            if turned > pages::MOST || next.as_ref().is_some_and(|next| next.query == call.query) {
                return Err(malformed(&request, "its pages have no end".to_owned()));
            }
            found.extend(page);
        }
        Ok(found)
    }

    /// Removes something. What is not there is removed already.
    pub(super) async fn remove(&self, call: &Call) -> Result<(), CloudError> {
        match self.send(call).await {
            Err(error) if error.is_not_found() => Ok(()),
            answer => answer.map(|_| ()),
        }
    }

    fn request(
        &self,
        call: &Call,
        token: &Token,
        address: &str,
        mut headers: HeaderMap,
    ) -> Result<Request, CloudError> {
        headers.extend(sensitive(&token.value).map(|value| (HeaderName::from_static("x-auth-token"), value)));
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut secrets = call.secrets.clone();
        secrets.push(token.value.clone());
        Ok(Request {
            service: call.service,
            method: call.method.clone(),
            address: format!("{address}{}", call.target()),
            call: call.name(),
            headers,
            body: call.body.as_ref().map(|body| Bytes::from(body.to_string())),
            secrets,
        })
    }

    /// Sends until it is answered, refused for good, or may not be sent again.
    async fn attempt(
        &self,
        call: &Call,
        request: impl Fn(&Token) -> Result<Request, CloudError>,
    ) -> Result<(Request, Answer), CloudError> {
        let mut token = self.identity.token(None).await?;
        let mut renewed = false;
        let mut attempts = 0;
        loop {
            let request = request(&token)?;
            let error = match self.http.send(&request).await {
                Ok(answer) => return Ok((request, answer)),
                Err(error) => error,
            };
            if !renewed && error.refusal().is_some_and(|refusal| refusal.kind == Kind::Unauthorized) {
                tracing::debug!(%error, "a token is not taken any more");
                token = self.identity.token(Some(&token)).await?;
                renewed = true;
                continue;
            }
            attempts += 1;
            let Some(pause) = again::pause(call.safe, &error, attempts) else { return Err(error) };
            tracing::debug!(%error, ?pause, "a cloud is asked again");
            tokio::time::sleep(pause).await;
        }
    }
}

fn version_headers(version: Microversion) -> HeaderMap {
    version.headers().into_iter().collect()
}

fn parsed(request: &Request, answer: &Answer) -> Result<Value, CloudError> {
    serde_json::from_slice(&answer.body).map_err(|error| malformed(request, format!("it is no JSON: {error}")))
}

fn take<T: DeserializeOwned>(request: &Request, value: Value, name: &str) -> Result<T, CloudError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| malformed(request, format!("{name} at {}: {}", error.path(), error.inner())))
}
