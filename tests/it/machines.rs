// SPDX-License-Identifier: Apache-2.0
//! A cluster's machines from nothing to healthy nodes and back, with the real command line and real agents. The machines
//! themselves are models: what a real one does is seen in the lab.

use std::time::Duration;

use nix::sys::signal::Signal;
use windlass_controller::client::{Target, connect};
use windlass_controller::store::Store as _;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::plan_service_client::PlanServiceClient;
use windlass_tests::agent::Agent;
use windlass_tests::bastion::Bastion;
use windlass_tests::controller::Controller;
use windlass_tests::fake_provider::Guest;
use windlass_tests::process::Running;
use windlass_tests::wait::{LONG, wait_until};

const THREE: [&str; 3] = ["{name: node1, roles: [worker]}", "{name: node2}", "{name: node3}"];

/// The names of nodes that are healthy.
async fn healthy(bastion: &Bastion) -> Vec<String> {
    let nodes = bastion.words("get nodes -o json").await.json();
    let items = nodes["items"].as_array().cloned().unwrap_or_default();
    let is_healthy = |node: &&serde_json::Value| windlass_tests::agent::holds(node, "healthy");
    items.iter().filter(is_healthy).filter_map(|node| node["name"].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn three_machines_become_healthy_nodes_and_planning_again_is_empty() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE);
    let planned = bastion.words(&format!("plan -f {spec} --detailed-exitcode")).await;
    assert_eq!(planned.code, 2, "{planned:?}");
    assert!(planned.stdout.contains("3 to add, 0 to change, 0 to destroy"), "{planned:?}");
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    for stage in ["created", "booting", "cloud-init", "agent-installed", "enrolled", "healthy"] {
        assert!(applied.stderr.contains(&format!("node2: {stage} after ")), "{stage}: {applied:?}");
    }
    assert!(applied.stdout.contains("node1") && applied.stderr.contains("next: "), "{applied:?}");
    assert!(applied.stderr.contains("NODE   CREATED  BOOTING  CLOUD-INIT  INSTALLED"), "no summary: {applied:?}");
    assert!(!applied.stdout.contains('\u{1b}') && !applied.stderr.contains('\u{1b}'), "{applied:?}");
    assert_eq!(healthy(&bastion).await, ["node1", "node2", "node3"]);
    assert!(bastion.provider.is_sealed("node1"), "the used token stays in the user-data");
    let labelled = bastion.words("get nodes -l role/worker=yes -o name").await.ok();
    assert_eq!(labelled, "node1\n");
    let again = bastion.words(&format!("plan -f {spec} --detailed-exitcode")).await;
    assert!(again.code == 0 && again.stdout.contains("nothing to do"), "{again:?}");
    let machines = bastion.words("get machines -o json").await.json();
    assert_eq!(machines["items"].as_array().map(Vec::len), Some(3), "{machines}");
    assert_eq!(machines["items"][0]["joined"], true, "{machines}");
}

#[tokio::test]
async fn no_token_is_kept_or_shown_outside_of_the_machine() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE[..1]);
    let applied = bastion.words(&format!("apply -f {spec} --yes -o json")).await;
    assert_eq!(applied.code, 0, "{applied:?}");
    let secret = bastion.provider.secret("node1");
    assert_eq!(secret.len(), 64, "half an hour is enough to guess a short one");
    let everything = bastion.disk().range("", None, usize::MAX).await.expect("readable");
    let kept = everything.iter().any(|entry| String::from_utf8_lossy(&entry.value).contains(&secret));
    assert!(!kept && !applied.stdout.contains(&secret) && !applied.stderr.contains(&secret));
    assert!(applied.stdout.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{applied:?}");
}

#[tokio::test]
async fn destroying_needs_the_name_and_removes_what_we_made_and_nothing_else() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE[..2]);
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    bastion.words("token create other").await.done();
    bastion.provider.add_foreign(foreign());
    let unconfirmed = bastion.words(&format!("destroy -f {spec}")).await;
    unconfirmed.assert_refused(64, "destroys 2 nodes of k8s1", "--confirm k8s1");
    let wrong = bastion.words(&format!("destroy -f {spec} --confirm k8s2")).await;
    wrong.assert_refused(64, "nothing was changed", "k8s1");
    let one = bastion.words("destroy --cluster k8s1 --node node1 --confirm k8s1").await;
    assert_eq!((one.code, bastion.provider.names()), (0, vec!["foreign-vm".into(), "node2".to_owned()]), "{one:?}");
    assert_eq!(healthy(&bastion).await, ["node2"]);
    bastion.words(&format!("destroy -f {spec} --confirm k8s1")).await.done();
    assert_eq!(bastion.provider.names(), ["foreign-vm"]);
    assert!(bastion.words("get nodes -o name").await.ok().is_empty());
    let nothing = bastion.words(&format!("destroy -f {spec} --confirm k8s1")).await;
    assert!(nothing.code == 0 && nothing.stderr.contains("nothing to do"), "{nothing:?}");
}

