// SPDX-License-Identifier: Apache-2.0
//! A spec for servers that are there, as a draft: what a spec can say of them, and in sentences what it cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use windlass_types::machine::MachineRole;
use windlass_types::name::{BadName, CloudName, ClusterName, NodeName, VolumeName};

use super::servers::{Fate, Server, Volume};

/// Groups of kubespray that say nothing which is not said otherwise here.
const NOTHING_MORE: [&str; 9] = [
    "all",
    "k8s-cluster",
    "k8s_cluster",
    "vault",
    "network-storage",
    "network_storage",
    "no-floating",
    "no_floating",
    "calico-rr",
];

/// What a state does not say.
#[derive(Debug, Clone)]
pub struct Beside {
    /// The cluster's name.
    pub cluster: ClusterName,
    /// The cloud's name.
    pub cloud: CloudName,
    /// The URL of the repository with the agent.
    pub repository: String,
    /// The file with the key with which that is signed.
    pub gpg_key: String,
}

/// A draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The spec.
    pub text: String,
    /// Which server each node has.
    pub nodes: Vec<Adopted>,
    /// What of the state goes over with them, as Terraform calls it.
    pub goes_over: BTreeSet<String>,
    /// What of the state belongs to volumes that no spec says, as Terraform calls it.
    pub left: BTreeSet<String>,
    /// What the spec does not say as the state does.
    pub notes: Vec<String>,
}

/// A node whose server is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    /// The node.
    pub node: NodeName,
    /// Its server's id.
    pub server: String,
    /// Its volumes' ids.
    pub volumes: BTreeMap<VolumeName, String>,
}

impl Draft {
    /// What becomes of a resource after all.
    #[must_use]
    pub fn fate<'a>(&self, fate: &'a Fate) -> &'a str {
        match self.left.contains(&fate.address) {
            true => "left with Terraform: no spec can say it; it stays at its server",
            false => &fate.what,
        }
    }
}

/// Servers that cannot be drafted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DraftError {
    /// Nothing to draft.
    #[error("there is no server of OpenStack in it that is a node")]
    Nobody,
    /// A server's name can be no node's.
    #[error("the server {server} cannot give its node its name")]
    Name {
        /// The server's name.
        server: String,
        /// Why not.
        #[source]
        source: BadName,
    },
    /// Two servers would be one node.
    #[error("two servers would be the node {0}: rename one of them first")]
    Twice(NodeName),
}

/// Writes a draft.
///
/// # Errors
/// If the servers cannot be nodes.
pub fn draft(servers: &[Server], beside: &Beside) -> Result<Draft, DraftError> {
    let mut names = BTreeMap::new();
    for server in servers {
        let name = node_name(&server.name)?;
        if names.insert(name.clone(), server).is_some() {
            return Err(DraftError::Twice(name));
        }
    }
    if names.is_empty() {
        return Err(DraftError::Nobody);
    }
    let mut notes = Vec::new();
    let volumes = volumes(&names, &mut notes);
    let text = text(&names, &volumes, beside, &mut notes);
    let of = |server: &Server| {
        let its = server.volumes.iter().filter_map(|volume| Some((called(volume)?, volume.id.clone())));
        its.filter(|(name, _)| volumes.contains_key(name)).collect()
    };
    let adopted = names.iter().map(|(node, server)| {
        let (node, server, volumes) = (node.clone(), server.id.clone(), of(server));
        Adopted { node, server, volumes }
    });
    let adopted = adopted.collect();
    let is_kept = |volume: &&Volume| called(volume).is_some_and(|name| volumes.contains_key(&name));
    let all = names.values().flat_map(|server| &server.volumes);
    let (kept, lost): (Vec<&Volume>, Vec<&Volume>) = all.partition(is_kept);
    let resources = |volumes: Vec<&Volume>| volumes.into_iter().flat_map(|volume| volume.resources.clone()).collect();
    let mut goes_over: BTreeSet<String> = resources(kept);
    goes_over.extend(names.values().flat_map(|server| server.goes_over.clone()));
    Ok(Draft { text, nodes: adopted, goes_over, left: resources(lost), notes })
}

type Names<'a> = BTreeMap<NodeName, &'a Server>;

fn node_name(server: &str) -> Result<NodeName, DraftError> {
    let plain = server.to_ascii_lowercase().replace(['_', '.', ' '], "-");
    NodeName::new(plain).map_err(|source| DraftError::Name { server: server.to_owned(), source })
}

fn called(volume: &Volume) -> Option<VolumeName> {
    VolumeName::new(volume.called.to_ascii_lowercase().replace(['_', '.'], "-")).ok()
}

