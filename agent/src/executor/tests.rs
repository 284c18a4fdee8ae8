// SPDX-License-Identifier: Apache-2.0
//! A front in foreign hands: whatever it says, nothing is done but what the controller signed.

use std::path::Path;

use windlass_proto::v1::carry_response::Part as Answer;
use windlass_proto::v1::executor_message::Message as Said;
use windlass_proto::v1::front_message::Message as Told;
use windlass_proto::v1::order_payload::Payload;
use windlass_types::name::NodeName;

use super::*;
use crate::dial::Dial as _;
use crate::host::clock::SystemClock;
use crate::host::fake::FakeHost;
use crate::jobs::fake::{FakeRunner, Script};
use crate::local::{PipeDial, Receiver, Sender, pipe};
use crate::test_pki::TestOrders;

/// An executor whose front is the test.
struct World {
    orders: TestOrders,
    runner: FakeRunner,
    directory: tempfile::TempDir,
    dial: PipeDial,
}

/// A session as the test holds it.
struct Session {
    sender: Sender,
    receiver: Receiver,
}

impl World {
    fn start() -> Self {
        Self::whose_programs_print(vec![b'x'; 100_000])
    }

    fn whose_programs_print(stdout: Vec<u8>) -> Self {
        let (dial, listener) = pipe();
        let (orders, directory) = (TestOrders::new(), tempfile::tempdir().unwrap());
        let runner = FakeRunner::new(move |_| Script { stdout: stdout.clone(), ..Script::default() });
        let executor = Executor {
            mandate: Mandate { node: NodeName::new("node1").unwrap(), order_key: orders.public() },
            state_dir: directory.path().join("state"),
            config: Config::default(),
            clock: Arc::new(SystemClock),
            runner: Arc::new(runner.clone()),
            host: Arc::new(FakeHost::new("node1")),
            seed: 1,
            handover: CancellationToken::new(),
        };
        std::fs::create_dir_all(&executor.state_dir).unwrap();
        tokio::spawn(executor.run(listener, CancellationToken::new(), || {}));
        Self { orders, runner, directory, dial }
    }

    async fn greet(&self, purpose: Purpose) -> (Sender, Receiver) {
        let (mut sender, receiver) = messages(self.dial.dial().await.unwrap());
        sender.send(&v1::ExecutorGreeting { purpose: Some(purpose) }).await.unwrap();
        (sender, receiver)
    }

    async fn session(&self) -> (Session, v1::ExecutorStanding) {
        let (sender, receiver) = self.greet(Purpose::Session(v1::SessionPurpose::default())).await;
        let mut session = Session { sender, receiver };
        let Some(Said::Standing(standing)) = session.heard().await else { panic!("not how it stands") };
        session.tell(Told::Opened(v1::SessionOpened {})).await;
        (session, standing)
    }

    fn signed(&self, sequence: u64, action: v1::order::Action) -> v1::SignedOrder {
        self.signed_for(sequence, sequence, action)
    }

    fn signed_for(&self, job: u64, sequence: u64, action: v1::order::Action) -> v1::SignedOrder {
        let (job, node) = (job.to_string(), "node1".to_owned());
        let output_limit_bytes = 1 << 20;
        let action = Some(action);
        let order = v1::Order { job, node, epoch: 1, sequence, output_limit_bytes, action, ..v1::Order::default() };
        self.orders.sign(Payload::Order(order))
    }
}

fn program() -> v1::order::Action {
    program_with("")
}

fn program_with(argument: &str) -> v1::order::Action {
    v1::order::Action::Exec(v1::ExecAction { argv: vec!["true".into(), argument.into()] })
}

fn put(path: &Path, content: &[u8]) -> v1::order::Action {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    v1::order::Action::PutFile(v1::PutFileAction {
        path: path.display().to_string(),
        sha256: bytes::Bytes::copy_from_slice(digest.as_ref()),
        size_bytes: content.len() as u64,
        mode: 0o644,
    })
}

