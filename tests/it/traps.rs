// SPDX-License-Identifier: Apache-2.0
//! Two things that HTTP/2 over long streams does to a controller unless somebody takes care: large messages leave their
//! buffers with the session for as long as it lives, and a peer that falls behind on many small messages is taken for an
//! attack and cut off.

use std::path::Path;

use bytes::Bytes;
use nix::sys::signal::Signal;
use prost::Message as _;
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::Controller;
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire;

const LARGE_BYTES: usize = 100_000_000;

/// A buffer of 1 MiB that stays with a session is 1.6 MB; what is allowed stays far below the four agents' share of it.
const KEPT_PER_AGENT_KIB: u64 = 80;

/// For the allocator and the database, however many agents there are.
const KEPT_ANYWAY_KIB: u64 = 3 * 1024;

/// Another file for each agent, although they share a machine: each has a working directory of its own.
const PLACE: &str = ":/proc/self/cwd/large";

const AGENTS: [&str; 4] = ["node1", "node2", "node3", "node4"];

fn private_kib(controller: &Controller) -> u64 {
    let path = format!("/proc/{}/smaps_rollup", controller.process().pid());
    let text = std::fs::read_to_string(path).expect("the controller runs");
    let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("a field");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

async fn copy(controller: &Controller, from: &str, to: &str) {
    let answer = controller.cli(&["cp", "--all", from, to]).await;
    assert_eq!(answer.code, 0, "{answer:?}");
}

async fn both_ways(controller: &Controller, file: &Path, fill: u8) {
    std::fs::write(file, vec![fill; LARGE_BYTES]).expect("written");
    copy(controller, file.to_str().expect("text"), PLACE).await;
    let back = controller.directory().join(format!("back{fill}"));
    copy(controller, PLACE, back.to_str().expect("text")).await;
    for name in AGENTS {
        assert_eq!(std::fs::metadata(back.join(name)).expect("it came back").len(), LARGE_BYTES as u64);
    }
    std::fs::remove_dir_all(back).expect("removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_files_leave_no_buffers_with_the_sessions() {
    let controller = Controller::start().await;
    let mut agents = Vec::new();
    for name in AGENTS {
        agents.push(Agent::connected(&controller, name).await);
    }
    let file = controller.directory().join("large");
    // The first time warms up what is needed once, however many agents there are.
    both_ways(&controller, &file, 1).await;
    let before = private_kib(&controller);
    both_ways(&controller, &file, 2).await;
    let after = private_kib(&controller);
    let most = before + KEPT_PER_AGENT_KIB * AGENTS.len() as u64 + KEPT_ANYWAY_KIB;
    assert!(after <= most, "{before} KiB before, {after} KiB after");
    for name in AGENTS {
        assert!(is_connected(&controller, name).await, "{name} is still there");
    }
}

/// Well above the budget of 25,600 small frames that HTTP/2 libraries allow by default, below the window of the connection.
const SMALL_MESSAGES: usize = 40_000;

/// A message as gRPC frames it.
fn framed(message: &v1::ConnectRequest) -> Bytes {
    let body = message.encode_to_vec();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[0_u8][..], &length, &body].concat().into()
}

fn up(message: Up) -> Bytes {
    framed(&v1::ConnectRequest { message: Some(message) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_that_falls_behind_on_small_messages_keeps_the_session() {
    let controller = Controller::start().await;
    let identity = wire::joined(&controller, "node1").await;
    let config = wire::tls_config(&controller, Some(&identity));
    let stream = wire::tls(controller.listeners().agents, None, config).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let uri = format!("http://{}/windlass.v1.SessionService/Connect", wire::SERVER_NAME);
    let request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    let mut client = client.ready().await.expect("ready");
    let (answer, mut sender) = client.send_request(request.body(()).expect("a request"), false).expect("sent");
    sender.send_data(up(Up::Hello(v1::Hello::default())), false).expect("sent");
    let _session = answer.await.expect("the session is open");
    wait_until("the session is open", LONG, || is_connected(&controller, "node1")).await;

    controller.process().signal(Signal::SIGSTOP);
    for _ in 0..SMALL_MESSAGES {
        // Each call is a frame of its own.
        sender.send_data(up(Up::Heartbeat(v1::Heartbeat::default())), false).expect("sent");
    }
    controller.process().signal(Signal::SIGCONT);

    // Once this has been read, so has everything before it: 4,711 MiB are 4,939,841,536 bytes.
    let fact = v1::ConnectRequest {
        message: Some(Up::Heartbeat(v1::Heartbeat { memory_available_mebibytes: 4711, ..v1::Heartbeat::default() })),
    };
    if let Err(error) = sender.send_data(framed(&fact), false) {
        panic!("{error}: {:?}\n{}", connection.await, controller.log());
    }
    wait_until("the last of them has arrived", LONG, || async {
        controller.words("get node node1 -o json").await.stdout.contains("4939841536") || connection.is_finished()
    })
    .await;
    if connection.is_finished() {
        panic!("the connection ended: {:?}", connection.await);
    }
    assert!(is_connected(&controller, "node1").await);
}
