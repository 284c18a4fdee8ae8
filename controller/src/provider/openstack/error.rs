// SPDX-License-Identifier: Apache-2.0
//! What can go wrong between a machine that shall be and a cloud.

use std::time::Duration;

use windlass_types::cloud::{Need, SharedKind};
use windlass_types::escape::Escaped;
use windlass_types::name::{CloudName, ClusterName, VolumeName};
use windlass_types::outcome::ErrorClass;

use super::claim::Kind;
use crate::openstack::clouds::CloudsError;
use crate::openstack::error::CloudError;
use crate::provider::{MachineKey, ProviderError};

/// What can go wrong with machines of a cloud.
#[derive(Debug, thiserror::Error)]
pub enum OpenstackError {
    /// The cloud is not known well enough.
    #[error("find the cloud {cloud}")]
    Unknown {
        /// Which.
        cloud: CloudName,
        /// Why not.
        #[source]
        source: Box<CloudsError>,
    },
    /// The cloud did not do it.
    #[error("{what}")]
    Cloud {
        /// What was to be done.
        what: String,
        /// Why not.
        #[source]
        source: Box<CloudError>,
    },
    /// The machine's spec is not one of a cloud.
    #[error("{0} has nothing of a cloud in its spec")]
    NotOfACloud(MachineKey),
    /// A name means nothing.
    #[error("there is no {what} {name} in this project", name = Escaped(.name))]
    NoSuch {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// A name means several things.
    #[error("there are several of {what} {name}: {ids}", name = Escaped(.name))]
    Ambiguous {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// What it may mean.
        ids: String,
    },
    /// An image does not fit.
    #[error("the image {image} needs {needs}, and the flavor {flavor} has {has}", image = Escaped(.image), flavor = Escaped(.flavor))]
    TooSmall {
        /// The image.
        image: String,
        /// The flavor.
        flavor: String,
        /// What it needs.
        needs: String,
        /// What there is.
        has: String,
    },
    /// There would be more than there may be.
    #[error("that needs {}", list(.0))]
    Quota(
        /// What there is too little of.
        Vec<Need>,
    ),
    /// The server cannot be made.
    #[error("the cloud cannot make the server of {machine}: {fault}")]
    Fault {
        /// Whose.
        machine: MachineKey,
        /// In the cloud's words.
        fault: String,
    },
    /// A volume cannot be made or used.
    #[error("the volume {volume} of {machine} is {status}")]
    Volume {
        /// Whose.
        machine: MachineKey,
        /// Which.
        volume: VolumeName,
        /// In the cloud's word.
        status: String,
    },
    /// It will not go on by itself.
    #[error("{what}: it is {state}")]
    Stuck {
        /// What was to be done.
        what: String,
        /// How it stands.
        state: String,
    },
    /// It takes too long.
    #[error("{what}: not within {within:?}; it is {state} still")]
    TooLong {
        /// What was waited for.
        what: String,
        /// How long.
        within: Duration,
        /// How it stands.
        state: String,
    },
    /// A change was not answered, and what it should have made is not there.
    #[error("{what}: the cloud did not answer, and nothing of it can be seen")]
    Lost {
        /// What was to be done.
        what: String,
        /// What came instead of an answer.
        #[source]
        source: Box<CloudError>,
    },
    /// No such machine.
    #[error("there is no server of {0} in this project")]
    NoMachine(MachineKey),
    /// Somebody else presents the machine's token.
    #[error("this is not the server of {machine}: {why}")]
    Stranger {
        /// Whose token it is.
        machine: MachineKey,
        /// What does not fit.
        why: String,
    },
    /// Something shared is missing.
    #[error("cluster {cluster} has no {kind}")]
    NotPrepared {
        /// Of which cluster.
        cluster: ClusterName,
        /// What.
        kind: SharedKind,
    },
    /// Another controller has a cluster of this name in this project.
    #[error("the {kind} {id} of cluster {cluster} is another controller's, {uid}", id = Escaped(.id), uid = Escaped(.uid))]
    Foreign {
        /// Of which cluster.
        cluster: ClusterName,
        /// What.
        kind: Kind,
        /// Its id.
        id: String,
        /// The uuid of that controller.
        uid: String,
    },
    /// Something has not the tag it should have.
    #[error("the {kind} {id} is not cluster {cluster}'s")]
    NotOurs {
        /// Whose it should be.
        cluster: ClusterName,
        /// What.
        kind: SharedKind,
        /// Its id.
        id: String,
    },
}

fn list(needs: &[Need]) -> String {
    needs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What becomes of an answer of the cloud, with what was to be done.
pub(super) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, OpenstackError>;
}

impl<T> Doing<T> for Result<T, CloudError> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, OpenstackError> {
        self.map_err(|source| OpenstackError::Cloud { what: what(), source: Box::new(source) })
    }
}

