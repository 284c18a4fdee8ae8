// SPDX-License-Identifier: Apache-2.0
//! A user with their groups, the keys that may log in as them, and whether they may become root.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use windlass_types::name::on_node::UserName;
use windlass_types::setting::User;
use windlass_types::survey::{Found, SettingDue};

use super::file::{cannot_be_looked_at, keep};
use super::{Here, StepError, blocked, due_if_any};
use crate::host::accounts::{self, Account};
use crate::host::change::{Attributes, FileKind, NewFile};
use crate::host::tools::{Program, argv};

const DEADLINE: Duration = Duration::from_secs(60);

/// Keys that are named in a plan.
const MOST_KEYS: usize = 40;

/// Characters by which one tells a key that has no comment.
const END_OF_KEY: usize = 12;

/// Checks lines for sudo; part of it.
const VISUDO: &str = "/usr/sbin/visudo";

/// Permission bits of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Where a line for sudo is tried before it is put where sudo looks: one wrong line there locks everybody out.
const TRIED: &str = "/run/windlass-sudoers";

pub(super) fn look(here: &Here<'_>, user: &User, coming: &BTreeSet<UserName>) -> Result<Found<SettingDue>, StepError> {
    if let Some(why) = cannot_be(here, user, coming) {
        return Ok(why);
    }
    let Some(account) = accounts::user(here.host, user.name.as_str()) else {
        return Ok(due_if_any("nobody", appears(here, user)));
    };
    if !user.present {
        return Ok(due_if_any("there", vec![format!("user {} is taken away; their home stays", user.name)]));
    }
    let missing = missing_groups(here, user);
    let mut changes: Vec<String> = missing.iter().map(|group| format!("{} joins {group}", user.name)).collect();
    let keys_there = keys_there(here, &account)?;
    if let Some(wished) = keys_text(user) {
        if is_without_home(here, &account) {
            return Ok(blocked(
                format!("the home of {}, {}, is not there, and keys shall be in it", user.name, account.home),
                format!("windlass exec NODE -- mkhomedir_helper {}", user.name),
            ));
        }
        changes.extend(keys_change(user, &keys_there, &wished));
        if keys_there == wished && !are_theirs_alone(here, &keys_file(&account), account.uid) {
            changes.push(format!("the keys of {} are theirs alone: sshd takes no others", user.name));
        }
    }
    let sudo_there = sudo_there(here, user);
    if sudo_there != sudo_text(user) {
        changes.push(format!("{} may {}become root", user.name, if user.sudo { "" } else { "not " }));
    }
    Ok(due_if_any(&format!("{account:?}\n{missing:?}\n{keys_there}\n{sudo_there:?}"), changes))
}

/// Why a user cannot be as wished.
fn cannot_be(here: &Here<'_>, user: &User, coming: &BTreeSet<UserName>) -> Option<Found<SettingDue>> {
    if user.name.as_str() == "root" && !user.present {
        return Some(blocked("root cannot be taken away", "leave the setting out"));
    }
    if user.sudo && here.host.modified(Path::new(VISUDO)).is_err() {
        return Some(blocked(
            format!("there is no sudo on this node for {}", user.name),
            "install the package sudo first",
        ));
    }
    let keys = user.authorized_keys.iter().flatten();
    if keys.clone().any(|key| key.chars().any(char::is_control)) {
        return Some(blocked(
            format!("a key of {} has control characters", user.name),
            "give each key on a line of its own",
        ));
    }
    let is_there = |group: &UserName| accounts::group(here.host, group.as_str()).is_some() || coming.contains(group);
    let group = user.groups.iter().find(|group| user.present && !is_there(group))?;
    Some(blocked(
        format!("there is no group {group}, which {} shall join", user.name),
        format!("install the package that brings it, or windlass exec NODE -- groupadd --system {group}"),
    ))
}

/// What becomes of somebody who is not there.
fn appears(here: &Here<'_>, user: &User) -> Vec<String> {
    let name = &user.name;
    if !user.present {
        return here.host.read(&sudoers(user)).is_ok().then(|| "no sudo any more".to_owned()).into_iter().collect();
    }
    let mut changes = vec![format!("user {name} is made")];
    changes.extend(user.groups.iter().map(|group| format!("{name} joins {group}")));
    changes.extend(keys_text(user).iter().flat_map(|keys| keys_change(user, "", keys)));
    changes.extend(user.sudo.then(|| format!("{name} may become root")));
    changes
}

pub(super) async fn apply(here: &Here<'_>, user: &User) -> Result<(), StepError> {
    let name = user.name.as_str();
    if !user.present {
        remove(here, &sudoers(user)).await?;
        if accounts::user(here.host, name).is_some() {
            here.tools.run(&Program::change(argv(["userdel", name]), DEADLINE)).await?;
        }
        return Ok(());
    }
    if accounts::user(here.host, name).is_none() {
        here.tools.run(&Program::change(argv(["useradd", "-m", name]), DEADLINE)).await?;
    }
    let missing = missing_groups(here, user);
    if !missing.is_empty() {
        here.tools.run(&Program::change(argv(["usermod", "-a", "-G", &missing.join(","), name]), DEADLINE)).await?;
    }
    let account = accounts::user(here.host, name).ok_or_else(|| {
        StepError::operator(format!("{name} was made and is not in /etc/passwd"), "see useradd(8) on the node")
    })?;
    let there = keys_there(here, &account)?;
    let are_well = are_theirs_alone(here, &keys_file(&account), account.uid);
    if let Some(keys) = keys_text(user).filter(|wished| there != *wished || !are_well) {
        place_keys(here, &account, &keys).await?;
    }
    apply_sudo(here, user).await
}

