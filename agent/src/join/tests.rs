// SPDX-License-Identifier: Apache-2.0
//! Joining against a server that does what each test needs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1::join_service_server::{JoinService, JoinServiceServer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509CertificationRequest};

use super::*;
use crate::host::clock::SystemClock;
use crate::test_pki::TestCa;
use crate::test_server::InProcess;

/// A controller in this process. It can lose its first answers and can refuse.
struct Controller {
    ca: TestCa,
    lose: AtomicUsize,
    refuse: bool,
    keys: Mutex<Vec<Vec<u8>>>,
    endpoint: &'static str,
}

struct Handle(Arc<Controller>);

struct Subject(Vec<u8>);

impl rcgen::PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl Controller {
    fn new(lose: usize, refuse: bool) -> Arc<Self> {
        let keys = Mutex::default();
        Arc::new(Self { ca: TestCa::new(), lose: AtomicUsize::new(lose), refuse, keys, endpoint: ":7600" })
    }

    fn issue(&self, csr: &[u8]) -> v1::IssuedCertificate {
        let (_, request) = X509CertificationRequest::from_der(csr).expect("a request");
        request.verify_signature().expect("signed by its own key");
        let info = &request.certification_request_info;
        let key = info.subject_pki.subject_public_key.data.to_vec();
        self.keys.lock().expect("keys").push(key.clone());
        self.ca.issue_agent(&Subject(key))
    }
}

#[tonic::async_trait]
impl JoinService for Handle {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        if self.0.refuse || request.token != "secret" {
            return Err(Refusal::new(Reason::JoinRefused, "the token cannot be used").into());
        }
        let issued = self.0.issue(&request.csr_der);
        if self.0.lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(Status::unavailable("lost on the way"));
        }
        let agent_endpoint = self.0.endpoint.to_owned();
        Ok(Response::new(v1::JoinResponse { node: "node1".into(), issued: Some(issued), agent_endpoint }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let request = request.into_inner();
        let (_, old) = X509Certificate::from_der(&request.certificate_der).expect("a certificate");
        let key = old.public_key().subject_public_key.data.to_vec();
        let signed = [b"windlass renew v1".as_slice(), &request.csr_der].concat();
        let proven = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(&signed, &request.proof);
        proven.map_err(|_| Status::permission_denied("no proof"))?;
        Ok(Response::new(v1::RenewResponse { issued: Some(self.0.issue(&request.csr_der)) }))
    }
}

fn listen(controller: &Arc<Controller>) -> InProcess {
    let routes = tonic::service::Routes::new(JoinServiceServer::new(Handle(Arc::clone(controller))));
    InProcess::serve(routes, controller.ca.server_config(false))
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn plan(dir: &Path, pin: SpkiPin) -> JoinPlan {
    let token_file = dir.join("token");
    std::fs::write(&token_file, "secret\n").expect("written");
    let controller = "bastion:7601".parse().expect("valid");
    JoinPlan {
        controller,
        pins: vec![pin],
        token_file,
        state_dir: dir.join("state"),
        executor_dir: dir.join("executor"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_with_pin_and_token_becomes_a_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, false);
    let plan = plan(dir.path(), controller.ca.pin());
    let dial = listen(&controller);
    let joined = join(&plan, &dial, &clock(), 1).await.expect("joined");
    let node = NodeName::new("node1").expect("valid");
    assert_eq!(joined, Joined::Now(node.clone()));
    let identity = IdentityStore::new(&plan.state_dir).load().expect("readable").expect("there");
    assert_eq!(identity.agent_endpoint, "bastion:7600");
    assert_eq!(identity.join_endpoint, "bastion:7601");
    assert!(!plan.token_file.exists(), "the token is removed");
    assert!(!plan.state_dir.join("pending-key").exists());
    let mandate = Mandate::load(&plan.executor_dir).expect("there");
    assert_eq!(mandate, Mandate { node: node.clone(), order_key: controller.ca.orders.public() });
    assert_eq!(join(&plan, &dial, &clock(), 1).await.expect("said so"), Joined::Already(node));
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(2, false);
    let plan = plan(dir.path(), controller.ca.pin());
    join(&plan, &listen(&controller), &clock(), 1).await.expect("joined");
    let keys = controller.keys.lock().expect("keys").clone();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
}

#[tokio::test(start_paused = true)]
async fn the_token_never_reaches_a_controller_without_the_pinned_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, false);
    let plan = plan(dir.path(), TestCa::new().pin());
    let dial = listen(&controller);
    let error = join(&plan, &dial, &clock(), 1).await.expect_err("refused");
    assert_eq!(error.exit_code(), 77);
    assert!(error.chain().contains("none of which has the pinned key"), "{}", error.chain());
    assert_eq!(dial.handshakes(), 0);
    assert!(controller.keys.lock().expect("keys").is_empty());
    assert!(plan.token_file.exists(), "it can still be used");
}

