// SPDX-License-Identifier: Apache-2.0
//! Sessions with a controller in this process, over real TLS, with a model of the machine beneath.

use std::path::Path;
use std::time::Duration;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_proto::v1::order_payload::Payload;
use windlass_proto::v1::session_service_server::{SessionService, SessionServiceServer};
use windlass_proto::v1::transfer_service_server::TransferServiceServer;
use windlass_types::name::NodeName;

use super::*;
use crate::host::clock::Ahead;
use crate::host::fake::FakeHost;
use crate::identity::IdentityStore;
use crate::jobs::fake::{FakeRunner, Script};
use crate::test_pki::TestCa;
use crate::test_server::InProcess;

mod replaced;
mod steps;
mod transfers;

use transfers::Stored;

type Answers<T> = ReceiverStream<Result<T, Status>>;

/// Where the test holds the controller's end of a session.
struct Peer {
    down: mpsc::Sender<Result<v1::ConnectResponse, Status>>,
    up: Streaming<v1::ConnectRequest>,
    ca: Arc<TestCa>,
}

impl Peer {
    async fn say(&self, message: Down) {
        self.down.send(Ok(v1::ConnectResponse { message: Some(message) })).await.expect("the agent listens");
    }

    async fn command(&self, payload: Payload) {
        self.say(Down::Order(self.ca.orders.sign(payload))).await;
    }

    async fn hear(&mut self) -> Up {
        self.up.message().await.expect("a session").expect("a message").message.expect("of a known kind")
    }

    async fn report(&mut self) -> v1::JobReport {
        loop {
            if let Up::Job(report) = self.hear().await {
                return report;
            }
        }
    }

    async fn outcome(&mut self) -> v1::JobOutcome {
        loop {
            if let Some(v1::job_report::State::Outcome(outcome)) = self.report().await.state {
                return outcome;
            }
        }
    }

    async fn acknowledge(&self, job: &str) {
        self.say(Down::Ack(v1::ReportAck { job: job.to_owned() })).await;
    }

    async fn order(&self, job: &str, sequence: u64, argv: &[&str], timeout_millis: u64) {
        let argv = argv.iter().map(|&text| text.to_owned()).collect();
        self.act(job, sequence, v1::order::Action::Exec(v1::ExecAction { argv }), timeout_millis).await;
    }

    async fn act(&self, job: &str, sequence: u64, action: v1::order::Action, timeout_millis: u64) {
        self.command(Payload::Order(Self::ordered(job, sequence, action, timeout_millis))).await;
    }

    fn ordered(job: &str, sequence: u64, action: v1::order::Action, timeout_millis: u64) -> v1::Order {
        let action = Some(action);
        let (job, node) = (job.to_owned(), "node1".to_owned());
        let output_limit_bytes = 1 << 20;
        v1::Order { job, node, epoch: 2, sequence, timeout_millis, output_limit_bytes, action, ..v1::Order::default() }
    }

    async fn stop(&self, job: &str, epoch: u64) {
        let stop = v1::StopOrder { job: job.to_owned(), grace_millis: 1000, node: "node1".to_owned(), epoch };
        self.command(Payload::Stop(stop)).await;
    }
}

struct Sessions(mpsc::Sender<Peer>, Arc<TestCa>);

struct Subject(Vec<u8>);

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type ConnectStream = Answers<v1::ConnectResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (down, answers) = mpsc::channel(16);
        self.0
            .send(Peer { down, up: request.into_inner(), ca: Arc::clone(&self.1) })
            .await
            .map_err(|_| Status::unavailable("the test ended"))?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn renew_certificate(
        &self,
        request: Request<v1::RenewCertificateRequest>,
    ) -> Result<Response<v1::RenewCertificateResponse>, Status> {
        use x509_parser::prelude::{FromDer as _, X509CertificationRequest};
        let csr = request.into_inner().csr_der;
        let (_, parsed) = X509CertificationRequest::from_der(&csr).expect("a request");
        let key = parsed.certification_request_info.subject_pki.subject_public_key.data.to_vec();
        Ok(Response::new(v1::RenewCertificateResponse { issued: Some(self.1.issue_agent(&Subject(key))) }))
    }
}

/// A controller, a machine, and agents that come and go on it.
struct World {
    directory: tempfile::TempDir,
    sessions: mpsc::Receiver<Peer>,
    stored: Stored,
    dial: InProcess,
    runner: FakeRunner,
    host: FakeHost,
    clock: Arc<Ahead>,
    identity: Identity,
    agent: Option<(CancellationToken, tokio::task::JoinHandle<()>)>,
    handover: CancellationToken,
}

