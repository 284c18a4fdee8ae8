// SPDX-License-Identifier: Apache-2.0
//! Packages and kernels where yum is instead of dnf.

use windlass_types::facts::PackageManager;
use windlass_types::name::on_node::PackageName;
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;
use windlass_types::package::UpdateScope;
use windlass_types::survey::{Found, KernelChannel, KernelWish, SurveyRequest};

use super::packages::{after_a_power_cut, installed, look, outdated, shown, surveyed, update};
use super::{refused, survives_everything, to_the_end};
use crate::host::fake::{FakeHost, ModelPackage};

/// As the other, with yum.
fn with_yum(host: FakeHost) -> FakeHost {
    host.change(|node| node.package_manager = PackageManager { name: "yum".into(), version: "3.4.3".into() });
    host
}

fn old() -> FakeHost {
    with_yum(outdated())
}

fn named(names: &[&str]) -> UpdateScope {
    UpdateScope::Named(names.iter().map(|name| PackageName::new(*name).unwrap()).collect())
}

#[tokio::test]
async fn what_yum_previews_is_what_it_installs_through_everything() {
    let transaction = update(&old()).await;
    assert_eq!(shown(&transaction), ["web.x86_64 1-1 -> 2-1", "words.x86_64 1-1 -> 2-1"]);
    let step = NodeStep::ChangePackages(transaction);
    let effects = survives_everything(old, &step).await;
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    let host = old();
    to_the_end(&host, &step).await.unwrap();
    assert_eq!(look(&host, UpdateScope::All, &[]).await, Found::AsWished);
    let needs_more = old();
    needs_more.change(|node| node.repository[1].needs.push("extra".into()));
    assert_eq!(refused(&needs_more, &step, "now also [extra.x86_64 new, 1-1]").await, ErrorClass::Blocked);
    let gone = old();
    gone.change(|node| node.repository.retain(|package| package.full() != "words-2-1.x86_64"));
    assert_eq!(refused(&gone, &step, "cannot").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_package_that_yum_cannot_find_is_named_though_it_would_go_on_with_the_others() {
    let found = look(&old(), named(&["extra"]), &[]).await;
    assert!(matches!(&found, Found::Due { due } if shown(due) == ["extra.x86_64 new, 1-1"]), "{found:?}");
    for names in [&["unknown"][..], &["extra", "unknown"], &["unknown", "web"]] {
        let found = look(&old(), named(names), &[]).await;
        assert!(matches!(&found, Found::Blocked { reason, .. } if reason.contains("unknown")), "{names:?}: {found:?}");
    }
}

#[tokio::test]
async fn a_transaction_of_yum_that_the_power_ends_is_told_and_finished() {
    let transaction = update(&old()).await;
    for after in 0..=2 {
        let host = after_a_power_cut(old(), &transaction, after).await;
        assert_eq!(surveyed(&host, SurveyRequest::default()).await.interrupted, None, "after {after}");
    }
    let left = || {
        let host = old();
        host.change(|node| drop(node.files.insert("/var/lib/yum/transaction-all.2026".into(), String::new())));
        host
    };
    let told = surveyed(&left(), SurveyRequest::default()).await.interrupted.expect("it is told");
    assert!(told.contains("transaction-all.2026"), "{told}");
    let effects = survives_everything(left, &NodeStep::RepairPackages).await;
    assert_eq!(effects.into_keys().collect::<Vec<_>>(), ["remove /var/lib/yum/transaction-all.2026"]);
}

#[tokio::test]
async fn a_transaction_of_yum_is_undone_as_shown() {
    let updated = || {
        let host = old();
        host.change(|node| {
            let go = std::mem::take(&mut node.packages);
            let mut come = node.repository[3..5].to_vec();
            come.push(node.repository[1].clone());
            node.packages.clone_from(&come);
            node.history.push(crate::host::fake::ModelTransaction { come, go, is_whole: true });
        });
        host
    };
    let asked = SurveyRequest { history: 5, ..SurveyRequest::default() };
    let history = surveyed(&updated(), asked).await.history;
    assert_eq!(history.iter().map(|past| (past.number, past.altered)).collect::<Vec<_>>(), [(1, 3)]);
    let Found::Due { due } = look(&updated(), UpdateScope::Undo(1), &[]).await else { panic!("it can be undone") };
    assert_eq!(shown(&due), ["extra.x86_64 1-1 removed", "web.x86_64 2-1 -> 1-1", "words.x86_64 2-1 -> 1-1"]);
    let step = NodeStep::ChangePackages(due);
    let effects = survives_everything(updated, &step).await;
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    let host = updated();
    to_the_end(&host, &step).await.unwrap();
    assert_eq!(installed(&host), ["web-1-1.x86_64", "words-1-1.x86_64"]);
    assert_eq!(look(&host, UpdateScope::Undo(1), &[]).await, Found::AsWished, "it is undone");
}

#[tokio::test]
async fn only_security_updates_come_with_yum_if_only_they_are_wished() {
    let host = old();
    let found = look(&host, UpdateScope::Security, &[]).await;
    assert!(matches!(&found, Found::Blocked { reason, .. } if reason.contains("no security notices")), "{found:?}");
    host.change(|node| node.repository[3].is_security = true);
    let Found::Due { due } = look(&host, UpdateScope::Security, &[]).await else { panic!("words is due") };
    assert_eq!(shown(&due), ["words.x86_64 1-1 -> 2-1"]);
    assert_eq!(look(&host, UpdateScope::Security, &["words"]).await, Found::AsWished);
}

#[tokio::test]
async fn a_kernel_comes_with_yum_and_an_old_one_goes() {
    let make = || {
        let host = with_yum(FakeHost::new("node1"));
        host.change(|node| {
            let kernel = |version| ModelPackage::new("kernel-lt", version);
            node.packages = ["6.0-1", "6.1-1"].map(kernel).into();
            node.repository = vec![kernel("6.2-1")];
            node.running_kernel = "6.1-1.x86_64".into();
            node.default_kernel = Some("6.1-1.x86_64".into());
            node.kernels = vec!["6.0-1.x86_64".into()];
            node.kernels_become_default = true;
        });
        host
    };
    let kernel = Some(KernelWish { channel: KernelChannel::ElrepoLt, version: None, keep: 0 });
    let asked = SurveyRequest { kernel, ..SurveyRequest::default() };
    let Some(Found::Due { due }) = surveyed(&make(), asked).await.kernel else { panic!("there is a newer one") };
    // yum cannot be asked what a package provides that is not installed.
    assert_eq!(due.release.as_str(), "6.2-1.x86_64");
    let package = due.install.expect("it is to be installed");
    let step = NodeStep::InstallKernel { package, release: due.release, changes: due.changes };
    let effects = survives_everything(make, &step).await;
    assert_eq!(effects["install kernel-lt-6.2-1.x86_64"], 1);
    let effects = survives_everything(make, &NodeStep::PruneKernels { remove: due.prune }).await;
    assert_eq!(effects.into_keys().collect::<Vec<_>>(), ["remove kernel-lt-6.0-1.x86_64"]);
}
