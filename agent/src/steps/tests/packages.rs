// SPDX-License-Identifier: Apache-2.0
//! Packages, interrupted transactions and services.

use windlass_types::name::on_node::{PackageName, UnitName};
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;
use windlass_types::package::{PackagesWish, Transaction, UpdateScope};
use windlass_types::survey::{Found, Survey, SurveyRequest};

use super::{refused, survives_everything, to_the_end};
use crate::host::dnf::history::LOCKS;
use crate::host::fake::{FakeHost, ModelPackage, ModelTransaction};

/// Two packages of which one needs the other, installed in version 1; the repository has version 2.
pub(super) fn outdated() -> FakeHost {
    let host = FakeHost::new("node1");
    host.change(|node| {
        let web = |version| ModelPackage { needs: vec!["words".into()], ..ModelPackage::new("web", version) };
        node.packages = vec![web("1-1"), ModelPackage::new("words", "1-1")];
        node.repository = vec![
            web("1-1"),
            web("2-1"),
            ModelPackage::new("words", "1-1"),
            ModelPackage::new("words", "2-1"),
            ModelPackage::new("extra", "1-1"),
        ];
    });
    host
}

pub(super) async fn surveyed(host: &FakeHost, request: SurveyRequest) -> Survey {
    let answer = to_the_end(host, &NodeStep::Survey(Box::new(request))).await.unwrap();
    serde_json::from_str(&answer.output).unwrap()
}

pub(super) async fn look(host: &FakeHost, update: UpdateScope, exclude: &[&str]) -> Found<Transaction> {
    let exclude = exclude.iter().map(|name| PackageName::new(*name).unwrap()).collect();
    let packages = Some(PackagesWish { update, exclude });
    surveyed(host, SurveyRequest { packages, refresh: true, ..SurveyRequest::default() }).await.packages.unwrap()
}

pub(super) async fn update(host: &FakeHost) -> Transaction {
    let found = look(host, UpdateScope::All, &[]).await;
    let Found::Due { due } = found else { panic!("{found:?}") };
    due
}

pub(super) fn shown(transaction: &Transaction) -> Vec<String> {
    transaction.changes.iter().map(ToString::to_string).collect()
}

pub(super) fn installed(host: &FakeHost) -> Vec<String> {
    host.node().packages.iter().map(ModelPackage::full).collect()
}

#[tokio::test]
async fn what_was_previewed_is_what_is_installed() {
    let host = outdated();
    let transaction = update(&host).await;
    assert_eq!(shown(&transaction), ["web.x86_64 1-1 -> 2-1", "words.x86_64 1-1 -> 2-1"]);
    assert!(host.effects().is_empty(), "a preview changes nothing");
    // In between something newer has come: what was planned is installed, not that.
    host.change(|node| node.repository.push(ModelPackage::new("words", "3-1")));
    to_the_end(&host, &NodeStep::ChangePackages(transaction)).await.unwrap();
    assert_eq!(installed(&host), ["web-2-1.x86_64", "words-2-1.x86_64"]);
}

#[tokio::test]
async fn only_security_updates_come_if_only_they_are_wished() {
    let with_notices_about = |noticed: &'static [&str]| {
        let host = outdated();
        host.change(|node| {
            let repository = node.repository.iter_mut();
            repository.for_each(|package| package.is_security = noticed.contains(&package.full().as_str()));
        });
        host
    };
    let host = with_notices_about(&["words-2-1.x86_64"]);
    let Found::Due { due } = look(&host, UpdateScope::Security, &[]).await else { panic!("words is due") };
    assert_eq!(shown(&due), ["words.x86_64 1-1 -> 2-1"]);
    assert_eq!(look(&host, UpdateScope::Security, &["words"]).await, Found::AsWished);
    let mended = with_notices_about(&["words-1-1.x86_64"]);
    assert_eq!(look(&mended, UpdateScope::Security, &[]).await, Found::AsWished);
    let found = look(&outdated(), UpdateScope::Security, &[]).await;
    let Found::Blocked { reason, advice } = found else { panic!("{found:?}") };
    assert!(reason.contains("no security notices") && advice.contains("without --security"), "{reason}: {advice}");
}

