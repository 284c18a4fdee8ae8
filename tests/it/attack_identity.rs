// SPDX-License-Identifier: Apache-2.0
//! Attacks with certificates: another node's words, stolen ones, revoked ones, and those of leavers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use windlass_proto::v1;
use windlass_proto::v1::admin_service_client::AdminServiceClient;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_proto::v1::event_service_client::EventServiceClient;
use windlass_proto::v1::session_service_client::SessionServiceClient;
use windlass_proto::v1::transfer_service_client::TransferServiceClient;
use windlass_tests::agent::{Agent, holds, is_connected};
use windlass_tests::controller::{Controller, source};
use windlass_tests::session::Session;
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire::{self, Identity};

async fn channel(controller: &Controller, identity: &Identity) -> Channel {
    wire::remote(controller, identity, None).await.expect("connected")
}

#[tokio::test]
async fn a11_an_agent_can_report_only_about_its_own_node_whatever_it_says() {
    let controller = Controller::start().await;
    let victim = Agent::connected(&controller, "victim").await;
    let thief = wire::joined(&controller, "thief").await;
    let job = controller.words("exec victim --detach -o json -- sleep 20").await;
    assert_eq!(job.code, 7, "{job:?}");
    let job: serde_json::Value = serde_json::from_str(&job.stdout).expect("JSON");
    let id = job["job"].as_str().or(job["id"].as_str()).expect("an id").to_owned();
    let session = Session::open(channel(&controller, &thief).await, "test").await.expect("the thief's own session");

    let outcome =
        v1::JobOutcome { result: v1::JobResult::Exited.into(), stdout: "forged"[..].into(), ..Default::default() };
    session.say(Up::Job(v1::JobReport { job: id.clone(), state: Some(v1::job_report::State::Outcome(outcome)) })).await;
    let fetch = v1::FetchFileRequest { job: id.clone(), sha256: vec![0; 32].into(), offset: 0 };
    let mut request = tonic::Request::new(fetch);
    request.metadata_mut().insert("node", "victim".parse().expect("text"));
    request.metadata_mut().insert("x-forwarded-client-cert", "URI=windlass://x/node/victim".parse().expect("text"));
    let fetched = TransferServiceClient::new(channel(&controller, &thief).await).fetch_file(request).await;
    assert!(fetched.is_err(), "the thief reads a file of another node's order");
    let piece = v1::PushOutputRequest {
        job: id.clone(),
        stream: v1::OutputStream::Stdout.into(),
        offset: 0,
        data: "forged"[..].into(),
    };
    let pushed =
        TransferServiceClient::new(channel(&controller, &thief).await).push_output(tokio_stream::once(piece)).await;
    if let Ok(answer) = pushed {
        let _refused_or_ignored = answer.into_inner().message().await;
    }

    let shown = controller.cli(&["get", "jobs", "-o", "json"]).await.json();
    assert_eq!(shown["items"][0]["state"], "running", "{shown}");
    assert_eq!(controller.cli(&["stop", &id]).await.code, 0);
    let attached = controller.cli(&["attach", &id]).await;
    assert!(!attached.stdout.contains("forged"), "{attached:?}");
    drop(victim);
}

#[tokio::test]
async fn a12_a_stolen_older_certificate_opens_no_session_beside_a_newer_one() {
    let controller = Controller::start().await;
    let old = wire::joined(&controller, "node1").await;
    let first = channel(&controller, &old).await;
    let (csr, key) = wire::request();
    let renewed = SessionServiceClient::new(first)
        .renew_certificate(v1::RenewCertificateRequest { csr_der: csr.into() })
        .await
        .expect("renewed")
        .into_inner();
    let new = Identity::new(renewed.issued.expect("a certificate").certificate_der.to_vec(), &key);
    let session = Session::open(channel(&controller, &new).await, "test").await.expect("the rightful session");

    let stolen = Session::open(channel(&controller, &old).await, "test").await;

    assert_eq!(stolen.err().map(|status| status.code()), Some(Code::Unauthenticated));
    controller.wait_for_event("node.contested", "newer certificate").await;
    assert!(is_connected(&controller, "node1").await);
    drop(session);
}

