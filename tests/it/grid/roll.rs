// SPDX-License-Identifier: Apache-2.0
//! Three nodes and what they shall become: every kind of step is needed for it. What it says of the nodes holds whatever their
//! controller is: [`crate::kill9_run`] has another.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use windlass_agent::host::fake::{ModelPackage, Node};
use windlass_controller::client::Calls;
use windlass_controller::store::Store as _;
use windlass_proto::v1;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::process::{Answer, run};
use windlass_tests::wait::{LONG, wait_for, wait_until};
use windlass_types::facts::ServiceState;

/// The nodes, by their turns.
pub(crate) const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// The steps on each node, in their order. NODE stands for its name.
pub(crate) const STEPS: [&str; 12] = [
    "set/NODE/user:ops",
    "set/NODE/file:/etc/motd",
    "set/NODE/sysctl:net.ipv4.ip_forward",
    "set/NODE/service:tuned.service",
    "hook/NODE/before",
    "repair-packages/NODE",
    "packages/NODE",
    "install-kernel/NODE",
    "boot/NODE",
    "confirm-kernel/NODE",
    "prune-kernels/NODE",
    "hook/NODE/after",
];

/// In a roll without a boot.
pub(super) const RESTART: &str = "restart-services/NODE";

/// The question that comes before every plan.
pub(super) const SURVEY: &str = "survey";

/// The hooks.
pub(super) const DRAIN: &str = "/usr/libexec/site/drain";
pub(super) const UNDRAIN: &str = "/usr/libexec/site/undrain";

/// What happens on each node, each once.
const EFFECTS: [&str; 28] = [
    DRAIN,
    UNDRAIN,
    "boot model-6.2-1.x86_64 once",
    "enable tuned.service",
    "erase left-1-1.x86_64",
    "install kernel-lt-6.2-1.x86_64",
    "install web-2-1.x86_64",
    "install words-2-1.x86_64",
    "make /home/ops/.ssh",
    "make 6.1-1.x86_64 the default",
    "make 6.2-1.x86_64 the default",
    "make user ops",
    "ops joins wheel",
    "reboot",
    "remove kernel-lt-5.9-1.x86_64",
    "remove kernel-lt-6.0-1.x86_64",
    "remove web-1-1.x86_64",
    "remove words-1-1.x86_64",
    "start 6.2-1.x86_64 with panic=30 rd.shell=0 rd.emergency=reboot",
    "start tuned.service",
    "sysctl net.ipv4.ip_forward=1",
    "write /etc/motd",
    "write /etc/motd.before-windlass~",
    "write /etc/sudoers.d/windlass-ops",
    "write /etc/sysconfig/kernel",
    "write /etc/sysctl.d/99-windlass-net.ipv4.ip_forward.conf",
    "write /home/ops/.ssh/authorized_keys",
    "write /run/windlass-sudoers",
];

/// How a node runs what its repositories had first.
const OLD: &str = "6.1-1.x86_64";
const NEW: &str = "6.2-1.x86_64";

/// A roll.
pub(super) struct Roll {
    pub(super) bastion: Bastion,
    pub(super) nodes: Vec<ModelledNode>,
    spec: String,
    restarts_services: bool,
}

impl Roll {
    /// One in which there is such a step, on these nodes, with so many steps at once. Nothing is begun.
    pub(super) async fn with(step: &str, names: &[&str], parallel: u32) -> Self {
        let bastion = Bastion::start().await;
        let restarts_services = step == RESTART;
        let mut nodes = Vec::new();
        for name in names {
            let node = ModelledNode::start(&bastion, name).await;
            node.host.change(if restarts_services { outdated_service } else { outdated });
            nodes.push(node);
        }
        let spec = bastion.write("cluster.yaml", &spec(names, restarts_services, parallel));
        let roll = Self { bastion, nodes, spec, restarts_services };
        roll.are_well().await;
        roll
    }

    /// One in which there is such a step, on three nodes.
    pub(super) async fn of(step: &str) -> Self {
        Self::with(step, &NODES, 10).await
    }

    /// Waits until its nodes are connected and healthy.
    pub(super) async fn are_well(&self) {
        are_well(self.bastion.channel().await, self.nodes.len()).await;
    }

    /// What begins it, or whatever of it is left.
    pub(super) fn command(&self) -> tokio::process::Command {
        self.bastion.command(&format!("apply -f {} --yes --detach", self.spec))
    }

