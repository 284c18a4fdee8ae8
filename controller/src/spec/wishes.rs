// SPDX-License-Identifier: Apache-2.0
//! What shall become of the nodes: the sections of a spec that say something of every node, for each of them.

use std::collections::BTreeMap;

use windlass_plan::{Hook, Hooks, NodeWish, RebootWish};
use windlass_types::name::NodeName;
use windlass_types::name::on_node::{PackageName, RepositoryId};
use windlass_types::package::PackagesWish;
use windlass_types::setting::{ManagedFile, Repository, Setting, User};
use windlass_types::survey::{KernelChannel, KernelWish};

use super::document::{Node, PackageRepository};
use super::settings::File;
use super::template::{BadTemplate, Templates};
use super::{Cluster, upkeep};

/// A file that the spec names and that has to come with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedFile<'a> {
    /// As the spec names it.
    pub name: &'a str,
    /// What it is.
    pub what: String,
}

/// Wishes that cannot be made from a spec.
#[derive(Debug, thiserror::Error)]
pub enum WishError {
    /// A file did not come with the spec.
    #[error("the file {0:?} was not sent with the spec")]
    NoFile(String),
    /// A template that cannot be filled in.
    #[error("fill in the template of {path} for {node}")]
    Template {
        /// The file it is for.
        path: String,
        /// The node.
        node: NodeName,
        /// Why not.
        #[source]
        source: BadTemplate,
    },
}

impl Cluster {
    /// The files that the spec names.
    #[must_use]
    pub fn files(&self) -> Vec<NamedFile<'_>> {
        let settings = &self.body.settings;
        let repositories = settings.repositories.iter().chain(&self.body.packages.repositories);
        let keys = repositories.map(|repository| NamedFile {
            name: &repository.value.gpg_key,
            what: format!("the key of the repository {}", repository.value.name),
        });
        let contents = settings.files.iter().filter_map(|file| {
            let name = file.value.file.as_deref()?;
            Some(NamedFile { name, what: format!("the content of {}", file.value.path) })
        });
        keys.chain(contents).collect()
    }

    /// What shall become of each node; `files` are those that the spec names.
    ///
    /// # Errors
    /// If one of the files is missing, or a template cannot be filled in.
    pub fn wishes(&self, files: &BTreeMap<String, String>) -> Result<BTreeMap<NodeName, NodeWish>, WishError> {
        let templates = Templates::new(self);
        let nodes = self.body.nodes.value.iter().map(|node| &node.value);
        let wishes = nodes.map(|node| Ok((node.name.clone(), self.wish(node, files, &templates)?)));
        wishes.filter(|wish| wish.as_ref().is_ok_and(|(_, wish)| !wish.is_empty()) || wish.is_err()).collect()
    }

    /// What is done on each node before and after it goes down; nodes for which nothing is are left out.
    #[must_use]
    pub fn hooks(&self) -> BTreeMap<NodeName, Hooks> {
        let nodes = self.body.nodes.value.iter().map(|node| &node.value);
        let hooks = nodes.map(|node| (node.name.clone(), self.hooks_of(node)));
        hooks.filter(|(_, hooks)| *hooks != Hooks::default()).collect()
    }

    fn hooks_of(&self, node: &Node) -> Hooks {
        let hooks = node.hooks.as_ref().unwrap_or(&self.body.hooks);
        Hooks { before: hook(hooks.before.as_ref()), after: hook(hooks.after.as_ref()) }
    }

    fn wish(
        &self,
        node: &Node,
        files: &BTreeMap<String, String>,
        templates: &Templates,
    ) -> Result<NodeWish, WishError> {
        let body = &self.body;
        let own = &node.packages;
        let exclude = own.exclude.as_ref().or(body.packages.exclude.as_ref().map(|exclude| &exclude.value));
        let mut exclude = exclude.cloned().unwrap_or_default();
        // The nodes do not know yet when they are asked for updates.
        exclude.extend(body.packages.locked.iter().flatten().cloned());
        let kernel = node.kernel.as_ref().unwrap_or(&body.kernel).as_ref();
        exclude.extend(kernel.into_iter().flat_map(|kernel| parts(&kernel.channel)));
        let update = own.update.as_ref().unwrap_or(&body.packages.update);
        let packages = update.as_ref().map(|update| PackagesWish { update: update.0.clone(), exclude });
        let kernel = kernel.map(|kernel| KernelWish {
            channel: kernel.channel.clone(),
            version: kernel.version.clone(),
            keep: kernel.keep.get(),
        });
        let has_updates = packages.is_some() || kernel.is_some();
        let reboot = match node.reboot.or(body.reboot) {
            Some(reboot) => reboot.into(),
            None if has_updates => RebootWish::IfNeeded,
            None => RebootWish::Never,
        };
        let hooks = self.hooks_of(node);
        Ok(NodeWish { settings: self.settings(node, files, templates)?, packages, kernel, reboot, hooks })
    }

    fn settings(
        &self,
        node: &Node,
        files: &BTreeMap<String, String>,
        templates: &Templates,
    ) -> Result<Vec<Setting>, WishError> {
        let written = &self.body.settings;
        let mut all = Vec::new();
        for repository in &written.repositories {
            all.push(Setting::Repository(repository_setting(&repository.value, files)?));
        }
        // Before the files that may be theirs.
        all.extend(written.users.iter().map(|user| {
            let user = user.value.clone();
            let keys = user.authorized_keys.map(|keys| keys.into_iter().map(|key| key.0).collect());
            let super::settings::User { name, present, groups, sudo, .. } = user;
            Setting::User(User { name, present, groups, authorized_keys: keys, sudo })
        }));
        for file in &written.files {
            all.push(Setting::File(file_setting(&file.value, node, files, templates)?));
        }
        all.extend(self.body.packages.locked.clone().map(|names| Setting::PackageLocks { names }));
        let sysctls = written.sysctls.iter();
        all.extend(sysctls.map(|(key, value)| Setting::Sysctl { key: key.clone(), value: value.0.clone() }));
        all.extend(written.swap.map(|_| Setting::SwapOff));
        all.extend(written.time_sync.map(|_| Setting::TimeSync));
        all.extend(written.selinux.map(|mode| Setting::Selinux { mode }));
        let services = written.services.iter();
        all.extend(services.map(|(unit, switch)| Setting::Service { unit: unit.clone(), on: switch.0 }));
        Ok(all)
    }
}

