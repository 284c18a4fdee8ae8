// SPDX-License-Identifier: Apache-2.0
//! Two controllers that have clusters of one name in one project.

use super::*;
use crate::provider::openstack::Claimed;

/// A cluster of the controller `a`, with one machine.
async fn of_another() -> Arc<Model> {
    let model = Model::new();
    let other = of_controller("a", &model);
    prepare(&other).await.expect("made");
    other.create(new(fixtures::machine("node1"))).await.expect("made");
    model
}

fn is_refused<T: std::fmt::Debug>(answer: Result<T, ProviderError>) {
    let error = answer.expect_err("another's");
    assert_eq!(error.class(), ErrorClass::Operator);
    assert!(error.to_string().contains("of cluster k8s1 is another controller's, "), "{error}");
    assert!(error.advice().contains("windlass import cluster"), "{error:?}");
}

#[tokio::test]
async fn what_another_controller_made_is_neither_used_nor_changed() {
    let model = of_another().await;
    let (before, changes) = (model.everything(), model.changes());
    let cloud = of_controller("b", &model);
    is_refused(cloud.observe(&cluster()).await);
    is_refused(cloud.shared(&cluster()).await);
    for wanted in shared() {
        is_refused(cloud.prepare(&cluster(), &wanted).await);
    }
    is_refused(cloud.create(new(fixtures::machine("node1"))).await);
    is_refused(cloud.create(new(fixtures::machine("node2"))).await);
    is_refused(cloud.delete(&key("node1")).await);
    is_refused(cloud.power(&key("node1"), PowerAction::Off).await);
    let report = SharedReport { id: "network-1".into(), is: SharedSpec::Network, complete: true };
    is_refused(cloud.clear(&cluster(), &report).await);
    assert_eq!((model.everything(), model.changes()), (before, changes));
    model.add_foreign_server();
    let claimed = Claimed { server: "k8s-node-1".into(), ..Claimed::default() };
    is_refused(cloud.adoption(&fixtures::machine("node1"), &claimed).await.map_err(ProviderError::from));
    let told = cloud.inspect(&KnownNodes::from([(cluster(), BTreeSet::from([key("node1").name]))])).await;
    assert!(told.last().is_some_and(|left| !left.ok && left.detail.contains("server")), "{told:?}");
}

#[tokio::test]
async fn what_is_taken_over_is_this_controllers_and_no_longer_the_others() {
    let model = of_another().await;
    let cloud = of_controller("b", &model);
    let foreign = cloud.foreign(&cluster()).await.expect("it can tell");
    let kinds: BTreeSet<_> = foreign.iter().map(|one| one.kind.to_string()).collect();
    assert_eq!(kinds.len(), 8, "{kinds:?}");
    cloud.claim(&cluster(), &foreign).await.expect("taken over");
    assert!(cloud.foreign(&cluster()).await.expect("it can tell").is_empty());
    is_refused(of_controller("a", &model).observe(&cluster()).await);
    let seen = cloud.observe(&cluster()).await.expect("it can tell");
    assert!(seen.len() == 1 && seen[0].complete && seen[0].spec_hash.is_some(), "{seen:?}");
    cloud.delete(&key("node1")).await.expect("removed");
    clear(&cloud).await;
    assert_eq!(model.everything(), Model::new().everything());
}

#[tokio::test]
async fn taking_over_that_was_interrupted_anywhere_is_finished_by_doing_it_again() {
    for nth in 0.. {
        let model = of_another().await;
        let cloud = of_controller("b", &model);
        let foreign = cloud.foreign(&cluster()).await.expect("it can tell");
        model.lose(model.changes() + nth, model::Loss::Question);
        let is_over = cloud.claim(&cluster(), &foreign).await.is_ok();
        model.lose(usize::MAX, model::Loss::Question);
        if is_over {
            assert!(nth > 5, "every change was lost once");
            return;
        }
        is_refused(cloud.observe(&cluster()).await);
        let rest = cloud.foreign(&cluster()).await.expect("it can tell");
        cloud.claim(&cluster(), &rest).await.expect("the rest");
        assert_eq!(cloud.observe(&cluster()).await.expect("it can tell").len(), 1, "{nth}");
    }
}