fn play(argv: &windlass_types::action::Argv) -> Script {
    let takes = Duration::from_millis(argv.arguments().first().and_then(|text| text.parse().ok()).unwrap_or(0));
    match argv.program() {
        "absent" => Script { does_not_start: true, ..Script::default() },
        "loud" => Script { takes, stdout: vec![b'x'; 300_000], stderr: b"done".to_vec(), ..Script::default() },
        _ => Script { takes, stdout: b"hello".to_vec(), code: 3, ..Script::default() },
    }
}

impl World {
    fn new() -> Self {
        let ca = Arc::new(TestCa::new());
        let (opened, sessions) = mpsc::channel(4);
        let stored = Stored::default();
        let routes = tonic::service::Routes::new(SessionServiceServer::new(Sessions(opened, Arc::clone(&ca))))
            .add_service(TransferServiceServer::new(stored.clone()));
        let dial = InProcess::serve(routes, ca.server_config(true));
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
        let node = NodeName::new("node1").expect("valid");
        let endpoints = ("bastion:7600".to_owned(), "bastion:7601".to_owned());
        let identity = Identity::new(node, &key, &ca.issue_agent(&key), endpoints).expect("usable");
        let directory = tempfile::tempdir().expect("a directory");
        let mandate = Mandate { node: identity.node.clone(), order_key: ca.orders.public() };
        mandate.save(directory.path()).expect("kept");
        Self {
            directory,
            sessions,
            stored,
            dial,
            runner: FakeRunner::new(play),
            host: FakeHost::new("node1"),
            clock: Arc::default(),
            identity,
            agent: None,
            handover: CancellationToken::new(),
        }
    }

    fn start(&mut self) {
        let dial: Arc<dyn Dial> = Arc::new(self.dial.clone());
        let agent = Agent {
            identity: self.identity.clone(),
            config: Config { state_dir: self.directory.path().to_owned(), ..Config::default() },
            dial: Arc::clone(&dial),
            join_dial: dial,
            clock: Arc::<Ahead>::clone(&self.clock),
            runner: Arc::new(self.runner.clone()),
            host: Arc::new(self.host.clone()),
            seed: 1,
            status: watch::Sender::new(String::new()),
            handover: self.handover.clone(),
        };
        let shutdown = CancellationToken::new();
        let running = agent.run(shutdown.clone());
        let task = tokio::spawn(async move { running.await.expect("ends well") });
        self.agent = Some((shutdown, task));
    }

    /// Opens a session and welcomes the agent; what it said first.
    async fn welcome(&mut self) -> (Peer, v1::Hello) {
        let mut peer = self.sessions.recv().await.expect("a session");
        let Up::Hello(hello) = peer.hear().await else { panic!("not a hello") };
        let welcome = v1::Welcome { epoch: 2, heartbeat_interval_millis: 1000, ..v1::Welcome::default() };
        peer.say(Down::Welcome(welcome)).await;
        (peer, hello)
    }
}

#[tokio::test]
async fn a_session_opens_with_everything_and_goes_on_with_heartbeats() {
    let mut world = World::new();
    world.start();
    let (mut peer, hello) = world.welcome().await;
    assert_eq!(hello.abilities, ["exec", "put-file", "get-file", "step"]);
    let mut seen = (false, false);
    while seen != (true, true) {
        match peer.hear().await {
            Up::Facts(facts) => {
                assert!(facts.complete && facts.facts.len() > 5);
                seen.0 = true;
            }
            Up::Heartbeat(_) => seen.1 = true,
            other => panic!("{other:?}"),
        }
    }
    peer.say(Down::Observe(v1::ObserveOrder { request: 77 })).await;
    loop {
        if let Up::Facts(facts) = peer.hear().await {
            assert_eq!((facts.complete, facts.request), (true, 77));
            break;
        }
    }
}

#[tokio::test]
async fn takes_over_whom_to_trust_within_a_session_and_says_so() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    let ca_der: Vec<bytes::Bytes> = [TestCa::new(), TestCa::new()].map(|ca| ca.der().to_vec().into()).into();
    let welcome = v1::Welcome { epoch: 2, heartbeat_interval_millis: 1000, ca_der, ..v1::Welcome::default() };
    peer.say(Down::Welcome(welcome.clone())).await;
    let report = loop {
        if let Up::Trust(report) = peer.hear().await {
            break report;
        }
    };
    let digests = welcome.ca_der.iter().map(|der| aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der));
    assert!(digests.map(|digest| digest.as_ref().to_vec()).eq(report.ca_sha256.iter().map(|digest| digest.to_vec())));
    let kept = IdentityStore::new(world.directory.path()).load().expect("readable").expect("an identity");
    assert_eq!(kept.ca.len(), 2, "a restarted agent trusts both as well");
}

