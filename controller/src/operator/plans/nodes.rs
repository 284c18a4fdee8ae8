// SPDX-License-Identifier: Apache-2.0
//! What shall become of nodes that are there, from the wire.

use std::collections::BTreeMap;

use windlass_plan::{Hooks, NodeWish, OnFailure, Policy, RebootWish, Unreachable, Window};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::nodes_wish::Wish as Wire;
use windlass_types::name::NodeName;
use windlass_types::name::on_node::{PackageName, PackageVersion};
use windlass_types::package::{PackagesWish, UpdateScope};
use windlass_types::survey::{KernelChannel, KernelWish};

use super::super::{bad, nodes};
use crate::execute::apply::{Wish, unobserved};
use crate::server::Controller;

/// Nodes that do something at once: each does it by itself, and costs the controller little.
const PARALLEL: u32 = 256;

/// Kernels kept besides the one that runs and the one before.
const KEEP: u32 = 1;

/// Reads what shall become of which nodes.
///
/// # Errors
/// If it cannot be meant, or no node is chosen.
pub(super) async fn wish(controller: &Controller, wire: Option<v1::NodesWish>) -> Result<Wish, Refusal> {
    let wire = wire.unwrap_or_default();
    let policy = Box::new(policy(&wire)?);
    let (wish, without_hooks) = (node_wish(wire.wish)?, wire.without_hooks);
    let chosen = nodes::chosen(controller, wire.selector)?;
    if chosen.is_empty() {
        return Err(
            Refusal::new(Reason::BadRequest, "no node matches").advise("`windlass get nodes -o wide` shows the labels")
        );
    }
    if let Some(PackagesWish { update: UpdateScope::Undo(number), .. }) = &wish.packages
        && chosen.len() > 1
    {
        let message = format!("transaction {number} is another one on each node");
        return Err(Refusal::new(Reason::BadRequest, message).advise("undo it on one node at a time"));
    }
    let mut hooks = if without_hooks {
        BTreeMap::new()
    } else {
        controller.runs.observer().hooks().await.map_err(|error| unobserved(&error))?
    };
    let of_node = |node: NodeName| {
        let hooks = hooks.remove(&node).unwrap_or_default();
        (node, NodeWish { hooks, ..wish.clone() })
    };
    let wishes: BTreeMap<_, _> = chosen.into_iter().map(of_node).collect();
    Ok(Wish::Nodes { wishes, policy })
}

fn node_wish(wire: Option<Wire>) -> Result<NodeWish, Refusal> {
    let none = NodeWish {
        settings: Vec::new(),
        packages: None,
        kernel: None,
        reboot: RebootWish::Never,
        hooks: Hooks::default(),
    };
    match wire {
        None => Err(Refusal::new(Reason::BadRequest, "nothing was asked for")),
        Some(Wire::Packages(packages)) => {
            let reboot = if packages.reboot_if_needed { RebootWish::IfNeeded } else { RebootWish::Never };
            Ok(NodeWish { packages: Some(packages_wish(packages)?), reboot, ..none })
        }
        Some(Wire::Kernel(kernel)) => Ok(NodeWish { kernel: Some(kernel_wish(kernel)?), ..none }),
        Some(Wire::Reboot(reboot)) => {
            Ok(NodeWish { reboot: if reboot.if_needed { RebootWish::IfNeeded } else { RebootWish::Always }, ..none })
        }
    }
}

/// Reads which packages are wished for.
///
/// # Errors
/// If that cannot be meant.
pub(in crate::operator) fn packages_wish(wire: v1::UpdatePackages) -> Result<PackagesWish, Refusal> {
    let names = |names: Vec<String>| names.into_iter().map(PackageName::new).collect::<Result<Vec<_>, _>>();
    let (only, exclude) =
        (names(wire.names).map_err(|error| bad(&error))?, names(wire.exclude).map_err(|error| bad(&error))?);
    if wire.undo > 0 {
        if wire.security || !only.is_empty() || !exclude.is_empty() {
            return Err(Refusal::new(Reason::BadRequest, "a transaction is undone as a whole, and by itself"));
        }
        return Ok(PackagesWish { update: UpdateScope::Undo(wire.undo), exclude });
    }
    let update = match (wire.security, only.is_empty()) {
        (true, true) => UpdateScope::Security,
        (false, true) => UpdateScope::All,
        (false, false) => UpdateScope::Named(only),
        (true, false) => {
            return Err(Refusal::new(
                Reason::BadRequest,
                "security updates and named packages cannot be asked for at once",
            ));
        }
    };
    Ok(PackagesWish { update, exclude })
}

fn kernel_wish(wire: v1::UpgradeKernel) -> Result<KernelWish, Refusal> {
    let channel = match wire.channel.as_str() {
        "" | "distribution" => KernelChannel::Distribution,
        "elrepo-lt" => KernelChannel::ElrepoLt,
        "elrepo-ml" => KernelChannel::ElrepoMl,
        package => KernelChannel::Package(PackageName::new(package).map_err(|error| bad(&error))?),
    };
    let version = match wire.version.as_str() {
        "" => None,
        version => Some(PackageVersion::new(version).map_err(|error| bad(&error))?),
    };
    let keep = if wire.keep == 0 { KEEP } else { wire.keep };
    Ok(KernelWish { channel, version, keep })
}

fn policy(wire: &v1::NodesWish) -> Result<Policy, Refusal> {
    let default = Policy::default();
    let window = match wire.window.as_str() {
        "" => None,
        window => Some(window.parse::<Window>().map_err(|error| bad(&error))?),
    };
    let unreachable = match wire.unreachable.as_str() {
        "" | "wait" => Unreachable::Wait,
        "skip" => Unreachable::Skip,
        "fail" => Unreachable::Fail,
        _ => return Err(Refusal::new(Reason::BadRequest, "nodes that are not connected: wait, skip or fail")),
    };
    let max_unavailable = if wire.max_unavailable == 0 { default.max_unavailable } else { wire.max_unavailable };
    let on_failure = on_failure(&wire.on_failure)?;
    Ok(Policy { parallel: PARALLEL, max_unavailable, window, on_failure, unreachable })
}

fn on_failure(text: &str) -> Result<OnFailure, Refusal> {
    match text.split_once(':') {
        None if text.is_empty() || text == "stop" => Ok(OnFailure::Stop),
        None if text == "pause" => Ok(OnFailure::Pause),
        Some(("continue", most)) if most.parse::<u32>().is_ok() => {
            Ok(OnFailure::Continue { most: most.parse().unwrap_or(0) })
        }
        None | Some(_) => Err(Refusal::new(
            Reason::BadRequest,
            "when a node fails: stop, pause, or continue:N for N failures at most",
        )),
    }
}
