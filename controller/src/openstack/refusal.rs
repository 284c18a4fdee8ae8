// SPDX-License-Identifier: Apache-2.0
//! A service that says no: of which kind, in its own words, and with the number under which its log has it.
//!
//! Services say the same thing in different ways. Too much of something is 403 from compute, 409 from network and 413
//! from block-storage; the words are in JSON of six shapes, or in a page of HTML from a proxy before them.

use std::fmt;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::Value;
use windlass_types::escape::Escaped;
use windlass_types::outcome::ErrorClass;

use super::secret::Secret;
use super::service::Service;

/// More of a message is shown to nobody: some services put a whole page there.
const LONGEST_MESSAGE: usize = 500;

/// How deep in an answer a message is looked for; none has it deeper.
const DEEPEST: usize = 3;

/// What kind of no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 401: the token or the credential is not valid.
    Unauthorized,
    /// 403: this user may not do it.
    Forbidden,
    /// 403, 409 or 413: there would be more of something than the project may have.
    Quota,
    /// 404: not there.
    NotFound,
    /// 409: it does not go together with what is there, at the moment.
    Conflict,
    /// 413: too much was sent.
    TooLarge,
    /// 429: too many requests.
    TooMany,
    /// 5xx: the service itself failed.
    Failed,
    /// Anything else: the request was wrong.
    Other,
}

impl Kind {
    /// What a program does about it.
    #[must_use]
    pub const fn class(self) -> ErrorClass {
        match self {
            Self::Unauthorized | Self::Forbidden | Self::Quota | Self::NotFound => ErrorClass::Operator,
            Self::Conflict => ErrorClass::Blocked,
            Self::TooMany | Self::Failed => ErrorClass::Transient,
            Self::TooLarge | Self::Other => ErrorClass::Bug,
        }
    }
}

/// A no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who said it.
    pub service: Service,
    /// To what, as `POST /servers`.
    pub call: String,
    /// Whether that was to change something.
    pub change: bool,
    /// The status of HTTP.
    pub status: u16,
    /// What kind of no.
    pub kind: Kind,
    /// In the service's words, without secrets and escaped; empty if it gave none.
    pub message: String,
    /// The number under which the service's log has it.
    pub request_id: Option<String>,
    /// How long to wait before asking again.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} service refused {} with {}", self.service, self.call, self.status)?;
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.request_id {
            Some(id) => write!(f, " ({id})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// Makes sense of an answer.
    pub(super) fn new(
        asked: (Service, String, bool),
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        secrets: &[Secret],
    ) -> Self {
        let (service, call, change) = asked;
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let text = String::from_utf8_lossy(body);
        let message = match (header("location"), serde_json::from_slice::<Value>(body)) {
            (Some(elsewhere), _) if status.is_redirection() => format!("it is at {elsewhere}"),
            (_, Ok(value)) => message_in(&value, DEEPEST).unwrap_or_default(),
            (_, Err(_)) => text.into_owned(),
        };
        let message = secrets.iter().fold(message, |message, secret| secret.hide_in(&message));
        let message: String = Escaped(&without_tags(&message)).to_string().chars().take(LONGEST_MESSAGE).collect();
        let request_id = header("x-openstack-request-id").or_else(|| header("x-compute-request-id"));
        let request_id = request_id.map(|id| Escaped(id).to_string().chars().take(64).collect());
        let retry_after = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
        let kind = kind(service, status, &text_of(body));
        Self { service, call, change, status: status.as_u16(), kind, message, request_id, retry_after }
    }

    /// What a person does about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match (self.kind, self.service) {
            (Kind::Unauthorized, Service::Identity) => {
                "see that the credential in clouds.yaml is right and not expired"
            }
            (Kind::Unauthorized, _) => "the cloud does not take its own token: its administrators see why",
            (Kind::Forbidden, _) => "give the user or application credential the role that allows it, often member",
            (Kind::Quota, _) => "ask for fewer or smaller ones, remove others, or have the project's quota raised",
            (Kind::NotFound, _) => "see that it is still there, and in this project and region",
            (Kind::Conflict, _) => "something else uses or changes it: see what, or try again",
            (Kind::TooLarge | Kind::Other, _) => "the request does not fit this cloud; report it with the message",
            (Kind::TooMany, _) => "wait, or let fewer programs ask at once",
            (Kind::Failed, _) => {
                "try again; if it stays, the cloud's administrators find the reason by the request's id"
            }
        }
    }
}

