// SPDX-License-Identifier: Apache-2.0
//! Answers of rpm and dnf, kept while what they are read from is as it was.
//!
//! A node is asked when a plan is made, when it is confirmed, and by each step, mostly the same; and each start of dnf costs
//! seconds of a small node's processor. What an answer depends on is looked at before the question and after it: one during
//! which something changed is not kept.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use windlass_types::action::Argv;

use super::dnf::{history, ignores_repositories, parse};
use super::tools::{Ran, ToolError};
use super::{Asking, Look, Observe, rpm};

/// Metadata grows old without any file changing; dnf looks at their age for itself after that.
const METADATA_KEPT: Duration = Duration::from_secs(300);

/// So many answers are kept. A list of a thousand packages has 70 KiB.
const MOST: usize = 6;

/// Directories whose files say what is wanted: options, excludes, locks, modules, repositories.
const CONFIGURATION: [&str; 6] =
    ["/etc/dnf", "/etc/dnf/modules.d", "/etc/dnf/plugins", "/etc/dnf/vars", "/etc/yum", "/etc/yum.repos.d"];

/// What was fetched from the repositories.
const FETCHED: &str = "/var/cache/dnf";

/// Written by every dnf, whether it says anything else than before or not.
const EXPIRED: &str = "/var/cache/dnf/expired_repos.json";

/// What an answer is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// rpm's database.
    Database,
    /// That, how dnf is configured, and what it fetched from the repositories.
    Repositories,
    /// What dnf keeps of its transactions.
    History,
}

/// How a file was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stamp {
    Absent,
    Changed(SystemTime),
    /// Of a file that is written without being changed.
    Checksum(u32),
}

type Stamps = Vec<(PathBuf, Stamp)>;

#[derive(Debug)]
struct Kept {
    question: Argv,
    source: Source,
    basis: Stamps,
    fetched: Stamps,
    at: Instant,
    ran: Ran,
}

/// The last answers.
#[derive(Debug, Default)]
pub(super) struct Answers(Mutex<Vec<Kept>>);

impl Answers {
    /// A kept answer to this question that still holds; else that of `ask`, as also when it shall be looked at closely.
    pub(super) async fn answer(
        &self,
        host: &dyn Observe,
        (question, source): (&Argv, Source),
        look: Look,
        ask: Asking<'_>,
    ) -> Result<Ran, ToolError> {
        if look == Look::Briefly
            && let Some(ran) = self.kept(host, question, source)
        {
            return Ok(ran);
        }
        let before = basis(host, source);
        let ran = ask.await?;
        // dnf itself changes what was fetched while it is asked. One that failed is asked again: somebody mends it meanwhile.
        if before == basis(host, source) && (source != Source::Repositories || is_whole(&ran)) {
            self.keep_of(host, (question, source), ran.clone(), before);
        }
        Ok(ran)
    }

    /// Keeps an answer that is known without a question.
    pub(super) fn keep(&self, host: &dyn Observe, question: (&Argv, Source), ran: Ran) {
        self.keep_of(host, question, ran, basis(host, question.1));
    }

    fn keep_of(&self, host: &dyn Observe, (question, source): (&Argv, Source), ran: Ran, basis: Stamps) {
        let mut kept = self.lock();
        kept.retain(|kept| kept.question != *question);
        // In a transaction the next moment changes it.
        if host.rpm_is_at_work() || !can_be_watched(host, source) {
            return;
        }
        if kept.len() >= MOST {
            kept.remove(0);
        }
        let fetched = fetched(host, source);
        kept.push(Kept { question: question.clone(), source, basis, fetched, at: Instant::now(), ran });
    }

    fn kept(&self, host: &dyn Observe, question: &Argv, source: Source) -> Option<Ran> {
        let kept = self.lock();
        let kept = kept.iter().find(|kept| kept.question == *question && kept.source == source)?;
        let is_fresh = source != Source::Repositories || kept.at.elapsed() < METADATA_KEPT;
        let is_same = is_fresh && kept.basis == basis(host, source) && kept.fetched == fetched(host, source);
        is_same.then(|| kept.ran.clone())
    }