/// A machine that somebody else made with the same provider.
fn foreign() -> windlass_types::machine::MachineReport {
    use windlass_types::machine::{MachineReport, PowerState};
    MachineReport {
        parts: Vec::new(),
        id: "foreign.vm".parse().expect("an id"),
        name: "foreign-vm".parse().expect("a name"),
        cluster: None,
        power: PowerState::On,
        note: None,
        complete: true,
        adopted: false,
        disks: Vec::new(),
        addresses: Vec::new(),
        accel: None,
        created_at: windlass_types::time::UnixMillis(1),
        spec_hash: None,
        spec: None,
    }
}

#[tokio::test]
async fn the_controller_itself_wants_the_name_before_it_destroys() {
    let bastion = Bastion::start().await;
    bastion.words(&format!("apply -f {} --yes", bastion.spec(&THREE[..1]))).await.done();
    let connected = connect(&Target::Socket(bastion.path("windlass.sock"))).await.expect("connected");
    let mut plans = PlanServiceClient::new(connected.channel);
    let destruction = v1::Destruction { cluster: "k8s1".into(), ..v1::Destruction::default() };
    let request = v1::PlanClusterRequest { wish: Some(v1::plan_cluster_request::Wish::Destruction(destruction)) };
    let shown = plans.plan_cluster(request.clone()).await.expect("a plan").into_inner();
    for confirmation in ["", "k8s2", "node1"] {
        let apply = v1::ApplyPlanRequest {
            request: Some(request.clone()),
            plan: shown.plan.clone(),
            sha256: shown.sha256.clone(),
            confirmation: confirmation.into(),
        };
        let refused = plans.apply_plan(apply).await.expect_err("not confirmed");
        assert_eq!(Refusal::from_status(&refused).reason, Reason::Unsafe, "{refused:?}");
    }
    assert_eq!(bastion.provider.names(), ["node1"]);
}

#[tokio::test]
async fn one_bad_node_holds_up_no_other_and_is_shown_with_its_console_and_a_next_step() {
    let bastion = Bastion::start().await;
    bastion.provider.behave("node2", Guest::WrongSignature);
    let spec = bastion.spec(&THREE);
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert_eq!(applied.code, 3, "{applied:?}");
    assert!(applied.stderr.contains("create/node2 failed: wrong-signature: GPG check FAILED"), "{applied:?}");
    assert!(applied.stderr.contains("    Error: GPG check FAILED"), "no console: {applied:?}");
    assert!(applied.stderr.contains("do: see that the key in the spec"), "no next step: {applied:?}");
    assert_eq!(healthy(&bastion).await, ["node1", "node3"]);
}

#[tokio::test]
async fn a_machine_whose_first_boot_gave_up_tries_again_with_the_next_apply() {
    let bastion = Bastion::start().await;
    bastion.provider.behave("node1", Guest::WrongSignature);
    let spec = bastion.spec(&THREE[..1]);
    let failed = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(failed.code == 1 && failed.stderr.contains("then windlass apply lets it try again"), "{failed:?}");
    // Nothing was mended: the same failure again, from a second try and not from what stands on the console already.
    let failed = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(
        failed.code == 1 && failed.stderr.contains("node1 had given up (wrong-signature) and is reset"),
        "{failed:?}"
    );
    bastion.provider.behave("node1", Guest::Well);
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    assert_eq!(healthy(&bastion).await, ["node1"]);
    assert_eq!(bastion.provider.made()["node1"], 1, "it is the same machine");
}

#[tokio::test]
async fn a_machine_that_is_killed_from_outside_is_seen_and_started_by_the_next_apply() {
    let bastion = Bastion::start().await;
    bastion.provider.behave("node1", Guest::Killed);
    let spec = bastion.spec(&THREE[..1]);
    let applied = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(applied.code == 1 && applied.stderr.contains("does not run any more"), "{applied:?}");
    bastion.provider.behave("node1", Guest::Well);
    let again = bastion.words(&format!("apply -f {spec} --yes")).await;
    assert!(again.code == 0 && again.stderr.contains("start node1"), "{again:?}");
    assert_eq!(healthy(&bastion).await, ["node1"]);
}

#[tokio::test]
async fn a_machine_that_dies_is_an_event_and_shown_with_why_until_it_is_switched_on() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE[..1]);
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    bastion.provider.kill("node1");
    let told = async || bastion.words("events --since 0").await.stdout.contains("node1 is off: its process was killed");
    wait_until("the event", LONG, told).await;
    let machines = bastion.words("get machines").await;
    assert!(
        machines.stdout.contains("off") && machines.stderr.contains("node1: its process was killed"),
        "{machines:?}"
    );
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    let machines = bastion.words("get machines").await;
    assert!(!machines.stderr.contains("killed"), "{machines:?}");
}

