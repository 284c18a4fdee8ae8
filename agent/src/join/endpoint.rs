// SPDX-License-Identifier: Apache-2.0
//! `HOST:PORT`.

use std::fmt;
use std::str::FromStr;

/// Where something listens. IPv6 addresses are written in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// Text that is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not HOST:PORT, such as bastion.example:7601 or [2001:db8::1]:7601")]
pub struct BadEndpoint(String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;

    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c) || (bracketed && "[]:%".contains(c));
        if host.is_empty() || !host.chars().all(allowed) {
            return Err(bad());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(bad)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Endpoint {
    /// What the controller said, completed with this endpoint's host where it named none.
    #[must_use]
    pub fn completed(&self, said: &str, default_port: u16) -> String {
        if said.parse::<Self>().is_ok() {
            return said.to_owned();
        }
        let port = said.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default_port);
        format!("{}:{port}", self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_and_addresses() {
        for text in ["bastion:7601", "10.0.0.1:1", "[2001:db8::1]:7601", "k8s_1.example.org:65535"] {
            assert_eq!(text.parse::<Endpoint>().expect("valid").to_string(), text);
        }
    }

    #[test]
    fn refuses_what_cannot_be_dialled() {
        for text in
            ["", "bastion", "bastion:", ":7601", "bastion:0", "bastion:99999", "a b:1", "2001:db8::1:7", "a\u{1b}:1"]
        {
            assert!(text.parse::<Endpoint>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_answer_without_a_host_means_the_host_that_answered() {
        let joined: Endpoint = "bastion:7601".parse().expect("valid");
        assert_eq!(joined.completed("", 7600), "bastion:7600");
        assert_eq!(joined.completed(":17600", 7600), "bastion:17600");
        assert_eq!(joined.completed("other:1", 7600), "other:1");
    }
}