impl Session {
    async fn tell(&mut self, message: Told) {
        self.sender.send(&v1::FrontMessage { message: Some(message) }).await.unwrap();
    }

    async fn heard(&mut self) -> Option<Said> {
        self.receiver.next::<v1::ExecutorMessage>().await.unwrap().and_then(|message| message.message)
    }

    async fn outcome(&mut self) -> (String, v1::JobOutcome) {
        loop {
            let Some(Said::Job(report)) = self.heard().await else { continue };
            if let Some(v1::job_report::State::Outcome(outcome)) = report.state {
                return (report.job, outcome);
            }
        }
    }

    async fn announced(&mut self) -> u64 {
        loop {
            if let Some(Said::Carry(announced)) = self.heard().await {
                return announced.call;
            }
        }
    }
}

#[tokio::test]
async fn obeys_what_the_controller_signed_once_and_nothing_else() {
    let world = World::start();
    let (mut session, standing) = world.session().await;
    assert_eq!((standing.node.as_str(), standing.sequence), ("node1", 0));
    let genuine = world.signed(5, program());
    let mut changed = genuine.clone();
    changed.payload = world.signed(6, program()).payload;
    let foreign = TestOrders::new().sign(Payload::Stop(v1::StopOrder { job: "5".into(), ..v1::StopOrder::default() }));
    for forged in [changed, foreign, v1::SignedOrder::default()] {
        session.tell(Told::Order(forged)).await;
    }
    session.tell(Told::Ack(v1::ReportAck { job: "no such \u{1b}[2J".into() })).await;
    for _ in 0..3 {
        session.tell(Told::Order(genuine.clone())).await;
    }
    let older = world.signed(4, program());
    session.tell(Told::Order(older)).await;
    let mut results = std::collections::BTreeMap::new();
    while !results.contains_key("4") {
        let (job, outcome) = session.outcome().await;
        results.entry(job).or_insert_with(Vec::new).push(outcome.result());
    }
    assert_eq!(results["6"], [v1::JobResult::Refused], "a genuine payload under another's signature");
    assert_eq!(results["4"], [v1::JobResult::Refused], "{results:?}");
    assert_eq!(world.runner.effects().len(), 1, "{results:?}");
}

#[tokio::test]
async fn a_front_that_gives_another_content_has_nothing_placed() {
    let world = World::start();
    let (mut session, _) = world.session().await;
    let target = world.directory.path().join("placed");
    session.tell(Told::Order(world.signed(1, put(&target, b"what was ordered")))).await;
    let call = session.announced().await;
    let (mut sender, mut receiver) = world.greet(Purpose::Carry(v1::CarryPurpose { call })).await;
    let asked = receiver.next::<v1::CarryRequest>().await.unwrap();
    assert!(matches!(asked, Some(v1::CarryRequest { part: Some(v1::carry_request::Part::Fetch(_)) })), "{asked:?}");
    let data = bytes::Bytes::from_static(b"something else..");
    let part = Some(Answer::Fetch(v1::FetchFileResponse { data }));
    sender.send(&v1::CarryResponse { part }).await.unwrap();
    let (_, outcome) = session.outcome().await;
    assert_eq!(outcome.result(), v1::JobResult::Failed, "{outcome:?}");
    assert!(outcome.message.contains("another digest") && !target.exists(), "{}", outcome.message);
}

