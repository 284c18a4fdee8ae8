// SPDX-License-Identifier: Apache-2.0
//! Floods: what one peer may cost the controller and the others. Numbers are bounded so that all of it takes seconds;
//! they are well above where an unbounded controller would show.

use std::time::Duration;

use bytes::Bytes;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use windlass_proto::v1;
use windlass_proto::v1::node_service_client::NodeServiceClient;
use windlass_tests::agent::{Agent, is_connected};
use windlass_tests::controller::{Controller, source};
use windlass_tests::process;
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire;

/// What the resident memory of the controller may grow by under any of these, KiB.
const MOST_GROWTH_KIB: u64 = 20 * 1024;

const LIST_NODES: &str = "/windlass.v1.NodeService/ListNodes";

fn resident_kib(controller: &Controller) -> u64 {
    controller.process().status("VmRSS:")
}

#[track_caller]
#[expect(clippy::print_stdout, reason = "a figure for whoever looks at the test")]
fn assert_no_growth(controller: &Controller, before: u64) {
    let now = resident_kib(controller);
    println!("resident: {before} KiB before, {now} KiB after");
    assert!(now < before + MOST_GROWTH_KIB, "resident memory grew from {before} to {now} KiB");
}

/// The controller still answers others, and its node is still there.
async fn assert_well(controller: &Controller) {
    let answer = controller.words("get nodes -o json").await.json();
    assert_eq!(answer["items"].as_array().map(Vec::len), Some(1), "{answer}");
    assert!(is_connected(controller, "node1").await);
}

/// A controller with one connected agent and one viewer who will misbehave.
async fn victim() -> (Controller, Agent, wire::Identity) {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let identity = wire::operator(&controller, "mallory", "viewer", 0).await;
    (controller, agent, identity)
}

async fn h2(
    controller: &Controller,
    identity: &wire::Identity,
) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let config = wire::tls_config(controller, Some(identity));
    let stream = wire::tls(controller.listeners().agents, None, config).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    (client, tokio::spawn(connection))
}

fn post(path: &str) -> http::Request<()> {
    let uri = format!("http://{}{path}", wire::SERVER_NAME);
    http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("a request")
}