#[tokio::test]
async fn a_saved_plan_does_exactly_that_or_says_what_changed() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE[..2]);
    let saved = bastion.path("plan.json").display().to_string();
    bastion.words(&format!("plan -f {spec} -o {saved}")).await.done();
    let tampered = std::fs::read_to_string(&saved).expect("saved").replace("\"cpus\": 2", "\"cpus\": 9");
    let tampered = bastion.write("tampered.json", &tampered);
    bastion.words(&format!("apply {tampered} --yes")).await.assert_refused(64, "damaged", "windlass plan");
    assert!(bastion.provider.names().is_empty());
    bastion.words(&format!("apply {saved} --yes")).await.done();
    let stale = bastion.words(&format!("apply {saved} --yes")).await;
    stale.assert_refused(4, "create/node1: planned, and no longer needed", "look at a new plan");
    assert_eq!(bastion.provider.made().values().copied().collect::<Vec<_>>(), [1, 1]);
}

#[tokio::test]
async fn a_change_that_needs_another_machine_is_blocked_until_the_node_is_destroyed() {
    let bastion = Bastion::start().await;
    bastion.words(&format!("apply -f {} --yes", bastion.spec(&THREE[..1]))).await.done();
    let spec = bastion.spec(&["{name: node1, cpus: 4, roles: [worker]}"]);
    let blocked = bastion.words(&format!("apply -f {spec} --yes")).await;
    blocked.assert_refused(4, "cpus 2 to 4", "windlass destroy --cluster k8s1 --node");
    assert_eq!(bastion.provider.made()["node1"], 1);
    bastion.words("destroy --cluster k8s1 --node node1 --confirm k8s1").await.done();
    bastion.words(&format!("apply -f {spec} --yes")).await.done();
    assert_eq!(healthy(&bastion).await, ["node1"]);
}

#[tokio::test]
async fn a_second_run_is_refused_and_the_first_can_be_attached_and_stopped() {
    let bastion = Bastion::start().await;
    bastion.provider.behave("node1", Guest::Stuck);
    let spec = bastion.spec(&THREE[..1]);
    let detached = bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    assert_eq!((detached.code, detached.stdout.as_str()), (7, "r1\n"), "{detached:?}");
    let booting = async || bastion.words("events --since 0").await.stdout.contains("node1: cloud-init");
    wait_until("the machine to boot", LONG, booting).await;
    let second = bastion.words(&format!("apply -f {spec} --yes --detach")).await;
    second.assert_refused(6, "run r1 is under way", "windlass run attach r1");
    let attached = tokio::spawn({
        let mut attach = bastion.command("run attach r1");
        async move { windlass_tests::process::run(&mut attach).await }
    });
    bastion.words("run stop r1").await.done();
    let attached = attached.await.expect("no panic");
    assert!(attached.code == 1 && attached.stderr.contains("was stopped"), "{attached:?}");
    assert!(attached.stderr.contains("node1: booting"), "from the beginning: {attached:?}");
    // What was made stays, and is only waited for.
    let again = bastion.words(&format!("plan -f {spec}")).await;
    assert!(again.stdout.contains("await node1"), "{again:?}");
}

#[tokio::test]
async fn stages_and_their_times_survive_the_controller() {
    let mut bastion = Bastion::start().await;
    bastion.provider.behave("node1", Guest::Stuck);
    bastion.words(&format!("apply -f {} --yes --detach", bastion.spec(&THREE[..1]))).await;
    let told = async || bastion.words("events --since 0").await.stdout.matches("node1: cloud-init after").count();
    wait_until("the machine to boot", LONG, async || told().await == 1).await;
    bastion.kill9().await;
    bastion.restart().await;
    bastion.words("run stop r1").await.done();
    let attached = bastion.words("run attach r1 -o json").await;
    assert_eq!(attached.stdout.matches("node1: cloud-init after").count(), 1, "told twice: {attached:?}");
    let run: serde_json::Value =
        serde_json::from_str(attached.stdout.lines().last().expect("the run")).expect("a line of JSON");
    let stages = run["steps"][0]["stages"].as_array().expect("stages");
    let names: Vec<_> = stages.iter().filter_map(|stage| stage["stage"].as_str()).collect();
    assert_eq!(names, ["created", "booting", "cloud-init"], "{run}");
}

