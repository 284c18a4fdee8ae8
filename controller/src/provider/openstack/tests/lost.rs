// SPDX-License-Identifier: Apache-2.0
//! Answers that are lost, and controllers that are killed, at every change that is made of a cloud.

use std::sync::Arc;

use super::model::{Loss, Model};
use super::{OpenstackProvider, clear, cluster, fixtures, is_as_wished, key, new, prepare, provider};
use crate::provider::{Provider as _, ProviderError};

async fn whole(cloud: &OpenstackProvider) -> Result<(), ProviderError> {
    prepare(cloud).await?;
    cloud.create(new(fixtures::machine("node1"))).await.map(drop)
}

async fn calm() -> (usize, Vec<String>) {
    let model = Model::new();
    whole(&provider(&model)).await.expect("made");
    (model.changes(), model.everything())
}

async fn is_whole(model: &Arc<Model>, made: &[String]) {
    let cloud = provider(model);
    assert!(is_as_wished(&cloud).await);
    assert_eq!(model.everything().len(), made.len(), "{:?}\n{made:?}", model.everything());
}

#[tokio::test]
async fn what_was_made_and_not_answered_is_found_and_not_made_twice() {
    let (changes, made) = calm().await;
    assert!(changes > 15, "{changes}");
    for nth in 0..changes {
        let model = Model::new();
        model.lose(nth, Loss::Answer);
        // A change that is not looked for, such as that of a tag, fails and is done again by the next attempt.
        if whole(&provider(&model)).await.is_err() {
            whole(&provider(&model)).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        }
        is_whole(&model, &made).await;
    }
}

#[tokio::test]
async fn a_change_that_was_not_done_and_not_answered_is_made_by_the_next_attempt() {
    let (changes, made) = calm().await;
    for nth in 0..changes {
        let model = Model::new();
        model.lose(nth, Loss::Question);
        if whole(&provider(&model)).await.is_err() {
            whole(&provider(&model)).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        }
        is_whole(&model, &made).await;
    }
}

#[tokio::test]
async fn a_controller_killed_after_any_change_goes_on_and_leaves_nothing_when_it_removes_all() {
    let (changes, made) = calm().await;
    let empty = Model::new().everything();
    for nth in 0..changes {
        let model = Model::new();
        model.lose(nth, Loss::Asker);
        let killed = provider(&model);
        tokio::select! {
            biased;
            () = model.killed() => {}
            ended = whole(&killed) => panic!("{nth}: nobody was killed: {ended:?}"),
        }
        let next = provider(&model);
        if nth % 2 == 0 {
            whole(&next).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
            is_whole(&model, &made).await;
        }
        next.delete(&key("node1")).await.unwrap_or_else(|error| panic!("{nth}: {error}"));
        clear(&next).await;
        assert_eq!(model.everything(), empty, "{nth}");
        assert!(next.observe(&cluster()).await.expect("it can tell").is_empty());
    }
}
