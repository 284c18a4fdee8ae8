// SPDX-License-Identifier: Apache-2.0
//! Power cuts, as SIGKILL, at many instants of joining, renewing and running jobs: nothing is lost and nothing done twice.
//!
//! An instant is a recorded event (a record in the audit log, bytes in the agent's journal) and a short time after it,
//! which grows from round to round, so that the rounds together fall into different steps of the work.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use windlass_proto::v1;
use windlass_proto::v1::session_service_client::SessionServiceClient;
use windlass_tests::agent::{Agent, Token};
use windlass_tests::controller::Controller;
use windlass_tests::process::{Running, run};
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire::{self, Identity};

/// Between one round's instant and the next one's: about the time of a flush to disk.
const STEP: Duration = Duration::from_micros(700);

/// A test of ten rounds takes a few seconds; the steps of a join or an order take about five milliseconds.
const ROUNDS: u32 = 10;

/// Waits without giving the processor away, because the instants are closer together than the timer's grain.
async fn until_size_grows(path: &Path, before: u64) {
    let begun = tokio::time::Instant::now();
    while std::fs::metadata(path).map_or(0, |file| file.len()) <= before {
        assert!(begun.elapsed() < LONG, "{} does not grow", path.display());
        tokio::task::yield_now().await;
    }
}