#[tokio::test]
async fn ctrl_c_leaves_the_run_running_and_says_how_to_return() {
    let bastion = Bastion::start().await;
    // The machine is made only when the person has left.
    bastion.provider.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let log = bastion.path("apply.log");
    let apply = format!("apply -f {} --yes", bastion.spec(&THREE[..1]));
    let mut apply = Running::start(&mut bastion.command(&apply), &log);
    let said = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    wait_until("the run to be shown", LONG, async || said().contains("create/node1 began")).await;
    apply.signal(Signal::SIGINT);
    assert_eq!(apply.wait().await.code(), Some(7), "{}", said());
    assert!(said().contains("run r1 continues: windlass run attach r1"), "{}", said());
    bastion.provider.gate.add_permits(1);
    bastion.words("run attach r1").await.done();
    assert_eq!(healthy(&bastion).await, ["node1"]);
}

#[tokio::test]
async fn machines_that_exist_are_adopted_by_a_controller_as_it_is_installed() {
    let controller = Controller::start().await;
    let spec = controller.directory().join("cluster.yaml");
    let text = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: old}\nspec:\n  provider: {existing: {}}\n  \
                nodes: [{name: web1, roles: [worker]}, {name: web2}]\n";
    std::fs::write(&spec, text).expect("written");
    let _web1 = Agent::connected(&controller, "web1").await;
    let spec = spec.display().to_string();
    let planned = controller.cli(&["plan", "-f", &spec]).await.ok();
    assert!(planned.contains("adopt web2") && planned.contains("label web1"), "{planned}");
    let detached = controller.cli(&["apply", "-f", &spec, "--yes", "--detach"]).await;
    assert_eq!(detached.code, 7, "{detached:?}");
    let _web2 = Agent::connected(&controller, "web2").await;
    controller.words("run attach r1").await.done();
    let again = controller.cli(&["plan", "-f", &spec, "--detailed-exitcode"]).await;
    assert_eq!(again.code, 0, "{again:?}");
    // Its machine is nobody's to delete: it is revoked and forgotten, and goes on running.
    controller.cli(&["destroy", "-f", &spec, "--confirm", "old"]).await.done();
    assert_eq!(controller.words("get nodes -o name").await.ok(), "web1\n", "only what was adopted is let go");
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_before_anything_is() {
    let bastion = Bastion::start().await;
    let spec = bastion.spec(&THREE);
    let text = std::fs::read_to_string(&spec).expect("written").replace("guest.qcow2", "missing.qcow2");
    let spec = bastion.write("missing.yaml", &text);
    let planned = bastion.words(&format!("plan -f {spec}")).await;
    assert!(planned.code == 0 && planned.stdout.contains("Cannot be applied now: the image is missing"), "{planned:?}");
    bastion.words(&format!("apply -f {spec} --yes")).await.assert_refused(4, "the image is missing", "make lab");
    assert!(bastion.provider.names().is_empty());
}

#[tokio::test]
async fn killed_while_a_machine_is_made_the_controller_goes_on_and_makes_nothing_twice() {
    let mut bastion = Bastion::start().await;
    // All creations stop where the machine has its tag and is not complete.
    bastion.provider.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let spec = bastion.spec(&THREE);
    let log = bastion.path("apply.log");
    let mut apply = Running::start(&mut bastion.command(&format!("apply -f {spec} --yes")), &log);
    wait_until("all three to be begun", LONG, async || bastion.provider.names().len() == 3).await;
    bastion.kill9().await;
    assert_eq!(bastion.provider.made().values().sum::<u32>(), 0);
    bastion.provider.gate.add_permits(3);
    bastion.restart().await;
    // Whoever follows goes on too, and is told nothing twice.
    let code = apply.wait().await.code();
    let said = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("run r1 goes on after the controller's restart").count(), 1, "{said}");
    assert_eq!(said.matches("root@localhost began run r1").count(), 1, "{said}");
    assert_eq!(bastion.provider.made().values().copied().collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(healthy(&bastion).await, ["node1", "node2", "node3"]);
}

#[tokio::test]
async fn killed_at_many_moments_the_controller_always_comes_to_the_same_end() {
    for round in 0..6_u64 {
        let mut bastion = Bastion::start().await;
        let spec = bastion.spec(&THREE[..2]);
        bastion.words(&format!("apply -f {spec} --yes --detach")).await;
        for kill in 0..3 {
            tokio::time::sleep(Duration::from_millis(40 + 230 * round + 100 * kill)).await;
            bastion.kill9().await;
            bastion.restart().await;
        }
        let attached = bastion.words("run attach r1").await;
        assert_eq!(attached.code, 0, "round {round}: {attached:?}");
        assert_eq!(bastion.provider.made().values().copied().collect::<Vec<_>>(), [1, 1], "round {round}");
        let again = bastion.words(&format!("plan -f {spec} --detailed-exitcode")).await;
        assert_eq!(again.code, 0, "round {round}: {again:?}");
    }
}