async fn place_keys(here: &Here<'_>, account: &Account, keys: &str) -> Result<(), StepError> {
    let path = keys_file(account);
    let directory = path.parent().unwrap_or_else(|| Path::new("/"));
    match here.host.attributes(directory) {
        Ok(found) if found.kind == FileKind::Directory => {}
        Ok(_) => {
            return Err(StepError::blocked(format!("{} is not a directory", directory.display()), "move it away"));
        }
        Err(_) => {
            let made = here.host.make_directory(directory, 0o700, account.uid, account.gid).await;
            made.map_err(StepError::file("make", directory))?;
        }
    }
    keep(here, &path).await?;
    let file = NewFile { content: keys.as_bytes(), mode: 0o600, uid: account.uid, gid: account.gid };
    here.host.place(&path, &file).await.map_err(StepError::file("write", &path))
}

async fn apply_sudo(here: &Here<'_>, user: &User) -> Result<(), StepError> {
    let (path, wished) = (sudoers(user), sudo_text(user));
    if sudo_there(here, user) == wished {
        return Ok(());
    }
    let Some(text) = wished else { return remove(here, &path).await };
    let file = NewFile { content: text.as_bytes(), mode: 0o440, uid: 0, gid: 0 };
    here.host.place(Path::new(TRIED), &file).await.map_err(StepError::file("write", TRIED))?;
    here.tools.run(&Program::query(argv([VISUDO, "-c", "-f", TRIED]), DEADLINE)).await?;
    // What was tried stays until the next boot, as it is no secret.
    here.host.place(&path, &file).await.map_err(StepError::file("write", &path))
}

async fn remove(here: &Here<'_>, path: &Path) -> Result<(), StepError> {
    here.host.remove(path).await.map_err(StepError::file("remove", path))
}

fn missing_groups(here: &Here<'_>, user: &User) -> Vec<String> {
    let there = accounts::groups_of(here.host, user.name.as_str());
    user.groups.iter().map(|group| group.as_str().to_owned()).filter(|group| !there.contains(group)).collect()
}

fn keys_file(account: &Account) -> PathBuf {
    Path::new(&account.home).join(".ssh/authorized_keys")
}

/// The keys that may log in now. The directory is the user's own, who might put anything there: root follows no link.
fn keys_there(here: &Here<'_>, account: &Account) -> Result<String, StepError> {
    let path = keys_file(account);
    match here.host.attributes(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(cannot_be_looked_at(&path, error)),
        Ok(Attributes { kind: FileKind::File, .. }) => {
            let content = here.host.content(&path).map_err(|error| cannot_be_looked_at(&path, error))?;
            Ok(String::from_utf8_lossy(&content).into_owned())
        }
        Ok(_) => Err(StepError::blocked(format!("{} is not a file", path.display()), "move it away")),
    }
}

/// Who may log in from now on, and who may not any more.
fn keys_change(user: &User, there: &str, wished: &str) -> Vec<String> {
    if there == wished {
        return Vec::new();
    }
    let keys = |text: &str| {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let (old, new) = (keys(there), keys(wished));
    let gained = new.difference(&old).map(|key| format!("{} may log in as {}", name_of(key), user.name));
    let lost = old.difference(&new).map(|key| format!("{} may not log in as {} any more", name_of(key), user.name));
    let mut changes: Vec<String> = gained.chain(lost).collect();
    let more = changes.len().saturating_sub(MOST_KEYS);
    changes.truncate(MOST_KEYS);
    if more > 0 {
        changes.push(format!("{more} more keys of {} change", user.name));
    }
    if changes.is_empty() {
        changes.push(format!("the same keys of {}, written anew", user.name));
    }
    changes
}

/// How people know a key (authorized_keys in sshd(8)): by its comment, or else by the end of it.
fn name_of(key: &str) -> String {
    let is_type = |word: &&str| ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix));
    let words: Vec<&str> = key.split_whitespace().collect();
    let body = words.iter().position(is_type).map_or(0, |at| at + 1);
    match words.get(body + 1..).filter(|comment| !comment.is_empty()) {
        Some(comment) => format!("the key {}", comment.join(" ")),
        None => {
            let body = words.get(body).copied().unwrap_or_default();
            let end: String = body.chars().skip(body.chars().count().saturating_sub(END_OF_KEY)).collect();
            format!("the key that ends with {end}")
        }
    }
}

fn keys_text(user: &User) -> Option<String> {
    let keys = user.authorized_keys.as_ref()?;
    Some(keys.iter().map(|key| format!("{}\n", key.trim())).collect())
}

fn sudoers(user: &User) -> PathBuf {
    Path::new("/etc/sudoers.d").join(format!("windlass-{}", user.name))
}

/// What sudo reads of ours; nothing of a file that is not root's alone.
fn sudo_there(here: &Here<'_>, user: &User) -> Option<String> {
    let path = sudoers(user);
    let text = here.host.read(&path).ok()?;
    Some(if are_theirs_alone(here, &path, 0) { text } else { String::new() })
}

/// Whether a file belongs to this user, and nobody else can write to it. One that is not there is well.
fn are_theirs_alone(here: &Here<'_>, path: &Path, uid: u32) -> bool {
    here.host.attributes(path).map_or(true, |there| there.uid == uid && there.mode & WRITABLE_BY_OTHERS == 0)
}

fn is_without_home(here: &Here<'_>, account: &Account) -> bool {
    here.host.attributes(Path::new(&account.home)).is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn sudo_text(user: &User) -> Option<String> {
    user.sudo.then(|| format!("# Written by Windlass.\n{} ALL=(ALL) NOPASSWD: ALL\n", user.name))
}
