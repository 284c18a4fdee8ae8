// SPDX-License-Identifier: Apache-2.0
//! Packages: what would be done, and exactly that done.
//!
//! A transaction is pinned to versions when it is planned. Before it is carried out its packages are fetched, for which it is
//! resolved again; if that differs by one package, nothing is changed.

use std::collections::BTreeSet;

use async_trait::async_trait;
use windlass_types::name::on_node::{PackageName, PackageVersion};
use windlass_types::package::{Package, PackageChange, PackagesWish, PastTransaction, Transaction, UpdateScope};
use windlass_types::survey::Found;

use super::{Check, Here, Kind, StepError, repair};
use crate::host::Look;
use crate::host::answers::Source;
use crate::host::change::NewFile;
use crate::host::dnf::{
    Manager, Resolved, Wanted, has_notice, history, ignores_repositories, is_kernel, left_out, parse, script,
};
use crate::host::rpm::{self, Installed};
use crate::host::rpm_version::compare;
use crate::host::tools::{Ran, ToolError};

/// Where a transaction is written down in which packages come and go; gone with the next boot.
const SCRIPT: &str = "/run/windlass-transaction";

pub(super) struct ChangePackages<'a> {
    pub(super) transaction: &'a Transaction,
}

#[async_trait]
impl Kind for ChangePackages<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        // A database that cannot be read is mended before anything else.
        let Some(installed) = here.readable().await? else { return Ok(Check::Ready) };
        let left = left_to_do(&self.transaction.changes, &installed)?;
        let is_whole = repair::interrupted(here, &installed).await?.is_none();
        Ok(if left.is_empty() && is_whole { Check::AlreadyDone } else { Check::Ready })
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        let installed = repair::mend(here).await?;
        let left = left_to_do(&self.transaction.changes, &installed)?;
        if left.is_empty() { Ok(()) } else { exactly(here, &left, &installed).await }
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        let left = left_to_do(&self.transaction.changes, &here.installed().await?)?;
        match left.first() {
            None => Ok(()),
            Some(change) => Err(StepError::operator(
                format!("the package manager said that all was well, and {change} has not happened"),
                "see `dnf history` and /var/log/dnf.log, or those of yum, on the node",
            )),
        }
    }
}

impl Here<'_> {
    /// All packages.
    pub(super) async fn installed(&self) -> Result<Vec<Installed>, StepError> {
        let ran = self.ask(&rpm::list(), Source::Database, Look::Briefly).await?;
        rpm::parse_list(&ran.stdout).map_err(|reason| StepError::Unreadable { program: "rpm", reason })
    }

    /// All packages; `None` if the database cannot be read.
    pub(super) async fn readable(&self) -> Result<Option<Vec<Installed>>, StepError> {
        match self.installed().await {
            Err(StepError::Tool(ToolError::Failed { .. })) => Ok(None),
            installed => installed.map(Some),
        }
    }

    /// Whose these files are, one answer for each.
    pub(super) async fn owners(&self, paths: &[String]) -> Result<Vec<Option<Package>>, StepError> {
        let owners = rpm::parse_owners(&self.ask(&rpm::owners(paths), Source::Database, Look::Briefly).await?.stdout);
        if owners.len() == paths.len() {
            return Ok(owners);
        }
        // A file of two packages, or one that is gone by now: no answer can be told from another's.
        let mut each = Vec::with_capacity(paths.len());
        for path in paths {
            let mut owners = rpm::parse_owners(&self.tools.run(&rpm::owners(std::slice::from_ref(path))).await?.stdout);
            // Of two nobody knows which: neither is pruned, nor its service restarted, for the other's sake.
            each.push(owners.pop().filter(|_| owners.is_empty()).flatten());
        }
        Ok(each)
    }

    pub(super) fn manager(&self) -> Result<Manager, StepError> {
        Manager::of(self.host).ok_or_else(|| {
            StepError::blocked(
                "there is neither dnf nor yum on this node",
                "packages can only be looked after where one is",
            )
        })
    }
}

