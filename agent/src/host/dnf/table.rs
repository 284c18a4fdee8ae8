// SPDX-License-Identifier: Apache-2.0
//! The table in which dnf and yum show a transaction before they ask whether to do it.
//!
//! It is made for people, and neither program has another form of it that both know. So it is read strictly: headings
//! that are not known and rows that are not rows make an error, never a shorter transaction.

use windlass_types::name::on_node::{Architecture, PackageName, PackageVersion, RepositoryId};

use crate::host::rpm::version_of;

/// A package that would come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// Which.
    pub name: PackageName,
    /// In which version.
    pub version: PackageVersion,
    /// For what.
    pub arch: Architecture,
    /// From where.
    pub repository: Option<RepositoryId>,
    /// It takes the place of another version of itself.
    pub replaces: bool,
}

/// A package that would go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Going {
    /// Which.
    pub name: PackageName,
    /// In which version.
    pub version: PackageVersion,
    /// For what.
    pub arch: Architecture,
}

/// What would be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// What would come.
    pub coming: Vec<Coming>,
    /// What would go.
    pub going: Vec<Going>,
    /// To be fetched, bytes.
    pub download_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    New,
    Another,
    Gone,
    /// Says what is not done, or does not change packages.
    Aside,
}

/// Headings, by their first words.
const SECTIONS: [(&str, Section); 10] = [
    ("Installing", Section::New),
    ("Upgrading", Section::Another),
    ("Updating", Section::Another),
    ("Downgrading", Section::Another),
    ("Removing", Section::Gone),
    ("Skipping", Section::Aside),
    ("Skipped", Section::Aside),
    // The second line of a heading: how what is skipped could be forced.
    ("(add '", Section::Aside),
    ("Enabling module", Section::Aside),
    ("Reinstalling", Section::Aside),
];

/// What yum says after a transaction of which nothing is left to be undone.
const UNDONE: &str = "history undo";

/// What yum leaves out, where dnf does nothing at all: a package that cannot be had, and one of which the version before is
/// not there any more. It is told before the table, or on standard error.
#[must_use]
pub fn left_out(text: &str) -> Option<&str> {
    text.lines().find(|line| {
        let cannot_be_had = line.starts_with("No package ") && line.ends_with(" available.");
        cannot_be_had || line.starts_with("Failed to downgrade: ") || line.starts_with("Failed to upgrade: ")
    })
}

/// Reads the table. `None` if there is nothing to do.
///
/// # Errors
/// If there is no table that can be read; the text says why.
pub fn parse(text: &str) -> Result<Option<Resolved>, String> {
    let mut lines = text.lines().skip_while(|line| !is_rule(line)).skip(1);
    // Between the first rule and the second are the headings of the columns.
    if !lines.by_ref().any(is_rule) {
        let nothing = ["Nothing to do", "No packages marked for update", "No packages needed for security"];
        let says_nothing = |line: &str| nothing.iter().any(|words| line.contains(words)) || line == UNDONE;
        let is_nothing = text.lines().any(says_nothing);
        return if is_nothing { Ok(None) } else { Err("there is neither a table nor \"Nothing to do\"".to_owned()) };
    }
    let mut resolved = Resolved::default();
    let (mut section, mut row) = (None, String::new());
    for line in lines.by_ref() {
        if line.starts_with("Transaction Summary") {
            break;
        }
        let continues = line.starts_with("  ");
        if !continues && !row.is_empty() {
            take_row(section, &std::mem::take(&mut row), &mut resolved)?;
        }
        if continues {
            row.push(' ');
            row.push_str(line.trim());
        } else if line.starts_with(' ') {
            line.trim().clone_into(&mut row);
        } else if !line.trim().is_empty() {
            let known = SECTIONS.iter().find(|(words, _)| line.starts_with(words) && line.trim_end().ends_with(':'));
            section = Some(known.ok_or_else(|| format!("the heading {line:?} is not known"))?.1);
        }
    }
    if !row.is_empty() {
        take_row(section, &row, &mut resolved)?;
    }
    resolved.download_bytes = lines.find_map(download).unwrap_or_default();
    let is_empty = resolved.coming.is_empty() && resolved.going.is_empty();
    Ok((!is_empty).then_some(resolved))
}

fn is_rule(line: &str) -> bool {
    line.len() > 20 && line.trim_end().bytes().all(|byte| byte == b'=')
}

/// `name arch version repository size`, where the size may have a unit, and `replacing name.arch version` after it.
fn take_row(section: Option<Section>, row: &str, resolved: &mut Resolved) -> Result<(), String> {
    let bad = || format!("{row:?} is not a row");
    let section = section.ok_or_else(bad)?;
    if section == Section::Aside {
        return Ok(());
    }
    let mut replaced = row.split(" replacing ");
    let words: Vec<&str> = replaced.next().unwrap_or_default().split_whitespace().collect();
    let [name, arch, version, repository, _size, ..] = words[..] else { return Err(bad()) };
    if words.len() > 6 {
        return Err(bad());
    }
    let (name, arch) = (PackageName::new(name).map_err(|_| bad())?, Architecture::new(arch).map_err(|_| bad())?);
    let version = version_of(version).ok_or_else(bad)?;
    match section {
        Section::Gone => resolved.going.push(Going { name, version, arch }),
        Section::New | Section::Another | Section::Aside => {
            let repository = RepositoryId::new(repository).ok();
            resolved.coming.push(Coming { name, version, arch, repository, replaces: section == Section::Another });
        }
    }
    for words in replaced {
        resolved.going.push(parse_replaced(words).ok_or_else(bad)?);
    }
    Ok(())
}

