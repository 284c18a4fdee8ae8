// SPDX-License-Identifier: Apache-2.0
//! Attacks on enrolment: tokens that are stolen, guessed, old or raced for, and false controllers.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tonic::Code;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::join_service_client::JoinServiceClient;
use windlass_tests::agent::{Agent, Token, is_connected};
use windlass_tests::controller::{Controller, source};
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire;

fn certificate(answer: v1::JoinResponse) -> Vec<u8> {
    answer.issued.expect("a certificate").certificate_der.to_vec()
}

#[track_caller]
fn assert_refused(answer: Result<v1::JoinResponse, tonic::Status>) -> String {
    let status = answer.expect_err("refused");
    assert_eq!((status.code(), Refusal::from_status(&status).reason), (Code::PermissionDenied, Reason::JoinRefused));
    status.message().to_owned()
}

#[tokio::test]
async fn a1_a_used_token_with_another_key_is_refused_and_alarmed() {
    let controller = Controller::start().await;
    let mut agent = Agent::bare(&controller, "node1");
    let token = Token::create(&controller, "node1", "30m").await;
    assert_eq!(agent.join(&controller, &token).await.code, 0);
    agent.run();
    agent.wait_connected(&controller).await;

    let text = assert_refused(wire::join(&controller, None, &token.token, &wire::request().0).await);

    assert!(!text.contains("another key") && !text.contains("node1"), "a stranger is told too much: {text}");
    let alarm = controller.wait_for_event("token.reused", "node1").await;
    assert_eq!((alarm["severity"].as_str(), alarm["node"].as_str()), (Some("alarm"), Some("node1")));
    assert!(is_connected(&controller, "node1").await, "the rightful node is not affected");
    assert_eq!(agent.process().ended(), None);
}

/// Contestants over the wire: so many that a lost race would show, on so many connections from addresses of their own.
const CONNECTIONS: u16 = 50;
const JOINS_EACH: u16 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2_of_a_thousand_racing_joins_with_one_token_exactly_one_gets_a_certificate() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let mut channels = Vec::new();
    for nth in 0..CONNECTIONS {
        channels.push(wire::stranger(&controller, Some(source(nth))).await.expect("connected"));
    }

    let mut racing = FuturesUnordered::new();
    for channel in channels {
        for _ in 0..JOINS_EACH {
            let request = v1::JoinRequest {
                token: token.token.clone(),
                csr_der: wire::request().0.into(),
                agent_version: "test".to_owned(),
                ..v1::JoinRequest::default()
            };
            let mut client = JoinServiceClient::new(channel.clone());
            racing.push(async move { client.join(request).await });
        }
    }
    let (mut won, mut lost) = (0, 0);
    while let Some(answer) = racing.next().await {
        match answer {
            Ok(_) => won += 1,
            Err(status) => {
                let reason = Refusal::from_status(&status).reason;
                assert!(
                    matches!(reason, Reason::JoinRefused | Reason::RateLimited | Reason::LimitReached)
                        || status.code() == Code::ResourceExhausted,
                    "{status:?}"
                );
                lost += 1;
            }
        }
    }

    assert_eq!((won, lost), (1, CONNECTIONS * JOINS_EACH - 1));
    assert_eq!(controller.words("get nodes -o name").await.ok().lines().count(), 1);
}

#[tokio::test]
async fn a3_the_same_key_gets_the_same_certificate_after_a_lost_reply() {
    let mut controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let (csr, _key) = wire::request();
    let first = certificate(wire::join(&controller, None, &token.token, &csr).await.expect("joined"));

    let again = certificate(wire::join(&controller, None, &token.token, &csr).await.expect("answered again"));
    controller.kill9().await;
    controller.restart().await;
    let after_restart = certificate(wire::join(&controller, None, &token.token, &csr).await.expect("answered again"));

    assert_eq!(first, again);
    assert_eq!(first, after_restart);
}

#[tokio::test]
async fn a4_every_refused_token_has_its_own_reason_in_the_audit_log_and_one_text_on_the_wire() {
    let controller = Controller::start().await;
    let other = Controller::start().await;
    let (csr, _key) = wire::request();
    let expired = Token::create(&controller, "node1", "1s").await;
    let removed = Token::create(&controller, "node2", "30m").await;
    wire::join(&controller, None, &removed.token, &csr).await.expect("joined");
    assert_eq!(controller.words("node remove node2 --yes").await.code, 0);
    let foreign = Token::create(&other, "node3", "30m").await;
    wait_until("the token expires", LONG, || async {
        let tokens = controller.words("get tokens -o json").await.json();
        tokens["items"].as_array().is_some_and(|all| all.iter().any(|token| token["state"] == "expired"))
    })
    .await;

    let mut texts = Vec::new();
    for token in [&expired, &removed, &foreign] {
        texts.push(assert_refused(wire::join(&controller, None, &token.token, &csr).await));
    }

    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    let audit = controller.audit();
    let refusals = audit.iter().filter(|line| line["verb"] == "join" && line["result"]["code"] == "refused");
    let mut reasons: Vec<_> = refusals.filter_map(|line| line["result"]["message"].as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), 3, "{reasons:?}");
}

#[tokio::test]
async fn a4_a_second_token_of_a_removed_node_ends_with_the_node() {
    let controller = Controller::start().await;
    let second = Token::create(&controller, "node1", "30m").await;
    let _joined = wire::joined(&controller, "node1").await;
    assert_eq!(controller.words("node remove node1 --yes").await.code, 0);

    assert_refused(wire::join(&controller, None, &second.token, &wire::request().0).await);
}

