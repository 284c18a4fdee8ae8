// SPDX-License-Identifier: Apache-2.0
//! What differs from a spec is shown; and plans and runs that do not fit the world any more are not carried out: saved ones
//! after something changed on a node, and those of another version of Windlass.

use std::path::Path;

use serde_json::Value;
use windlass_agent::host::fake::ModelPackage;
use windlass_controller::store::{Committed, Store as _, Transaction};
use windlass_plan::Plan;
use windlass_plan::plan::SCHEMA;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::plan_service_client::PlanServiceClient;
use windlass_tests::bastion::Bastion;
use windlass_tests::modelled::ModelledNode;
use windlass_tests::wait::{LONG, wait_until};

use super::fleet::{TRANSACTION, are_well, outdated, shows};
use super::steering::{UPDATE, held_up, times};

const SPEC: &str = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  provider: {existing: {}}\n  \
                    nodes: [{name: node1}, {name: node2}]\n  packages: {update: all}\n  settings:\n    files: [{path: \
                    /etc/motd, content: \"Kept by Windlass\\n\"}]\n";

const MOTD: &str = "/etc/motd";
const KEPT: &str = "Kept by Windlass\n";

/// A version of Windlass that nobody has any more.
const BEFORE: u32 = SCHEMA - 1;

/// Two nodes that have all to become as the spec says, which is beside it.
pub(super) async fn site(bastion: &Bastion) -> (Vec<ModelledNode>, String) {
    let nodes = outdated(bastion, &["node1", "node2"]).await;
    nodes.iter().for_each(|node| set_motd(node, "Welcome\n"));
    (nodes, bastion.write("cluster.yaml", SPEC))
}

fn set_motd(node: &ModelledNode, text: &str) {
    node.host.change(|node| drop(node.files.insert(MOTD.into(), text.to_owned())));
}

fn motd(node: &ModelledNode) -> String {
    node.host.node().files[Path::new(MOTD)].clone()
}

fn version(node: &ModelledNode) -> String {
    node.host.node().packages[0].version.clone()
}

#[track_caller]
fn assert_untouched(nodes: &[ModelledNode]) {
    assert!(nodes.iter().all(|node| node.host.effects().is_empty()), "{nodes:?}");
}

async fn save(bastion: &Bastion, spec: &str) -> String {
    let saved = bastion.path("plan.json").display().to_string();
    bastion.words(&format!("plan -f {spec} -o {saved}")).await.done();
    saved
}

#[tokio::test]
async fn what_differs_from_the_spec_is_shown_node_by_node_and_nothing_is_changed() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = site(&bastion).await;
    let drifted = bastion.words(&format!("diff -f {spec}")).await.ok();
    let all =
        ["0 to add, 4 to change", "on node1, node2:", "/etc/motd", "-Welcome", "+Kept", "words.x86_64 1-1 -> 2-1"];
    for said in all {
        assert!(drifted.contains(said), "no {said:?} in {drifted}");
    }
    assert_eq!(bastion.words(&format!("diff -f {spec} --detailed-exitcode")).await.code, 2);
    assert_untouched(&nodes);
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    let none = bastion.words(&format!("diff -f {spec} --detailed-exitcode")).await;
    assert!(none.code == 0 && none.stdout.contains("nothing to do"), "{none:?}");
    set_motd(&nodes[1], "Mine\n");
    let drifted = bastion.words(&format!("diff -f {spec} --detailed-exitcode")).await;
    assert!(drifted.code == 2 && drifted.stdout.contains("on node2:"), "{drifted:?}");
    assert!(drifted.stdout.contains("-Mine") && !drifted.stdout.contains("node1"), "{drifted:?}");
    let drifted = bastion.words(&format!("diff -f {spec} -o json")).await.json();
    assert_eq!((&drifted["changes"], &drifted["plan"]["steps"][0]["step"]["node"]), (&1.into(), &"node2".into()));
    assert_eq!(motd(&nodes[1]), "Mine\n");
}

#[tokio::test]
async fn a_saved_plan_of_packages_and_settings_is_carried_out_when_nothing_changed_and_only_once() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = site(&bastion).await;
    let saved = save(&bastion, &spec).await;
    assert_untouched(&nodes);
    bastion.words(&format!("apply {saved} --yes")).await.done();
    for node in &nodes {
        assert_eq!((version(node).as_str(), motd(node).as_str()), ("2-1", KEPT));
    }
    let again = bastion.words(&format!("apply {saved} --yes")).await;
    again.assert_refused(4, "set/node1/file:/etc/motd: planned, and no longer needed", "look at a new plan");
    assert!(again.stderr.contains("packages/node2: planned, and no longer needed or possible"), "{again:?}");
    assert_eq!(times(&nodes, UPDATE), [1, 1]);
}

