// SPDX-License-Identifier: Apache-2.0
//! Waiting for a cloud. It tells nothing by itself, so it is asked again and again, ever less often.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::OpenstackError;

/// How long a cloud is waited for, and how often it is asked meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Between the first two questions.
    pub(super) first: Duration,
    /// Between two questions at most.
    pub(super) most: Duration,
    /// In all.
    pub(super) limit: Duration,
}

impl Default for Patience {
    /// Servers are there after seconds; a cloud that copies an image to its host first takes minutes.
    fn default() -> Self {
        Self { first: Duration::from_millis(500), most: Duration::from_secs(4), limit: Duration::from_secs(900) }
    }
}

/// How something stands that is waited for.
pub(super) enum Stands<T> {
    /// It is as it should be.
    Done(T),
    /// Not yet: how it is, for people.
    NotYet(String),
}

impl Patience {
    /// Waits until something is as it should be.
    ///
    /// # Errors
    /// If it cannot be asked, never will be, or takes too long.
    pub(super) async fn until<T, F>(self, what: impl Fn() -> String, ask: impl Fn() -> F) -> Result<T, OpenstackError>
    where
        F: Future<Output = Result<Stands<T>, OpenstackError>>,
    {
        let give_up = Instant::now() + self.limit;
        let mut pause = self.first;
        loop {
            let state = match ask().await? {
                Stands::Done(done) => return Ok(done),
                Stands::NotYet(state) => state,
            };
            if Instant::now() + pause > give_up {
                return Err(OpenstackError::TooLong { what: what(), within: self.limit, state });
            }
            sleep(pause).await;
            pause = (pause * 3 / 2).min(self.most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_asked_ever_less_often_and_given_up_in_the_end() {
        let patience = Patience::default();
        let asked = std::sync::Mutex::new(Vec::new());
        let began = Instant::now();
        let ended: Result<(), _> = patience
            .until(
                || "wait for a server".to_owned(),
                || async {
                    asked.lock().expect("not poisoned").push(began.elapsed());
                    Ok(Stands::NotYet("BUILD".to_owned()))
                },
            )
            .await;
        let error = ended.expect_err("it never comes").to_string();
        assert_eq!(error, "wait for a server: not within 900s; it is BUILD still");
        let asked = asked.into_inner().expect("not poisoned");
        assert!(asked.len() < 240 && asked[1] < Duration::from_secs(1), "{}", asked.len());
        assert!(began.elapsed() <= patience.limit);
    }
}
