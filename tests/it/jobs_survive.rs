// SPDX-License-Identifier: Apache-2.0
//! Jobs outlive everyone involved: the command line, the controller, the agent. Every job appends to a file, so that what
//! was done twice or not at all shows there.

use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;
use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::Controller;
use windlass_tests::process::{Answer, Running};
use windlass_tests::wait::{LONG, wait_for, wait_until};

/// Writes this many numbered lines to stdout and to `file`, slowly enough to be interrupted.
const LINES: usize = 20;

fn counting(file: &Path) -> String {
    let file = file.display();
    format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; echo line $i >> {file}; i=$((i+1)); sleep 0.1; done")
}

fn all_lines() -> String {
    (0..LINES).map(|nth| format!("line {nth}\n")).collect()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// Starts the counting job and leaves it; returns its id and its file, in which something is already.
async fn begun(controller: &Controller, agent: &Agent) -> (String, PathBuf) {
    let file = agent.directory().join("lines");
    let detached = controller.cli(&["exec", &agent.name, "--detach", "--", "sh", "-c", &counting(&file)]).await;
    assert_eq!(detached.code, 7, "{detached:?}");
    wait_until("the program has begun", LONG, || async { read(&file).contains("line 2") }).await;
    (detached.stdout.trim().to_owned(), file)
}

async fn attach(controller: &Controller, id: &str) -> (i32, Value) {
    let Answer { code, stdout, stderr } = controller.cli(&["attach", id, "-o", "json"]).await;
    (code, serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}")))
}

#[tokio::test]
async fn a_job_goes_on_without_the_command_line_and_attach_shows_all_of_it_once() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let file = agent.directory().join("lines");
    let mut exec = controller.cli_command(&["exec", "node1", "--", "sh", "-c", &counting(&file)]);
    let log = controller.directory().join("exec.log");
    let exec = Running::start(&mut exec, &log);
    wait_until("some output is shown", LONG, || async { read(&log).contains("line 2") }).await;

    exec.kill9().await;

    let id = controller.words("get jobs -o name").await.ok().trim().rsplit('/').next().expect("a name").to_owned();
    for _ in 0..2 {
        let (code, result) = attach(&controller, &id).await;
        assert_eq!((code, result["items"][0]["stdout"].as_str()), (0, Some(&*all_lines())));
    }
    assert_eq!(read(&file), all_lines());
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_and_says_how_to_go_on() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let file = agent.directory().join("lines");
    let log = controller.directory().join("exec.log");
    let mut exec =
        Running::start(&mut controller.cli_command(&["exec", "node1", "--", "sh", "-c", &counting(&file)]), &log);
    wait_until("some output is shown", LONG, || async { read(&log).contains("line 2") }).await;

    exec.signal(Signal::SIGINT);

    assert_eq!(exec.wait().await.code(), Some(7));
    let said = read(&log);
    assert!(said.contains("windlass attach") && said.contains("windlass stop"), "{said}");
    wait_until("the job ends", LONG, || async { read(&file) == all_lines() }).await;
}

#[tokio::test]
async fn a_job_and_whoever_follows_it_survive_a_restart_and_a_crash_of_the_controller() {
    let mut controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let file = agent.directory().join("lines");
    let log = controller.directory().join("exec.log");
    let mut exec = controller.cli_command(&["exec", "node1", "-o", "json", "--", "sh", "-c", &counting(&file)]);
    let mut exec = Running::start(&mut exec, &log);
    wait_until("the program has begun", LONG, || async { read(&file).contains("line 2") }).await;

    controller.kill9().await;
    controller.restart().await;
    wait_until("the program goes on", LONG, || async { read(&file).contains("line 10") }).await;
    controller.terminate().await;
    controller.restart().await;

    let ended = exec.wait().await;
    let text = read(&log);
    let start = text.find('{').unwrap_or_else(|| panic!("{ended}: no result: {text}"));
    let mut documents = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
    let result = documents.next().expect("a document").expect("JSON");
    assert_eq!(result["items"][0]["stdout"].as_str(), Some(&*all_lines()), "{ended}: {text}");
    assert_eq!(ended.code(), Some(0));
    assert_eq!(read(&file), all_lines());
}