#[tokio::test]
async fn a_saved_plan_is_refused_when_a_nodes_repository_or_packages_or_files_changed_since() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = site(&bastion).await;
    let refused = async |change: &dyn Fn(), cause: &str| {
        let saved = save(&bastion, &spec).await;
        change();
        let refused = bastion.words(&format!("apply {saved} --yes")).await;
        refused.assert_refused(4, "the world is not as it was when this plan was made", "look at a new plan");
        refused.assert_refused(4, cause, "and apply that");
        assert_untouched(&nodes);
    };
    let newer = || nodes[0].host.change(|node| node.repository.push(ModelPackage::new("words", "3-1")));
    refused(&newer, "packages/node1: would be done with other particulars now").await;
    let updated = || nodes[1].host.change(|node| node.packages = vec![ModelPackage::new("words", "2-1")]);
    refused(&updated, "packages/node2: planned, and no longer needed or possible").await;
    refused(&|| set_motd(&nodes[1], "Mine\n"), "set/node2/file:/etc/motd: would be done with other particulars now")
        .await;
    let saved = save(&bastion, &spec).await;
    bastion.words(&format!("apply {saved} --yes")).await.done();
    assert_eq!(nodes.iter().map(version).collect::<Vec<_>>(), ["3-1", "2-1"]);
    assert_eq!(nodes.iter().map(motd).collect::<Vec<_>>(), [KEPT, KEPT]);
}

#[tokio::test]
async fn a_saved_plan_of_another_version_is_refused_by_the_command_line() {
    let bastion = Bastion::start().await;
    let (nodes, spec) = site(&bastion).await;
    let saved = std::fs::read_to_string(save(&bastion, &spec).await).expect("saved");
    let (now, before) = (format!("\"schema\": {SCHEMA}"), format!("\"schema\": {BEFORE}"));
    assert_eq!(saved.matches(&now).count(), 1, "{saved}");
    let old = bastion.write("old.json", &saved.replace(&now, &before));
    let refused = bastion.words(&format!("apply {old} --yes")).await;
    refused.assert_refused(78, "it is of another version", "windlass plan -f FILE -o PLANFILE");
    assert_untouched(&nodes);
}

#[tokio::test]
async fn a_plan_of_another_version_is_refused_by_the_controller_although_its_hash_is_right() {
    let bastion = Bastion::start().await;
    let (nodes, _) = site(&bastion).await;
    let mut plans = PlanServiceClient::new(bastion.channel().await);
    let spec = v1::ClusterSpec { text: SPEC.to_owned(), ..v1::ClusterSpec::default() };
    let request = v1::PlanClusterRequest { wish: Some(v1::plan_cluster_request::Wish::Spec(spec)) };
    let shown = plans.plan_cluster(request.clone()).await.expect("a plan").into_inner();
    let plan: Plan = serde_json::from_str(&shown.plan).expect("a plan");
    let old = Plan { schema: BEFORE, ..plan };
    let apply = v1::ApplyPlanRequest {
        request: Some(request),
        plan: serde_json::to_string(&old).expect("JSON"),
        sha256: old.hash().as_bytes().to_vec().into(),
        confirmation: String::new(),
    };
    let refused = plans.apply_plan(apply).await.expect_err("it is of another version");
    let refused = Refusal::from_status(&refused);
    assert_eq!(
        (refused.reason, refused.message.as_str()),
        (Reason::BadRequest, "the plan is damaged, or of another version")
    );
    assert_eq!(refused.advice, "make a new one with `windlass plan -o FILE`");
    assert_untouched(&nodes);
}

/// Has the stored run be one that another version of Windlass planned. The controller is down.
async fn planned_before(bastion: &Bastion) {
    rewritten(bastion, |run| {
        assert_eq!(run["plan"]["schema"], SCHEMA);
        run["plan"]["schema"] = BEFORE.into();
    })
    .await;
}

