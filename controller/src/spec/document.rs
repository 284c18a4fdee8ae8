// SPDX-License-Identifier: Apache-2.0
//! `cluster.yaml` as it is written. The reader and the published schema are both made from these types.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::Deserialize;
use windlass_types::machine::{AccelChoice, MachineRole, Protocol};
use windlass_types::name::{ClusterName, LabelKey, LabelValue, NodeName, VolumeName};

use super::later::{Containerd, Docker, Etcd, Gluster, Kernel, Kubernetes, MaxUnavailable, Openstack, Update, Window};
use super::value::{NETWORK_PATTERN, Network, SIZE_PATTERN, Size};

/// A Windlass cluster: its machines and what they shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Windlass cluster")]
pub struct Document {
    /// `windlass/v1`
    #[schemars(extend("const" = "windlass/v1"))]
    pub api_version: String,
    /// `Cluster`
    #[schemars(extend("const" = "Cluster"))]
    pub kind: String,
    /// What it is called.
    pub metadata: Metadata,
    /// What it shall be.
    pub spec: Body,
}

/// What a cluster is called.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The cluster's name: its machines carry it as their tag. It cannot be changed later.
    #[schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: ClusterName,
}

/// What a cluster shall be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Body {
    /// Where its machines come from: exactly one of `qemu` and `existing`.
    pub provider: Provider,
    /// Its nodes.
    #[schemars(length(min = 1))]
    pub nodes: Vec<Node>,
    /// Data disks: one of each for every node, empty at first, found on the node by its serial.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::volumes")]
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Where packages come from.
    #[serde(default)]
    pub packages: Packages,
    /// Who may log in with ssh. Without it sshd is switched off on new machines.
    #[serde(default)]
    pub ssh: Ssh,
    /// Limits for whatever is done to the cluster.
    #[serde(default)]
    pub policy: SpecPolicy,
    #[serde(default)]
    #[schemars(skip)]
    kernel: Option<Kernel>,
    #[serde(default)]
    #[schemars(skip)]
    docker: Option<Docker>,
    #[serde(default)]
    #[schemars(skip)]
    containerd: Option<Containerd>,
    #[serde(default)]
    #[schemars(skip)]
    etcd: Option<Etcd>,
    #[serde(default)]
    #[schemars(skip)]
    kubernetes: Option<Kubernetes>,
    #[serde(default)]
    #[schemars(skip)]
    gluster: Option<Gluster>,
}

/// Where machines come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Virtual machines on the controller's own machine.
    pub qemu: Option<Qemu>,
    /// Machines that are there already and join by a command.
    pub existing: Option<Existing>,
    #[serde(default)]
    #[schemars(skip)]
    openstack: Option<Openstack>,
}

/// Virtual machines on the controller's own machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Qemu {
    /// The image of the root disk, on the controller's machine: a path that begins with `/` or `~/`.
    #[schemars(regex(pattern = "^(/|~/)."))]
    pub image: String,
    /// How processors are made: `auto` takes KVM where it really works.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::accel")]
    pub accel: AccelChoice,
    /// The network between the machines; by default 10.0.0.0/24.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = NETWORK_PATTERN))]
    pub network: Network,
}

/// Machines that are there already.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Existing {}

/// What a node shall be.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name: host name and node name.
    #[schemars(with = "String", regex(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$"))]
    pub name: NodeName,
    /// Its address on the cluster's network.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "ipv4"))]
    pub address: Option<Ipv4Addr>,
    /// Processors; by default 2.
    #[serde(default)]
    #[schemars(range(min = 1, max = 256))]
    pub cpus: Option<u32>,
    /// Memory; by default 2GiB.
    #[serde(default)]
    #[schemars(with = "Option<String>", regex(pattern = SIZE_PATTERN))]
    pub memory: Option<Size>,
    /// Root disk; by default as large as its image.
    #[serde(default)]
    #[schemars(with = "Option<String>", regex(pattern = SIZE_PATTERN))]
    pub disk: Option<Size>,
    /// What it is for. Becomes labels such as `role/worker=yes`.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::roles")]
    pub roles: Vec<MachineRole>,
    /// Its labels.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub labels: BTreeMap<LabelKey, LabelValue>,
    /// Ports of the controller's machine, on its loopback address, that lead into this one.
    #[serde(default)]
    pub forwards: Vec<Forward>,
}

/// A port that leads into a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Forward {
    /// Port on the controller's machine.
    #[schemars(range(min = 1024))]
    pub host: u16,
    /// Port in the machine.
    #[schemars(range(min = 1))]
    pub guest: u16,
    /// `tcp` or `udp`; by default `tcp`.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::protocol")]
    pub protocol: Protocol,
}

/// A data disk of every node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its size.
    #[schemars(with = "String", regex(pattern = SIZE_PATTERN))]
    pub size: Size,
}

/// Where packages come from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Repositories that new machines are given; the agent is installed from them.
    #[serde(default)]
    pub repositories: Vec<PackageRepository>,
    #[serde(default)]
    #[schemars(skip)]
    update: Option<Update>,
}

/// A yum repository.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PackageRepository {
    /// Its id in yum's configuration.
    #[schemars(regex(pattern = "^[a-z0-9][a-z0-9-]{0,62}$"))]
    pub name: String,
    /// Where it is, as the machines reach it.
    #[schemars(regex(pattern = "^(https?|ftp|file)://."))]
    pub url: String,
    /// The file with the key its packages are signed with, ASCII-armoured; from the folder of this spec, or beginning with
    /// `/` or `~/`.
    #[schemars(length(min = 1))]
    pub gpg_key: String,
    /// Its metadata is signed with that key too, and that is checked.
    #[serde(default)]
    pub signed_metadata: bool,
}

/// Who may log in with ssh.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Ssh {
    /// Public keys, as in `authorized_keys`.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
}

/// Limits for whatever is done to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[serde(default)]
pub struct SpecPolicy {
    /// Steps under way at once; by default 10.
    #[schemars(range(min = 1, max = 1000))]
    pub parallel: u32,
    #[schemars(skip)]
    max_unavailable: Option<MaxUnavailable>,
    #[schemars(skip)]
    window: Option<Window>,
}

impl Default for SpecPolicy {
    fn default() -> Self {
        Self { parallel: windlass_plan::Policy::default().parallel, max_unavailable: None, window: None }
    }
}