fn text_of(body: &[u8]) -> String {
    String::from_utf8_lossy(body).to_lowercase()
}

fn kind(service: Service, status: StatusCode, lower: &str) -> Kind {
    let over_quota = match (service, status.as_u16()) {
        (Service::Compute, 403) => lower.contains("quota"),
        (Service::Network, 409) => lower.contains("overquota") || lower.contains("quota exceeded"),
        (Service::BlockStorage, 413) => lower.contains("overlimit") || lower.contains("quota"),
        (Service::Image, 413) => lower.contains("quota"),
        _ => false,
    };
    match status.as_u16() {
        _ if over_quota => Kind::Quota,
        401 => Kind::Unauthorized,
        403 => Kind::Forbidden,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        // What compute answered to too many requests before 429 was taken into use.
        413 if lower.contains("overlimit") => Kind::TooMany,
        413 => Kind::TooLarge,
        429 => Kind::TooMany,
        500.. => Kind::Failed,
        _ => Kind::Other,
    }
}

/// The message in an answer: under its name, or in whatever object or list has one.
fn message_in(value: &Value, depth: usize) -> Option<String> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => items.iter().find_map(|item| message_in(item, depth)),
        Value::Object(fields) => {
            let named = ["message", "detail", "faultstring", "error_message"].iter().find_map(|name| fields.get(*name));
            match named {
                Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
                Some(inner) if inner.is_object() => message_in(inner, depth),
                // A text of another name is a message only where there is nothing else.
                _ => {
                    let mut inner = fields.values().filter(|field| !field.is_string() || fields.len() == 1);
                    inner.find_map(|field| message_in(field, depth))
                }
            }
        }
        _ => None,
    }
}

