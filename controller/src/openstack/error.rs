// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between us and a cloud, and what to do about each.
//!
//! One question matters more than all others after a change that failed: may it have been done all the same?
//! [`CloudError::may_be_done`] answers it. Whoever is told yes looks for what was made before making it again.

use std::sync::Arc;
use std::time::Duration;

use windlass_types::outcome::ErrorClass;

use super::catalogue::CatalogueError;
use super::microversion::Microversion;
use super::refusal::{Kind, Refusal};
use super::service::Service;
use super::tls::TlsError;

/// What can go wrong with a cloud. No secret is in it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CloudError {
    /// No connection can be secured.
    #[error(transparent)]
    Tls(#[from] Arc<TlsError>),
    /// A proxy cannot be used.
    #[error("use the proxy that {0} names: what it says is no address of one")]
    Proxy(
        /// The variable. Why it is no address is not told: the library repeats it, and there may be a password in it.
        &'static str,
    ),
    /// Nobody answers at that address; nothing was sent.
    #[error("reach the {service} service at {address}")]
    Connect {
        /// Which.
        service: Service,
        /// Where.
        address: String,
        /// Whether somebody answered who is not the cloud, as far as certificates tell.
        untrusted: bool,
        /// Why.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// The connection broke after something was sent.
    #[error("talk to the {service} service: {call}")]
    Broken {
        /// Which.
        service: Service,
        /// What was asked.
        call: String,
        /// Whether it was to change something.
        change: bool,
        /// Why.
        #[source]
        source: Arc<reqwest::Error>,
    },
    /// No answer.
    #[error("wait for the {service} service: {call} was not answered within {patience:?}")]
    Silent {
        /// Which.
        service: Service,
        /// What was asked.
        call: String,
        /// Whether it was to change something.
        change: bool,
        /// How long was waited.
        patience: Duration,
    },
    /// It said no.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// It said something that is no answer.
    #[error("understand the answer of the {service} service to {call}: {reason}")]
    Malformed {
        /// Which.
        service: Service,
        /// What was asked.
        call: String,
        /// Whether it was to change something.
        change: bool,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot do that yet.
    #[error("{what}: that needs version {needed} of the {service} service, and this cloud has {has}")]
    TooOld {
        /// Which.
        service: Service,
        /// What was to be done.
        what: &'static str,
        /// Since when it can.
        needed: Microversion,
        /// What is spoken with it.
        has: String,
    },
    /// It is not in the catalogue.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl CloudError {
    /// What a program does about it.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Tls(_) | Self::Proxy(_) | Self::TooOld { .. } | Self::Connect { untrusted: true, .. } => {
                ErrorClass::Operator
            }
            Self::Connect { .. } | Self::Broken { .. } | Self::Silent { .. } => ErrorClass::Transient,
            Self::Refused(refusal) => refusal.kind.class(),
            Self::Malformed { .. } => ErrorClass::Bug,
            Self::Catalogue(error) => error.class(),
        }
    }

    /// What a person does about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Tls(error) => error.advice(),
            Self::Proxy(_) => "let it be an address such as http://proxy.example:3128",
            Self::Connect { untrusted: true, .. } => {
                "name the certificate authority of the cloud as `cacert` in clouds.yaml; if it is there, see who answers"
            }
            Self::Connect { .. } => "see that this host reaches that address: network, firewall, name, proxy",
            Self::Broken { .. } | Self::Silent { .. } => "try again; if it stays, the cloud's administrators see why",
            Self::Refused(refusal) => refusal.advice(),
            Self::Malformed { .. } => "this is no OpenStack service, or one that Windlass does not know; report it",
            Self::TooOld { .. } => "leave it out of the spec for this cloud",
            Self::Catalogue(error) => error.advice(),
        }
    }

    /// Whether a change that ended like this may have been done.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Broken { change, .. } | Self::Silent { change, .. } | Self::Malformed { change, .. } => *change,
            Self::Refused(refusal) => refusal.change && refusal.kind == Kind::Failed,
            Self::Tls(_) | Self::Proxy(_) | Self::Connect { .. } | Self::TooOld { .. } | Self::Catalogue(_) => false,
        }
    }

    /// The service's refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.refusal().is_some_and(|refusal| refusal.kind == Kind::NotFound)
    }
}