/// More than the burst an address may make, and few enough to be done before many are forgiven.
const GUESSES: usize = 40;

#[tokio::test]
async fn a7_a_guesser_is_slowed_to_one_attempt_a_second_and_others_are_not() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let wrong = format!("{}.{}", token.id, "0".repeat(64));
    let (csr, _key) = wire::request();
    let begun = tokio::time::Instant::now();

    let mut tried = 0;
    for _ in 0..GUESSES {
        let status = wire::join(&controller, Some(source(1)), &wrong, &csr).await.expect_err("refused");
        tried += u64::from(Refusal::from_status(&status).reason == Reason::JoinRefused);
    }

    let allowed = 10 + begun.elapsed().as_secs() + 1;
    assert!(tried <= allowed, "{tried} attempts were looked at, at most {allowed} may be");
    wire::join(&controller, Some(source(2)), &token.token, &csr).await.expect("another address is not affected");
}

#[tokio::test]
async fn a7_a_refused_guess_leaves_no_trace_of_the_secret_and_tells_nothing_by_its_words() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let (csr, _key) = wire::request();
    let wrong_secret = format!("{}.{}", token.id, "ab".repeat(32));
    let wrong_id = format!("000000000000.{}", "ab".repeat(32));

    let first = assert_refused(wire::join(&controller, None, &wrong_secret, &csr).await);
    let second = assert_refused(wire::join(&controller, None, &wrong_id, &csr).await);

    assert_eq!(first, second);
    assert!(!controller.log().contains(&"ab".repeat(32)));
    assert!(!format!("{:?}", controller.audit()).contains(&"ab".repeat(32)));
}

/// A request for everything a node must not be.
fn greedy_request() -> Vec<u8> {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "admin");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![
        rcgen::SanType::DnsName("*.example.org".try_into().expect("a name")),
        rcgen::SanType::DnsName(wire::SERVER_NAME.try_into().expect("a name")),
        rcgen::SanType::URI("windlass://x/node/other".try_into().expect("a URI")),
    ];
    params.serialize_request(&key).expect("a request").der().to_vec()
}

#[tokio::test]
async fn a8_a_request_for_more_than_a_node_gets_a_plain_certificate() {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;

    let der = certificate(wire::join(&controller, None, &token.token, &greedy_request()).await.expect("joined"));

    let (_, issued) = X509Certificate::from_der(&der).expect("a certificate");
    assert!(!issued.is_ca());
    let usage = issued.extended_key_usage().expect("readable").expect("present").value;
    assert!(usage.client_auth && !usage.server_auth && !usage.any);
    let names = &issued.subject_alternative_name().expect("readable").expect("present").value.general_names;
    assert!(matches!(&names[..], [GeneralName::URI(uri)] if uri.ends_with("/node/node1")), "{names:?}");
}

#[tokio::test]
async fn a8_a_request_that_is_huge_or_not_signed_by_its_key_is_rejected_and_leaves_the_token_unused() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let mut forged = wire::request().0;
    *forged.last_mut().expect("bytes") ^= 1;
    let mut params = rcgen::CertificateParams::default();
    params.custom_extensions = vec![rcgen::CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1], vec![0; 16_384])];
    let huge = params.serialize_request(&rcgen::KeyPair::generate().expect("a key")).expect("a request").der().to_vec();

    for bad in [&forged[..], &huge, b"\x30\x00", b""] {
        let status = wire::join(&controller, None, &token.token, bad).await.expect_err("refused");
        assert_eq!(Refusal::from_status(&status).reason, Reason::BadRequest, "{status:?}");
    }

    wire::join(&controller, None, &token.token, &wire::request().0).await.expect("the token is still good");
}

/// A server of TLS that writes down everything a client says after the handshake.
async fn false_controller(answer: Arc<rustls::ServerConfig>) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
    use tokio::io::AsyncReadExt as _;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let heard = tokio::spawn(async move {
        let mut heard = Vec::new();
        // The client may try again; whatever it says in its first tries counts.
        for _ in 0..2 {
            let next = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await;
            let Ok(Ok((tcp, _))) = next else { break };
            let Ok(mut tls) = tokio_rustls::TlsAcceptor::from(Arc::clone(&answer)).accept(tcp).await else { continue };
            let _ended = tls.read_to_end(&mut heard).await;
        }
        heard
    });
    (address, heard)
}

#[tokio::test]
async fn a9_a_false_controller_gets_no_byte_of_the_token() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let agent = Agent::bare(&controller, "node1");
    // The real CA's certificate is public, so a false controller can show it; it just cannot sign with it.
    let key = rcgen::KeyPair::generate().expect("a key");
    let names = vec![wire::SERVER_NAME.to_owned()];
    let own = rcgen::CertificateParams::new(names).expect("a name").self_signed(&key).expect("signed");
    let mut chain = vec![own.der().clone()];
    chain.extend(wire::authorities(&controller));
    let (address, heard) = false_controller(wire::server_config(chain, &key)).await;

    let answer = agent.join_at(&address, &token.ca_pin, &token.token).await;

    assert_ne!(answer.code, 0, "{answer:?}");
    let heard = heard.await.expect("the false controller ends");
    let secret = token.token.split('.').next_back().expect("a secret");
    assert!(!heard.windows(secret.len()).any(|window| window == secret.as_bytes()));
    assert!(heard.is_empty(), "the agent said {} bytes to a false controller", heard.len());
    assert!(agent.token_file().exists(), "the token can still be used");
}
