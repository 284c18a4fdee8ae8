// SPDX-License-Identifier: Apache-2.0
//! Injected words, hostile words from nodes, secrets in places where they do not belong, and who may read them.

use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, seteuid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;
use windlass_proto::v1;
use windlass_proto::v1::connect_request::Message as Up;
use windlass_proto::v1::create_job_request::Action;
use windlass_proto::v1::fact::Subject;
use windlass_proto::v1::job_service_client::JobServiceClient;
use windlass_tests::agent::{Agent, Token};
use windlass_tests::controller::Controller;
use windlass_tests::process::{command, program, run};
use windlass_tests::session::Session;
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire;

fn exec(argv: &[&str]) -> Action {
    Action::Exec(v1::ExecAction { argv: argv.iter().map(ToString::to_string).collect() })
}

fn put(path: &str) -> Action {
    Action::PutFile(v1::PutFileAction { path: path.to_owned(), sha256: vec![0; 32].into(), size_bytes: 1, mode: 0o644 })
}

fn get(path: &str) -> Action {
    Action::GetFile(v1::GetFileAction { path: path.to_owned() })
}

#[tokio::test]
async fn a20_words_that_could_be_something_else_are_rejected_before_a_job_exists() {
    let controller = Controller::start().await;
    let _agent = Agent::connected(&controller, "node1").await;
    let mut jobs = JobServiceClient::new(wire::local(&controller).await.expect("connected"));
    let long = "n".repeat(4096);
    let nodes = |names: &[&str]| v1::NodeSelector {
        names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let mut attempts = Vec::new();
    for name in ["a;reboot", "../../etc", "node1\nnode2", "node1\0", "-x", "NODE1", "", &long] {
        attempts.push((nodes(&[name]), exec(&["true"])));
    }
    for action in [
        exec(&[]),
        exec(&[""]),
        exec(&["a\0b"]),
        exec(&["echo", "a\0b"]),
        put("etc/passwd"),
        put("/etc/../etc/passwd"),
        put("/a\0b"),
        put(""),
        get("../../etc/shadow"),
        get("/a/../../b"),
        get(&format!("/{}", "p".repeat(8192))),
    ] {
        attempts.push((nodes(&["node1"]), action));
    }
    for (selector, action) in attempts {
        let what = format!("{selector:?} {action:?}");
        let request = v1::CreateJobRequest {
            request_id: "r".to_owned(),
            selector: Some(selector),
            action: Some(action),
            ..Default::default()
        };
        let status = jobs.create_job(request).await.expect_err(&what);
        assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}");
    }
    assert_eq!(controller.words("get jobs -o name").await.ok(), "");
}

/// Clears the screen, turns text around, begins a new line.
const HOSTILE: &str = "\u{1b}[2J\u{202e}evil\nINJECTED line\r\u{7}\u{9b}31m";

#[track_caller]
fn assert_harmless(what: &str, text: &str) {
    for bad in ['\u{1b}', '\u{202e}', '\r', '\u{7}', '\u{9b}'] {
        assert!(!text.contains(bad), "{what} has {bad:?}: {text:?}");
    }
    assert!(!text.lines().any(|line| line.starts_with("INJECTED")), "{what}: {text:?}");
}