    /// As a new process begins.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether dnf said what it would do, of all repositories.
fn is_whole(ran: &Ran) -> bool {
    !ignores_repositories(&ran.stderr) && parse(&ran.stdout).is_ok()
}

/// Whether a change shows. Not where something is kept elsewhere; and a Berkeley database can become unreadable by a reader that
/// was killed, without any of its files changing: that has to be seen, because it has to be mended.
fn can_be_watched(host: &dyn Observe, source: Source) -> bool {
    let is_there = |path: &&str| host.modified(Path::new(path)).is_ok();
    match source {
        Source::Database | Source::Repositories => {
            !is_there(&rpm::BERKELEY_DATABASE) && rpm::DATABASES.iter().any(is_there)
        }
        Source::History => history::FILES.iter().any(is_there),
    }
}

/// What nobody changes by asking.
fn basis(host: &dyn Observe, source: Source) -> Stamps {
    match source {
        Source::Database => rpm::DATABASES.iter().map(|path| changed(host, Path::new(path))).collect(),
        Source::Repositories => {
            let files = CONFIGURATION.iter().map(Path::new).flat_map(|directory| {
                let names = host.list(directory).unwrap_or_default().into_iter();
                names.map(|name| directory.join(name)).chain([directory.to_owned()]).collect::<Vec<_>>()
            });
            let configuration: Stamps = files.map(|path| changed(host, &path)).collect();
            basis(host, Source::Database).into_iter().chain(configuration).collect()
        }
        Source::History => history::FILES.iter().map(|path| checksum(host, Path::new(path))).collect(),
    }
}

/// What dnf may change when it is asked.
fn fetched(host: &dyn Observe, source: Source) -> Stamps {
    if source != Source::Repositories {
        return Stamps::new();
    }
    let names = host.list(Path::new(FETCHED)).unwrap_or_default();
    let solved = names.into_iter().filter(|name| name.ends_with(".solv") || name.ends_with(".solvx"));
    let solved = solved.map(|name| changed(host, &Path::new(FETCHED).join(name)));
    solved.chain([checksum(host, Path::new(EXPIRED))]).collect()
}

fn changed(host: &dyn Observe, path: &Path) -> (PathBuf, Stamp) {
    (path.to_owned(), host.modified(path).map_or(Stamp::Absent, Stamp::Changed))
}

fn checksum(host: &dyn Observe, path: &Path) -> (PathBuf, Stamp) {
    (path.to_owned(), host.checksum(path).map_or(Stamp::Absent, Stamp::Checksum))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::tools::argv;

    const HISTORY: &str = history::FILES[0];

    fn node() -> (FakeHost, Answers) {
        let host = FakeHost::new("node1");
        for path in [rpm::DATABASES[2], HISTORY] {
            write(&host, path, "1");
        }
        (host, Answers::default())
    }

    fn write(host: &FakeHost, path: &str, text: &str) {
        host.change(|node| drop(node.files.insert(path.into(), text.to_owned())));
    }

    async fn asked((host, answers): &(FakeHost, Answers), question: (&str, Source), look: Look, said: &str) -> String {
        let ran = Ran { stdout: format!("Nothing to do {said}"), ..Ran::default() };
        let ask = Box::pin(async { Ok(ran) });
        let answer = answers.answer(host, (&argv(["dnf", question.0]), question.1), look, ask).await.unwrap().stdout;
        answer.trim_start_matches("Nothing to do ").to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_is_asked_once_while_all_is_as_it_was() {
        let node = node();
        let (upgrade, list) = (("upgrade", Source::Repositories), ("list", Source::Database));
        assert_eq!(asked(&node, upgrade, Look::Briefly, "1").await, "1");
        assert_eq!(asked(&node, upgrade, Look::Briefly, "2").await, "1");
        assert_eq!(asked(&node, upgrade, Look::Closely, "3").await, "3");
        assert_eq!(asked(&node, list, Look::Briefly, "l").await, "l");
        write(&node.0, "/etc/dnf/plugins/versionlock.list", "bash");
        assert_eq!(asked(&node, upgrade, Look::Briefly, "4").await, "4");
        write(&node.0, "/var/cache/dnf/lab.solv", "metadata");
        assert_eq!(asked(&node, upgrade, Look::Briefly, "5").await, "5");
        write(&node.0, EXPIRED, "[\"lab\"]");
        assert_eq!(asked(&node, upgrade, Look::Briefly, "6").await, "6");
        assert_eq!(asked(&node, upgrade, Look::Briefly, "7").await, "6");
        tokio::time::advance(METADATA_KEPT).await;
        assert_eq!(asked(&node, upgrade, Look::Briefly, "8").await, "8");
        assert_eq!(asked(&node, list, Look::Briefly, "m").await, "l", "a database does not grow old");
        write(&node.0, rpm::DATABASES[3], "more");
        assert_eq!(asked(&node, list, Look::Briefly, "n").await, "n");
    }

    #[tokio::test]
    async fn a_history_that_is_written_and_says_the_same_is_not_asked_about_again() {
        let node = node();
        let last = ("history info last", Source::History);
        assert_eq!(asked(&node, last, Look::Briefly, "1").await, "1");
        write(&node.0, HISTORY, "1");
        assert_eq!(asked(&node, last, Look::Briefly, "2").await, "1");
        write(&node.0, HISTORY, "2");
        assert_eq!(asked(&node, last, Look::Briefly, "3").await, "3");
        write(&node.0, HISTORY, "3");
        node.1.keep(&node.0, (&argv(["dnf", last.0]), last.1), Ran::default());
        assert_eq!(asked(&node, last, Look::Briefly, "4").await, "");
    }

    #[tokio::test]
    async fn an_answer_during_which_something_changed_is_not_kept() {
        let (host, answers) = node();
        let question = argv(["dnf", "upgrade"]);
        let ask = Box::pin(async {
            write(&host, "/etc/dnf/dnf.conf", "exclude=bash");
            Ok(Ran::default())
        });
        answers.answer(&host, (&question, Source::Repositories), Look::Briefly, ask).await.unwrap();
        assert!(answers.kept(&host, &question, Source::Repositories).is_none());
        host.change(|node| node.rpm_is_at_work = true);
        answers.keep(&host, (&question, Source::Database), Ran::default());
        assert!(answers.kept(&host, &question, Source::Database).is_none(), "somebody is about to change it");
    }

    #[tokio::test]
    async fn a_failure_and_a_database_that_breaks_unseen_are_asked_again() {
        let (host, answers) = node();
        let question = argv(["dnf", "upgrade"]);
        for (stdout, stderr) in [
            ("", "Error: Failed to download metadata for repo 'lab'\n"),
            ("Nothing to do.\n", "Ignoring repositories: lab\n"),
        ] {
            let ran = Ran { code: 1, stdout: stdout.to_owned(), stderr: stderr.to_owned() };
            let ask = Box::pin(async { Ok(ran) });
            answers.answer(&host, (&question, Source::Repositories), Look::Briefly, ask).await.unwrap();
            assert!(answers.kept(&host, &question, Source::Repositories).is_none(), "{stderr}");
        }
        let el8 = node();
        write(&el8.0, rpm::BERKELEY_DATABASE, "1");
        assert_eq!(asked(&el8, ("list", Source::Database), Look::Briefly, "1").await, "1");
        assert_eq!(asked(&el8, ("list", Source::Database), Look::Briefly, "2").await, "2");
    }

    #[tokio::test]
    async fn few_are_kept_and_none_of_what_is_not_there() {
        let node = node();
        for number in 0..=MOST {
            asked(&node, (&number.to_string(), Source::Database), Look::Briefly, "x").await;
        }
        assert_eq!(asked(&node, ("0", Source::Database), Look::Briefly, "y").await, "y");
        assert_eq!(node.1.lock().len(), MOST);
        let empty = (FakeHost::new("node2"), Answers::default());
        empty.0.change(|node| node.lacks.push(rpm::DATABASES[2].into()));
        asked(&empty, ("1", Source::Database), Look::Briefly, "x").await;
        assert!(empty.1.lock().is_empty());
    }
}
