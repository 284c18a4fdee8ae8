// SPDX-License-Identifier: Apache-2.0
//! `cluster.yaml` as it is written. The reader and the published schema are both made from these types.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_saphyr::Spanned;
use windlass_types::machine::{AccelChoice, MachineRole, Protocol};
use windlass_types::name::on_node::PackageName;
use windlass_types::name::{ClusterName, LabelKey, LabelValue, NodeName, VolumeName};

use super::later::{Containerd, Docker, Etcd, Gluster, Kubernetes};
use super::openstack::Openstack;
use super::policy::SpecPolicy;
use super::settings::Settings;
use super::upkeep::{Hooks, Kernel, Reboot, Update};
use super::value::{NETWORK_PATTERN, Network, SIZE_PATTERN, Size};

/// A Windlass cluster: its machines and what they shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[schemars(title = "Windlass cluster")]
pub struct Document {
    /// `windlass/v1`
    #[schemars(with = "String", extend("const" = "windlass/v1"))]
    pub api_version: Spanned<String>,
    /// `Cluster`
    #[schemars(with = "String", extend("const" = "Cluster"))]
    pub kind: Spanned<String>,
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
    /// Where its machines come from: exactly one of `qemu`, `openstack` and `existing`.
    #[schemars(with = "Provider")]
    pub provider: Spanned<Provider>,
    /// Its nodes.
    #[schemars(with = "Vec<Node>", length(min = 1))]
    pub nodes: Spanned<Vec<Spanned<Node>>>,
    /// Data disks: one of each for every node, empty at first, found on the node by its serial.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::volumes")]
    pub volumes: Option<Spanned<BTreeMap<VolumeName, Volume>>>,
    /// Where packages come from, and which of them are kept current.
    #[serde(default)]
    pub packages: Packages,
    /// The kernel of every node. Without it kernels are left alone.
    #[serde(default)]
    pub kernel: Option<Kernel>,
    /// When nodes reboot: `never`, `if-needed` or `always`, which is whenever packages were changed. By default `if-needed`
    /// where `packages.update` or `kernel` is given, else `never`. A new kernel is always booted.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::reboot")]
    pub reboot: Option<Reboot>,
    /// What is run on a node before it, or what runs on it, goes down, and after it is back.
    #[serde(default)]
    pub hooks: Hooks,
    /// Small things that every node shall have.
    #[serde(default)]
    pub settings: Settings,
    /// Who may log in with ssh. Without it sshd is switched off on new machines.
    #[serde(default)]
    pub ssh: Ssh,
    /// Limits for whatever is done to the cluster.
    #[serde(default)]
    pub policy: SpecPolicy,
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

impl Body {
    /// The volumes by name.
    pub fn volumes(&self) -> impl Iterator<Item = (&VolumeName, &Volume)> {
        self.volumes.iter().flat_map(|volumes| &volumes.value)
    }
}

/// Where machines come from.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Virtual machines on the controller's own machine.
    pub qemu: Option<Qemu>,
    /// Machines that are there already and join by a command.
    pub existing: Option<Existing>,
    /// Servers of an OpenStack cloud.
    #[serde(default)]
    pub openstack: Option<Openstack>,
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
    /// What a server of a cloud has of processors, memory and disk, by the cloud's name or id for it.
    #[serde(default)]
    pub flavor: Option<String>,
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
    /// Which of its packages are kept current, in place of what the cluster says.
    #[serde(default)]
    pub packages: NodePackages,
    /// Its kernel, in place of the cluster's; `null`: its kernels are left alone.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<Kernel>")]
    pub kernel: Option<Option<Kernel>>,
    /// When it reboots, in place of what the cluster says.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::reboot")]
    pub reboot: Option<Reboot>,
    /// What is run around a disruption of it, in place of the cluster's.
    #[serde(default)]
    pub hooks: Option<Hooks>,
}

/// Which packages of a node are kept current, in place of what the cluster says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodePackages {
    /// `all`, `security`, or a list of packages; `null`: its packages are left alone.
    #[serde(default, deserialize_with = "given")]
    #[schemars(schema_with = "super::schema::update_or_null")]
    pub update: Option<Option<Update>>,
    /// Packages that no update touches.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub exclude: Option<Vec<PackageName>>,
}

/// What is written, also where that is `null`.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// Its size.
    #[schemars(with = "String", regex(pattern = SIZE_PATTERN))]
    pub size: Size,
    /// Which of a cloud's types of volumes; by default the cloud's own choice.
    #[serde(default, rename = "type")]
    pub volume_type: Option<String>,
}

/// Where packages come from, and which of them are kept current.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Repositories that new machines are given; the agent is installed from them.
    #[serde(default)]
    #[schemars(with = "Vec<PackageRepository>")]
    pub repositories: Vec<Spanned<PackageRepository>>,
    /// What is kept current: `all`, `security`, or a list of packages. Without it packages are left alone.
    #[serde(default)]
    #[schemars(schema_with = "super::schema::update")]
    pub update: Option<Update>,
    /// Packages that no update touches.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub exclude: Option<Spanned<Vec<PackageName>>>,
    /// Packages that stay as they are on every node, whoever calls the package manager there. An empty list unlocks what was
    /// locked.
    #[serde(default)]
    #[schemars(with = "Option<Vec<String>>")]
    pub locked: Option<Vec<PackageName>>,
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