#[tokio::test(start_paused = true)]
async fn a_refused_token_is_not_tried_again_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, true);
    let plan = plan(dir.path(), controller.ca.pin());
    let dial = listen(&controller);
    let error = join(&plan, &dial, &clock(), 1).await.expect_err("refused");
    assert_eq!((error.exit_code(), dial.handshakes()), (77, 1));
    assert!(error.chain().contains("windlass token create"), "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn a_machine_of_another_controller_stays_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, false);
    let first = plan(dir.path(), controller.ca.pin());
    join(&first, &listen(&controller), &clock(), 1).await.expect("joined");
    let other = plan(dir.path(), TestCa::new().pin());
    let error = join(&other, &listen(&controller), &clock(), 1).await.expect_err("refused");
    assert_eq!(error.exit_code(), 78);
    assert!(error.to_string().contains("join again with a new token"), "{error}");
}

struct Nowhere;

#[async_trait::async_trait]
impl Dial for Nowhere {
    async fn dial(&self) -> std::io::Result<Box<dyn crate::dial::Io>> {
        Err(std::io::ErrorKind::ConnectionRefused.into())
    }
}

#[tokio::test(start_paused = true)]
async fn an_absent_controller_is_waited_for_and_then_given_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let plan = plan(dir.path(), TestCa::new().pin());
    let begun = Instant::now();
    let error = join(&plan, &Nowhere, &clock(), 1).await.expect_err("nobody there");
    assert_eq!(error.exit_code(), 69);
    assert!(begun.elapsed() >= RETRY_FOR && begun.elapsed() < RETRY_FOR * 2);
}

#[tokio::test(start_paused = true)]
async fn a_missing_token_and_a_bad_directory_are_told_before_anything_is_sent() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, false);
    let dial = listen(&controller);
    let mut plan = plan(dir.path(), controller.ca.pin());
    std::fs::write(&plan.token_file, " \n").expect("written");
    assert!(matches!(join(&plan, &dial, &clock(), 1).await, Err(JoinError::NotAToken { .. })));
    plan.token_file = dir.path().join("absent");
    assert!(matches!(join(&plan, &dial, &clock(), 1).await, Err(JoinError::TokenFile { .. })));
    plan.state_dir = PathBuf::from("/proc/windlass");
    let error = join(&plan, &dial, &clock(), 1).await.expect_err("not writable");
    assert_eq!((error.exit_code(), dial.handshakes()), (78, 0), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_late_node_renews_by_proving_its_old_key() {
    let dir = tempfile::tempdir().expect("a directory");
    let controller = Controller::new(0, false);
    let plan = plan(dir.path(), controller.ca.pin());
    let dial = listen(&controller);
    join(&plan, &dial, &clock(), 1).await.expect("joined");
    let store = IdentityStore::new(&plan.state_dir);
    let old = store.load().expect("readable").expect("there");
    let new = renew(&old, &store, &dial, &clock()).await.expect("renewed");
    let loaded = store.load().expect("readable").expect("there");
    assert_eq!(loaded.certificate, new.certificate);
    assert_ne!(old.certificate, new.certificate);
    assert_ne!(old.key().expect("key").public_key_raw(), new.key().expect("key").public_key_raw());
}
