// SPDX-License-Identifier: Apache-2.0
//! passwd(5) and group(5): who is there. Only what is in the files: a static program asks no directory service.

use std::path::Path;

use super::Observe;

/// A line of /etc/passwd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Their number.
    pub uid: u32,
    /// The number of their own group.
    pub gid: u32,
    /// Their home directory.
    pub home: String,
}

/// A user.
#[must_use]
pub fn user(host: &dyn Observe, name: &str) -> Option<Account> {
    let passwd = host.read(Path::new("/etc/passwd")).ok()?;
    let fields = line_of(&passwd, name)?;
    Some(Account {
        uid: fields.get(2)?.parse().ok()?,
        gid: fields.get(3)?.parse().ok()?,
        home: (*fields.get(5)?).into(),
    })
}

/// A group's number.
#[must_use]
pub fn group(host: &dyn Observe, name: &str) -> Option<u32> {
    let group = host.read(Path::new("/etc/group")).ok()?;
    line_of(&group, name)?.get(2)?.parse().ok()
}

/// The groups that a user is in besides their own, sorted.
#[must_use]
pub fn groups_of(host: &dyn Observe, user: &str) -> Vec<String> {
    let group = host.read(Path::new("/etc/group")).unwrap_or_default();
    let is_in = |line: &&str| line.split(':').nth(3).is_some_and(|members| members.split(',').any(|name| name == user));
    let mut groups: Vec<String> =
        group.lines().filter(is_in).filter_map(|line| line.split(':').next().map(str::to_owned)).collect();
    groups.sort_unstable();
    groups
}

fn line_of<'a>(text: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find(|fields| fields.first() == Some(&name))
}