fn parse_replaced(words: &str) -> Option<Going> {
    let mut words = words.split_whitespace();
    let (name, arch) = words.next()?.rsplit_once('.')?;
    Some(Going {
        name: PackageName::new(name).ok()?,
        arch: Architecture::new(arch).ok()?,
        version: version_of(words.next()?)?,
    })
}

/// `Total download size: 13 k`
fn download(line: &str) -> Option<u64> {
    let mut words = line.strip_prefix("Total download size: ")?.split_whitespace();
    let number: f64 = words.next()?.parse().ok()?;
    let unit: u64 = match words.next() {
        None => 1,
        Some("k") => 1 << 10,
        Some("M") => 1 << 20,
        Some("G") => 1 << 30,
        Some(_) => return None,
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "rough anyway"
    )]
    Some((number * unit as f64) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let Some(resolved) = parse(text).unwrap() else { return vec!["nothing".into()] };
        let sign = |coming: &Coming| if coming.replaces { '^' } else { '+' };
        let coming = resolved.coming.iter().map(|c| format!("{}{}-{}.{}", sign(c), c.name, c.version, c.arch));
        let going = resolved.going.iter().map(|g| format!("-{}-{}.{}", g.name, g.version, g.arch));
        coming.chain(going).collect()
    }

    #[test]
    fn reads_what_dnf_shows_on_the_labs_guest() {
        for (text, expected) in [
            (
                include_str!("../fixtures/lab-dnf-4.14-upgrade-assumeno"),
                &["^lab-web-2-1.noarch", "^lab-words-2-1.noarch"][..],
            ),
            (include_str!("../fixtures/lab-dnf-4.14-install-kernel-assumeno"), &["+kernel-lt-6.1.192-2.x86_64"]),
            (
                include_str!("../fixtures/lab-dnf-4.14-remove-assumeno"),
                &["-lab-words-1-1.noarch", "-lab-web-1-1.noarch"],
            ),
            (include_str!("../fixtures/lab-dnf-4.14-nothing-to-do"), &["nothing"]),
            (
                include_str!("../fixtures/lab-dnf-4.14-history-undo-assumeno"),
                &["^lab-web-1-1.noarch", "^lab-words-1-1.noarch"],
            ),
        ] {
            assert_eq!(shown(text), expected);
        }
        let kernel = parse(include_str!("../fixtures/lab-dnf-4.14-install-kernel-assumeno")).unwrap().unwrap();
        assert_eq!(kernel.download_bytes, 20 << 20);
        assert!(parse(include_str!("../fixtures/lab-dnf-4.14-install-no-match")).is_err());
    }

    #[test]
    fn reads_wrapped_rows_epochs_and_replaced_packages() {
        let el7 = shown(include_str!("../fixtures/el7-yum-update-assumeno"));
        assert_eq!(
            el7,
            [
                "+python2-cryptography-long-name-1.7.2-2.el7.x86_64",
                "^openssl-libs-1:1.0.2k-26.el7_9.x86_64",
                "+words-of-old-3.0-1.el7.noarch",
                "-forgotten-words-2.9-4.el7.noarch",
            ]
        );
    }

    #[test]
    fn what_is_held_back_is_no_part_of_the_transaction() {
        // As dnf 4 composes it where neither `best` nor `strict` is set.
        let held = "Skipping packages with conflicts:\n(add '--best --allowerasing' to command line to force their upgrade):\n \
                    lab-base              noarch             13-1            lab             9.0 k\nSkipping packages with \
                    broken dependencies:\n lab-extra             noarch             2-1             lab             5.0 k\n";
        let table = include_str!("../fixtures/lab-dnf-4.14-upgrade-assumeno");
        let text = table.replace("\nTransaction Summary", &format!("{held}\nTransaction Summary"));
        assert_eq!(shown(&text), ["^lab-web-2-1.noarch", "^lab-words-2-1.noarch"]);
    }

    #[test]
    fn what_yum_would_leave_out_is_found() {
        let unknown = "Loaded plugins: fastestmirror\nNo package unknown available.\nResolving Dependencies\n";
        assert_eq!(left_out(unknown), Some("No package unknown available."));
        assert!(left_out("Failed to downgrade: bash-4.2.46-34.el7.x86_64\n").is_some());
        assert_eq!(left_out(include_str!("../fixtures/el7-yum-update-assumeno")), None);
        assert_eq!(parse("Undoing transaction 1, from Thu Jan  1 00:00:00 2026\nhistory undo\n"), Ok(None));
    }

    #[test]
    fn an_unknown_heading_is_no_shorter_transaction() {
        let text = include_str!("../fixtures/lab-dnf-4.14-upgrade-assumeno").replace("Upgrading:", "Transmogrifying:");
        assert!(parse(&text).unwrap_err().contains("Transmogrifying"));
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let rule = "=".repeat(40);
            let _ = parse(&text);
            let _ = parse(&format!("{rule}\n a\n{rule}\nInstalling:\n {text}\nUpgrading:\n  {text}"));
        }
    }
}