#[tokio::test]
async fn a_short_job_brings_its_output_along() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["greet"], 0).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code), (v1::JobResult::Exited, 3));
    assert_eq!((outcome.stdout.as_ref(), outcome.stdout_bytes), (b"hello".as_slice(), 5));
    peer.order("2", 2, &["absent"], 0).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.class()), (v1::JobResult::Failed, v1::ErrorClass::Operator));
    assert_eq!(world.dial.handshakes(), 1, "no second connection for so little");
}

#[tokio::test]
async fn large_output_is_stored_before_the_end_is_reported() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["loud"], 0).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.stdout_bytes, outcome.stdout.len()), (300_000, 0));
    let stored = world.stored.0.lock().expect("stored").clone();
    assert_eq!(stored[&("1".to_owned(), 1)].len(), 300_000);
    assert_eq!(stored[&("1".to_owned(), 2)], b"done");
    assert!(world.directory.path().join("jobs/1").exists(), "kept until acknowledged");
    peer.acknowledge("1").await;
    peer.order("2", 2, &["greet"], 0).await;
    peer.outcome().await;
    assert!(!world.directory.path().join("jobs/1").exists());
}

#[tokio::test]
async fn an_outcome_is_repeated_in_every_session_until_it_is_acknowledged() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["greet"], 0).await;
    peer.outcome().await;
    drop(peer);
    let (mut peer, hello) = world.welcome().await;
    assert_eq!((hello.epoch, hello.sequence, hello.jobs), (2, 1, vec!["1".to_owned()]));
    assert_eq!(peer.outcome().await.stdout.as_ref(), b"hello");
    peer.acknowledge("1").await;
    // A duplicate that comes late is not obeyed, at most answered that its end is not kept; the next order is.
    peer.order("1", 1, &["greet"], 0).await;
    peer.order("2", 2, &["greet"], 0).await;
    let mut report = peer.report().await;
    if report.job == "1" {
        let Some(v1::job_report::State::Outcome(outcome)) = report.state else { panic!("{report:?}") };
        assert_eq!(outcome.result(), v1::JobResult::Unknown);
        report = peer.report().await;
    }
    assert_eq!(report.job, "2");
    assert_eq!(world.runner.effects().len(), 2);
    drop(peer);
    let (_peer, hello) = world.welcome().await;
    assert_eq!(hello.jobs, ["2"]);
}

#[tokio::test]
async fn a_killed_agent_finds_its_jobs_and_starts_nothing_twice() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["slow", "600"], 0).await;
    assert!(matches!(peer.report().await.state, Some(v1::job_report::State::Started(_))));
    let (_, task) = world.agent.take().expect("running");
    task.abort();
    drop(peer);
    world.start();
    let (mut peer, hello) = world.welcome().await;
    assert_eq!(hello.jobs, ["1"]);
    assert_eq!(peer.outcome().await.exit_code, 3);
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn what_a_power_cut_left_open_is_reported_as_unknown() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["slow", "60000"], 0).await;
    peer.report().await;
    let (_, task) = world.agent.take().expect("running");
    task.abort();
    world.runner.lose_power();
    drop(peer);
    world.start();
    let (mut peer, _) = world.welcome().await;
    let outcome = peer.outcome().await;
    assert_eq!(outcome.result(), v1::JobResult::Unknown);
    assert!(outcome.message.contains("not known"), "{}", outcome.message);
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn a_deadline_and_a_stop_end_a_job() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["slow", "60000"], 50).await;
    assert_eq!(peer.outcome().await.result(), v1::JobResult::TimedOut);
    peer.order("2", 2, &["slow", "60000"], 0).await;
    peer.stop("2", 1).await;
    let another = v1::StopOrder { job: "2".into(), grace_millis: 1000, node: "node2".into(), epoch: 2 };
    peer.command(Payload::Stop(another)).await;
    peer.order("3", 3, &["greet"], 0).await;
    assert_eq!(
        peer.outcome().await.result(),
        v1::JobResult::Exited,
        "neither another's stop nor an older controller's"
    );
    peer.stop("2", 2).await;
    assert_eq!(peer.outcome().await.result(), v1::JobResult::Stopped);
}

#[tokio::test]
async fn refuses_what_is_stale_and_says_so() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("5", 5, &["greet"], 0).await;
    peer.outcome().await;
    peer.order("4", 4, &["greet"], 0).await;
    assert_eq!(peer.outcome().await.result(), v1::JobResult::Refused);
    assert_eq!(world.runner.effects().len(), 1);
}

