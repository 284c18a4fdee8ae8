// SPDX-License-Identifier: Apache-2.0
//! `windlass export`: the fleet in the words of the tools that a site still has, so that both can be used side by side.
//!
//! Nothing is stored: what is written is what the controller knows now. Groups are roles, as `role/worker=yes` is one.

use std::collections::BTreeMap;
use std::io::Write as _;

use clap::Subcommand;
use serde_json::{Map, Value, json};
use windlass_proto::v1;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::get::{raw_machines, raw_nodes};

/// What begins the labels of roles.
const ROLE: &str = "role/";

/// In which words.
#[derive(Debug, Subcommand)]
pub(crate) enum ExportArgs {
    /// An Ansible inventory, as a dynamic inventory script writes it
    #[command(after_help = "Examples:\n  printf '#!/bin/sh\\nexec windlass export ansible \"$@\"\\n' > fleet\n  \
        chmod +x fleet\n  ansible -i ./fleet role_worker -m ping")]
    Ansible {
        /// All groups and hosts; also without it
        #[arg(long, conflicts_with = "host")]
        list: bool,
        /// The variables of one host
        #[arg(long, value_name = "NODE")]
        host: Option<String>,
    },
    /// Hosts for ssh, those without an address outside through one that has one
    #[command(after_help = "Examples:\n  windlass export ssh-config > ~/.ssh/config.d/fleet")]
    SshConfig {
        /// The user to log in as
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
}

/// A node and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Host {
    name: String,
    cluster: String,
    labels: BTreeMap<String, String>,
    /// In its own network, or from where its agent calls.
    inside: String,
    /// An address outside, if it has one.
    outside: Option<String>,
    /// Its data disks by name, and how it sees them.
    disks: BTreeMap<String, String>,
}

