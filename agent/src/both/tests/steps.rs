// SPDX-License-Identifier: Apache-2.0
//! Steps of runs as orders: their lease, their answer, and what becomes of them when the agent or the machine goes.

use windlass_types::action::Argv;
use windlass_types::name::RunId;
use windlass_types::name::on_node::{BootId, KernelRelease};
use windlass_types::node_step::{Lease, NodeStep, StepOrder};
use windlass_types::survey::Survey;

use super::*;
use crate::host::fake::ModelPackage;

fn order(step: NodeStep, lease: Option<u64>) -> v1::order::Action {
    let (run, node) = (RunId::new("r1").expect("valid"), NodeName::new("node1").expect("valid"));
    let lease = lease.map(|number| Lease { number, node, run: run.clone() });
    let order = StepOrder { run: Some(run), id: "step/node1".into(), step, lease };
    v1::order::Action::Step(v1::StepAction { order: serde_json::to_vec(&order).expect("JSON").into() })
}

fn hook(millis: &str) -> NodeStep {
    let argv = Argv::new(vec!["drain".into(), millis.into()]).expect("valid");
    NodeStep::Hook { argv, timeout_millis: 60_000 }
}

fn well(argv: &Argv) -> Script {
    Script { code: 0, ..play(argv) }
}

/// The agent is killed; the machine and its programs go on.
fn kill(world: &mut World, peer: Peer) {
    let (_, task) = world.agent.take().expect("running");
    task.abort();
    drop(peer);
}

#[tokio::test]
async fn a_survey_answers_on_its_output_whatever_a_power_cut_left_there() {
    let mut world = World::new();
    let left = world.directory.path().join("programs/000011");
    std::fs::create_dir_all(&left).expect("made");
    std::fs::write(left.join("stdout"), "not a package\n").expect("written");
    world.runner = FakeRunner::of(&world.host);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(NodeStep::Survey(Box::default()), None), 0).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code), (v1::JobResult::Exited, 0), "{outcome:?}");
    let kept = world.stored.0.lock().expect("stored").get(&("1".to_owned(), 1)).cloned();
    let answer = if outcome.stdout.is_empty() { kept.expect("stored") } else { outcome.stdout.to_vec() };
    let survey: Survey = serde_json::from_slice(&answer).expect("a survey");
    assert_eq!(survey.kernels.running.as_str(), world.host.node().running_kernel);
}

#[tokio::test]
async fn a_step_without_a_lease_or_with_one_that_is_over_is_refused_after_a_restart_too() {
    let mut world = World::new();
    world.runner = FakeRunner::new(well);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(hook("0"), None), 0).await;
    let outcome = peer.outcome().await;
    assert_eq!(outcome.result(), v1::JobResult::Refused);
    assert!(outcome.message.contains("no lease"), "{}", outcome.message);
    peer.acknowledge("1").await;
    peer.act("2", 2, order(hook("0"), Some(7)), 0).await;
    assert_eq!(peer.outcome().await.exit_code, 0);
    peer.acknowledge("2").await;
    kill(&mut world, peer);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("3", 3, order(hook("0"), Some(6)), 0).await;
    loop {
        let report = peer.report().await;
        let Some(v1::job_report::State::Outcome(outcome)) = report.state.filter(|_| report.job == "3") else {
            continue;
        };
        assert!(outcome.message.contains("lease 6 is over"), "{}", outcome.message);
        break;
    }
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn a_killed_agent_finds_the_program_of_its_step_and_starts_none_twice() {
    let mut world = World::new();
    world.runner = FakeRunner::new(well);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(hook("600"), Some(1)), 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))));
    kill(&mut world, peer);
    world.start();
    let (mut peer, hello) = world.welcome().await;
    assert_eq!(hello.jobs, ["1"]);
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code), (v1::JobResult::Exited, 0), "{outcome:?}");
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn a_program_that_a_killed_agent_left_can_be_stopped() {
    let mut world = World::new();
    world.runner = FakeRunner::new(well);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(hook("3600000"), Some(1)), 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))));
    kill(&mut world, peer);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.stop("1", 2).await;
    let outcome = peer.outcome().await;
    assert_eq!(outcome.result(), v1::JobResult::Stopped, "{outcome:?}");
}

#[tokio::test]
async fn one_step_at_a_time() {
    let mut world = World::new();
    world.runner = FakeRunner::new(well);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(hook("400"), Some(1)), 0).await;
    peer.act("2", 2, order(hook("0"), Some(1)), 0).await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let report = peer.report().await;
        if matches!(report.state, Some(v1::job_report::State::Outcome(_))) {
            ended.push(report.job);
        }
    }
    assert_eq!(ended, ["1", "2"]);
}