/// Changes the stored run. The controller is down.
async fn rewritten(bastion: &Bastion, change: impl FnOnce(&mut Value)) {
    let (disk, key) = (bastion.disk(), format!("runs/{:0>20}", 1));
    let stored = disk.get(&key).await.expect("readable").expect("a run");
    let mut run: Value = serde_json::from_slice(&stored.value).expect("JSON");
    change(&mut run);
    let written = disk.commit(Transaction::new().put(key, run.to_string())).await.expect("there is room");
    assert!(matches!(written, Committed::Yes(_)));
}

#[tokio::test]
async fn a_run_that_another_version_planned_is_brought_to_its_end_and_gives_way_to_a_new_plan() {
    let mut bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1", "node2"]).await;
    held_up(&bastion, &nodes).await;
    bastion.kill9().await;
    nodes[0].hold_programs(None);
    wait_until("node1 is updated", LONG, || async { version(&nodes[0]) == "2-1" }).await;
    planned_before(&bastion).await;
    bastion.restart().await;
    shows(&bastion, "run show r1", "by root@localhost: stopped").await;
    shows(&bastion, "events", "run r1 was planned by another version of Windlass").await;
    are_well(&bastion, 2).await;
    assert_eq!(times(&nodes, UPDATE), [1, 0], "no further node is begun");
    let retried = bastion.words("run retry r1").await;
    retried.assert_refused(64, "run r1 was planned by another version of Windlass", "release what it holds");
    let shown = bastion.words("run show r1").await.ok();
    assert!(shown.contains("holds node1"), "nobody looked at it since: {shown}");
    bastion.words("node release node1 --reason looked-at").await.done();
    bastion.words("update packages --all --yes").await.done();
    assert_eq!(times(&nodes, UPDATE), [1, 1]);
}

/// A run that has node1 in hand, of which something is as no version of Windlass has written it.
async fn is_given_up(damage: impl AsyncFnOnce(&Bastion)) {
    let mut bastion = Bastion::start().await;
    let nodes = outdated(&bastion, &["node1", "node2"]).await;
    nodes[0].hold_programs(TRANSACTION);
    let begun = bastion.words("update packages node1 --yes --detach").await;
    assert_eq!((begun.code, begun.stdout.as_str()), (7, "r1\n"), "{begun:?}");
    nodes[0].until_program_is_held().await;
    bastion.kill9().await;
    damage(&bastion).await;
    bastion.restart().await;
    nodes[0].hold_programs(None);
    shows(&bastion, "events", "run r1 does not go on, and keeps what it has").await;
    are_well(&bastion, 2).await;
    let shown = bastion.words("run show r1").await;
    shown.assert_refused(1, "is not one that this version of Windlass understands", "windlass run stop RUN");
    bastion.words("reboot node1 --yes").await.assert_refused(6, "run r1 is under way on node1", "windlass run stop r1");
    let begun = bastion.words("update packages node2 --yes --detach").await;
    assert_eq!((begun.code, begun.stdout.as_str()), (7, "r2\n"), "{begun:?}");
    shows(&bastion, "run show r2", "1 down or in hand, and 1 may be: node1").await;
    let listed = bastion.words("run list").await.ok();
    assert!(listed.contains("r2") && !listed.contains("r1"), "{listed}");
    let stopped = bastion.words("run stop r1").await.ok();
    assert!(stopped.contains("run r1 has ended"), "{stopped}");
    assert!(bastion.words("run show r1").await.ok().contains("holds node1"), "nobody looked at it since");
    bastion.words("node release node1 --reason looked-at").await.done();
    bastion.words("run attach r2").await.done();
    bastion.words("reboot node1 --yes").await.done();
    assert_eq!(times(&nodes, UPDATE), [1, 1]);
}

#[tokio::test]
async fn a_run_that_cannot_be_understood_keeps_what_it_has_until_it_is_given_up() {
    is_given_up(async |bastion| rewritten(bastion, |run| run["plan"] = "of a later version".into()).await).await;
}

#[tokio::test]
async fn a_run_with_a_step_that_cannot_be_understood_keeps_what_it_has_until_it_is_given_up() {
    let damage = async |bastion: &Bastion| {
        let written = Transaction::new().put("run-steps/r1/packages/node1", "of a later version");
        assert!(matches!(bastion.disk().commit(written).await.expect("there is room"), Committed::Yes(_)));
    };
    is_given_up(damage).await;
}