#[tokio::test]
async fn nodes_whose_turn_comes_while_their_agents_dial_again_are_waited_for() {
    let mut controller = Controller::start().await;
    let mut agents = Vec::new();
    for nth in 1..=3 {
        agents.push(Agent::connected(&controller, &format!("node{nth}")).await);
    }
    let file = controller.directory().join("ran");
    let script = format!("echo ran >> {}; sleep 1", file.display());
    let detached = controller.cli(&["exec", "--all", "--batch", "1", "--detach", "--", "sh", "-c", &script]).await;
    wait_until("the first node works", LONG, || async { read(&file).lines().count() == 1 }).await;

    controller.kill9().await;
    controller.restart().await;

    let (code, result) = attach(&controller, detached.stdout.trim()).await;
    assert_eq!((code, result["succeeded"].as_u64()), (0, Some(3)), "{result}");
    assert_eq!(read(&file).lines().count(), 3);
}

#[tokio::test]
async fn a_job_that_loses_its_agent_goes_on_ends_as_unknown_and_is_never_run_twice() {
    let controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    let (id, file) = begun(&controller, &agent).await;

    agent.kill9().await;
    agent.run();

    let (code, result) = attach(&controller, &id).await;
    let node = &result["items"][0];
    assert_eq!((code, node["result"].as_str()), (3, Some("unknown")), "{result}");
    assert_eq!(node["stdout"].as_str(), Some(&*all_lines()), "{result}");
    assert_eq!(read(&file), all_lines());
    agent.kill9().await;
    wait_until("the session ends", LONG, || async { !is_connected(&controller, "node1").await }).await;
    agent.run();
    agent.wait_connected(&controller).await;
    assert_eq!(controller.words("exec node1 -- true").await.code, 0);
    assert_eq!(read(&file), all_lines(), "run again");
}

#[tokio::test]
async fn a_stopped_job_ends_with_all_its_processes() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let pids = agent.directory().join("pids");
    let script = format!("sleep 300 & echo $! > {0}; echo $$ >> {0}; wait", pids.display());
    let detached = controller.cli(&["exec", "node1", "--detach", "--", "sh", "-c", &script]).await;
    let id = detached.stdout.trim().to_owned();
    wait_until("the program has begun", LONG, || async { read(&pids).lines().count() == 2 }).await;

    assert_eq!(controller.cli(&["stop", &id]).await.code, 0);

    let (code, result) = attach(&controller, &id).await;
    assert_eq!((code, result["items"][0]["result"].as_str()), (3, Some("stopped")), "{result}");
    let alive = |pid: &str| {
        let stat = read(Path::new(&format!("/proc/{pid}/stat")));
        !stat.is_empty() && !stat.contains(") Z ")
    };
    wait_until("no process of it is left", LONG, || async { !read(&pids).lines().any(alive) }).await;
}

#[tokio::test]
async fn a_job_whose_time_is_over_is_ended_and_has_its_own_exit_code() {
    let controller = Controller::start().await;
    let _agent = Agent::connected(&controller, "node1").await;

    let answer = controller.words("exec node1 --timeout 1s -- sleep 60").await;

    assert_eq!(answer.code, 5, "{answer:?}");
    assert!(answer.stderr.contains("timed out"), "{answer:?}");
}

#[tokio::test]
async fn after_too_many_failures_no_further_node_begins() {
    let controller = Controller::start().await;
    let mut agents = Vec::new();
    for nth in 1..=4 {
        agents.push(Agent::connected(&controller, &format!("node{nth}")).await);
    }
    let file = controller.directory().join("ran");
    let script = format!("echo ran >> {}; exit 9", file.display());

    let answer = controller
        .cli(&["exec", "--all", "--batch", "1", "--max-failures", "1", "-o", "json", "--", "sh", "-c", &script])
        .await;

    assert_eq!(answer.code, 3, "{answer:?}");
    let result: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    let results: Vec<_> = result["items"]
        .as_array()
        .expect("nodes")
        .iter()
        .map(|node| node["result"].as_str().expect("a word"))
        .collect();
    assert_eq!(results, ["exited", "exited", "skipped", "skipped"]);
    assert_eq!(read(&file).lines().count(), 2);
}

