// SPDX-License-Identifier: Apache-2.0
//! The last answer of a slow tool, kept while the files it depends on stay as they are.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// When each file was last changed; `None` if it does not exist.
pub(super) type Stamps = Vec<Option<SystemTime>>;

/// One answer. Failures are not kept.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<Option<(Stamps, String)>>);

impl Remembered {
    /// The kept answer, or that of `ask` if a stamp differs.
    pub(super) async fn or_ask<E>(
        &self,
        stamps: Stamps,
        ask: impl Future<Output = Result<String, E>>,
    ) -> Result<String, E> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, answer)) = kept.filter(|(known, _)| *known == stamps) {
            return Ok(answer);
        }
        let answer = ask.await?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((stamps, answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[tokio::test]
    async fn asks_again_only_after_a_change_or_a_failure() {
        let remembered = Remembered::default();
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
}