/// The volumes of which every node has one alike: only those can a spec describe.
fn volumes<'a>(names: &Names<'a>, notes: &mut Vec<String>) -> BTreeMap<VolumeName, &'a Volume> {
    let mut by_name: BTreeMap<VolumeName, Vec<&Volume>> = BTreeMap::new();
    for (node, server) in names {
        for volume in &server.volumes {
            match called(volume) {
                Some(name) => by_name.entry(name).or_default().push(volume),
                None => notes
                    .push(format!("{node}: the volume {} has a name that no spec takes; it is left alone", volume.id)),
            }
        }
    }
    let is_everywhere = |name: &VolumeName| {
        names
            .values()
            .all(|server| server.volumes.iter().filter(|volume| called(volume).as_ref() == Some(name)).count() == 1)
    };
    let mut kept = BTreeMap::new();
    for (name, all) in by_name {
        let kinds: BTreeSet<_> = all.iter().map(|volume| (volume.size, &volume.volume_type)).collect();
        match (is_everywhere(&name), kinds.len()) {
            (true, 1) => drop(kept.insert(name, all[0])),
            (true, _) => {
                notes.push(format!("volumes {name}: not of one size and type, so no spec says it; they are left alone"))
            }
            (false, _) => {
                notes.push(format!("volumes {name}: not one at every node, so no spec says it; they are left alone"))
            }
        }
    }
    kept
}

fn text(
    names: &Names<'_>,
    volumes: &BTreeMap<VolumeName, &Volume>,
    beside: &Beside,
    notes: &mut Vec<String>,
) -> String {
    let Beside { cluster, cloud, repository, gpg_key } = beside;
    let mut text = format!(
        "# Drafted from a Terraform state: look at every line.\napiVersion: windlass/v1\nkind: Cluster\n\
         metadata: {{name: {}}}\nspec:\n  provider:\n    openstack:\n      cloud: {}\n",
        plain(cluster),
        plain(cloud)
    );
    let mut line = |key: &str, value: Option<String>| {
        text.extend(value.map(|value| format!("      {key}: {value}\n")));
    };
    let image = same(names, "image", notes, |server| server.image.clone());
    if image.is_none() {
        notes.push("no server says its image: name in `image` the one from which another would be made".to_owned());
    }
    line("image", Some(plain(image.unwrap_or_else(|| "CHANGE-ME".to_owned()))));
    line("network", same(names, "network", notes, |server| server.network.clone()).map(plain));
    line("keypair", same(names, "keypair", notes, |server| server.keypair.clone()).map(plain));
    line("zone", same(names, "zone", notes, |server| server.zone.clone()).map(plain));
    let groups: Vec<_> = shared_groups(names, notes).into_iter().map(plain).collect();
    line("securityGroups", (!groups.is_empty()).then(|| format!("[{}]", groups.join(", "))));
    line("floatingIPs", floating(names, notes));
    text.push_str("  nodes:\n");
    text.extend(names.iter().map(|(node, server)| node_line(node, server, notes)));
    if !volumes.is_empty() {
        text.push_str("  volumes:\n");
        text.extend(volumes.iter().map(|(name, volume)| {
            let kind = volume.volume_type.as_ref().map(|kind| format!(", type: {}", plain(kind))).unwrap_or_default();
            format!("    {}: {{size: {}GiB{kind}}}\n", plain(name), volume.size)
        }));
    }
    text + &format!(
        "  packages:\n    repositories:\n      - {{name: windlass, url: {}, gpgKey: {}}}\n",
        plain(repository),
        plain(gpg_key)
    )
}

fn node_line(node: &NodeName, server: &Server, notes: &mut Vec<String>) -> String {
    let mut roles = BTreeSet::new();
    for group in &server.groups {
        match role(group) {
            Some(role) => drop(roles.insert(role)),
            None if NOTHING_MORE.contains(&&**group) => {}
            None => notes.push(format!("{node}: there is no role for the group {group}; a label can say it")),
        }
    }
    if roles.is_empty() {
        notes.push(format!("{node}: nothing says what it is for; it is drafted as a worker"));
        roles.insert(MachineRole::Worker);
    }
    let roles: Vec<_> = roles.iter().map(ToString::to_string).collect();
    let address = server.fixed.map(|address| format!("address: {address}, ")).unwrap_or_default();
    let (name, flavor, roles) = (plain(node), plain(&server.flavor), roles.join(", "));
    format!("    - {{name: {name}, {address}flavor: {flavor}, roles: [{roles}]}}\n")
}

/// What kubespray calls a role, of old and now.
fn role(group: &str) -> Option<MachineRole> {
    match group {
        "kube-master" | "kube_control_plane" | "kube-control-plane" => Some(MachineRole::ControlPlane),
        "kube-node" | "kube_node" => Some(MachineRole::Worker),
        "etcd" => Some(MachineRole::Etcd),
        "gfs-cluster" | "gfs_cluster" => Some(MachineRole::Gluster),
        _ => None,
    }
}

/// What most servers have, where a spec says it once for all.
fn same(
    names: &Names<'_>,
    what: &str,
    notes: &mut Vec<String>,
    value: impl Fn(&Server) -> Option<String>,
) -> Option<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    names.values().filter_map(|server| value(server)).for_each(|value| *counts.entry(value).or_default() += 1);
    let most = counts.into_iter().max_by_key(|(_, count)| *count)?.0;
    for (node, server) in names {
        match value(server) {
            Some(other) if other != most => {
                notes.push(format!("{node}: its {what} is {other}, the spec says {most} for all"))
            }
            None => notes.push(format!("{node}: the state has no {what} for it, the spec says {most} for all")),
            Some(_) => {}
        }
    }
    Some(most)
}