#[tokio::test]
async fn a_job_whose_end_was_kept_from_the_controller_is_not_done_again_under_a_new_number() {
    let world = World::whose_programs_print(Vec::new());
    let (mut session, _) = world.session().await;
    let journal = world.directory.path().join("state/journal");
    let large = "x".repeat(100_000);
    for job in 1..=4 {
        session.tell(Told::Order(world.signed(job, program_with(&large)))).await;
        assert_eq!(session.outcome().await.0, job.to_string());
        session.tell(Told::Ack(v1::ReportAck { job: job.to_string() })).await;
    }
    session.tell(Told::Order(world.signed_for(1, 9, program()))).await;
    let (job, outcome) = session.outcome().await;
    assert!(std::fs::metadata(journal).unwrap().len() < 300_000, "most of it is history and was dropped");
    assert_eq!((job.as_str(), outcome.result()), ("1", v1::JobResult::Unknown), "{outcome:?}");
    assert_eq!(world.runner.effects().len(), 4);
}

#[tokio::test]
async fn a_refused_order_that_comes_again_adds_nothing_to_the_journal() {
    let world = World::start();
    let (mut session, _) = world.session().await;
    let journal = world.directory.path().join("state/journal");
    let program_without_a_name = v1::order::Action::Exec(v1::ExecAction::default());
    let refused = world.signed(1, program_without_a_name);
    let mut seen = Vec::new();
    for _ in 0..3 {
        session.tell(Told::Order(refused.clone())).await;
        assert_eq!(session.outcome().await.1.result(), v1::JobResult::Refused);
        seen.push(std::fs::read(&journal).unwrap());
    }
    assert!(seen[0].starts_with(&[37, 0, 0, 0]), "that it was refused is kept");
    assert!(seen[0] == seen[1] && seen[1] == seen[2], "once");
    for number in 2..6000 {
        session.tell(Told::Order(world.signed(number, v1::order::Action::Exec(v1::ExecAction::default())))).await;
        session.outcome().await;
    }
    assert!(std::fs::metadata(journal).unwrap().len() < 300_000, "they were compacted");
}

#[tokio::test]
async fn a_job_that_was_told_as_refused_is_not_done_when_it_is_ordered_anew() {
    let world = World::start();
    let (mut session, _) = world.session().await;
    session.tell(Told::Order(world.signed(1, v1::order::Action::Exec(v1::ExecAction::default())))).await;
    let first = session.outcome().await;
    session.tell(Told::Order(world.signed_for(1, 2, program()))).await;
    assert_eq!(session.outcome().await, first);
    assert_eq!((first.1.result(), world.runner.effects().len()), (v1::JobResult::Refused, 0));
}

#[tokio::test]
async fn a_front_that_takes_no_reports_does_not_fill_the_memory() {
    let world = World::whose_programs_print(Vec::new());
    let (mut session, _) = world.session().await;
    let (said, no_program) = (6000, v1::order::Action::Exec(v1::ExecAction::default()));
    for number in 1..=said {
        session.tell(Told::Order(world.signed(number, no_program.clone()))).await;
    }
    session.tell(Told::Order(world.signed(said + 1, program()))).await;
    let mut told = 0;
    while session.outcome().await.0 != (said + 1).to_string() {
        told += 1;
    }
    assert!(told < said / 2, "{told} of {said}");
}

#[tokio::test]
async fn nonsense_ends_its_connection_and_no_other() {
    let world = World::start();
    let (mut session, _) = world.session().await;
    for greeting in [
        v1::ExecutorGreeting::default(),
        v1::ExecutorGreeting { purpose: Some(Purpose::Carry(v1::CarryPurpose { call: 99 })) },
    ] {
        let (mut sender, mut receiver) = messages(world.dial.dial().await.unwrap());
        sender.send(&greeting).await.unwrap();
        assert_eq!(receiver.next::<v1::ExecutorMessage>().await.unwrap(), None, "{greeting:?}");
    }
    session.tell(Told::Order(world.signed(1, program()))).await;
    let call = session.announced().await;
    // Carried wrongly, then not at all: it is announced again, and in the next session too.
    let (mut sender, _receiver) = world.greet(Purpose::Carry(v1::CarryPurpose { call })).await;
    let part = Some(Answer::Fetch(v1::FetchFileResponse::default()));
    sender.send(&v1::CarryResponse { part }).await.unwrap();
    let again = session.announced().await;
    assert!(again > call);
    let (mut next, standing) = world.session().await;
    assert_eq!((session.heard().await, standing.jobs.as_slice()), (None, &["1".to_owned()][..]), "it was replaced");
    assert_eq!(next.announced().await, again);
}

