// SPDX-License-Identifier: Apache-2.0
//! What nodes say of their packages.

use std::collections::BTreeMap;

use windlass_proto::refusal::Refusal;
use windlass_proto::v1;
use windlass_types::name::NodeName;
use windlass_types::package::{Package, PackageChange, PastTransaction};
use windlass_types::survey::{Found, Survey, SurveyRequest};

use super::{nodes, plans};
use crate::server::Controller;

/// Asks the chosen nodes.
///
/// # Errors
/// If the question cannot be meant, or nobody can be asked.
pub(super) async fn list(
    controller: &Controller,
    wire: v1::ListPackagesRequest,
    by: &str,
) -> Result<v1::ListPackagesResponse, Refusal> {
    let chosen = nodes::chosen(controller, wire.selector)?;
    let packages = wire.updates.map(plans::packages_wish).transpose()?;
    let question = SurveyRequest {
        packages,
        refresh: wire.refresh,
        list: wire.installed,
        history: wire.history,
        ..SurveyRequest::default()
    };
    let requests: BTreeMap<NodeName, SurveyRequest> = chosen.into_iter().map(|node| (node, question.clone())).collect();
    let surveyed = controller.runs.surveyor().ask(requests, by).await?;
    let silent = surveyed.unsurveyed.into_iter();
    let silent = silent.map(|(node, failure)| v1::NodePackages { node: node.into(), failure, ..Default::default() });
    let answered = surveyed.surveys.into_iter().map(|(node, survey)| answer(node, survey));
    let mut nodes: Vec<_> = answered.chain(silent).collect();
    nodes.sort_by(|one, other| one.node.cmp(&other.node));
    Ok(v1::ListPackagesResponse { nodes })
}

fn answer(node: NodeName, survey: Survey) -> v1::NodePackages {
    let (updates, blocked) = match survey.packages {
        None | Some(Found::AsWished) => (Vec::new(), String::new()),
        Some(Found::Due { due }) => (due.changes.into_iter().map(change).collect(), String::new()),
        Some(Found::Blocked { reason, .. }) => (Vec::new(), reason),
    };
    v1::NodePackages {
        node: node.into(),
        failure: String::new(),
        installed: survey.installed.into_iter().map(package).collect(),
        updates,
        blocked,
        history: survey.history.into_iter().map(past).collect(),
    }
}

fn package(package: Package) -> v1::Package {
    let Package { name, version, arch } = package;
    v1::Package { name: name.into(), version: version.into(), arch: arch.into() }
}

fn change(change: PackageChange) -> v1::PackageChange {
    let PackageChange { name, arch, from, to, repository } = change;
    v1::PackageChange {
        name: name.into(),
        arch: arch.into(),
        from: from.map(String::from).unwrap_or_default(),
        to: to.map(String::from).unwrap_or_default(),
        repository: repository.map(String::from).unwrap_or_default(),
    }
}

fn past(past: PastTransaction) -> v1::PastTransaction {
    let PastTransaction { number, at, what, actions, altered, is_whole } = past;
    v1::PastTransaction { number, at, what, actions, altered, is_whole }
}