async fn instant(after: Duration) {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < after {
        tokio::task::yield_now().await;
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn audit_file(controller: &Controller) -> std::path::PathBuf {
    let mut files = std::fs::read_dir(controller.state_dir().join("audit")).expect("an audit log");
    files.next().expect("a file").expect("readable").path()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_survives_the_death_of_the_controller_at_any_moment() {
    let mut controller = Controller::start().await;
    for round in 0..ROUNDS {
        let name = format!("node{round}");
        let token = Token::create(&controller, &name, "30m").await;
        let agent = Agent::bare(&controller, &name);
        let audit = audit_file(&controller);
        let before = size(&audit);

        let mut join = agent.join_command(&controller, &token);
        let (cut, ()) = tokio::join!(run(&mut join), async {
            until_size_grows(&audit, before).await;
            instant(STEP * round).await;
            controller.kill9().await;
            controller.restart().await;
        });

        assert_eq!(cut.code, 0, "round {round}: {cut:?}");
        let again = agent.join(&controller, &token).await;
        assert_eq!(again.code, 0, "round {round}: {again:?}");
    }
    let names = controller.words("get nodes -o name").await.ok();
    assert_eq!(names.lines().count(), usize::try_from(ROUNDS).expect("few"), "{names}");
    assert_eq!(controller.words("audit verify").await.code, 0);
}

#[tokio::test]
async fn a_join_survives_the_death_of_the_agent_at_any_moment() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "probe", "30m").await;
    let probe = Agent::bare(&controller, "probe");
    let begun = tokio::time::Instant::now();
    assert_eq!(probe.join(&controller, &token).await.code, 0);
    let whole = begun.elapsed();
    for round in 0..ROUNDS {
        let name = format!("node{round}");
        let token = Token::create(&controller, &name, "30m").await;
        let agent = Agent::bare(&controller, &name);
        let log = agent.directory().join("join.log");
        let join = Running::start(&mut agent.join_command(&controller, &token), &log);

        // From the first instruction to the last, as long as a join takes on this machine.
        tokio::time::sleep(whole * round / ROUNDS).await;
        join.kill9().await;

        let again = agent.join(&controller, &token).await;
        assert_eq!(again.code, 0, "round {round}: {again:?}");
    }
    let names = controller.words("get nodes -o name").await.ok();
    assert_eq!(names.lines().count(), usize::try_from(ROUNDS).expect("few") + 1, "{names}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_never_locked_out_when_the_controller_dies_while_it_renews() {
    let mut controller = Controller::start().await;
    let mut identity = wire::joined(&controller, "node1").await;
    for round in 0..ROUNDS {
        let channel = wire::remote(&controller, &identity, None).await.expect("connected");
        let (csr, key) = wire::request();
        let audit = audit_file(&controller);
        let before = size(&audit);
        let mut client = SessionServiceClient::new(channel);

        let (renewed, ()) =
            tokio::join!(client.renew_certificate(v1::RenewCertificateRequest { csr_der: csr.into() }), async {
                until_size_grows(&audit, before).await;
                instant(STEP * round).await;
                controller.kill9().await;
            });
        controller.restart().await;

        // Answered: the new certificate is good. Not answered: the old one still is, and renews again.
        if let Ok(answer) = renewed {
            let issued = answer.into_inner().issued.expect("a certificate");
            identity = Identity::new(issued.certificate_der.to_vec(), &key);
        }
        let channel = wire::remote(&controller, &identity, None).await.expect("connected");
        let again = SessionServiceClient::new(channel)
            .renew_certificate(v1::RenewCertificateRequest { csr_der: wire::request().0.into() })
            .await;
        assert!(again.is_ok(), "round {round}: {again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_done_once_when_the_controller_dies_at_any_moment_of_it() {
    let mut controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    for round in 0..ROUNDS {
        let file = agent.directory().join(format!("round{round}"));
        let script = format!("echo done >> {}", file.display());
        let audit = audit_file(&controller);
        let before = size(&audit);
        let mut exec = controller.cli_command(&["exec", "node1", "-o", "json", "--", "sh", "-c", &script]);

        let (answer, ()) = tokio::join!(run(&mut exec), async {
            until_size_grows(&audit, before).await;
            instant(STEP * round).await;
            controller.kill9().await;
            controller.restart().await;
        });

        // The command line asks again, follows again, and tells the true end.
        assert_eq!(answer.code, 0, "round {round}: {answer:?}");
        assert_eq!(lines(&file), 1, "round {round}: {answer:?}");
        // An agent that loses one controller after the other dials ever more slowly; a new one does not.
        agent.kill9().await;
        agent.run();
        agent.wait_connected(&controller).await;
    }
    let jobs = controller.words("get jobs -o json").await.json();
    let states: Vec<_> = jobs["items"].as_array().expect("jobs").iter().map(|job| job["state"].clone()).collect();
    assert_eq!(states, vec![Value::from("succeeded"); usize::try_from(ROUNDS).expect("few")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_done_at_most_once_when_the_agent_dies_at_any_moment_of_it_and_its_end_is_always_told() {
    let controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    let mut unknown = 0;
    for round in 0..ROUNDS {
        let file = agent.directory().join(format!("round{round}"));
        let script = format!("echo done >> {}", file.display());
        let audit = audit_file(&controller);
        let before = size(&audit);
        let mut exec = controller.cli_command(&["exec", "node1", "-o", "json", "--", "sh", "-c", &script]);

        let (answer, ()) = tokio::join!(run(&mut exec), async {
            until_size_grows(&audit, before).await;
            instant(STEP * round).await;
            agent.kill9().await;
            agent.run();
        });

        let result: Value = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
        let ran = lines(&file);
        match result["items"][0]["result"].as_str() {
            Some("exited") => assert_eq!(ran, 1, "round {round}: {answer:?}"),
            Some("unknown") => {
                unknown += 1;
                assert!(ran <= 1, "round {round}: {answer:?}");
            }
            Some("unreachable") => assert_eq!(ran, 0, "round {round}: {answer:?}"),
            other => panic!("round {round}: {other:?} of {answer:?}"),
        }
        agent.wait_connected(&controller).await;
    }
    println!("{unknown} of {ROUNDS} ends were unknown");
    wait_until("no job is left under way", LONG, || async {
        !controller.words("get jobs").await.ok().contains("running")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_still_there_after_the_controller_died() {
    let mut controller = Controller::start().await;
    for round in 0..ROUNDS {
        let name = format!("node{round}");
        let _token = Token::create(&controller, &name, "30m").await;
        controller.kill9().await;
        controller.restart().await;
        let tokens = controller.words("get tokens -o json").await.json();
        let found = tokens["items"].as_array().is_some_and(|all| all.iter().any(|token| token["node"] == *name));
        assert!(found, "the token of {name} is lost: {tokens}");
    }
    assert_eq!(controller.words("audit verify").await.code, 0);
}
