// SPDX-License-Identifier: Apache-2.0
//! The last answer of a slow tool, kept while what it depends on stays as it is.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// When each file was last changed; `None` if it does not exist.
pub(super) type Stamps = Vec<Option<SystemTime>>;

/// One answer and what it depends on. Failures are not kept.
#[derive(Debug)]
pub(super) struct Remembered<K = Stamps, A = String>(Mutex<Option<(K, A)>>);

impl<K, A> Default for Remembered<K, A> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<K: PartialEq, A: Clone> Remembered<K, A> {
    /// The kept answer, or that of `ask` if what it depends on differs.
    pub(super) async fn or_ask<E>(&self, key: K, ask: impl Future<Output = Result<A, E>>) -> Result<A, E> {
        let kept = {
            let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.as_ref().filter(|(known, _)| *known == key).map(|(_, answer)| answer.clone())
        };
        match kept {
            Some(answer) => Ok(answer),
            None => self.ask(key, ask).await,
        }
    }

    /// The kept answer, whatever became since of what it depends on.
    pub(super) fn kept(&self) -> Option<A> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(_, answer)| answer.clone())
    }

    /// The answer of `ask`, kept.
    pub(super) async fn ask<E>(&self, key: K, ask: impl Future<Output = Result<A, E>>) -> Result<A, E> {
        let answer = ask.await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((key, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[tokio::test]
    async fn asks_again_only_after_a_change_or_a_failure() {
        let remembered = <Remembered>::default();
        let stamps = |seconds| vec![None, Some(UNIX_EPOCH + Duration::from_secs(seconds))];
        let steps = [
            (1, Err("busy"), Err("busy")),
            (1, Ok("a"), Ok("a")),
            (1, Ok("b"), Ok("a")),
            (2, Ok("c"), Ok("c")),
            (1, Err("busy"), Err("busy")),
        ];
        for (seconds, tool, expected) in steps {
            let answer = remembered.or_ask(stamps(seconds), async { tool.map(str::to_owned) }).await;
            assert_eq!(answer.as_deref(), expected.as_ref().map(|&text| text), "{seconds} {tool:?}");
        }
    }
    #[tokio::test]
    async fn whoever_insists_gets_a_new_answer_and_it_is_kept() {
        let remembered = Remembered::<u8, u8>::default();
        for (insists, tool, expected) in [(false, 1, 1), (false, 2, 1), (true, 3, 3), (false, 4, 3)] {
            let ask = async { Ok::<_, ()>(tool) };
            let answer = if insists { remembered.ask(0, ask).await } else { remembered.or_ask(0, ask).await };
            assert_eq!(answer, Ok(expected));
        }
    }
}