impl OpenstackError {
    fn class(&self) -> ErrorClass {
        match self {
            Self::Unknown { source, .. } => source.class(),
            Self::Cloud { source, .. } => source.class(),
            Self::NotOfACloud(_) => ErrorClass::Bug,
            Self::NoSuch { .. } | Self::Ambiguous { .. } | Self::TooSmall { .. } | Self::Quota(_) => {
                ErrorClass::Operator
            }
            Self::Stuck { .. }
            | Self::Fault { .. }
            | Self::Volume { .. }
            | Self::NotPrepared { .. }
            | Self::NoMachine(_) => ErrorClass::Blocked,
            Self::TooLong { .. } | Self::Lost { .. } => ErrorClass::Transient,
            Self::NotOurs { .. } | Self::Foreign { .. } | Self::Stranger { .. } => ErrorClass::Operator,
        }
    }

    fn advice(&self) -> String {
        let advice = match self {
            Self::Unknown { source, .. } => source.advice(),
            Self::Cloud { source, .. } => source.advice(),
            Self::NotOfACloud(_) => "please report it",
            Self::NoSuch { .. } => "mend the name in the spec; `windlass check cloud` lists what there is",
            Self::Ambiguous { .. } => "give its id instead of its name in the spec",
            Self::TooSmall { .. } => "choose a larger flavor in the spec, or a root volume",
            Self::Quota(_) => "ask for fewer or smaller machines, remove others, or have the project's quota raised",
            Self::Fault { fault, .. } => fault_advice(fault),
            Self::Volume { .. } => "the cloud's administrators see why; remove it by hand if it cannot be used",
            Self::Stuck { .. } => {
                "the cloud's administrators see why, and can reset it (openstack volume set --state); then try again"
            }
            Self::TooLong { .. } => {
                "apply again: it goes on from there; if it stays, the cloud's administrators see why"
            }
            Self::Lost { .. } => "apply again: it is looked for first, and made if it is not there",
            Self::NoMachine(_) => "`windlass apply` makes it",
            Self::NotPrepared { .. } => "`windlass plan` shows what is missing; `windlass apply` makes it",
            Self::Stranger { .. } => "find out who has the token: `windlass destroy` ends it, apply makes another",
            Self::Foreign { .. } => {
                "give this cluster another name; if that controller is gone for good, `windlass import cluster -f SPEC` \
                 takes over what it made"
            }
            Self::NotOurs { .. } => "Windlass touches only what it made: look at it, and remove it by hand",
        };
        advice.to_owned()
    }
}

/// What a person does about a fault of a server.
fn fault_advice(fault: &str) -> &'static str {
    if fault.contains("No valid host") {
        return "no host of the cloud has room for this flavor, or none that its server group allows: choose a smaller \
                flavor or another zone, let the spread be soft, or ask the cloud's administrators";
    }
    if fault.to_ascii_lowercase().contains("quota") {
        return "ask for fewer or smaller machines, remove others, or have the project's quota raised";
    }
    "the cloud's administrators see why; apply tries again"
}

impl From<OpenstackError> for ProviderError {
    fn from(error: OpenstackError) -> Self {
        let (class, advice) = (error.class(), error.advice());
        Self::new(error, class, advice)
    }
}