#[tokio::test]
async fn a12_the_same_certificate_from_another_address_is_alarmed() {
    let controller = Controller::start().await;
    let identity = wire::joined(&controller, "node1").await;
    let _first = Session::open(channel(&controller, &identity).await, "test").await.expect("the first session");

    let elsewhere = wire::remote(&controller, &identity, Some(source(7))).await.expect("connected");
    let _second = Session::open(elsewhere, "test").await.expect("the newest session replaces the older one");

    let alarm = controller.wait_for_event("node.contested", &source(7).to_string()).await;
    assert_eq!(alarm["severity"], "alarm");
}

#[tokio::test]
async fn a13_revoking_closes_a_live_session_while_a_job_runs_and_nothing_more_is_begun() {
    let controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    let marker = agent.directory().join("done");
    let script = format!("echo begun; sleep 2; echo done > {}", marker.display());
    let detached = controller.cli(&["exec", "node1", "--detach", "--", "sh", "-c", &script]).await;
    assert_eq!(detached.code, 7, "{detached:?}");

    let revoked = controller.words("node revoke node1 --reason stolen --yes").await;

    assert_eq!(revoked.code, 0, "{revoked:?}");
    let took = wait_until("the session is closed", Duration::from_secs(5), || async {
        !is_connected(&controller, "node1").await
    })
    .await;
    println!("a revoked session was seen closed after {took:?}");
    let again = controller.words("exec node1 -- true").await;
    again.assert_refused(4, "revoked", "windlass node remove");
    let job = controller.cli(&["attach", detached.stdout.trim()]).await;
    assert!(job.code == 3 && job.stderr.contains("revoked while it was at work"), "{job:?}");
    wait_until("the program that ran goes on to its end", LONG, || async { marker.exists() }).await;
    assert!(!is_connected(&controller, "node1").await, "the agent is not let in again");
    assert_eq!(agent.process().ended(), None, "the agent stays, for whoever looks at the node");
    let node = controller.words("get node node1 -o json").await.json();
    assert!(holds(&node, "revoked"));
}

#[tokio::test]
async fn a13_an_operators_live_watch_ends_when_they_are_removed() {
    let controller = Controller::start().await;
    let identity = wire::operator(&controller, "leaver", "viewer", 0).await;
    let mut events = EventServiceClient::new(channel(&controller, &identity).await);
    let request = v1::WatchEventsRequest { follow: true, ..Default::default() };
    let mut watch = events.watch_events(request).await.expect("a viewer may").into_inner();
    watch.message().await.expect("open").expect("events");

    let begun = tokio::time::Instant::now();
    assert_eq!(controller.words("operator remove leaver --yes").await.code, 0);

    let next = async |watch: &mut Streaming<v1::WatchEventsResponse>| {
        tokio::time::timeout(Duration::from_secs(5), watch.message()).await.expect("closed within seconds")
    };
    while let Ok(Some(_)) = next(&mut watch).await {}
    println!("a removed operator's watch was closed after {:?}, the command included", begun.elapsed());
    assert!(events.watch_events(request_all()).await.is_err());
}

fn request_all() -> v1::WatchEventsRequest {
    v1::WatchEventsRequest::default()
}

/// Whether a call gets through with everything the client remembers of former sessions.
async fn gets_through(controller: &Controller, config: &rustls::ClientConfig) -> bool {
    let agents = controller.listeners().agents;
    let Ok(stream) = wire::tls(agents, None, config.clone()).await else { return false };
    let Ok(channel) = wire::grpc(stream).await else { return false };
    wire::call(channel, "/windlass.v1.AdminService/GetStatus", Bytes::new()).await.is_ok()
}

/// A client that keeps every ticket it is given. The store is shared by all clones of the configuration.
fn saving(controller: &Controller, identity: &Identity) -> rustls::ClientConfig {
    let mut config = wire::tls_config(controller, Some(identity));
    config.resumption = rustls::client::Resumption::store(Arc::new(rustls::client::ClientSessionMemoryCache::new(64)));
    config.enable_early_data = true;
    config
}