#[tokio::test]
async fn a21_hostile_words_of_a_node_are_escaped_wherever_they_are_shown() {
    let controller = Controller::start().await;
    let identity = wire::joined(&controller, "node1").await;
    let channel = wire::remote(&controller, &identity, None).await.expect("connected");
    let mut session = Session::open(channel, HOSTILE).await.expect("a session");
    let os =
        v1::OsFact { id: HOSTILE.into(), pretty_name: HOSTILE.into(), hostname: HOSTILE.into(), ..Default::default() };
    let unavailable = v1::UnavailableFact { subject: "disks".into(), reason: HOSTILE.into() };
    let pending = v1::PendingRebootFact { reasons: vec![HOSTILE.into()] };
    let subjects = [Subject::Os(os), Subject::Unavailable(unavailable), Subject::PendingReboot(pending)];
    let facts = subjects.map(|subject| v1::Fact { age_millis: 0, subject: Some(subject) }).to_vec();
    session.say(Up::Facts(v1::FactsReport { facts, complete: true, request: 0 })).await;
    wait_until("the facts are known", LONG, || async {
        controller.words("get node node1 -o json").await.ok().contains("evil")
    })
    .await;
    let detached = controller.words("exec node1 --detach -- true").await;
    let job = detached.stdout.trim().to_owned();
    while !matches!(
        session.hear.message().await,
        Ok(Some(v1::ConnectResponse { message: Some(v1::connect_response::Message::Order(_)) }))
    ) {}
    let outcome =
        v1::JobOutcome { result: v1::JobResult::Failed.into(), message: HOSTILE.into(), ..Default::default() };
    session
        .say(Up::Job(v1::JobReport { job: job.clone(), state: Some(v1::job_report::State::Outcome(outcome)) }))
        .await;

    for words in [
        "get nodes",
        "get nodes -o wide",
        "get nodes -o json",
        "get node node1",
        "get node node1 -o yaml",
        "events --since 0",
        "events --since 0 -o json",
        "get jobs -o wide",
        &format!("attach {job}"),
        &format!("attach {job} -o json"),
        "exec node1 --timeout 1s --detach -- true",
        "check",
    ] {
        let answer = controller.words(words).await;
        assert_harmless(words, &answer.stdout);
        assert_harmless(words, &answer.stderr);
    }
    assert_harmless("the log", &controller.log());
    for line in controller.audit() {
        assert_harmless("the audit log", &line.to_string());
    }
}

/// Every ordinary file below a directory; to read one of the agent's pipes would be to wait for a writer.
fn files(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path)
            } else if path.is_file() {
                found.push(path)
            }
        }
    }
    found
}

#[tokio::test]
async fn a24_a_user_without_rights_reads_no_state_no_secret_and_gets_nothing_at_the_socket() {
    use std::os::unix::fs::PermissionsExt;
    if !Uid::effective().is_root() {
        println!("not tried: only root can become somebody else");
        return;
    }
    let controller = Controller::start().await;
    let mut agent = Agent::connected(&controller, "node1").await;
    let profile = controller.directory().join("ana.toml");
    let made = ["operator", "create", "ana", "--role", "admin", "--out", profile.to_str().expect("text")];
    assert_eq!(controller.cli(&made).await.code, 0);
    for directory in [controller.directory(), &agent.directory()] {
        std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).expect("changed");
    }
    let mut secret: Vec<PathBuf> = files(&controller.state_dir());
    secret.extend(files(&agent.state_dir()));
    secret.push(profile);
    for pid in [controller.process().pid(), agent.process().pid()] {
        secret.push(format!("/proc/{pid}/environ").into());
        secret.push(format!("/proc/{pid}/mem").into());
    }
    assert!(secret.len() > 8, "{secret:?}");

    let nobody = User::from_name("nobody").expect("readable").expect("a user that exists everywhere").uid;
    seteuid(nobody).expect("root may");
    let readable: Vec<_> = secret.iter().filter(|path| std::fs::read(path).is_ok()).collect();
    seteuid(Uid::from_raw(0)).expect("back");
    assert_eq!(readable, [] as [&PathBuf; 0]);

    // What was built may lie in a home that nobody else may enter.
    let reachable = controller.directory().join("windlass");
    std::fs::copy(program("windlass"), &reachable).expect("copied");
    let mut as_nobody = command(&reachable, controller.directory());
    as_nobody.env("WINDLASS_SOCKET", controller.socket()).args(["get", "nodes"]);
    run(as_nobody.uid(nobody.as_raw()).gid(65534)).await.assert_refused(77, "nobody", "socket_access");
    for pid in [controller.process().pid(), agent.process().pid()] {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("anybody may");
        assert!(!arguments.to_lowercase().contains("secret") && !arguments.contains("BEGIN"), "{arguments}");
    }
}

async fn http(controller: &Controller, path: &str) -> String {
    let mut stream = wire::tcp(controller.listeners().http, None).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    let read = tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await;
    read.expect("answered in time").expect("answered");
    answer
}

/// The lines of every private key in a PEM text, which are long enough to be unmistakable.
fn key_lines(pem: &str) -> Vec<String> {
    let bodies = pem.split("PRIVATE KEY-----").skip(1).step_by(2);
    bodies.flat_map(str::lines).filter(|line| line.len() > 40).map(str::to_owned).collect()
}

