// SPDX-License-Identifier: Apache-2.0
//! By what things in a cloud are found again: names are for people, tags are for us.
//!
//! Servers and volumes have metadata, which is there from the first moment. What belongs to networks has tags, which are
//! written after it was made, and a description, which is written with it: either says whose it is. Server groups have
//! nothing but a name.

use std::collections::BTreeMap;

use windlass_types::digest::Sha256Digest;
use windlass_types::machine::MachineSpec;
use windlass_types::name::{ClusterName, NodeName, VolumeName};

use crate::openstack::network::{FloatingIp, Network, Port, Router, SecurityGroup, Subnet};
use crate::provider::MachineKey;

const CLUSTER: &str = "windlass:cluster";
const NODE: &str = "windlass:node";
const UID: &str = "windlass:uid";
const VOLUME: &str = "windlass:volume";
const SPEC_HASH: &str = "windlass:spec-hash";
const SPEC: &str = "windlass:spec.";
const ADOPTED: &str = "windlass:adopted";
const OUTSIDE: &str = "windlass:outside=";

/// A value of metadata has at most 255 characters.
const LONGEST_VALUE: usize = 255;

/// Whose something is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    cluster: ClusterName,
    node: Option<NodeName>,
    /// The uuid of the controller that makes it; none in what is looked for.
    uid: Option<String>,
}

impl Tag {
    /// What the machines of a cluster share.
    pub(super) const fn shared(cluster: ClusterName) -> Self {
        Self { cluster, node: None, uid: None }
    }

    /// What a machine consists of.
    pub(super) fn of(key: &MachineKey) -> Self {
        Self { cluster: key.cluster.clone(), node: Some(key.name.clone()), uid: None }
    }

    /// The same, made by this controller.
    pub(super) fn by(self, uid: &str) -> Self {
        Self { uid: Some(uid.to_owned()), ..self }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        match &self.node {
            Some(node) => format!("{}-{node}", self.cluster),
            None => self.cluster.to_string(),
        }
    }

    /// As metadata.
    pub(super) fn metadata(&self) -> BTreeMap<String, String> {
        let node = self.node.iter().map(|node| (NODE.to_owned(), node.to_string()));
        let uid = self.uid.iter().map(|uid| (UID.to_owned(), uid.clone()));
        node.chain(uid).chain([(CLUSTER.to_owned(), self.cluster.to_string())]).collect()
    }

    /// As tags.
    pub(super) fn tags(&self) -> Vec<String> {
        self.metadata().into_iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// As a description.
    pub(super) fn description(&self) -> String {
        self.tags().join(" ")
    }

    /// Whether something with these is ours: exactly, so that a cluster's own are not taken for a node's.
    pub(super) fn is_on(&self, thing: &impl Tagged) -> bool {
        read(thing).is_some_and(|(cluster, node)| cluster == self.cluster && node == self.node)
    }
}

/// Something that belongs to networks.
pub(super) trait Tagged {
    fn description(&self) -> &str;
    fn tags(&self) -> &[String];
}

macro_rules! tagged {
    ($($type:ident)*) => {$(
        impl Tagged for $type {
            fn description(&self) -> &str {
                &self.description
            }

            fn tags(&self) -> &[String] {
                &self.tags
            }
        }
    )*};
}

tagged!(Network Subnet Router Port SecurityGroup FloatingIp);

/// What is said of something: first by its tags, which can be changed later, then by its description.
fn value<'a>(thing: &'a impl Tagged, key: &str) -> Option<&'a str> {
    let mut said = thing.tags().iter().map(String::as_str).chain(thing.description().split(' '));
    said.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Whose something is: of which cluster and, if it is a machine's, of which node.
pub(super) fn read(thing: &impl Tagged) -> Option<(ClusterName, Option<NodeName>)> {
    let node = value(thing, NODE).map(NodeName::new).transpose().ok()?;
    Some((ClusterName::new(value(thing, CLUSTER)?).ok()?, node))
}

/// Which controller made something.
pub(super) fn uid_of(thing: &impl Tagged) -> Option<&str> {
    value(thing, UID)
}

/// Which controller made a server or volume.
pub(super) fn uid_in(metadata: &BTreeMap<String, String>) -> Option<&str> {
    metadata.get(UID).map(String::as_str)
}

/// Tags, with this controller in place of another.
pub(super) fn tags_by(tags: &[String], uid: &str) -> Vec<String> {
    let others = tags.iter().filter(|tag| tag.strip_prefix(UID).is_none_or(|rest| !rest.starts_with('=')));
    others.cloned().chain([format!("{UID}={uid}")]).collect()
}

/// Metadata that says that this controller made it.
pub(super) fn metadata_by(uid: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(UID.to_owned(), uid.to_owned())])
}

/// Of which cluster a server or volume is.
pub(super) fn cluster_in(metadata: &BTreeMap<String, String>) -> Option<ClusterName> {
    ClusterName::new(metadata.get(CLUSTER)?).ok()
}

/// Of which node a server or volume is.
pub(super) fn node_in(metadata: &BTreeMap<String, String>) -> Option<NodeName> {
    NodeName::new(metadata.get(NODE)?).ok()
}

/// Which of its machine's disks a volume is.
pub(super) fn volume_in(metadata: &BTreeMap<String, String>) -> Option<VolumeName> {
    VolumeName::new(metadata.get(VOLUME)?).ok()
}

/// The metadata of a machine's disk.
pub(super) fn of_volume(tag: &Tag, volume: &VolumeName) -> BTreeMap<String, String> {
    let mut metadata = tag.metadata();
    metadata.insert(VOLUME.to_owned(), volume.to_string());
    metadata
}