/// The changes that have not happened yet.
pub(super) fn left_to_do<'a>(
    changes: &'a [PackageChange],
    installed: &[Installed],
) -> Result<Vec<&'a PackageChange>, StepError> {
    let mut left = Vec::new();
    for change in changes {
        let has = |version: &PackageVersion| {
            let mut there = installed.iter().map(|installed| &installed.package);
            there.any(|p| p.name == change.name && p.arch == change.arch && p.version == *version)
        };
        let is_done = match (&change.to, &change.from) {
            (Some(to), _) => has(to),
            (None, Some(from)) => !has(from),
            (None, None) => true,
        };
        if is_done {
            continue;
        }
        if let (Some(_), Some(from)) = (&change.to, &change.from)
            && !has_version(installed, change, from)
        {
            return Err(StepError::blocked(
                format!("{} is neither {from} any more nor what it shall be", change.name),
                "see what changed it, then plan again",
            ));
        }
        left.push(change);
    }
    Ok(left)
}

fn has_version(installed: &[Installed], change: &PackageChange, version: &PackageVersion) -> bool {
    installed.iter().any(|i| i.package.name == change.name && i.package.version == *version)
}

/// Does exactly this, or nothing.
pub(super) async fn exactly(
    here: &Here<'_>,
    changes: &[&PackageChange],
    installed: &[Installed],
) -> Result<(), StepError> {
    let manager = here.manager()?;
    let wanted = wanted(here, changes).await?;
    let ran = fetched(here.tools.run(&program(manager.fetch(&wanted))?).await)?;
    let resolved = read(&ran)?.map(|resolved| changes_of(&resolved, installed)).unwrap_or_default();
    let planned: BTreeSet<String> = changes.iter().map(|change| change.to_string()).collect();
    let now: BTreeSet<String> = resolved.iter().map(PackageChange::to_string).collect();
    if planned != now {
        let more: Vec<&str> = now.difference(&planned).map(String::as_str).collect();
        let less: Vec<&str> = planned.difference(&now).map(String::as_str).collect();
        return Err(StepError::blocked(
            format!(
                "the transaction is not what was planned any more: now also [{}], no more [{}]",
                more.join(", "),
                less.join(", ")
            ),
            "nothing was changed; plan again",
        ));
    }
    if here.installed().await? != installed {
        return Err(StepError::blocked(
            "packages were changed by somebody while these were fetched",
            "nothing was changed here; plan again",
        ));
    }
    act(here, &manager, &wanted).await
}

/// Does what was looked at. One that ended well has an end in the history, which is not asked for it.
pub(super) async fn act(here: &Here<'_>, manager: &Manager, wanted: &Wanted<'_>) -> Result<(), StepError> {
    here.tools.run(&program(manager.act(wanted))?).await?;
    if let Some(question) = manager.last_transaction() {
        here.host.learn((&question.argv, Source::History), Ran::default());
    }
    Ok(())
}

/// How dnf and yum say that the repositories do not have what is asked for, or that it does not fit. What else keeps packages
/// from coming is mostly a mirror that is away.
const NOT_THERE: [&str; 6] = [
    "Unable to find a match",
    "No match for argument",
    "No package ",
    "Nothing to do",
    "nothing provides",
    "conflicting requests",
];

/// Mirrors come back; packages that they do not have any more do not.
fn fetched(ran: Result<Ran, ToolError>) -> Result<Ran, StepError> {
    match ran {
        Err(ToolError::Failed { stderr, .. }) if !NOT_THERE.iter().any(|words| stderr.contains(words)) => {
            Err(StepError::passing(
                format!("the packages cannot be fetched: {stderr}"),
                "nothing was changed; see the repositories and the disk",
            ))
        }
        other => before(other),
    }
}

/// What could not be found out while nothing is planned yet.
pub(super) fn asked(ran: Result<Ran, ToolError>) -> Result<Ran, StepError> {
    match ran {
        Err(error @ ToolError::Failed { .. }) => Err(StepError::blocked(
            format!("the package manager cannot say what it would do: {error}"),
            "see the repositories, and what was asked for",
        )),
        other => Ok(other?),
    }
}

/// What failed before anything was changed is a reason to plan again.
pub(super) fn before(ran: Result<Ran, ToolError>) -> Result<Ran, StepError> {
    ran.map_err(|error| match error {
        ToolError::Failed { .. } => StepError::blocked(
            format!("the package manager cannot do what was planned: {error}"),
            "nothing was changed; see the repositories, then plan again",
        ),
        other @ (ToolError::NotStarted { .. }
        | ToolError::Lost { .. }
        | ToolError::TimedOut { .. }
        | ToolError::Stopped
        | ToolError::NotKept { .. }) => other.into(),
    })
}

