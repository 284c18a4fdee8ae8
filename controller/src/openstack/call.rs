// SPDX-License-Identifier: Apache-2.0
//! What is asked of a service, before it is known where that service is and with which token.

use http::Method;
use serde_json::Value;

use super::secret::Secret;
use super::service::Service;

/// Something to ask of a service. It cannot be printed: there may be secrets in its body.
#[derive(Clone)]
pub(super) struct Call {
    pub(super) service: Service,
    pub(super) method: Method,
    /// After the service's address; begins with a slash.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Value>,
    /// Whether it may be sent again without knowing whether it was done.
    pub(super) safe: bool,
    /// What of it must not be seen.
    pub(super) secrets: Vec<Secret>,
}

impl Call {
    fn new(service: Service, method: Method, path: impl Into<String>, body: Option<Value>) -> Self {
        let safe = method == Method::GET;
        Self { service, method, path: path.into(), query: Vec::new(), body, safe, secrets: Vec::new() }
    }

    /// Reads.
    pub(super) fn get(service: Service, path: impl Into<String>) -> Self {
        Self::new(service, Method::GET, path, None)
    }

    /// Makes or does something. Done twice it is there twice, so it is never sent again.
    pub(super) fn post(service: Service, path: impl Into<String>, body: Value) -> Self {
        Self::new(service, Method::POST, path, Some(body))
    }

    /// Changes something that is there.
    pub(super) fn put(service: Service, path: impl Into<String>, body: Value) -> Self {
        Self::new(service, Method::PUT, path, Some(body))
    }

    /// Removes something. What is gone already stays gone, so it may be sent again.
    pub(super) fn delete(service: Service, path: impl Into<String>) -> Self {
        Self::new(service, Method::DELETE, path, None).safe()
    }

    /// Says that doing it twice is the same as doing it once.
    pub(super) fn safe(mut self) -> Self {
        self.safe = true;
        self
    }

    /// Asks only for those with this.
    pub(super) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.query.push((name.to_owned(), value.into()));
        self
    }

    /// Says what of it must not be seen.
    pub(super) fn hiding(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// What it is called in errors.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    /// Path and query, as they are appended to an address.
    pub(super) fn target(&self) -> String {
        let mut target = self.path.clone();
        for (number, (name, value)) in self.query.iter().enumerate() {
            target.push(if number == 0 { '?' } else { '&' });
            target.push_str(&encoded(name));
            target.push('=');
            target.push_str(&encoded(value));
        }
        target
    }
}

/// A name or value that is written into an address.
pub(super) fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::Call;
    use crate::openstack::service::Service;

    #[test]
    fn what_people_called_something_does_not_change_the_question() {
        let call = Call::get(Service::Image, "/images").with("name", "in:a&b ä").with("limit", "1");
        assert_eq!(call.target(), "/images?name=in%3Aa%26b%20%C3%A4&limit=1");
        assert_eq!(call.name(), "GET /images");
    }
}