#[tokio::test]
async fn a26_no_secret_is_found_where_secrets_do_not_belong() {
    let controller = Controller::start().await;
    let agent = Agent::connected(&controller, "node1").await;
    let unused = Token::create(&controller, "node2", "30m").await;
    let used = Token::create(&controller, "node3", "30m").await;
    wire::join(&controller, None, &used.token, &wire::request().0).await.expect("joined");
    let guessed = format!("{}.{}", unused.id, "c0ffee".repeat(10));
    let _refused = wire::join(&controller, None, &guessed, &wire::request().0).await;
    let profile = controller.directory().join("ana.toml");
    let text = profile.to_str().expect("text");
    assert_eq!(controller.cli(&["operator", "create", "ana", "--role", "viewer", "--out", text]).await.code, 0);
    let _ran = controller.words("exec node1 -- true --password=canary-in-an-argument").await;

    let mut canaries: Vec<String> = vec!["c0ffee".repeat(10)];
    for token in [&unused, &used] {
        canaries.push(token.token.split('.').next_back().expect("a secret").to_owned());
    }
    let mut keys = key_lines(&std::fs::read_to_string(&profile).expect("a profile"));
    for file in files(&controller.state_dir().join("pki")).into_iter().chain(files(&agent.state_dir())) {
        keys.extend(key_lines(&String::from_utf8_lossy(&std::fs::read(file).unwrap_or_default())));
    }
    assert!(keys.len() >= 3, "the CA's, the agent's and the operator's key were looked for");
    canaries.extend(keys);

    let bundle = controller.directory().join("support.json");
    assert_eq!(controller.cli(&["support", "--out", bundle.to_str().expect("text")]).await.code, 0);
    let mut places = vec![
        ("events".to_owned(), format!("{:?}", controller.events().await).into_bytes()),
        ("metrics".to_owned(), http(&controller, "/metrics").await.into_bytes()),
        ("readyz".to_owned(), http(&controller, "/readyz?verbose").await.into_bytes()),
        ("support bundle".to_owned(), std::fs::read(&bundle).expect("a bundle")),
        ("controller's log".to_owned(), controller.log().into_bytes()),
        ("agent's log".to_owned(), agent.log().into_bytes()),
    ];
    let is_key = |path: &Path| path.components().any(|part| part.as_os_str() == "pki");
    for file in files(&controller.state_dir()).into_iter().filter(|path| !is_key(path)) {
        places.push((file.display().to_string(), std::fs::read(&file).unwrap_or_default()));
    }
    assert!(places.iter().any(|(name, content)| name.contains("state.db") && content.len() > 4096));
    for (place, content) in &places {
        // Bytes that are no text become marks; a secret is text.
        let content = String::from_utf8_lossy(content);
        for canary in &canaries {
            assert!(!content.contains(canary.as_str()), "{place} has the secret that begins with {}", &canary[..6]);
        }
    }
    let bundle = std::fs::read_to_string(&bundle).expect("text");
    assert!(!bundle.contains("canary-in-an-argument"), "the support bundle shows arguments");
    assert!(!agent.token_file().exists(), "the token is removed once it is used");
}

#[test]
fn a27_hostile_yaml_is_rejected_with_its_place_and_soon() {
    let head = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: c}\nspec:\n";
    let bomb: String =
        (0..30).map(|nth| format!("  a{nth}: &a{nth} [*a{0}, *a{0}, *a{0}, *a{0}]\n", nth.max(1) - 1)).collect();
    for (what, text) in [
        ("aliases", format!("{head}  nodes: &n []\n  more: *n\n")),
        ("an alias bomb", format!("{head}{bomb}")),
        ("depth", format!("{head}  nodes: {}{}\n", "[".repeat(100_000), "]".repeat(100_000))),
        ("a key twice", format!("{head}  nodes: []\n  nodes: []\n")),
        ("a tag", format!("{head}  nodes: !!python/object/apply:os.system [\"reboot\"]\n")),
        ("an unknown key", format!("{head}  nodez: []\n")),
        ("no YAML", "\u{0}\u{1b}[2J: [".to_owned()),
    ] {
        let error = windlass_controller::spec::Cluster::parse(&text).expect_err(what);
        let chain = windlass_types::error_chain::ErrorChain(&error).to_string();
        assert!(chain.contains("line") || what == "no YAML", "{what}: {chain}");
        assert!(!chain.contains('\u{1b}'), "{what}: {chain}");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let huge = directory.path().join("cluster.yaml");
    std::fs::File::create(&huge).and_then(|file| file.set_len(100 << 20)).expect("a file with a hole");
    assert!(windlass_controller::spec::Cluster::read(&huge).is_err());
}