async fn wanted(here: &Here<'_>, changes: &[&PackageChange]) -> Result<Wanted<'static>, StepError> {
    let goes = |change: &&&PackageChange| change.to.is_none();
    let going = |change: &&PackageChange| {
        let version = change.from.clone()?;
        Some(Package { name: change.name.clone(), version, arch: change.arch.clone() })
    };
    let go: Vec<Package> = changes.iter().filter(goes).filter_map(going).collect();
    let (back, come): (Vec<&PackageChange>, Vec<&PackageChange>) =
        changes.iter().copied().filter(|change| change.to.is_some()).partition(|change| is_older(change));
    let targets =
        |changes: Vec<&PackageChange>| changes.into_iter().filter_map(PackageChange::target).collect::<Vec<_>>();
    let (back, come) = (targets(back), targets(come));
    if go.is_empty() && back.is_empty() {
        return Ok(Wanted::Come(come));
    }
    if come.is_empty() && back.is_empty() {
        return Ok(Wanted::Go(go));
    }
    let content = script(&come, &back, &go);
    here.host
        .place(SCRIPT.as_ref(), &NewFile::of_root(content.as_bytes()))
        .await
        .map_err(StepError::file("write", SCRIPT))?;
    Ok(Wanted::Script(SCRIPT))
}

fn is_older(change: &PackageChange) -> bool {
    matches!((&change.from, &change.to), (Some(from), Some(to)) if compare(to, from).is_lt())
}

pub(super) fn program<P>(built: Result<P, windlass_types::action::BadAction>) -> Result<P, StepError> {
    built.map_err(|error| StepError::blocked(error.to_string(), "update fewer packages at once, by name"))
}

/// Reads what `--assumeno` showed.
pub(super) fn read(ran: &Ran) -> Result<Option<Resolved>, StepError> {
    if let Some(line) = left_out(&ran.stdout).or_else(|| left_out(&ran.stderr)) {
        return Err(StepError::blocked(
            format!("the package manager would leave out a part of it: {line}"),
            "see `windlass exec NODE -- yum list PACKAGE --showduplicates`",
        ));
    }
    parse(&ran.stdout).map_err(|reason| {
        let said = if ran.stderr.trim().is_empty() { ran.stdout.trim() } else { ran.stderr.trim() };
        let said = said.lines().next_back().unwrap_or_default();
        StepError::blocked(
            format!("the package manager cannot resolve it: {said} ({reason})"),
            "see `windlass exec NODE -- dnf check` and `dnf repolist -v` there",
        )
    })
}

/// What a resolved transaction changes, by name.
pub(super) fn changes_of(resolved: &Resolved, installed: &[Installed]) -> Vec<PackageChange> {
    let replaced = |coming: &crate::host::dnf::Coming| {
        let same = installed.iter().map(|i| &i.package).filter(|p| p.name == coming.name);
        let of_arch = same.clone().filter(|p| p.arch == coming.arch).max_by(|a, b| compare(&a.version, &b.version));
        of_arch.or_else(|| same.max_by(|a, b| compare(&a.version, &b.version))).map(|p| p.version.clone())
    };
    let coming = resolved.coming.iter().map(|coming| PackageChange {
        name: coming.name.clone(),
        arch: coming.arch.clone(),
        from: if coming.replaces { replaced(coming) } else { None },
        to: Some(coming.version.clone()),
        repository: coming.repository.clone(),
    });
    let going = resolved.going.iter().map(|going| PackageChange {
        name: going.name.clone(),
        arch: going.arch.clone(),
        from: Some(going.version.clone()),
        to: None,
        repository: None,
    });
    let mut changes: Vec<PackageChange> = coming.chain(going).collect();
    changes.sort();
    changes
}

/// What the package manager would do; with `refresh`, by what the repositories say now.
pub(super) async fn survey(
    here: &Here<'_>,
    wish: &PackagesWish,
    installed: &[Installed],
    refresh: bool,
) -> Result<Found<Transaction>, StepError> {
    let manager = here.manager()?;
    let wanted = match &wish.update {
        UpdateScope::All => Wanted::All,
        UpdateScope::Security => Wanted::Security,
        UpdateScope::Named(names) => Wanted::Named(names),
        UpdateScope::Undo(number) => Wanted::Undo(*number),
    };
    Ok(match look(here, &manager, &wanted, &wish.exclude, refresh).await? {
        None if wanted == Wanted::Security => without_security_updates(here, &manager).await?,
        None => Found::AsWished,
        Some(resolved) => {
            let changes = changes_of(&resolved, installed);
            if let UpdateScope::Undo(number) = wish.update {
                may_be_undone(number, &changes)?;
            }
            Found::Due { due: Transaction { changes, download_bytes: resolved.download_bytes } }
        }
    })
}

async fn look(
    here: &Here<'_>,
    manager: &Manager,
    wanted: &Wanted<'_>,
    exclude: &[PackageName],
    refresh: bool,
) -> Result<Option<Resolved>, StepError> {
    let question = program(manager.look(wanted, exclude))?;
    let mut first = None;
    if refresh {
        if let Some(anew) = program(manager.look_anew(wanted, exclude))? {
            let ask = Box::pin(here.tools.run(&anew));
            let ran = here.host.answer((&question.argv, Source::Repositories), Look::Closely, ask).await;
            match (of_all_repositories(&ran), ran) {
                (Some(resolved), _) => return Ok(resolved),
                (None, Err(error)) if !matches!(error, ToolError::Failed { .. }) => return Err(error.into()),
                (None, ran) => first = Some(asked(ran)),
            }
        }
        let refreshed = here.tools.run(&manager.refresh()).await?;
        // A repository that is not to be had, where dnf may do without it: a third start would wait for it once more.
        if let Some(Ok(first)) = first.filter(|_| ignores_repositories(&refreshed.stderr)) {
            return read(&first);
        }
    }
    // What yum reads is not watched.
    let look = if refresh || manager.is_yum() { Look::Closely } else { Look::Briefly };
    read(&asked(here.ask(&question, Source::Repositories, look).await)?)
}

/// What was resolved; `None` if a repository was not there or could not be trusted, so that it is asked for apart, where
/// questions about keys are answered and the reason is told.
fn of_all_repositories(ran: &Result<Ran, ToolError>) -> Option<Option<Resolved>> {
    let ran = ran.as_ref().ok().filter(|ran| !ignores_repositories(&ran.stderr))?;
    read(ran).ok()
}

/// What no security update means: that there is none, or, where the repositories carry no notices at all, as those of CentOS
/// Stream, that nobody can tell.
async fn without_security_updates(here: &Here<'_>, manager: &Manager) -> Result<Found<Transaction>, StepError> {
    if has_notice(&asked(here.tools.run(&manager.notices()).await)?.stdout) {
        return Ok(Found::AsWished);
    }
    Err(StepError::blocked(
        "the node's repositories carry no security notices about what is installed, so nobody can tell what is a security \
         update",
        "update without --security, or with `update: all` in the spec",
    ))
}

/// The package without which nobody could tell the node anything.
const OWN_PACKAGE: &str = "windlass-agent";

/// What the way back must not touch: kernels, one of which runs, and what carries it out.
fn may_be_undone(number: u32, changes: &[PackageChange]) -> Result<(), StepError> {
    let kernel = changes.iter().find(|change| is_kernel(&change.name));
    let own = changes.iter().find(|change| change.to.is_none() && change.name.as_str() == OWN_PACKAGE);
    let refuse = |why: String, advice: &str| {
        Err(StepError::blocked(format!("transaction {number} cannot be undone: {why}"), advice))
    };
    match (kernel, own) {
        (Some(kernel), _) => refuse(
            format!("{} belongs to a kernel", kernel.name),
            "kernels have their own way: windlass upgrade kernel --version VERSION",
        ),
        (None, Some(_)) => refuse(format!("{OWN_PACKAGE} would be removed"), "undo a later one, or none"),
        (None, None) => Ok(()),
    }
}

/// The newest transactions of the package manager.
pub(super) async fn history(
    here: &Here<'_>,
    manager: &Manager,
    newest: u32,
) -> Result<Vec<PastTransaction>, StepError> {
    let ran = here.tools.run(&manager.history()).await?;
    let mut all =
        history::parse_list(&ran.stdout).map_err(|reason| StepError::Unreadable { program: "dnf", reason })?;
    all.truncate(usize::try_from(newest).unwrap_or(usize::MAX));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_undo_that_would_come_back_to_a_part_only_is_refused() {
        let stdout = include_str!("../host/fixtures/el7-yum-update-assumeno").to_owned();
        let whole = Ran { code: 1, stdout, stderr: String::new() };
        assert!(read(&whole).unwrap().is_some());
        let stderr = "Failed to downgrade: bash-4.2.46-34.el7.x86_64\n".to_owned();
        let error = read(&Ran { stderr, ..whole }).unwrap_err();
        assert!(error.to_string().contains("bash-4.2.46"), "{error}");
    }
}
