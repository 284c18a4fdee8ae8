// SPDX-License-Identifier: Apache-2.0
//! What dnf said last that it would do, kept for some minutes while all that it decides from is as it was.
//!
//! A plan is made, shown and confirmed, and each time the same question is asked, which costs dnf some seconds of a processor.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use windlass_types::action::Argv;

use crate::host::tools::{Ran, ToolError};
use crate::host::{Asking, Look, Observe, rpm};

/// Metadata grows old without any file changing; dnf looks at their age for itself after that.
const KEPT: Duration = Duration::from_secs(300);

/// Directories whose files say what is wanted: options, excludes, locks, modules, repositories.
const CONFIGURATION: [&str; 6] =
    ["/etc/dnf", "/etc/dnf/modules.d", "/etc/dnf/plugins", "/etc/dnf/vars", "/etc/yum", "/etc/yum.repos.d"];

/// What was fetched from the repositories.
const FETCHED: [&str; 1] = ["/var/cache/dnf"];

type Stamps = Vec<(PathBuf, Option<SystemTime>)>;

#[derive(Debug)]
struct Kept {
    question: Argv,
    basis: Stamps,
    fetched: Stamps,
    at: Instant,
    ran: Ran,
}

/// The last answer.
#[derive(Debug, Default)]
pub(in crate::host) struct WouldDo(Mutex<Option<Kept>>);

impl WouldDo {
    /// The kept answer, if it is one to this question and still holds; else that of `ask`.
    pub(in crate::host) async fn answer(
        &self,
        host: &dyn Observe,
        question: &Argv,
        look: Look,
        ask: Asking<'_, Ran>,
    ) -> Result<Ran, ToolError> {
        if look == Look::Briefly
            && let Some(ran) = self.kept(host, question)
        {
            return Ok(ran);
        }
        let before = basis(host);
        let ran = ask.await?;
        // dnf itself changes what was fetched while it is asked. If anything else did change, nobody knows what it saw.
        let kept = (before == basis(host)).then(|| Kept {
            question: question.clone(),
            basis: before,
            fetched: stamps(host, &FETCHED),
            at: Instant::now(),
            ran: ran.clone(),
        });
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(ran)
    }

    fn kept(&self, host: &dyn Observe, question: &Argv) -> Option<Ran> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.as_ref().filter(|kept| kept.question == *question && kept.at.elapsed() < KEPT)?;
        (kept.basis == basis(host) && kept.fetched == stamps(host, &FETCHED)).then(|| kept.ran.clone())
    }
}

fn basis(host: &dyn Observe) -> Stamps {
    let database = rpm::DATABASES.iter().map(|path| (PathBuf::from(path), host.modified(Path::new(path)).ok()));
    database.chain(stamps(host, &CONFIGURATION)).collect()
}

/// When the files in these directories were changed last, and the directories themselves.
fn stamps(host: &dyn Observe, directories: &[&str]) -> Stamps {
    let mut paths = Vec::new();
    for directory in directories.iter().map(Path::new) {
        paths.push(directory.to_owned());
        paths.extend(host.list(directory).unwrap_or_default().into_iter().map(|name| directory.join(name)));
    }
    paths.into_iter().map(|path| (path.clone(), host.modified(&path).ok())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::fake::FakeHost;
    use crate::host::tools::argv;

    async fn asked(would_do: &WouldDo, host: &FakeHost, question: &str, look: Look, said: &str) -> String {
        let ran = Ran { stdout: said.to_owned(), ..Ran::default() };
        let ask = Box::pin(async { Ok(ran) });
        would_do.answer(host, &argv(["dnf", question]), look, ask).await.unwrap().stdout
    }

    fn lock(host: &FakeHost, package: &str) {
        let path = format!("/etc/dnf/plugins/{package}.list");
        host.change(|node| drop(node.files.insert(path.into(), String::new())));
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_question_is_asked_once_while_all_is_as_it_was() {
        let (host, would_do) = (FakeHost::new("node1"), WouldDo::default());
        assert_eq!(asked(&would_do, &host, "upgrade", Look::Briefly, "1").await, "1");
        assert_eq!(asked(&would_do, &host, "upgrade", Look::Briefly, "2").await, "1");
        assert_eq!(asked(&would_do, &host, "upgrade", Look::Closely, "3").await, "3");
        lock(&host, "bash");
        assert_eq!(asked(&would_do, &host, "upgrade", Look::Briefly, "4").await, "4");
        assert_eq!(asked(&would_do, &host, "install bash", Look::Briefly, "5").await, "5");
        tokio::time::advance(KEPT).await;
        assert_eq!(asked(&would_do, &host, "install bash", Look::Briefly, "6").await, "6");
    }

    #[tokio::test]
    async fn an_answer_during_which_something_changed_is_not_kept() {
        let (host, would_do) = (FakeHost::new("node1"), WouldDo::default());
        let ask = Box::pin(async {
            lock(&host, "bash");
            Ok(Ran::default())
        });
        would_do.answer(&host, &argv(["dnf", "upgrade"]), Look::Briefly, ask).await.unwrap();
        assert_eq!(asked(&would_do, &host, "upgrade", Look::Briefly, "2").await, "2");
    }
}