/// Streams opened and cancelled at once; a controller that serves each would need minutes.
const RESETS: usize = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_streams_opened_and_reset_at_once_end_the_connection_and_cost_no_memory() {
    let (controller, _agent, identity) = victim().await;
    let before = resident_kib(&controller);
    let (mut client, connection) = h2(&controller, &identity).await;

    let mut opened = 0;
    for _ in 0..RESETS {
        let Ok(ready) = client.clone().ready().await else { break };
        client = ready;
        let Ok((answer, mut stream)) = client.send_request(post(LIST_NODES), false) else { break };
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        opened += 1;
        if opened % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    drop(client);
    let ended = tokio::time::timeout(LONG, connection).await.expect("the connection ends").expect("no panic");

    println!("{opened} streams were opened and reset, then: {ended:?}");
    assert!(opened < RESETS && ended.is_err(), "nobody ended the connection");
    assert_no_growth(&controller, before);
    assert_well(&controller).await;
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// An HTTP/2 frame (RFC 9113 section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Writes until the other side has had enough; returns how many bytes that took.
async fn write_until_closed(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    chunk: &[u8],
    most: usize,
) -> usize {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ended = tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    let mut written = 0;
    while written < most && !ended.is_finished() {
        match tokio::time::timeout(LONG, writer.write_all(chunk)).await.expect("taken or refused") {
            Ok(()) => written += chunk.len(),
            Err(_) => break,
        }
        tokio::task::yield_now().await;
    }
    written
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

#[tokio::test]
async fn a16_an_endless_header_list_in_continuation_frames_closes_the_connection() {
    let (controller, _agent, identity) = victim().await;
    let before = resident_kib(&controller);
    let config = wire::tls_config(&controller, Some(&identity));
    let mut stream = wire::tls(controller.listeners().agents, None, config).await.expect("connected");
    stream.write_all(PREFACE).await.expect("written");
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.expect("written");
    stream.write_all(&frame(HEADERS, 0, 1, &[0x83])).await.expect("written");
    // A literal header field without indexing (RFC 7541 section 6.2.2), sixteen bytes long, a thousand times per frame.
    let field = [&[0x00, 0x06][..], b"x-long", &[0x07], b"aaaaaaa"].concat();
    let chunk = frame(CONTINUATION, 0, 1, &field.repeat(1000));

    let written = write_until_closed(stream, &chunk, 64 << 20).await;

    println!("closed after {written} bytes of headers");
    assert!(written < 64 << 20, "64 MiB of headers were taken");
    assert_no_growth(&controller, before);
    assert_well(&controller).await;
}

#[tokio::test]
async fn a16_a_header_list_of_a_mebibyte_is_refused() {
    let (controller, _agent, identity) = victim().await;
    let (mut client, connection) = h2(&controller, &identity).await;
    let mut request = post(LIST_NODES);
    for nth in 0..64 {
        let name: http::HeaderName = format!("x-long-{nth}").parse().expect("a name");
        request.headers_mut().insert(name, "a".repeat(16 << 10).parse().expect("text"));
    }

    let answer = match client.send_request(request, true) {
        Ok((answer, _)) => answer.await.map(|answer| answer.status().as_u16()),
        Err(error) => Err(error),
    };

    assert!(!matches!(answer, Ok(200)), "{answer:?}");
    drop(client);
    connection.abort();
    assert_well(&controller).await;
}

/// As many as the descriptors of this process allow with room to spare.
const SILENT: u16 = 5_000;

#[tokio::test]
async fn a17_silent_connections_are_shed_and_cost_no_processor_while_an_agent_still_connects() {
    let (controller, mut agent, _) = victim().await;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("descriptors for so many connections");
    let ticks = controller.process().ticks();
    let mut silent = Vec::new();
    for nth in 0..SILENT {
        // Sixteen addresses with as many connections as one may have, and more.
        silent
            .push(wire::tcp(controller.listeners().agents, Some(source(nth % 16))).await.expect("the kernel accepts"));
    }

    agent.kill9().await;
    let begun = tokio::time::Instant::now();
    agent.run();
    agent.wait_connected(&controller).await;
    println!("the agent was connected after {:?}", begun.elapsed());
    let mut closed = 0;
    for mut stream in silent {
        let mut byte = [0];
        let ended = tokio::time::timeout(LONG, stream.read(&mut byte)).await.expect("closed in time");
        closed += u16::from(matches!(ended, Ok(0) | Err(_)));
    }

    assert_eq!(closed, SILENT);
    println!("{} ticks of processor time for {SILENT} silent connections", controller.process().ticks() - ticks);
    assert_well(&controller).await;
}

/// What the controller may use in the seconds it has no descriptor left: a loop that spins uses all of them.
const MOST_TICKS: u64 = 100;

#[tokio::test]
async fn a17_without_a_free_descriptor_the_controller_waits_and_serves_again_afterwards() {
    let (controller, _agent, _) = victim().await;
    let pid = controller.process().pid().to_string();
    let limited = ["--pid", &pid, "--nofile=64:64"];
    let limited = process::run(process::command("prlimit", controller.directory()).args(limited)).await;
    assert_eq!(limited.code, 0, "{limited:?}");
    let ticks = controller.process().ticks();
    let mut silent = Vec::new();
    for nth in 0..80 {
        silent
            .push(wire::tcp(controller.listeners().agents, Some(source(nth % 32))).await.expect("the kernel accepts"));
    }

    for mut stream in silent {
        let mut byte = [0];
        let ended = tokio::time::timeout(LONG, stream.read(&mut byte)).await.expect("closed in time");
        assert!(matches!(ended, Ok(0) | Err(_)));
    }

    let used = controller.process().ticks() - ticks;
    assert!(used < MOST_TICKS, "{used} ticks");
    assert!(controller.log().contains("cannot accept a connection"), "the limit was not reached");
    assert_well(&controller).await;
}

#[tokio::test]
async fn a17_a_handshake_of_a_byte_a_second_is_cut_off() {
    let (controller, _agent, _) = victim().await;
    let mut stream = wire::tcp(controller.listeners().join, None).await.expect("connected");
    // The beginning of a TLS record with a ClientHello.
    let hello = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03];
    let begun = tokio::time::Instant::now();

    let mut sent = 0;
    let ended = loop {
        let mut byte = [0];
        tokio::select! {
            read = stream.read(&mut byte) => break read,
            () = tokio::time::sleep(Duration::from_secs(1)) => {
                let next = hello.get(sent).copied().unwrap_or(0);
                if stream.write_all(&[next]).await.is_err() { break Ok(0) }
                sent += 1;
            }
        }
        assert!(begun.elapsed() < LONG, "never cut off");
    };

    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    println!("cut off after {:?}", begun.elapsed());
    assert_well(&controller).await;
}

async fn refused_with(controller: &Controller, identity: &wire::Identity, path: &str, message: Bytes) -> Code {
    let channel = wire::remote(controller, identity, None).await.expect("connected");
    wire::call(channel, path, message).await.expect_err("refused").code()
}

#[tokio::test]
async fn a18_messages_that_are_huge_or_nested_without_end_are_refused_and_cost_no_memory() {
    let (controller, _agent, identity) = victim().await;
    let before = resident_kib(&controller);

    let huge = v1::ListNodesRequest { page_token: "x".repeat(10 << 20), ..Default::default() }.encode_to_vec();
    let code = refused_with(&controller, &identity, LIST_NODES, huge.into()).await;
    assert!(matches!(code, Code::OutOfRange | Code::ResourceExhausted), "{code:?}");

    // Groups within groups in an unknown field (start tag of field 15): a parser that recurses would run out of stack.
    let nested = Bytes::from(vec![0x7b; 500_000]);
    let code = refused_with(&controller, &identity, LIST_NODES, nested).await;
    assert!(matches!(code, Code::InvalidArgument | Code::Internal), "{code:?}");

    // A million empty selectors' names.
    let many: Vec<u8> = std::iter::repeat_n([0x12, 0x00], 250_000).flatten().collect();
    let request = [&[0x0a][..], &varint(many.len()), &many].concat();
    let code = refused_with(&controller, &identity, LIST_NODES, request.into()).await;
    assert_eq!(code, Code::InvalidArgument);

    assert_no_growth(&controller, before);
    assert_well(&controller).await;
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("seven bits"));
    bytes
}

#[tokio::test]
async fn a18_compression_is_never_agreed_to() {
    let (controller, _agent, identity) = victim().await;
    let (mut client, connection) = h2(&controller, &identity).await;
    let mut request = post(LIST_NODES);
    request.headers_mut().insert("grpc-encoding", http::HeaderValue::from_static("gzip"));
    request.headers_mut().insert("grpc-accept-encoding", http::HeaderValue::from_static("gzip,zstd,deflate"));
    let (answer, mut body) = client.send_request(request, false).expect("sent");
    // A message that says it is compressed.
    body.send_data(Bytes::from_static(&[1, 0, 0, 0, 2, 0x1f, 0x8b]), true).expect("sent");

    let answer = answer.await.expect("answered");

    assert_eq!(answer.headers().get("grpc-encoding"), None);
    let status = answer.headers().get("grpc-status").and_then(|status| status.to_str().ok());
    assert_eq!(status, Some("12"), "UNIMPLEMENTED: {:?}", answer.headers());
    connection.abort();
    assert_well(&controller).await;
}

/// Tiny messages on one stream: enough that a cost per message would show.
const TINY: usize = 200_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a18_a_flood_of_tiny_messages_is_refused_or_read_without_memory() {
    let (controller, _agent, _) = victim().await;
    let node = wire::joined(&controller, "node2").await;
    let before = resident_kib(&controller);
    let channel = wire::remote(&controller, &node, None).await.expect("connected");
    let hello = v1::Hello { agent_version: "test".to_owned(), ..Default::default() };
    let heartbeat = v1::Heartbeat::default();
    let messages = std::iter::once(v1::connect_request::Message::Hello(hello))
        .chain(std::iter::repeat_n(v1::connect_request::Message::Heartbeat(heartbeat), TINY))
        .map(|message| v1::ConnectRequest { message: Some(message) });
    let mut client = windlass_proto::v1::session_service_client::SessionServiceClient::new(channel);

    let session = client.connect(tokio_stream::iter(messages)).await;

    if let Ok(answer) = session {
        let mut answers = answer.into_inner();
        while let Ok(Ok(Some(_))) = tokio::time::timeout(LONG, answers.message()).await {}
    }
    assert_no_growth(&controller, before);
    let nodes = controller.words("get nodes -o name").await.ok();
    assert_eq!(nodes.lines().count(), 2);
    assert!(is_connected(&controller, "node1").await);
}

/// Written by one job: many times what may be buffered for a reader.
const OUTPUT: &str = "20000000";

#[tokio::test]
async fn a19_a_watcher_that_never_reads_holds_nothing_up_and_costs_bounded_memory() {
    let (controller, _agent, identity) = victim().await;
    let before = resident_kib(&controller);
    let lazy = wire::remote(&controller, &identity, None).await.expect("connected");
    let request = v1::WatchEventsRequest { follow: true, ..Default::default() };
    let mut events = windlass_proto::v1::event_service_client::EventServiceClient::new(lazy.clone());
    let _never_read = events.watch_events(request).await.expect("opened").into_inner();
    let begun = controller.cli(&["exec", "node1", "--detach", "--", "head", "-c", OUTPUT, "/dev/zero"]).await;
    let id = begun.stdout.trim().to_owned();
    let mut jobs = windlass_proto::v1::job_service_client::JobServiceClient::new(lazy);
    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(jobs.watch_job(v1::WatchJobRequest { id: id.clone() }).await.expect("opened").into_inner());
    }

    let attached = controller.cli(&["attach", &id]).await;

    assert_eq!(attached.code, 0, "{:?}", attached.stderr);
    assert_no_growth(&controller, before);
    assert_well(&controller).await;
    drop(unread);
}