/// Packages of a kernel that nodes do not know as one: it has its own way.
fn parts(channel: &KernelChannel) -> Vec<PackageName> {
    let KernelChannel::Package(name) = channel else { return Vec::new() };
    let parts = ["", "-core", "-modules", "-modules-core", "-modules-extra", "-devel"];
    parts.iter().filter_map(|part| PackageName::new(format!("{name}{part}")).ok()).collect()
}

fn hook(written: Option<&upkeep::Hook>) -> Option<Hook> {
    let millis = |hook: &upkeep::Hook| u64::try_from(hook.timeout.0.as_millis()).unwrap_or(u64::MAX);
    written.map(|hook| Hook { argv: hook.run.clone(), timeout_millis: millis(hook) })
}

fn sent<'a>(name: &str, files: &'a BTreeMap<String, String>) -> Result<&'a String, WishError> {
    files.get(name).ok_or_else(|| WishError::NoFile(name.to_owned()))
}

fn repository_setting(written: &PackageRepository, files: &BTreeMap<String, String>) -> Result<Repository, WishError> {
    Ok(Repository {
        id: RepositoryId::new(written.name.as_str()).expect("checked with the spec, more narrowly"),
        url: written.url.clone(),
        gpg_key: sent(&written.gpg_key, files)?.clone(),
        signed_metadata: written.signed_metadata,
    })
}

fn file_setting(
    written: &File,
    node: &Node,
    files: &BTreeMap<String, String>,
    templates: &Templates,
) -> Result<ManagedFile, WishError> {
    let text = match (&written.content, &written.file) {
        (Some(content), _) => content,
        (None, Some(name)) => sent(name, files)?,
        (None, None) => "",
    };
    let path = written.path.clone();
    let content = if written.template {
        let failed = |source| WishError::Template { path: path.as_str().to_owned(), node: node.name.clone(), source };
        templates.fill(node, text).map_err(failed)?
    } else {
        text.to_owned()
    };
    let File { mode, owner, group, secret, .. } = written.clone();
    Ok(ManagedFile { path, content, mode: mode.0, owner, group, secret })
}