/// Prints what was asked for.
///
/// # Errors
/// If the controller cannot be reached or refuses, or there is no such node.
pub(crate) async fn run(context: &Context, arguments: ExportArgs) -> Result<Exit, Failure> {
    let hosts = hosts(raw_nodes(context, None).await?, raw_machines(context, None).await?);
    let mut out = context.terminal.out();
    match arguments {
        ExportArgs::Ansible { host: Some(name), .. } => {
            let host = hosts.iter().find(|host| host.name == name).ok_or_else(|| {
                Failure::new(Cause::Usage, format!("export {name}"))
                    .because("there is no such node")
                    .advise("`windlass get nodes` lists them")
            })?;
            writeln!(out, "{:#}", variables(host))?;
        }
        ExportArgs::Ansible { host: None, list: _ } => writeln!(out, "{:#}", inventory(&hosts))?,
        ExportArgs::SshConfig { user } => write!(out, "{}", ssh_config(&hosts, user.as_deref()))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn hosts(nodes: Vec<v1::Node>, machines: Vec<v1::Machine>) -> Vec<Host> {
    let mut machines: BTreeMap<_, _> = machines.into_iter().map(|machine| (machine.name.clone(), machine)).collect();
    let mut hosts: Vec<_> = nodes
        .into_iter()
        .map(|node| {
            let machine = machines.remove(&node.name).unwrap_or_default();
            let outside = machine.parts.iter().find(|part| part.kind == "floating IP").map(|part| part.name.clone());
            let own = machine.addresses.iter().find(|address| Some(*address) != outside.as_ref());
            Host {
                inside: own.cloned().unwrap_or(node.address),
                outside,
                cluster: machine.cluster,
                labels: node.labels.into_iter().collect(),
                disks: machine.disks.into_iter().map(|disk| (disk.name, disk.serial)).collect(),
                name: node.name,
            }
        })
        .collect();
    hosts.sort_by(|one, other| one.name.cmp(&other.name));
    hosts
}

fn variables(host: &Host) -> Value {
    let mut all = json!({
        "ansible_host": host.outside.as_ref().unwrap_or(&host.inside),
        "windlass_cluster": host.cluster,
        "windlass_labels": host.labels,
        "windlass_address": host.inside,
    });
    if !host.disks.is_empty() {
        let path = |serial: &String| format!("/dev/disk/by-id/virtio-{serial}");
        let disks: BTreeMap<_, _> = host.disks.iter().map(|(name, serial)| (name, path(serial))).collect();
        all["windlass_disks"] = json!(disks);
    }
    all
}

fn inventory(hosts: &[Host]) -> Value {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let roles = host.labels.keys().filter_map(|label| label.strip_prefix(ROLE));
        let roles = roles.map(|role| format!("role_{}", plain(role)));
        let cluster =
            Some(&host.cluster).filter(|name| !name.is_empty()).map(|name| format!("cluster_{}", plain(name)));
        for group in roles.chain(cluster) {
            groups.entry(group).or_default().push(&host.name);
        }
    }
    let mut all: Map<String, Value> = Map::new();
    let names: Vec<_> = hosts.iter().map(|host| &host.name).collect();
    all.insert("all".into(), json!({"hosts": names, "children": groups.keys().collect::<Vec<_>>()}));
    all.extend(groups.into_iter().map(|(group, hosts)| (group, json!({ "hosts": hosts }))));
    let known: Map<_, _> = hosts.iter().map(|host| (host.name.clone(), variables(host))).collect();
    all.insert("_meta".into(), json!({ "hostvars": known }));
    Value::Object(all)
}

/// Names of groups have no dashes or dots.
fn plain(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn ssh_config(hosts: &[Host], user: Option<&str>) -> String {
    let door = |cluster: &str| hosts.iter().find(|host| host.cluster == cluster && host.outside.is_some());
    let mut text = String::new();
    for host in hosts {
        text.push_str(&format!("Host {}\n", host.name));
        text.push_str(&format!("  HostName {}\n", host.outside.as_ref().unwrap_or(&host.inside)));
        if let Some(user) = user {
            text.push_str(&format!("  User {user}\n"));
        }
        if let Some(door) = door(&host.cluster).filter(|_| host.outside.is_none()) {
            text.push_str(&format!("  ProxyJump {}\n", door.name));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Vec<Host> {
        let node = |name: &str, role: &str| v1::Node {
            name: name.into(),
            labels: [(format!("role/{role}"), "yes".to_owned())].into(),
            address: "10.9.9.9".into(),
            ..v1::Node::default()
        };
        let machine = |name: &str, addresses: &[&str], outside: &[&str]| v1::Machine {
            name: name.into(),
            cluster: "k8s-1".into(),
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            parts: outside
                .iter()
                .map(|address| v1::MachinePart { kind: "floating IP".into(), id: "f".into(), name: (*address).into() })
                .collect(),
            disks: vec![v1::MachineDisk { name: "docker".into(), size_bytes: 1, serial: "4f8e".into() }],
            ..v1::Machine::default()
        };
        hosts(
            vec![node("node1", "worker"), node("master1", "control-plane"), node("old", "worker")],
            vec![
                machine("node1", &["10.0.0.171"], &[]),
                machine("master1", &["10.0.0.172", "172.24.4.10"], &["172.24.4.10"]),
            ],
        )
    }

    #[test]
    fn an_inventory_has_groups_addresses_and_disks() {
        let all = inventory(&fleet());
        assert_eq!(all["role_control_plane"]["hosts"], json!(["master1"]));
        assert_eq!(all["cluster_k8s_1"]["hosts"], json!(["master1", "node1"]));
        let known = &all["_meta"]["hostvars"];
        assert_eq!(known["master1"]["ansible_host"], "172.24.4.10");
        assert_eq!(known["node1"]["windlass_disks"]["docker"], "/dev/disk/by-id/virtio-4f8e");
        assert_eq!(known["old"]["ansible_host"], "10.9.9.9");
    }

    #[test]
    fn who_has_no_address_outside_is_reached_through_one_that_has() {
        let text = ssh_config(&fleet(), Some("centos"));
        assert!(text.contains("Host node1\n  HostName 10.0.0.171\n  User centos\n  ProxyJump master1\n"), "{text}");
        assert!(text.contains("Host master1\n  HostName 172.24.4.10\n  User centos\nHost node1"), "{text}");
        assert!(text.ends_with("Host old\n  HostName 10.9.9.9\n  User centos\n"), "{text}");
    }
}