    /// Begins it.
    pub(super) async fn apply(&self) -> Answer {
        run(&mut self.command()).await
    }

    /// Waits until the run has ended, and gives its state.
    pub(super) async fn ended(&self, how: &str) -> String {
        let disk = self.bastion.disk();
        let run = || async {
            // It has the cluster for itself until it has ended.
            let is_under_way = disk.get("cluster-run/k8s1").await.expect("readable").is_some();
            disk.get(&format!("runs/{:0>20}", 1)).await.expect("readable").filter(|_| !is_under_way)
        };
        let (run, _) = wait_for(&format!("{how}: the run ends"), Duration::from_secs(60), run).await;
        let run: Value = serde_json::from_slice(&run.value).expect("JSON");
        run["state"].as_str().expect("text").to_owned()
    }

    /// Nodes that are in somebody's hands.
    pub(super) async fn held(&self) -> Vec<String> {
        let leases = self.bastion.disk().range("leases/", None, usize::MAX).await.expect("readable");
        leases.into_iter().map(|lease| lease.key["leases/".len()..].to_owned()).collect()
    }

    /// A node.
    pub(super) fn node(&self, name: &str) -> &ModelledNode {
        self.nodes.iter().find(|node| node.name == name).expect("one of its nodes")
    }

    /// Sees that it has ended as one that nobody disturbed: everything done once, one node after the other, nothing left
    /// and nothing held.
    pub(super) async fn is_over(&self, how: &str) {
        self.is_over_but_for_hooks(1, how).await;
    }

    /// The same, with hooks run so many times.
    pub(super) async fn is_over_but_for_hooks(&self, hooks: u64, how: &str) {
        let shown = self.bastion.words("run show r1").await.ok();
        assert!(shown.contains("succeeded"), "{how}: {shown}");
        for node in &self.nodes {
            if self.restarts_services {
                has_restarted(node, hooks, how);
            } else {
                has_become(node, hooks, how);
            }
        }
        took_turns(&self.nodes, how);
        assert!(self.held().await.is_empty(), "{how}: somebody holds {:?}", self.held().await);
        let plan = format!("plan -f {} --detailed-exitcode", self.spec);
        is_all_done(how, || async { self.bastion.words(&plan).await }).await;
    }
}

/// Waits until so many nodes are connected and healthy.
pub(crate) async fn are_well(channel: Calls, count: usize) {
    let client = NodeServiceClient::new(channel);
    let are_well = || async {
        let nodes = client.clone().list_nodes(v1::ListNodesRequest::default()).await.expect("nodes").into_inner();
        let is_well =
            |node: &v1::Node| node.conditions.iter().any(|is| is.holds && is.kind() == v1::ConditionKind::Healthy);
        nodes.nodes.iter().filter(|node| is_well(node)).count() == count
    };
    wait_until("its nodes are healthy", LONG, are_well).await;
}

/// Sees that this happened once on a node and nothing else did, but for hooks, which were run so many times.
fn happened(node: &ModelledNode, wanted: &[&str], hooks: u64, how: &str) {
    let times = |effect: &str| if [DRAIN, UNDRAIN].contains(&effect) { hooks } else { 1 };
    let wanted: BTreeMap<String, u64> = wanted.iter().map(|effect| ((*effect).to_owned(), times(effect))).collect();
    assert_eq!(node.host.effects(), wanted, "{how}: {}", node.name);
}

fn has_restarted(node: &ModelledNode, hooks: u64, how: &str) {
    happened(node, &[DRAIN, UNDRAIN, "restart web.service"], hooks, how);
    assert_eq!(node.host.boots(), 1, "{how}: {}", node.name);
}

/// Sees that a node is what it was to become, and that everything for it was done once, with hooks run so many times.
pub(crate) fn has_become(node: &ModelledNode, hooks: u64, how: &str) {
    happened(node, &EFFECTS, hooks, how);
    let name = &node.name;
    let Node { boots, packages, running_kernel, default_kernel, files, .. } = node.host.node();
    assert_eq!((boots, running_kernel.as_str(), default_kernel.as_deref()), (2, NEW, Some(NEW)), "{how}: {name}");
    let packages: Vec<_> = packages.iter().map(ModelPackage::full).collect();
    let wanted = ["kernel-lt-6.1-1", "kernel-lt-6.2-1", "left-2-1", "web-2-1", "words-2-1"];
    assert_eq!(packages, wanted.map(|package| format!("{package}.x86_64")), "{how}: {name}");
    assert_eq!(files[std::path::Path::new("/etc/motd")], "Kept by Windlass\n", "{how}: {name}");
}