/// The metadata of a machine's server: besides whose it is, from what it was made.
///
/// # Panics
/// Never: a spec is always JSON.
pub(super) fn of_server(tag: &Tag, spec: &MachineSpec, hash: Sha256Digest) -> BTreeMap<String, String> {
    let mut metadata = tag.metadata();
    metadata.insert(SPEC_HASH.to_owned(), hash.to_string());
    let base = MachineSpec { data_disks: Vec::new(), labels: BTreeMap::new(), roles: Vec::new(), ..spec.clone() };
    let text: Vec<char> = serde_json::to_string(&base).expect("a spec is always JSON").chars().collect();
    let parts = text.chunks(LONGEST_VALUE).map(|part| part.iter().collect());
    metadata.extend(parts.enumerate().map(|(nth, part)| (format!("{SPEC}{nth}"), part)));
    metadata
}

/// The metadata of a server that was there before and becomes a machine.
pub(super) fn of_adopted(tag: &Tag, spec: &MachineSpec, hash: Sha256Digest) -> BTreeMap<String, String> {
    let mut metadata = of_server(tag, spec, hash);
    metadata.insert(ADOPTED.to_owned(), "yes".to_owned());
    metadata
}

/// Whether a server was there before it became a machine.
pub(super) fn is_adopted(metadata: &BTreeMap<String, String>) -> bool {
    metadata.get(ADOPTED).is_some_and(|value| value == "yes")
}

/// From what a server was made, as far as its metadata tells.
pub(super) fn spec_in(metadata: &BTreeMap<String, String>) -> (Option<Sha256Digest>, Option<Box<MachineSpec>>) {
    let hash = metadata.get(SPEC_HASH).and_then(|text| text.parse().ok());
    let parts: Vec<_> = (0..).map_while(|nth| metadata.get(&format!("{SPEC}{nth}"))).map(String::as_str).collect();
    (hash, serde_json::from_str(&parts.concat()).ok())
}

/// The tags of a router: also how the external network was called that it was made for.
pub(super) fn of_router(tag: &Tag, outside: &str) -> Vec<String> {
    let mut tags = tag.tags();
    // A comma separates tags, and a slash would end the address of one.
    if !outside.contains([',', '/']) {
        tags.push(format!("{OUTSIDE}{outside}"));
    }
    tags
}

/// How the external network was called that a router was made for.
pub(super) fn outside_of(router: &Router) -> Option<&str> {
    router.tags.iter().find_map(|tag| tag.strip_prefix(OUTSIDE))
}

/// What people and we call a cluster's server group: it has nothing else by which it could be found.
pub(super) fn group_name(cluster: &ClusterName) -> String {
    format!("windlass:{cluster}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::openstack::fixtures;
    use windlass_plan::base_hash;

    struct Thing(&'static str, Vec<String>);

    impl Tagged for Thing {
        fn description(&self) -> &str {
            self.0
        }

        fn tags(&self) -> &[String] {
            &self.1
        }
    }

    fn tag(node: Option<&str>) -> Tag {
        let node = node.map(|node| NodeName::new(node).expect("a name"));
        Tag { cluster: ClusterName::new("k8s1").expect("a name"), node, uid: None }
    }

    #[test]
    fn it_is_found_by_its_tags_or_by_its_description_and_by_nothing_else() {
        let ours = tag(Some("node1"));
        assert!(ours.is_on(&Thing("", ours.tags())));
        assert!(ours.is_on(&Thing("windlass:cluster=k8s1 windlass:node=node1", vec![])));
        for foreign in ["", "k8s1-node1", "windlass:cluster=k8s1", "windlass:cluster=k8s2 windlass:node=node1"] {
            assert!(!ours.is_on(&Thing(foreign, vec![])), "{foreign}");
        }
        assert!(!tag(None).is_on(&Thing("windlass:cluster=k8s1 windlass:node=node1", vec![])));
    }

    #[test]
    fn which_controller_made_it_is_said_beside_whose_it_is_and_can_be_said_anew() {
        let made = tag(Some("node1")).by("a");
        let described = Thing("windlass:cluster=k8s1 windlass:node=node1 windlass:uid=a", vec![]);
        assert_eq!((made.description().as_str(), uid_of(&described)), (described.0, Some("a")));
        assert!(tag(Some("node1")).is_on(&described) && made.is_on(&described));
        let anew = Thing(described.0, tags_by(&[made.tags(), vec!["theirs".into()]].concat(), "b"));
        assert_eq!(uid_of(&anew), Some("b"), "a tag counts more than a description");
        assert_eq!(anew.1.len(), 4, "{:?}", anew.1);
        assert_eq!((uid_in(&made.metadata()), uid_in(&metadata_by("b"))), (Some("a"), Some("b")));
        assert_eq!(uid_of(&Thing("", tag(None).tags())), None);
    }

    #[test]
    fn from_what_a_server_was_made_is_read_from_its_metadata() {
        let spec = fixtures::machine("node1");
        let metadata = of_server(&tag(Some("node1")), &spec, base_hash(&spec));
        assert!(metadata.values().all(|value| value.chars().count() <= LONGEST_VALUE));
        let (hash, read) = spec_in(&metadata);
        assert_eq!(hash, Some(base_hash(&spec)));
        assert_eq!(base_hash(&read.expect("a spec")), base_hash(&spec));
        assert_eq!(spec_in(&BTreeMap::new()), (None, None));
    }
}
