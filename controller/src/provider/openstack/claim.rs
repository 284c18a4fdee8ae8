// SPDX-License-Identifier: Apache-2.0
//! Whether another controller made what has a cluster's tag, and how it becomes this one's.
//!
//! The names of clusters are people's, and two controllers may use one name in one project without knowing of each other.
//! So whatever is made says which controller made it, and what says another is neither used nor removed until a person has
//! said that it is this controller's from now on.

use std::fmt;

use futures_util::future::try_join_all;
use windlass_types::escape::Escaped;
use windlass_types::name::ClusterName;

use super::OpenstackProvider;
use super::error::{Doing as _, OpenstackError};
use super::seen::Seen;
use super::tag::{self, Tagged};
use crate::openstack::network::Part;

/// What kind of thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A server.
    Server,
    /// A volume.
    Volume,
    /// Something of a network.
    Of(Part),
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("server"),
            Self::Volume => f.write_str("volume"),
            Self::Of(part) => write!(f, "{part}"),
        }
    }
}

/// Something with a cluster's tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// What.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The uuid of the controller that made it, as far as it says one.
    pub uid: Option<String>,
    /// All of its tags, if its kind has any.
    tags: Vec<String>,
}

impl Marked {
    /// Something with metadata.
    pub(super) fn new(kind: Kind, id: &str, uid: Option<&str>) -> Self {
        Self { kind, id: id.to_owned(), uid: uid.map(str::to_owned), tags: Vec::new() }
    }

    /// Something with tags.
    pub(super) fn tagged(part: Part, id: &str, thing: &impl Tagged) -> Self {
        Self { tags: thing.tags().to_vec(), ..Self::new(Kind::Of(part), id, tag::uid_of(thing)) }
    }
}

impl OpenstackProvider {
    /// Whether this controller made something, or it does not say who did.
    pub(super) fn is_of_us(&self, uid: Option<&str>) -> bool {
        uid.is_none_or(|uid| uid == self.uid)
    }

    /// Whether nothing of this was made by another controller.
    pub(super) fn none_is_foreign(
        &self,
        cluster: &ClusterName,
        mut all: impl Iterator<Item = Marked>,
    ) -> Result<(), OpenstackError> {
        let Some(foreign) = all.find(|one| !self.is_of_us(one.uid.as_deref())) else { return Ok(()) };
        let Marked { kind, id, uid, .. } = foreign;
        Err(OpenstackError::Foreign { cluster: cluster.clone(), kind, id, uid: uid.unwrap_or_default() })
    }

    /// What other controllers made of a cluster.
    ///
    /// # Errors
    /// If the cloud cannot tell.
    pub async fn foreign(&self, cluster: &ClusterName) -> Result<Vec<Marked>, OpenstackError> {
        let (machines, shared) = tokio::try_join!(Seen::of(&*self.cloud, cluster), self.look_for_shared(cluster))?;
        let all = machines.marked().chain(shared.marked());
        let mut foreign: Vec<_> = all.filter(|one| !self.is_of_us(one.uid.as_deref())).collect();
        foreign.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(foreign)
    }

    /// Has things be this controller's. Interrupted, it has taken over some of them, and none is used before it was done
    /// again.
    ///
    /// # Errors
    /// If the cloud refuses something.
    pub async fn claim(&self, cluster: &ClusterName, foreign: &[Marked]) -> Result<(), OpenstackError> {
        let metadata = tag::metadata_by(&self.uid);
        let claim = async |one: &Marked| {
            let marked = match one.kind {
                Kind::Server => self.cloud.describe_server(&one.id, &metadata).await,
                Kind::Volume => self.cloud.describe_volume(&one.id, &metadata).await,
                Kind::Of(part) => self.cloud.set_tags(part, &one.id, &tag::tags_by(&one.tags, &self.uid)).await,
            };
            marked.doing(|| format!("take over the {} {} of cluster {cluster}", one.kind, Escaped(&one.id)))
        };
        try_join_all(foreign.iter().map(claim)).await.map(drop)
    }
}
