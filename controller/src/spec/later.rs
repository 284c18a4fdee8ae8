// SPDX-License-Identifier: Apache-2.0
//! Sections that are known and that this version has no hands for. Refused where they stand: what is written in a spec
//! must never be passed over in silence.

use serde::de::{Deserialize, Deserializer, Error as _};

macro_rules! later {
    ($($(#[$doc:meta])* $type:ident = $key:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum $type {}

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
                Err(D::Error::custom(concat!("`", $key, "` is not supported by this version")))
            }
        }
    )*};
}

later! {
    /// Docker.
    Docker = "docker";
    /// Containerd.
    Containerd = "containerd";
    /// etcd.
    Etcd = "etcd";
    /// Kubernetes.
    Kubernetes = "kubernetes";
    /// Gluster.
    Gluster = "gluster";
}