#[tokio::test]
async fn a_node_that_is_away_is_reported_as_such_and_others_are_served() {
    let controller = Controller::start().await;
    let _here = Agent::connected(&controller, "here").await;
    let _away = Agent::joined(&controller, "away").await;

    let answer = controller.words("exec --all -o json -- echo hello").await;

    let result: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    assert_eq!((answer.code, result["items"][0]["result"].as_str()), (3, Some("unreachable")), "{answer:?}");
    assert_eq!(result["items"][1]["stdout"].as_str(), Some("hello\n"));
}

const KEPT: usize = 100_000;

#[tokio::test]
async fn output_is_bounded_and_says_what_is_missing() {
    let controller = Controller::start_with(&format!("[jobs]\noutput_limit_bytes = {KEPT}\n")).await;
    let _agent = Agent::connected(&controller, "node1").await;

    let answer = controller.words("exec node1 -o json -- head -c 30000000 /dev/zero").await;

    let result: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    let node = &result["items"][0];
    let kept = node["stdout"].as_str().expect("text").len();
    let missing = usize::try_from(node["stdout_missing_bytes"].as_u64().expect("a number")).expect("small");
    assert_eq!(kept + missing, 30_000_000, "{} kept", kept);
    assert!(kept <= KEPT + 4096 && kept > 0, "{kept}");
    assert_eq!(answer.code, 0);
}

#[tokio::test]
async fn exec_that_is_switched_off_is_refused_by_whoever_switched_it_off() {
    let controller = Controller::start_with("[jobs]\nexec = false\n").await;
    let _agent = Agent::connected(&controller, "node1").await;
    controller.words("exec node1 -- true").await.assert_refused(77, "switched off", "do: ");
    assert_eq!(controller.words("get jobs -o name").await.ok(), "");

    let controller = Controller::start().await;
    let mut agent = Agent::joined(&controller, "node1").await;
    agent.configure("jobs = \"process-group\"\nexec = false\n");
    agent.run();
    agent.wait_connected(&controller).await;
    let answer = controller.words("exec node1 -- true").await;
    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.stderr.contains("exec") && answer.stderr.contains("node1"), "{answer:?}");
}

#[tokio::test]
async fn a_program_is_given_its_arguments_as_they_are_and_no_shell_reads_them() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let marker = agent.directory().join("touched");
    let hostile = format!("$(touch {0}); touch {0} `touch {0}` | touch {0}\n*", marker.display());

    let answer = controller.cli(&["exec", "node1", "-o", "json", "--", "printf", "%s", &hostile]).await;

    let result: Value = serde_json::from_str(&answer.stdout).expect("JSON");
    assert_eq!(result["items"][0]["stdout"].as_str(), Some(&*hostile));
    assert!(!marker.exists());
    let missing = controller.words("exec node1 -- no-such-program").await;
    assert_eq!(missing.code, 3);
    assert!(missing.stderr.contains("no-such-program"), "{missing:?}");
}

#[tokio::test]
async fn a_long_output_cannot_delay_heartbeats_so_that_the_node_seems_away() {
    let controller = Controller::start_with("[session]\nheartbeat_seconds = 1\n").await;
    let _agent = Agent::connected(&controller, "node1").await;

    let answer = controller.words("exec node1 -o json -- head -c 200000000 /dev/zero").await;

    assert_eq!(answer.code, 0, "{}", answer.stderr);
    let lost = controller.events().await.into_iter().find(|event| event["type"] == "node.disconnected");
    assert_eq!(lost, None);
}

#[tokio::test]
async fn an_agent_comes_back_by_itself_after_the_controller_was_away() {
    let mut controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    controller.kill9().await;
    wait_for("the agent notices", LONG, || async { agent.log().contains("trying again").then_some(()) }).await;

    controller.restart().await;

    agent.wait_connected(&controller).await;
    assert!(controller.words("get nodes -o name").await.ok().contains("node1"));
}

#[tokio::test]
async fn a_node_that_does_not_come_back_after_a_restart_is_unreachable_in_the_end() {
    let mut controller = Controller::start().await;
    let _gone = Agent::joined(&controller, "gone").await;
    controller.terminate().await;
    controller.restart().await;

    let answer = controller.words("exec gone -- true").await;

    assert_eq!(answer.code, 3, "{answer:?}");
    assert!(answer.stderr.contains("not connected"), "{answer:?}");
}