#[tokio::test]
async fn a14_a_saved_tls_session_does_not_get_a_revoked_client_back_in() {
    let controller = Controller::start().await;
    let identity = wire::operator(&controller, "leaver", "admin", 0).await;
    let config = saving(&controller, &identity);
    assert!(gets_through(&controller, &config).await);
    assert!(gets_through(&controller, &config).await);

    assert_eq!(controller.words("operator remove leaver --yes").await.code, 0);

    assert!(!gets_through(&controller, &config).await);
}

#[tokio::test]
async fn a14_a_saved_tls_session_does_not_get_an_expired_client_back_in() {
    let controller = Controller::start().await;
    let identity = wire::operator(&controller, "leaver", "admin", 2).await;
    let config = saving(&controller, &identity);
    assert!(gets_through(&controller, &config).await);

    wait_until("the certificate ends", LONG, || async { !gets_through(&controller, &config).await }).await;

    for _ in 0..3 {
        assert!(!gets_through(&controller, &config).await);
    }
}

#[tokio::test]
async fn a14_an_open_connection_ends_with_its_certificate() {
    let controller = Controller::start().await;
    let identity = wire::operator(&controller, "leaver", "admin", 2).await;
    let open = channel(&controller, &identity).await;
    let status = async || {
        let answer = wire::call(open.clone(), "/windlass.v1.AdminService/GetStatus", Bytes::new()).await;
        answer.map_err(|status| status.code())
    };
    assert!(status().await.is_ok());

    wait_until("the certificate ends", LONG, || async { status().await == Err(Code::Unauthenticated) }).await;
}

#[tokio::test]
async fn a_forged_request_to_renew_is_refused() {
    let controller = Controller::start().await;
    let identity = wire::joined(&controller, "node1").await;
    let (csr, other) = wire::request();
    let message = [&b"windlass renew v1"[..], &csr].concat();
    let proof = rcgen::SigningKey::sign(&other, &message).expect("signed");
    let request = v1::RenewRequest {
        certificate_der: identity.chain[0].to_vec().into(),
        csr_der: csr.into(),
        proof: proof.into(),
    };
    let join = wire::stranger(&controller, None).await.expect("connected");

    let answer = wire::call(join, "/windlass.v1.JoinService/Renew", request.encode_to_vec().into()).await;

    assert_eq!(answer.expect_err("refused").code(), Code::PermissionDenied);
    controller.wait_for_event("join.refused", "no proof").await;
}

#[tokio::test]
async fn a28_a_lowered_role_holds_from_the_next_request_on_an_open_connection() {
    let controller = Controller::start().await;
    let identity = wire::operator(&controller, "ana", "admin", 0).await;
    let open = channel(&controller, &identity).await;
    let create = async |name: &str| {
        let request = v1::CreateOperatorRequest {
            name: name.to_owned(),
            role: "viewer".to_owned(),
            csr_der: wire::request().0.into(),
            ttl_seconds: 0,
        };
        AdminServiceClient::new(open.clone()).create_operator(request).await
    };
    create("one").await.expect("an admin may");

    assert_eq!(controller.words("operator role ana operator").await.code, 0);

    assert_eq!(create("two").await.expect_err("an operator may not").code(), Code::PermissionDenied);
    let mut events = EventServiceClient::new(open.clone());
    events.watch_events(request_all()).await.expect("an operator may still read");
}

#[tokio::test]
async fn a28_the_profile_of_a_removed_operator_is_refused_with_what_to_do() {
    let controller = Controller::start().await;
    let profile = controller.directory().join("ana.toml");
    let path = profile.to_str().expect("text");
    assert_eq!(controller.cli(&["operator", "create", "ana", "--role", "viewer", "--out", path]).await.code, 0);
    let remote = async || {
        let mut command = controller.cli_command(&["--profile", path, "get", "nodes"]);
        windlass_tests::process::run(command.env_remove("WINDLASS_SOCKET")).await
    };
    assert_eq!(remote().await.code, 0);
    assert_eq!(Identity::from_profile(&profile).chain.len(), 1);

    assert_eq!(controller.words("operator remove ana --yes").await.code, 0);

    remote().await.assert_refused(77, "revoked", "windlass operator create");
}
