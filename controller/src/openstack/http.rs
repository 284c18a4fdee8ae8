// SPDX-License-Identifier: Apache-2.0
//! One request to a cloud and its answer.
//!
//! Reads share connections that are kept open. A change goes over a connection of its own: on one that the server is
//! about to close, nobody could tell afterwards whether the change was done. Servers behind uWSGI do close like that.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{NoProxy, Proxy};
use windlass_types::escape::Escaped;

use super::clouds::{CloudConfig, Proxies};
use super::error::CloudError;
use super::refusal::Refusal;
use super::secret::Secret;
use super::service::Service;
use super::tls::{self, TlsError};

/// Long enough for a handshake with a busy proxy on another continent.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Servers and proxies close what is idle, many after 60 s and some after 5. Ours must be the first to.
const IDLE_AT_MOST: Duration = Duration::from_secs(4);

/// More than a page of a thousand servers. What is larger is a mistake or an attack.
const LARGEST_ANSWER_BYTES: usize = 32 << 20;

/// How we call ourselves in the logs of a cloud.
const USER_AGENT: &str = concat!("windlass/", env!("CARGO_PKG_VERSION"));

/// A request. It cannot be printed: there are secrets in its body.
pub(super) struct Request {
    pub(super) service: Service,
    pub(super) method: Method,
    pub(super) address: String,
    /// What it is called in errors, as `POST /servers`.
    pub(super) call: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<Bytes>,
    /// What is taken out of the service's words.
    pub(super) secrets: Vec<Secret>,
}

impl Request {
    fn is_change(&self) -> bool {
        self.method != Method::GET
    }
}

/// An answer that is no refusal.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A header's value that is not shown by anything that prints headers. `None` if no header can hold it.
pub(super) fn sensitive(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.reveal()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Http {
    reads: reqwest::Client,
    changes: reqwest::Client,
}

impl Http {
    pub(super) fn new(config: &CloudConfig) -> Result<Self, CloudError> {
        let tls = tls::config(config.cacert.as_deref(), config.verify).map_err(Arc::new)?;
        let proxies = proxies(&config.proxies)?;
        let build = |idle: usize| {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .http1_only()
                // A token goes to nobody whom the catalogue does not name.
                .redirect(Policy::none())
                // Only those that were passed in, none from the process's own environment.
                .no_proxy()
                .user_agent(USER_AGENT)
                .connect_timeout(CONNECT_WITHIN)
                .pool_idle_timeout(IDLE_AT_MOST)
                .pool_max_idle_per_host(idle);
            let builder = proxies.iter().fold(builder, |builder, proxy| builder.proxy(proxy.clone()));
            builder.build().map_err(|error| Arc::new(TlsError::Client(error)))
        };
        Ok(Self { reads: build(usize::MAX)?, changes: build(0)? })
    }

    /// Sends a request once.
    pub(super) async fn send(&self, request: &Request) -> Result<Answer, CloudError> {
        let client = if request.is_change() { &self.changes } else { &self.reads };
        let mut builder = client
            .request(request.method.clone(), &request.address)
            .headers(request.headers.clone())
            .timeout(request.service.patience());
        if let Some(body) = &request.body {
            builder = builder.header(http::header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let response = builder.send().await.map_err(|error| failed(request, error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = whole(request, response).await?;
        tracing::debug!(service = %request.service, call = request.call, status = status.as_u16(), "asked a cloud");
        if status.is_success() { Ok(Answer { headers, body }) } else { Err(refused(request, status, &headers, &body)) }
    }
}

fn proxies(told: &Proxies) -> Result<Vec<Proxy>, CloudError> {
    let except = told.except.as_deref().and_then(NoProxy::from_string);
    let http = told.http.as_ref().map(|address| ("http_proxy", Proxy::http(address.reveal())));
    let https = told.https.as_ref().map(|address| ("https_proxy", Proxy::https(address.reveal())));
    let made = http.into_iter().chain(https).map(|(variable, proxy)| match proxy {
        Ok(proxy) => Ok(proxy.no_proxy(except.clone())),
        Err(_) => Err(CloudError::Proxy(variable)),
    });
    made.collect()
}

async fn whole(request: &Request, mut response: reqwest::Response) -> Result<Bytes, CloudError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(request, error))? {
        if body.len() + chunk.len() > LARGEST_ANSWER_BYTES {
            return Err(malformed(request, "it is larger than 32 MiB".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

fn refused(request: &Request, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> CloudError {
    let asked = (request.service, request.call.clone(), request.is_change());
    CloudError::Refused(Box::new(Refusal::new(asked, status, headers, body, &request.secrets)))
}

/// An answer that is not understood.
pub(super) fn malformed(request: &Request, reason: String) -> CloudError {
    // A library that understands nothing quotes what it did not understand.
    let reason = request.secrets.iter().fold(reason, |reason, secret| secret.hide_in(&reason));
    let reason = Escaped(&reason).to_string();
    let (service, call) = (request.service, request.call.clone());
    CloudError::Malformed { service, call, change: request.is_change(), reason }
}

fn failed(request: &Request, error: reqwest::Error) -> CloudError {
    let (service, call, change) = (request.service, request.call.clone(), request.is_change());
    // Some addresses have what people called something; errors name the call instead.
    let source = Arc::new(error.without_url());
    if source.is_connect() || source.is_builder() {
        let address = host(&request.address).to_owned();
        return CloudError::Connect { service, address, untrusted: is_untrusted(&*source), source };
    }
    if source.is_timeout() {
        return CloudError::Silent { service, call, change, patience: service.patience() };
    }
    CloudError::Broken { service, call, change, source }
}

/// Scheme, host and port.
fn host(address: &str) -> &str {
    let start = address.find("://").map_or(0, |at| at + 3);
    let end = address[start..].find('/').map_or(address.len(), |at| start + at);
    &address[..end]
}

/// Whether the other side showed a certificate that is not trusted.
fn is_untrusted(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // An error of I/O gives as its source not what is in it, but the source of that.
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inner) => is_untrusted(inner),
        None => error.source().is_some_and(is_untrusted),
    }
}