fn shared_groups(names: &Names<'_>, notes: &mut Vec<String>) -> BTreeSet<String> {
    let of = |server: &&Server| server.security_groups.iter().cloned().collect::<BTreeSet<_>>();
    let shared =
        names.values().map(of).reduce(|one, other| one.intersection(&other).cloned().collect()).unwrap_or_default();
    for (node, server) in names {
        let more: Vec<_> = of(server).difference(&shared).cloned().collect();
        if !more.is_empty() {
            notes.push(format!("{node}: it alone is in the security groups {}; it stays in them", more.join(", ")));
        }
    }
    shared
}

fn floating(names: &Names<'_>, notes: &mut Vec<String>) -> Option<String> {
    let nodes: Vec<_> =
        names.iter().filter(|(_, server)| server.floating.is_some()).map(|(node, _)| plain(node)).collect();
    let pools: BTreeSet<_> = names.values().filter_map(|server| server.floating.clone()).collect();
    let pool = pools.iter().find(|pool| !pool.is_empty());
    if pools.len() > 1 {
        notes.push("the floating IPs are of several networks; the spec names one of them".to_owned());
    }
    if !nodes.is_empty() && pool.is_none() {
        notes.push("the state does not say of which network the floating IPs are: name it in `floatingIPs`".to_owned());
    }
    let pool = plain(pool.map_or("CHANGE-ME", |pool| pool));
    (!nodes.is_empty()).then(|| format!("{{network: {pool}, nodes: [{}]}}", nodes.join(", ")))
}

/// A scalar of YAML that means this text and nothing else.
fn plain(text: impl Display) -> String {
    let text = text.to_string();
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '~')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_./~".contains(c));
    let means_more =
        ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&&*text.to_ascii_lowercase());
    match is_word && !means_more && text != "~" {
        true => text,
        // Every string of JSON is one of YAML.
        false => serde_json::Value::String(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::{servers, terraform};
    use crate::spec::Cluster;

    /// A state as kubespray's own Terraform leaves it, shortened: a master with an address outside, a node, a bastion.
    const STATE: &str = include_str!("draft/kubespray.tfstate");

    fn beside() -> Beside {
        Beside {
            cluster: ClusterName::new("k8s1").expect("a name"),
            cloud: CloudName::new("cybera").expect("a name"),
            repository: "https://packages.example.org/windlass".into(),
            gpg_key: "RPM-GPG-KEY".into(),
        }
    }

    #[test]
    fn a_state_of_kubespray_becomes_a_spec_that_is_understood_and_everything_is_accounted_for() {
        let resources = terraform::read(STATE).expect("a state");
        let found = servers::find(&resources);
        assert_eq!(found.fates.len(), resources.len());
        let draft = draft(&found.servers, &beside()).expect("a draft");
        let fates: String =
            found.fates.iter().map(|fate| format!("# {}: {}\n", fate.address, draft.fate(fate))).collect();
        let notes: String = draft.notes.iter().map(|note| format!("# note: {note}\n")).collect();
        let whole = format!("{}{fates}{notes}", draft.text);
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/import/draft/kubespray.yaml");
        if std::env::var_os("WINDLASS_BLESS").is_some() {
            std::fs::write(golden, &whole).expect("written");
        }
        assert_eq!(std::fs::read_to_string(golden).unwrap_or_default(), whole, "WINDLASS_BLESS=1 writes it anew");
        let cluster = Cluster::parse(&draft.text).expect("a spec");
        assert_eq!(cluster.body.nodes.value.len(), 2);
        let gluster = VolumeName::new("gluster-volume").expect("a name");
        assert_eq!(draft.nodes[0].server, "5f6a0e2c-0001-4000-8000-000000000001");
        assert_eq!(draft.nodes[0].volumes[&gluster], "5f6a0e2c-0011-4000-8000-000000000001");
    }

    #[test]
    fn servers_that_can_be_no_nodes_are_refused() {
        let named = |name: &str| Server { name: name.into(), id: "s".into(), ..Server::default() };
        assert_eq!(draft(&[], &beside()), Err(DraftError::Nobody));
        let twice = draft(&[named("Node_1"), named("node-1")], &beside()).expect_err("twice");
        assert!(twice.to_string().contains("node-1"), "{twice}");
        assert!(matches!(draft(&[named("ünode")], &beside()), Err(DraftError::Name { .. })));
    }

    #[test]
    fn words_that_would_mean_something_else_are_quoted() {
        for (text, written) in
            [("small", "small"), ("m1.small", "m1.small"), ("no", "\"no\""), ("1e3", "\"1e3\""), ("a: b", "\"a: b\"")]
        {
            assert_eq!(plain(text), written);
        }
    }
}
