// SPDX-License-Identifier: Apache-2.0
//! The services of a cloud that are used, and what differs between them.

use std::fmt;
use std::time::Duration;

/// A service of a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Keystone: who may do what, and where the others are.
    Identity,
    /// Nova: servers.
    Compute,
    /// Neutron: networks.
    Network,
    /// Glance: images.
    Image,
    /// Cinder: volumes.
    BlockStorage,
}

impl Service {
    /// How long an answer is waited for. Services ask each other and give up after 60 s: their own words about that
    /// must come first. Identity and images only look something up.
    #[must_use]
    pub const fn patience(self) -> Duration {
        match self {
            Self::Identity | Self::Image => Duration::from_secs(30),
            Self::Compute | Self::Network | Self::BlockStorage => Duration::from_secs(90),
        }
    }

    /// What catalogues call it; the first that is there counts.
    pub(super) const fn types(self) -> &'static [&'static str] {
        match self {
            Self::Identity => &["identity"],
            Self::Compute => &["compute"],
            Self::Network => &["network"],
            Self::Image => &["image"],
            // Plain `volume` was version 1 for years and is version 3 again on some clouds: its address tells.
            Self::BlockStorage => &["block-storage", "volumev3", "block-store", "volume"],
        }
    }

    /// The version that is spoken, as it stands in addresses.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::Identity | Self::BlockStorage => "v3",
            Self::Compute => "v2.1",
            Self::Network => "v2.0",
            Self::Image => "v2",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Identity => "identity",
            Self::Compute => "compute",
            Self::Network => "network",
            Self::Image => "image",
            Self::BlockStorage => "block-storage",
        })
    }
}