#[tokio::test]
async fn facts_are_told_when_they_are_asked_for() {
    let world = World::start();
    let (mut session, _) = world.session().await;
    session.tell(Told::Observe(v1::ObserveNode { closely: true })).await;
    let Some(Said::Observed(observed)) = session.heard().await else { panic!("not what was seen") };
    assert_eq!(observed.facts.len(), windlass_types::facts::Subject::ALL.len() - 1, "{observed:?}");
}

#[tokio::test]
async fn connections_that_say_nothing_are_not_taken_without_end() {
    let world = World::start();
    let mut silent = Vec::new();
    let dialled = async {
        loop {
            silent.push(world.dial.dial().await.unwrap());
        }
    };
    // Some more wait, as at a socket.
    assert!(tokio::time::timeout(GREETING_TIMEOUT / 20, dialled).await.is_err());
    assert!((MOST_CONNECTIONS..MOST_CONNECTIONS * 2).contains(&silent.len()), "{}", silent.len());
    drop(silent);
    let (_session, standing) = world.session().await;
    assert!(standing.jobs.is_empty());
}

#[tokio::test]
async fn a_front_that_asks_without_end_is_answered_and_forged_orders_do_not_pile_up() {
    let world = World::start();
    let (mut sender, receiver) = world.greet(Purpose::Session(v1::SessionPurpose::default())).await;
    for job in (0..2000).chain(1990..2000) {
        let order = v1::Order { job: job.to_string(), node: "node1".into(), ..v1::Order::default() };
        let mut signed = TestOrders::new().sign(Payload::Order(order));
        signed.signature = bytes::Bytes::from_static(&[0; 64]);
        sender.send(&v1::FrontMessage { message: Some(Told::Order(signed)) }).await.unwrap();
    }
    let mut session = Session { sender, receiver };
    let Some(Said::Standing(_)) = session.heard().await else { panic!("not how it stands") };
    session.tell(Told::Opened(v1::SessionOpened {})).await;
    let mut refused = std::collections::BTreeSet::new();
    while !refused.contains("1999") {
        assert!(refused.insert(session.outcome().await.0), "told twice");
    }
    assert!(refused.len() <= 256, "{}", refused.len());
}

#[tokio::test]
async fn a_step_that_was_begun_outside_of_the_sandbox_waits_in_it() {
    use crate::journal::{Journal, Order, Record};
    let directory = tempfile::tempdir().unwrap();
    let step = r#"{"id":"a","step":{"kind":"repair-packages"}}"#;
    let action = windlass_types::action::Action::Step(serde_json::from_str(step).unwrap());
    let job = windlass_types::name::JobId::new("7").unwrap();
    let order = Order { job, epoch: 1, sequence: 1, expires: None, timeout: None, output_limit: 1, action };
    let mut journal = Journal::open(&directory.path().join("journal")).unwrap();
    journal.append_durably(Record::Accepted(order)).unwrap();
    drop(journal);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let jobs = Jobs::open(JobParts {
        node: NodeName::new("node1").unwrap(),
        state_dir: directory.path().to_owned(),
        exec: true,
        order_key: OrderKey::new(TestOrders::new().public()),
        runner: Arc::new(crate::jobs::process_group::ProcessGroups::confined(Arc::clone(&clock))),
        host: Arc::new(FakeHost::new("node1")),
        carriers: Carriers::new(directory.path().join("transfers"), 1),
        clock,
        ended: CancellationToken::new(),
    })
    .unwrap();
    jobs.recover();
    assert!(jobs.are_at_rest());
    assert_eq!(jobs.open_jobs(), ["7"]);
}