#[tokio::test]
async fn a19_an_agent_that_never_reads_is_let_go_and_others_are_served() {
    let (controller, _agent, _) = victim().await;
    let node = wire::joined(&controller, "node2").await;
    let before = resident_kib(&controller);
    let (mut client, connection) = h2(&controller, &node).await;
    let (answer, mut body) = client.send_request(post("/windlass.v1.SessionService/Connect"), false).expect("sent");
    let hello = v1::Hello { agent_version: "test".to_owned(), ..Default::default() };
    let message = v1::ConnectRequest { message: Some(v1::connect_request::Message::Hello(hello)) }.encode_to_vec();
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend(message);
    body.send_data(framed.into(), false).expect("sent");
    let _unread = answer.await.expect("answered");

    // Each asks the node for its facts, and the node reads none of it.
    let mut nodes = NodeServiceClient::new(wire::local(&controller).await.expect("connected"));
    let selector = v1::NodeSelector { names: vec!["node2".to_owned()], ..Default::default() };
    let ask = v1::RefreshNodesRequest { selector: Some(selector), timeout_millis: 1 };
    let gone = wait_until("the agent that does not read is let go", LONG, || {
        let (mut nodes, ask) = (nodes.clone(), ask.clone());
        let controller = &controller;
        async move {
            for _ in 0..500 {
                nodes.refresh_nodes(ask.clone()).await.expect("answered");
            }
            !is_connected(controller, "node2").await
        }
    })
    .await;

    println!("let go after {gone:?}");
    nodes.list_nodes(v1::ListNodesRequest::default()).await.expect("others are served");
    connection.abort();
    assert_no_growth(&controller, before);
    assert!(is_connected(&controller, "node1").await);
}
