// SPDX-License-Identifier: Apache-2.0
//! What dnf and yum remember of their transactions: a list for people, and whether the last one came to its end.

use std::time::Duration;

use windlass_types::package::PastTransaction;

use crate::host::tools::{Program, argv};

/// A file of a few bytes.
const LOOK: Duration = Duration::from_secs(30);

/// dnf holds the first of these while it changes packages, and yum the other while it runs. That they are not there says
/// nothing of how the last transaction ended: as a machine comes up systemd-tmpfiles(8) removes them.
pub const LOCKS: [&str; 2] = ["/var/lib/dnf/rpmdb_lock.pid", "/run/yum.pid"];

/// Where dnf keeps its history: what it says of its last transaction stays the same while what is in these does. Every dnf
/// writes to them, whatever it is asked.
pub const FILES: [&str; 2] = ["/var/lib/dnf/history.sqlite", "/var/lib/dnf/history.sqlite-wal"];

/// What dnf calls what it does to a package that is there afterwards.
const COMES: [&str; 4] = ["Install", "Upgrade", "Downgrade", "Reinstall"];

/// The last transaction, if it has no end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unended {
    /// Its number.
    pub number: u32,
    /// The packages that it was to bring, as `name-[epoch:]version-release.arch`.
    pub comes: Vec<String>,
}

/// Whether a process is a dnf or a yum, by its exit code. Asked outside of the executor's sandbox, which shows no others.
#[must_use]
pub fn is_at_work(process: u32) -> Program {
    let ask = Program::query(argv(["grep", "-qsE", "dnf|yum", &format!("/proc/{process}/cmdline")]), LOOK);
    ask.answering(1).answering(2)
}

/// Reads what `history list` prints: newest first.
///
/// # Errors
/// If it is no such list; the text says why.
pub fn parse_list(text: &str) -> Result<Vec<PastTransaction>, String> {
    let mut lines = text.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let Some(header) = lines.by_ref().find(|cells| cells.contains(&"Date and time")) else {
        return Err("there is no list of transactions".to_owned());
    };
    let place = |titles: &[&str]| header.iter().position(|title| titles.contains(title));
    let what = place(&["Command line", "Login user", "User"]).ok_or("nobody says what was done")?;
    let (at, actions, altered) = (place(&["Date and time"]), place(&["Action(s)"]), place(&["Altered"]));
    let (Some(at), Some(actions), Some(altered)) = (at, actions, altered) else {
        return Err(format!("the columns {header:?} are not known"));
    };
    let mut found = Vec::new();
    for cells in lines.filter(|cells| cells.len() > 1) {
        let bad = || format!("{cells:?} is no transaction");
        if cells.len() != header.len() {
            return Err(bad());
        }
        let mut counted = cells[altered].split_whitespace();
        let count = counted.next().and_then(|count| count.parse().ok()).ok_or_else(bad)?;
        let marks = counted.collect::<String>();
        found.push(PastTransaction {
            number: cells[0].parse().map_err(|_| bad())?,
            at: cells[at].to_owned(),
            what: cells[what].to_owned(),
            actions: cells[actions].to_owned(),
            altered: count,
            is_whole: !marks.contains(['*', '#']),
        });
    }
    Ok(found)
}

/// Reads what `history info` prints of one transaction; `None` if it has an end.
#[must_use]
pub fn parse_unended(text: &str) -> Option<Unended> {
    let field = |title: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| name.trim() == title).map(|(_, value)| value.trim())
    };
    let number = field("Transaction ID")?.parse().ok()?;
    field("Begin rpmdb")?;
    if field("End rpmdb").is_some_and(|end| end != "**") {
        return None;
    }
    let altered = text.lines().skip_while(|line| !line.starts_with("Packages Altered")).skip(1);
    let rows = altered.take_while(|line| line.starts_with(' '));
    let comes = rows.filter_map(|row| {
        let mut words = row.split_whitespace().skip_while(|word| *word == "**");
        let (action, package) = (words.next()?, words.next()?);
        COMES.contains(&action).then(|| package.to_owned())
    });
    Some(Unended { number, comes: comes.collect() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn reads_what_dnf_remembers_on_the_labs_guest() {
        let list = parse_list(include_str!("../fixtures/lab-dnf-4.14-history-list")).unwrap();
        let shown: Vec<_> =
            list.iter().map(|past| (past.number, past.actions.as_str(), past.altered, past.is_whole)).collect();
        assert_eq!(
            shown,
            [
                (5, "R", 6, true),
                (4, "Upgrade", 3, false),
                (3, "Downgrade", 2, true),
                (2, "Upgrade", 2, true),
                (1, "Install", 3, true)
            ]
        );
        assert_eq!((list[1].what.as_str(), list[1].at.as_str()), ("-y upgrade", "2026-11-25 22:58"));
    }

    #[test]
    fn reads_what_yum_remembers() {
        let list = parse_list(include_str!("../fixtures/el7-yum-history-list")).unwrap();
        assert_eq!(list.iter().map(|past| (past.number, past.is_whole)).collect::<Vec<_>>(), [(12, false), (11, true)]);
        assert_eq!(list[0].what, "ops <ops>");
        assert!(parse_list("Error: cannot open the database\n").is_err());
        assert!(parse_list("ID | Login user | Date and time | Action(s) | Altered\n 1 | x\n").is_err());
    }

    #[test]
    fn a_transaction_that_was_killed_has_no_end() {
        let killed = parse_unended(include_str!("../fixtures/lab-dnf-4.14-history-info-unended")).unwrap();
        assert_eq!(killed.number, 4);
        assert_eq!(killed.comes, ["lab-slow-2-1.noarch", "lab-web-2-1.noarch", "lab-words-2-1.noarch"]);
        assert_eq!(parse_unended(include_str!("../fixtures/lab-dnf-4.14-history-info-ended")), None);
        assert_eq!(parse_unended("No transactions\n"), None);
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = (parse_list(&text), parse_unended(&text));
            let _ = parse_list(&format!("ID | User | Date and time | Action(s) | Altered\n {text}"));
            let _ = parse_unended(&format!("Transaction ID : 4\nBegin rpmdb : x\nPackages Altered:\n ** {text}"));
        }
    }
}