/// Sees that from the hook before to the hook after nothing is done on any other node that takes something down.
pub(crate) fn took_turns(nodes: &[ModelledNode], how: &str) {
    let mut turns = Vec::new();
    for node in nodes {
        let deeds = node.deeds();
        let at = |hook: &str| {
            let deed = deeds.iter().find(|deed| deed.program == hook);
            deed.unwrap_or_else(|| panic!("{how}: {deeds:?}")).number
        };
        turns.push((at(DRAIN), at(UNDRAIN)));
    }
    turns.sort_unstable();
    assert!(turns.windows(2).all(|pair| pair[0].1 < pair[1].0), "{how}: two at once: {turns:?}");
}

/// Sees that whoever plans it again finds nothing to do. After a controller was killed nodes are back within a second or so.
pub(crate) async fn is_all_done(how: &str, plan: impl AsyncFn() -> Answer) {
    let with_all = || async {
        let answer = plan().await;
        (!answer.stdout.contains("not connected")).then_some(answer)
    };
    let (again, _) = wait_for(&format!("{how}: all nodes are back"), LONG, with_all).await;
    assert!(again.code == 0 && again.stdout.contains("othing to do"), "{how}: {again:?}");
}

/// The id of a step on a node.
pub(super) fn on(step: &str, node: &str) -> String {
    step.replace("NODE", node)
}

/// What they shall become.
pub(crate) fn spec(names: &[&str], restarts_services: bool, parallel: u32) -> String {
    let nodes: String = names.iter().map(|name| format!("    - {{name: {name}}}\n")).collect();
    let rest = if restarts_services {
        "  reboot: never\n"
    } else {
        "  kernel: {channel: elrepo-lt, keep: 1}\n  settings:\n    files: [{path: /etc/motd, content: \"Kept by \
         Windlass\\n\"}]\n    sysctls: {net.ipv4.ip_forward: 1}\n    services: {tuned.service: on}\n    users: [{name: \
         ops, groups: [wheel], sudo: true, authorizedKeys: [ssh-ed25519 AAAA ops@site]}]\n"
    };
    format!(
        "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {{name: k8s1}}\nspec:\n  provider: {{existing: {{}}}}\n  \
         nodes:\n{nodes}  packages: {{update: all}}\n  policy: {{parallel: {parallel}}}\n  hooks:\n    before: {{run: \
         [/usr/libexec/site/drain]}}\n    after: {{run: [/usr/libexec/site/undrain]}}\n{rest}"
    )
}

/// A node for which everything is to be done.
pub(crate) fn outdated(node: &mut Node) {
    let kernel = |version| ModelPackage::new("kernel-lt", version);
    let web = |version| ModelPackage { needs: vec!["words".into()], ..ModelPackage::new("web", version) };
    node.packages = ["5.9-1", "6.0-1", "6.1-1"].map(kernel).into();
    // Somebody's transaction was interrupted.
    node.packages.extend(["1-1", "2-1"].map(|version| ModelPackage::new("left", version)));
    node.packages.extend([web("1-1"), ModelPackage::new("words", "1-1")]);
    node.repository = ["6.1-1", "6.2-1"].map(kernel).into();
    node.repository.extend(["1-1", "2-1"].map(web));
    node.repository.extend(["1-1", "2-1"].map(|version| ModelPackage::new("words", version)));
    node.repository.push(ModelPackage::new("left", "2-1"));
    node.running_kernel = OLD.into();
    node.default_kernel = Some(OLD.into());
    node.kernels = ["5.9-1.x86_64", "6.0-1.x86_64", OLD].map(str::to_owned).into();
    node.kernels_become_default = true;
    node.files.insert("/etc/motd".into(), "Welcome\n".into());
    node.files.insert("/proc/sys/net/ipv4/ip_forward".into(), "0\n".into());
    let text = str::to_owned;
    node.services.push(ServiceState { unit: text("tuned.service"), active: text("inactive"), sub: text("dead") });
}

/// A node on which a service still runs what was replaced.
fn outdated_service(node: &mut Node) {
    node.now = node.now.plus(Duration::from_secs(60));
    node.services[0].unit = "web.service".into();
    let at = node.now.0 / 1000 - 5;
    node.packages = vec![ModelPackage { at, ..ModelPackage::new("web", "2-1") }];
    node.repository = vec![ModelPackage::new("web", "2-1")];
}