#[tokio::test]
async fn refuses_a_controller_of_an_older_epoch() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.order("1", 1, &["greet"], 0).await;
    peer.outcome().await;
    drop(peer);
    let mut peer = world.sessions.recv().await.expect("a session");
    peer.hear().await;
    peer.say(Down::Welcome(v1::Welcome { epoch: 1, heartbeat_interval_millis: 1000, ..v1::Welcome::default() })).await;
    assert!(!matches!(peer.up.message().await, Ok(Some(_))), "the agent leaves");
}

fn put(job: &str, sequence: u64, path: &Path, content: &[u8], mode: u32) -> Payload {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    let put = v1::PutFileAction {
        path: path.display().to_string(),
        sha256: bytes::Bytes::copy_from_slice(digest.as_ref()),
        size_bytes: content.len() as u64,
        mode,
    };
    let action = Some(v1::order::Action::PutFile(put));
    Payload::Order(v1::Order {
        job: job.into(),
        node: "node1".into(),
        epoch: 2,
        sequence,
        action,
        ..v1::Order::default()
    })
}

#[tokio::test]
async fn a_file_is_placed_whole_although_the_stream_broke_and_not_placed_twice() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new();
    let content: Vec<u8> = (0..400_000_u32).map(|number| u8::try_from(number % 251).expect("small")).collect();
    world.stored.1.lock().expect("content").clone_from(&content);
    let target = world.directory.path().join("placed");
    world.start();
    let (mut peer, _) = world.welcome().await;
    peer.command(put("1", 1, &target, &content, 0o640)).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.exit_code, outcome.changed), (v1::JobResult::Exited, 0, true), "{outcome:?}");
    assert_eq!(std::fs::read(&target).expect("there"), content);
    assert_eq!(std::fs::metadata(&target).expect("there").permissions().mode() & 0o7777, 0o640);
    peer.command(put("2", 2, &target, &content, 0o640)).await;
    assert!(!peer.outcome().await.changed);
    // Another content is ordered than the controller gives.
    peer.command(put("3", 3, &target, &vec![b'y'; 400_000], 0o640)).await;
    assert_eq!(peer.outcome().await.result(), v1::JobResult::Failed);
    assert_eq!(std::fs::read(&target).expect("still there"), content);
    let left = std::fs::read_dir(world.directory.path().join("transfers")).expect("readable").count();
    assert_eq!(left, 0, "nothing half done is left");
}

#[tokio::test]
async fn an_order_that_somebody_else_signed_is_refused_and_nothing_begins() {
    let mut world = World::new();
    world.start();
    let (mut peer, _) = world.welcome().await;
    let argv = vec!["true".to_owned()];
    let action = Some(v1::order::Action::Exec(v1::ExecAction { argv }));
    let order =
        v1::Order { job: "1".into(), node: "node1".into(), epoch: 2, sequence: 1, action, ..v1::Order::default() };
    let forged = crate::test_pki::TestOrders::new().sign(Payload::Order(order.clone()));
    peer.say(Down::Order(forged)).await;
    let outcome = peer.outcome().await;
    assert_eq!(outcome.result(), v1::JobResult::Refused, "{outcome:?}");
    assert!(outcome.message.contains("not signed"), "{}", outcome.message);
    // The forgery has used up neither the number nor the job's id.
    peer.command(Payload::Order(order)).await;
    assert_eq!(peer.outcome().await.result(), v1::JobResult::Exited);
}

#[tokio::test]
async fn a_file_is_sent_from_where_the_controller_says() {
    let mut world = World::new();
    let source = world.directory.path().join("source");
    let content = vec![b'z'; 200_000];
    std::fs::write(&source, &content).expect("written");
    *world.stored.1.lock().expect("content") = content[..50_000].to_vec();
    world.start();
    let (mut peer, _) = world.welcome().await;
    let get = |job: &str, sequence, path: String| {
        let action = Some(v1::order::Action::GetFile(v1::GetFileAction { path }));
        Payload::Order(v1::Order {
            job: job.into(),
            node: "node1".into(),
            epoch: 2,
            sequence,
            action,
            ..v1::Order::default()
        })
    };
    peer.command(get("1", 1, source.display().to_string())).await;
    let outcome = peer.outcome().await;
    assert_eq!((outcome.result(), outcome.sha256.len()), (v1::JobResult::Exited, 32), "{outcome:?}");
    assert_eq!(*world.stored.1.lock().expect("content"), content);
    peer.command(get("2", 2, "/dev/null".to_owned())).await;
    let outcome = peer.outcome().await;
    assert!(outcome.message.contains("not a regular file"), "{}", outcome.message);
}