/// Text of a page without its tags, styles and line breaks.
fn without_tags(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        // Not a tag but a sign: it stays.
        if !tag.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '!') {
            plain.push('<');
            rest = tag;
            continue;
        }
        plain.push(' ');
        let end = if tag.starts_with("style") { "</style>" } else { ">" };
        rest = tag.split_once(end).map_or("", |(_, after)| after);
    }
    plain.push_str(rest);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, StatusCode};
    use serde_json::json;

    use super::{Kind, Refusal};
    use crate::openstack::secret::Secret;
    use crate::openstack::service::Service;

    fn refusal(service: Service, status: u16, body: &str) -> Refusal {
        let status = StatusCode::from_u16(status).expect("a status");
        let secrets = [Secret::new("aGVsbG8gd29ybGQ=")];
        Refusal::new((service, "POST /x".to_owned(), true), status, &HeaderMap::new(), body.as_bytes(), &secrets)
    }

    /// What a service says, its status, the body, and what is made of it.
    type Case = (Service, u16, String, Kind, &'static str);

    fn compute() -> Vec<Case> {
        let ram = "Quota exceeded for ram: Requested 1, but already used 2 of 2 ram";
        let schema =
            "Invalid input for field/attribute user_data. Value: aGVsbG8gd29ybGQ=. 'aGVsbG8gd29ybGQ=' is too long";
        let hidden = "Invalid input for field/attribute user_data. Value: (secret). '(secret)' is too long";
        let fault = "Unexpected API Error. <class 'oslo_messaging.exceptions.MessagingTimeout'>";
        let case = |status, name: &str, message: &str, kind, said| {
            let body = json!({name: {"code": status, "message": message}}).to_string();
            (Service::Compute, status, body, kind, said)
        };
        vec![
            case(403, "forbidden", ram, Kind::Quota, ram),
            case(403, "forbidden", "Policy forbids.", Kind::Forbidden, "Policy forbids."),
            case(413, "overLimit", "Rate-limited.", Kind::TooMany, "Rate-limited."),
            case(400, "badRequest", schema, Kind::Other, hidden),
            case(500, "computeFault", fault, Kind::Failed, "Unexpected API Error."),
            case(400, "badRequest", "1 < 2\u{1b}[2J", Kind::Other, r"1 < 2\u{1b}[2J"),
        ]
    }

    fn others() -> Vec<Case> {
        let page =
            "<html>\n<head><style>h1 {}</style></head>\n<body>\n<h1>404 Not Found</h1>\nNo image <br /><br /></body>";
        let neutron =
            |kind: &str, message: &str| json!({"NeutronError": {"type": kind, "message": message, "detail": ""}});
        let volumes = "VolumeLimitExceeded: Maximum number of volumes allowed (1) exceeded for quota 'volumes'.";
        let cinder = json!({"overLimit": {"code": 413, "message": volumes, "retryAfter": "0"}});
        let keystone = json!({"error": {"code": 401, "message": "Not you.", "title": "Unauthorized"}});
        let glance = json!({"message": "No image x<br /><br />\n\n", "code": "404 Not Found", "title": "Not Found"});
        let errors = json!({"errors": [{"status": 503, "title": "Gone", "detail": "No server is available."}]});
        let old = json!({"NeutronError": "Unrecognized attribute(s) 'bogus'"});
        let (network, volume) = (Service::Network, Service::BlockStorage);
        vec![
            (network, 409, neutron("NetworkInUse", "In use.").to_string(), Kind::Conflict, "In use."),
            (network, 409, neutron("OverQuota", "Too many ports.").to_string(), Kind::Quota, "Too many ports."),
            (network, 400, old.to_string(), Kind::Other, "Unrecognized attribute(s) 'bogus'"),
            (volume, 413, cinder.to_string(), Kind::Quota, volumes),
            (
                volume,
                413,
                "<h1>413 Request Entity Too Large</h1>".to_owned(),
                Kind::TooLarge,
                "413 Request Entity Too Large",
            ),
            (Service::Identity, 401, keystone.to_string(), Kind::Unauthorized, "Not you."),
            (Service::Image, 404, page.to_owned(), Kind::NotFound, "404 Not Found No image"),
            (Service::Image, 404, glance.to_string(), Kind::NotFound, "No image x"),
            (Service::Image, 503, errors.to_string(), Kind::Failed, "No server is available."),
            (Service::Image, 502, String::new(), Kind::Failed, ""),
        ]
    }

    #[test]
    fn finds_kind_and_words_in_what_services_of_several_releases_answer() {
        for (service, status, body, kind, said) in compute().into_iter().chain(others()) {
            let refusal = refusal(service, status, &body);
            assert_eq!((refusal.kind, refusal.message.as_str()), (kind, said), "{body}");
            assert!(!refusal.advice().is_empty());
        }
    }

    #[test]
    fn tells_the_request_and_how_long_to_wait() {
        let mut headers = HeaderMap::new();
        headers.insert("x-compute-request-id", HeaderValue::from_static("req-1"));
        headers.insert("retry-after", HeaderValue::from_static("7"));
        let asked = (Service::Compute, "GET /servers".to_owned(), false);
        let refusal = Refusal::new(asked, StatusCode::TOO_MANY_REQUESTS, &headers, b"slow down", &[]);
        assert_eq!(refusal.retry_after, Some(Duration::from_secs(7)));
        assert_eq!(refusal.to_string(), "the compute service refused GET /servers with 429: slow down (req-1)");
    }
}