#[tokio::test]
async fn a_transaction_survives_everything() {
    let step = NodeStep::ChangePackages(update(&outdated()).await);
    let effects = survives_everything(outdated, &step).await;
    assert_eq!(effects["install web-2-1.x86_64"], 1);
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
}

#[tokio::test]
async fn a_repository_that_changed_in_between_stops_the_step() {
    let transaction = update(&outdated()).await;
    let step = NodeStep::ChangePackages(transaction);
    let gone = outdated();
    gone.change(|node| node.repository.retain(|package| package.full() != "words-2-1.x86_64"));
    assert_eq!(refused(&gone, &step, "cannot").await, ErrorClass::Blocked);
    let needs_more = outdated();
    needs_more.change(|node| {
        node.repository
            .iter_mut()
            .filter(|package| package.name == "web")
            .for_each(|web| web.needs.push("extra".into()));
    });
    assert_eq!(refused(&needs_more, &step, "now also [extra.x86_64 new, 1-1]").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_package_that_changed_in_between_stops_the_step() {
    let step = NodeStep::ChangePackages(update(&outdated()).await);
    let host = outdated();
    host.change(|node| node.packages[0].version = "1-7".into());
    assert_eq!(refused(&host, &step, "web is neither 1-1").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_package_that_comes_while_others_are_fetched_stops_the_step() {
    let host = outdated();
    let step = NodeStep::ChangePackages(update(&host).await);
    host.change(|node| node.comes_meanwhile = Some(ModelPackage::new("extra", "1-1")));
    let error = to_the_end(&host, &step).await.unwrap_err();
    assert!(error.class() == ErrorClass::Blocked && error.to_string().contains("while these were fetched"), "{error}");
    assert!(host.effects().is_empty(), "{:?}", host.effects());
}

#[tokio::test]
async fn a_repository_that_is_away_and_may_be_costs_no_third_start_of_dnf() {
    let (host, without) = (outdated(), outdated());
    host.change(|node| node.repository_is_skipped = true);
    assert_eq!(shown(&update(&host).await), shown(&update(&without).await), "the others are looked at");
    assert_eq!(host.acts(), without.acts() + 1, "once together, and once for the repositories alone");
}

#[tokio::test]
async fn what_did_not_change_is_asked_once_by_one_agent() {
    let host = outdated();
    let transaction = update(&host).await;
    let started = async || {
        let before = host.acts();
        surveyed(&host, SurveyRequest::default()).await;
        host.acts() - before
    };
    let again = started().await;
    host.change(|node| node.packages.push(ModelPackage::new("extra", "1-1")));
    assert!(started().await > again, "what is installed is another");
    assert_eq!(started().await, again);
    to_the_end(&host, &NodeStep::ChangePackages(transaction)).await.unwrap();
    assert_eq!(look(&host, UpdateScope::All, &[]).await, Found::AsWished, "what changed is seen");
}

/// A node on which the power fails after so much of a transaction, and which has brought it to its end.
pub(super) async fn after_a_power_cut(host: FakeHost, transaction: &Transaction, after: usize) -> FakeHost {
    host.change(|node| node.power_fails_after = Some(after));
    to_the_end(&host, &NodeStep::ChangePackages(transaction.clone())).await.unwrap();
    assert_eq!(installed(&host), ["web-2-1.x86_64", "words-2-1.x86_64"], "after {after}");
    host
}

#[tokio::test]
async fn power_that_fails_within_a_transaction_leaves_nothing_half() {
    let transaction = update(&outdated()).await;
    for after in 0..=2 {
        let host = after_a_power_cut(outdated(), &transaction, after).await;
        let installs = host.effects().into_iter().filter(|(effect, _)| effect.starts_with("install "));
        assert!(installs.map(|(_, count)| count).eq([1, 1]), "after {after}: {:?}", host.effects());
        // What had come by then is installed once more: its scripts may have been cut off.
        let again = host.effects().into_iter().filter(|(effect, _)| effect.starts_with("reinstall "));
        assert_eq!(again.map(|(_, count)| count).sum::<u64>(), after as u64, "after {after}: {:?}", host.effects());
    }
}

/// The power failed when everything was there and nothing had gone, and somebody took out what was there twice.
fn unended() -> FakeHost {
    let host = outdated();
    host.change(|node| {
        let (old, new) = (node.packages.clone(), node.repository[1..4].to_vec());
        node.packages = vec![new[0].clone(), new[2].clone()];
        node.history = vec![ModelTransaction { come: node.packages.clone(), go: old, is_whole: false }];
    });
    host
}

#[tokio::test]
async fn a_transaction_without_an_end_is_told_and_what_it_brought_is_installed_once_more() {
    let survey = surveyed(&unended(), SurveyRequest::default()).await;
    let told = survey.interrupted.expect("it is told");
    assert!(told.contains("transaction 1 of dnf has no end: 2 of its 2 packages came"), "{told}");
    let effects = survives_everything(unended, &NodeStep::RepairPackages).await;
    let again = ["reinstall web-2-1.x86_64", "reinstall words-2-1.x86_64"].map(|effect| (effect.to_owned(), 1));
    assert_eq!(effects.into_iter().collect::<Vec<_>>(), again);
    for (lock, program) in LOCKS.into_iter().zip(["/usr/bin/dnf\0upgrade", "/usr/bin/python\0/usr/bin/yum\0update"]) {
        let at_work = unended();
        at_work.change(|node| {
            node.files.insert(lock.into(), "4242\n".into());
            node.files.insert("/proc/4242/cmdline".into(), program.into());
            // As in the middle of it: the new one is there, and the old one still.
            node.packages.extend(node.history[0].go.clone());
        });
        assert_eq!(surveyed(&at_work, SurveyRequest::default()).await.interrupted, None, "it goes on");
        assert!(!to_the_end(&at_work, &NodeStep::RepairPackages).await.unwrap().changed, "it is not mended meanwhile");
    }
    let by_another_name = unended();
    by_another_name.change(|node| node.rpm_is_at_work = true);
    assert_eq!(surveyed(&by_another_name, SurveyRequest::default()).await.interrupted, None, "PackageKit goes on");
    let nothing_came = unended();
    nothing_came.change(|node| node.packages = node.history[0].go.clone());
    assert_eq!(surveyed(&nothing_came, SurveyRequest::default()).await.interrupted, None);
    let gone = unended();
    gone.change(|node| node.repository.clear());
    let error = to_the_end(&gone, &NodeStep::RepairPackages).await.expect_err("it cannot be had");
    assert!(error.to_string().contains("web-2-1.x86_64"), "{error}");
    // What a person can do then: any newer transaction that comes to its end.
    gone.change(|node| node.history.push(ModelTransaction { is_whole: true, ..ModelTransaction::default() }));
    assert!(!to_the_end(&gone, &NodeStep::RepairPackages).await.unwrap().changed);
}

#[tokio::test]
async fn a_transaction_is_undone_as_shown_and_what_is_installed_and_was_done_is_told() {
    let undo = NodeStep::ChangePackages(update(&outdated()).await);
    let updated = async || {
        let host = outdated();
        to_the_end(&host, &undo).await.unwrap();
        host
    };
    let host = updated().await;
    let asked = SurveyRequest { list: true, history: 5, ..SurveyRequest::default() };
    let survey = surveyed(&host, asked).await;
    assert_eq!(survey.installed.iter().map(ToString::to_string).collect::<Vec<_>>(), installed(&host));
    assert_eq!(survey.history.iter().map(|past| (past.number, past.is_whole)).collect::<Vec<_>>(), [(1, true)]);
    let Found::Due { due } = look(&host, UpdateScope::Undo(1), &[]).await else { panic!("it can be undone") };
    assert_eq!(shown(&due), ["web.x86_64 2-1 -> 1-1", "words.x86_64 2-1 -> 1-1"]);
    to_the_end(&host, &NodeStep::ChangePackages(due)).await.unwrap();
    assert_eq!(installed(&host), ["web-1-1.x86_64", "words-1-1.x86_64"]);
    assert_eq!(look(&host, UpdateScope::Undo(1), &[]).await, Found::AsWished, "it is undone");
    assert!(
        matches!(look(&host, UpdateScope::Undo(9), &[]).await, Found::Blocked { reason, .. } if reason.contains("9"))
    );
}

#[tokio::test]
async fn neither_a_kernel_nor_the_agent_goes_by_an_undo() {
    for (package, why) in [("kernel-core", "kernel-core belongs to a kernel"), ("windlass-agent", "would be removed")] {
        let host = outdated();
        host.change(|node| {
            let came = ModelPackage::new(package, "1-1");
            node.packages.push(came.clone());
            node.history = vec![ModelTransaction { come: vec![came], go: Vec::new(), is_whole: true }];
        });
        let found = look(&host, UpdateScope::Undo(1), &[]).await;
        assert!(matches!(&found, Found::Blocked { reason, .. } if reason.contains(why)), "{found:?}");
    }
}

#[tokio::test]
async fn what_somebody_elses_transaction_left_is_told_and_mended() {
    let half = || {
        let host = outdated();
        host.change(|node| node.packages.push(ModelPackage::new("words", "2-1")));
        host
    };
    let survey = surveyed(&half(), SurveyRequest::default()).await;
    assert!(survey.interrupted.is_some_and(|text| text.contains("words-1-1.x86_64")));
    let effects = survives_everything(half, &NodeStep::RepairPackages).await;
    assert_eq!(effects.into_iter().collect::<Vec<_>>(), [("erase words-1-1.x86_64".to_owned(), 1)]);
    let whole = to_the_end(&outdated(), &NodeStep::RepairPackages).await.unwrap();
    assert!(!whole.changed);
}

#[tokio::test]
async fn kernels_and_what_is_held_are_not_updated() {
    let host = outdated();
    host.change(|node| {
        node.packages.push(ModelPackage::new("kernel-lt", "6.1-1"));
        node.repository.push(ModelPackage::new("kernel-lt", "6.2-1"));
    });
    assert_eq!(shown(&update(&host).await).len(), 2);
    let held = look(&host, UpdateScope::All, &["web", "words"]).await;
    assert_eq!(held, Found::AsWished);
    let named = look(&host, UpdateScope::Named(vec![PackageName::new("extra").unwrap()]), &[]).await;
    assert!(matches!(named, Found::Due { due } if shown(&due) == ["extra.x86_64 new, 1-1"]));
    let unknown = look(&host, UpdateScope::Named(vec![PackageName::new("unknown").unwrap()]), &[]).await;
    assert!(matches!(unknown, Found::Blocked { reason, .. } if reason.contains("unknown")));
}

#[tokio::test]
async fn a_service_whose_package_is_about_to_be_replaced_is_named_with_the_others() {
    let host = outdated();
    host.change(|node| node.services[0].unit = "web.service".into());
    let ask = |exclude: &[&str]| SurveyRequest {
        packages: Some(PackagesWish {
            update: UpdateScope::All,
            exclude: exclude.iter().map(|n| PackageName::new(*n).unwrap()).collect(),
        }),
        ..SurveyRequest::default()
    };
    assert_eq!(surveyed(&host, ask(&[])).await.outdated_services, [UnitName::new("web.service").unwrap()]);
    assert_eq!(surveyed(&host, ask(&["web"])).await.outdated_services, []);
    assert_eq!(surveyed(&host, SurveyRequest::default()).await.outdated_services, []);
}

/// A node with a service that was started before its package was installed.
fn with_outdated_service(unit: &str) -> FakeHost {
    let host = outdated();
    host.advance(std::time::Duration::from_secs(60));
    host.change(|node| {
        node.services[0].unit = unit.into();
        // The model's packages have the services that are called like them.
        node.packages[0].name = unit.split(['@', '.']).next().unwrap().into();
        node.packages[0].at = node.now.0 / 1000 - 5;
        node.packages.push(ModelPackage { at: node.now.0 / 1000, ..ModelPackage::new("glibc", "2.34-1") });
    });
    host
}

#[tokio::test]
async fn a_service_that_is_older_than_its_package_is_restarted_once() {
    let unit = UnitName::new("web.service").unwrap();
    let make = || with_outdated_service("web.service");
    let survey = surveyed(&make(), SurveyRequest::default()).await;
    assert_eq!(survey.outdated_services, std::slice::from_ref(&unit));
    assert_eq!(survey.reboot_reasons, ["glibc-2.34-1.x86_64 was installed after the node was booted"]);
    let effects = survives_everything(make, &NodeStep::RestartServices { units: vec![unit] }).await;
    assert_eq!(effects["restart web.service"], 1);
    let instance = surveyed(&with_outdated_service("web@1.service"), SurveyRequest::default()).await;
    assert_eq!(instance.outdated_services, [UnitName::new("web@1.service").unwrap()]);
}

#[tokio::test]
async fn what_would_end_a_session_or_ourselves_is_never_restarted_even_if_it_is_named() {
    let sessions = ["user@1000.service", "getty@tty1.service", "serial-getty@ttyS0.service"];
    let others = ["windlass-executor.service", "windlass-agent.service", "dbus.service", "systemd-logind.service"];
    for unit in others.into_iter().chain(sessions) {
        let host = with_outdated_service(unit);
        assert_eq!(surveyed(&host, SurveyRequest::default()).await.outdated_services, []);
        let step = NodeStep::RestartServices { units: vec![UnitName::new(unit).unwrap()] };
        assert!(!to_the_end(&host, &step).await.unwrap().changed, "{unit}");
    }
}

#[tokio::test]
async fn a_transaction_is_undone_once_wherever_the_agent_is_killed() {
    let updated = || {
        let host = outdated();
        host.change(|node| {
            let web = |version| ModelPackage { needs: vec!["words".into()], ..ModelPackage::new("web", version) };
            let words = |version| ModelPackage::new("words", version);
            node.packages = vec![web("2-1"), words("2-1"), ModelPackage::new("extra", "1-1")];
            let come = vec![ModelPackage::new("extra", "1-1"), web("2-1"), words("2-1")];
            let go = vec![web("1-1"), words("1-1")];
            node.history.push(ModelTransaction { come, go, is_whole: true });
        });
        host
    };
    let found = look(&updated(), UpdateScope::Undo(1), &[]).await;
    let Found::Due { due } = found else { panic!("{found:?}") };
    assert_eq!(shown(&due), ["extra.x86_64 1-1 removed", "web.x86_64 2-1 -> 1-1", "words.x86_64 2-1 -> 1-1"]);
    let step = NodeStep::ChangePackages(due);
    let effects = survives_everything(updated, &step).await;
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    let host = updated();
    to_the_end(&host, &step).await.unwrap();
    assert_eq!(installed(&host), ["web-1-1.x86_64", "words-1-1.x86_64"]);
}

#[tokio::test]
async fn a_mirror_that_is_away_may_come_back_and_what_it_does_not_have_any_more_does_not() {
    let host = outdated();
    let step = NodeStep::ChangePackages(update(&host).await);
    host.change(|node| node.repositories_are_down = true);
    assert_eq!(refused(&host, &step, "cannot be fetched").await, ErrorClass::Transient);
    host.change(|node| {
        node.repositories_are_down = false;
        node.repository.retain(|package| package.version == "1-1");
    });
    assert_eq!(refused(&host, &step, "plan again").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_database_that_cannot_be_read_is_told_and_mended_before_anything_else() {
    let host = outdated();
    let transaction = update(&host).await;
    let breaks = || host.change(|node| node.database_is_broken = true);
    breaks();
    let packages = Some(PackagesWish { update: UpdateScope::All, exclude: Vec::new() });
    let found = surveyed(&host, SurveyRequest { packages, refresh: true, ..SurveyRequest::default() }).await;
    assert!(found.is_unreadable && found.interrupted.is_some() && found.packages == Some(Found::AsWished), "{found:?}");
    let list = NodeStep::Survey(Box::new(SurveyRequest { list: true, ..SurveyRequest::default() }));
    let error = to_the_end(&host, &list).await.unwrap_err().to_string();
    assert!(error.contains("cannot open Packages database"), "an empty list would be a lie: {error}");
    let broken = || {
        let host = outdated();
        host.change(|node| node.database_is_broken = true);
        host
    };
    survives_everything(broken, &NodeStep::RepairPackages).await;
    to_the_end(&host, &NodeStep::ChangePackages(transaction)).await.unwrap();
    assert_eq!(installed(&host), ["web-2-1.x86_64", "words-2-1.x86_64"]);
}
