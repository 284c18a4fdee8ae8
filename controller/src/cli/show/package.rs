// SPDX-License-Identifier: Apache-2.0
//! Packages of nodes, what becomes of them, and what became of them.

use serde::Serialize;
use windlass_proto::v1;
use windlass_types::time::UnixMillis;

use super::Listed;
use crate::cli::table::Cell;
use crate::cli::terminal::Tone;

/// A package that is installed on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct PackageView {
    pub(crate) node: String,
    pub(crate) name: String,
    version: String,
    arch: String,
}

/// A package that an update would change on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ChangeView {
    pub(crate) node: String,
    pub(crate) name: String,
    arch: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    from: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    to: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    repository: String,
}

/// A transaction of a node's package manager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PastView {
    node: String,
    number: u32,
    at: String,
    what: String,
    actions: String,
    altered: u32,
    is_whole: bool,
}

impl PackageView {
    pub(crate) fn new(node: &str, package: v1::Package) -> Self {
        let v1::Package { name, version, arch } = package;
        Self { node: node.to_owned(), name, version, arch }
    }
}

impl ChangeView {
    pub(crate) fn new(node: &str, change: v1::PackageChange) -> Self {
        let v1::PackageChange { name, arch, from, to, repository } = change;
        Self { node: node.to_owned(), name, arch, from, to, repository }
    }
}

impl PastView {
    pub(crate) fn new(node: &str, past: v1::PastTransaction) -> Self {
        let v1::PastTransaction { number, at, what, actions, altered, is_whole } = past;
        Self { node: node.to_owned(), number, at, what, actions, altered, is_whole }
    }
}

impl Listed for PackageView {
    const KIND: &'static str = "Package";

    fn name(&self) -> String {
        format!("{}-{}.{}", self.name, self.version, self.arch)
    }

    fn header(_wide: bool) -> Vec<&'static str> {
        vec!["NODE", "PACKAGE", "VERSION", "ARCH"]
    }

    fn cells(&self, _wide: bool, _now: UnixMillis) -> Vec<Cell> {
        [&self.node, &self.name, &self.version, &self.arch].into_iter().map(Cell::new).collect()
    }
}

impl Listed for ChangeView {
    const KIND: &'static str = "PackageChange";

    fn name(&self) -> String {
        self.name.clone()
    }

    fn header(wide: bool) -> Vec<&'static str> {
        let short = ["NODE", "PACKAGE", "INSTALLED", "AVAILABLE"];
        short.into_iter().chain(["ARCH", "REPOSITORY"].into_iter().filter(|_| wide)).collect()
    }

    fn cells(&self, wide: bool, _now: UnixMillis) -> Vec<Cell> {
        let short = [&self.node, &self.name, &self.from, &self.to];
        short.into_iter().chain([&self.arch, &self.repository].into_iter().filter(|_| wide)).map(Cell::new).collect()
    }
}

impl Listed for PastView {
    const KIND: &'static str = "PastTransaction";

    fn name(&self) -> String {
        self.number.to_string()
    }

    fn header(_wide: bool) -> Vec<&'static str> {
        vec!["NODE", "NUMBER", "AT", "DID", "PACKAGES", "ENDED", "BY"]
    }

    fn cells(&self, _wide: bool, _now: UnixMillis) -> Vec<Cell> {
        let (ended, tone) = if self.is_whole { ("well", Tone::Good) } else { ("not well", Tone::Bad) };
        vec![
            Cell::new(&self.node),
            Cell::new(self.number),
            Cell::new(&self.at),
            Cell::new(&self.actions),
            Cell::new(self.altered),
            Cell::new(ended).toned(tone),
            Cell::new(&self.what),
        ]
    }
}