#[tokio::test]
async fn a_step_whose_turn_comes_after_its_time_is_not_begun_and_may_be_ordered_anew() {
    let mut world = World::new();
    world.runner = FakeRunner::new(well);
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.act("1", 1, order(hook("600000"), Some(1)), 0).await;
    let expires_unix_millis = world.clock.now().plus(Duration::from_secs(60)).0;
    let second = v1::Order { expires_unix_millis, ..Peer::ordered("2", 2, order(hook("0"), Some(1)), 0) };
    peer.command(Payload::Order(second)).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))));
    world.clock.0.store(61_000, std::sync::atomic::Ordering::Relaxed);
    peer.stop("1", 2).await;
    let mut ended = std::collections::BTreeMap::new();
    while ended.len() < 2 {
        let report = peer.report().await;
        if let Some(v1::job_report::State::Outcome(outcome)) = report.state {
            ended.insert(report.job, outcome);
        }
    }
    assert_eq!([&ended["1"], &ended["2"]].map(v1::JobOutcome::result), [v1::JobResult::Stopped, v1::JobResult::Failed]);
    assert!(ended["2"].message.contains("had expired before"), "{ended:?}");
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn a_reboot_is_reported_from_the_boot_after_it_and_happens_once() {
    let mut world = World::new();
    world.runner = FakeRunner::of(&world.host);
    world.start();
    let (mut peer, _) = world.welcome().await;
    let boot_id = BootId::new("00000000-0000-4000-8000-000000000001").expect("valid");
    peer.act("1", 1, order(NodeStep::Boot { boot_id, once: None }, Some(1)), 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))), "no end before the boot");
    kill(&mut world, peer);
    world.runner.lose_power();
    world.start();
    let (mut peer, _) = world.welcome().await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code), (v1::JobResult::Exited, 0), "{outcome:?}");
    assert!(outcome.changed);
    assert_eq!(world.host.effects()["reboot"], 1);
}

#[tokio::test]
async fn a_stop_while_a_kernel_is_installed_does_not_leave_it_the_default() {
    let mut world = World::new();
    world.host.change(|node| {
        node.packages = vec![ModelPackage::new("kernel-lt", "6.1-1")];
        node.repository = vec![ModelPackage::new("kernel-lt", "6.2-1")];
        node.kernels_become_default = true;
    });
    let old = world.host.node().running_kernel;
    let host = world.host.clone();
    world.runner = FakeRunner::new(move |argv| {
        let scripted = host.run(argv);
        let is_act = argv.as_slice().iter().any(|word| word == "-y") && argv.as_slice().iter().any(|word| word == "-C");
        let takes = Duration::from_secs(if is_act { 600 } else { 0 });
        Script { stdout: scripted.stdout.into_bytes(), code: scripted.exit_code, takes, ..Script::default() }
    });
    world.start();
    let (mut peer, _) = world.welcome().await;
    let package = windlass_types::package::Package {
        name: "kernel-lt".parse().expect("valid"),
        version: "6.2-1".parse().expect("valid"),
        arch: "x86_64".parse().expect("valid"),
    };
    let (name, arch, to) = (package.name.clone(), package.arch.clone(), Some(package.version.clone()));
    let changes = vec![windlass_types::package::PackageChange { name, arch, from: None, to, repository: None }];
    let release = KernelRelease::new("6.2-1.x86_64").expect("valid");
    peer.act("1", 1, order(NodeStep::InstallKernel { package, release, changes }, Some(1)), 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))));
    while world.host.node().default_kernel.as_ref() == Some(&old) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    peer.stop("1", 2).await;
    peer.outcome().await;
    assert_eq!(world.host.node().default_kernel, Some(old));
}

#[tokio::test]
async fn a_kernel_that_was_to_be_started_once_stays_when_the_controller_is_reached() {
    const NEW: &str = "6.1.9-1.el9.x86_64";
    let mut world = World::new();
    world.runner = FakeRunner::of(&world.host);
    world.host.change(|node| node.kernels.push(NEW.into()));
    world.start();
    let (mut peer, _) = world.welcome().await;
    let boot_id = BootId::new("00000000-0000-4000-8000-000000000001").expect("valid");
    let once = Some(KernelRelease::new(NEW).expect("valid"));
    peer.act("1", 1, order(NodeStep::Boot { boot_id, once }, Some(1)), 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))), "no end before the boot");
    kill(&mut world, peer);
    world.runner.lose_power();
    world.start();
    let (mut peer, hello) = world.welcome().await;
    assert_eq!(hello.jobs, ["1"]);
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code), (v1::JobResult::Exited, 0), "{outcome:?}");
    assert_eq!((world.host.node().running_kernel.as_str(), world.host.effects()["reboot"]), (NEW, 1));
}
