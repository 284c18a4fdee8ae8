// SPDX-License-Identifier: Apache-2.0
//! Mistakes of people and machines: each gets a message with cause and next step and a documented exit code, and leaves
//! nothing half done.

use windlass_tests::agent::{Agent, Token};
use windlass_tests::controller::Controller;
use windlass_tests::process::{self, Answer, command, program, run};
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire;

async fn serve(controller: &Controller) -> Answer {
    run(&mut controller.serve_command()).await
}

#[tokio::test]
async fn an_unknown_key_in_the_configuration_is_named_with_its_place() {
    for (text, place, word) in [
        ("[jobs]\nexce = false\n", "line 2", "exce"),
        ("\n\nlisten = 7\n", "line 3", "socket address"),
        ("[session]\nheartbeat_seconds = \"often\"\n", "line 2", "string \"often\""),
    ] {
        let controller = Controller::prepared(text);
        let answer = serve(&controller).await;
        answer.assert_refused(78, place, "do: ");
        assert!(answer.stderr.contains(word), "{answer:?}");
        assert!(!controller.state_dir().exists(), "state was made with a wrong configuration");
    }
}

#[tokio::test]
async fn a_number_out_of_range_in_the_configuration_is_named() {
    let answer = serve(&Controller::prepared("[session]\nheartbeat_seconds = 0\n")).await;
    answer.assert_refused(78, "session.heartbeat_seconds", "do: ");
}

#[tokio::test]
async fn a_second_controller_on_the_same_state_is_refused_and_the_first_goes_on() {
    let controller = Controller::start().await;
    let answer = serve(&controller).await;

    answer.assert_refused(6, "in use by another controller", "--state-dir");
    assert!(answer.stderr.contains(&controller.process().pid().to_string()), "{answer:?}");
    assert_eq!(controller.words("get nodes").await.code, 0);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_the_state_can_be_used_afterwards() {
    let first = Controller::start().await;
    let mut second = Controller::prepared("");
    let mut serve = command(program("windlass"), second.directory());
    serve.args(["serve", "--join-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    serve.arg("--listen").arg(first.listeners().agents.to_string());
    serve.arg("--state-dir").arg(second.state_dir()).arg("--socket").arg(second.socket());

    run(&mut serve).await.assert_refused(1, &first.listeners().agents.to_string(), "ss -ltnp");

    second.restart().await;
    assert_eq!(second.words("get nodes").await.code, 0);
}

#[tokio::test]
async fn a_socket_that_another_controller_answers_is_not_taken_over() {
    let first = Controller::start().await;
    let second = Controller::prepared("");
    let mut serve = command(program("windlass"), second.directory());
    serve.args(["serve", "--listen", "127.0.0.1:0", "--join-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
    serve.arg("--state-dir").arg(second.state_dir()).arg("--socket").arg(first.socket());

    run(&mut serve).await.assert_refused(6, "another controller answers", "--socket");

    assert_eq!(first.words("get nodes").await.code, 0);
}

#[tokio::test]
async fn a_socket_whose_file_was_removed_is_made_again() {
    let controller = Controller::start().await;
    std::fs::remove_file(controller.socket()).expect("removed");
    let answers = async || controller.words("get nodes").await.code == 0;
    windlass_tests::wait::wait_until("the socket to be back", windlass_tests::wait::LONG, answers).await;
    assert!(controller.log().contains("file was removed"), "{}", controller.log());
}

#[tokio::test]
async fn a_profile_that_names_the_join_port_is_told_so() {
    let controller = Controller::start().await;
    let path = controller.directory().join("ana.toml").to_str().expect("text").to_owned();
    let made = controller.cli(&["operator", "create", "ana", "--role", "viewer", "--out", &path]).await;
    assert_eq!(made.code, 0, "{made:?}");
    let (right, wrong) = (controller.listeners().agents.to_string(), controller.listeners().join.to_string());
    let profile = std::fs::read_to_string(&path).expect("there").replace(&right, &wrong);
    std::fs::write(&path, profile).expect("written");
    let mut command = controller.cli_command(&["--profile", &path, "get", "nodes"]);
    command.env_remove("WINDLASS_SOCKET");
    run(&mut command).await.assert_refused(77, "may not call", "this is the port where machines join");
}

#[tokio::test]
async fn joining_at_a_wrong_port_is_told_by_what_answers_there() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let file = controller.directory().join("token");
    std::fs::write(&file, &token.token).expect("written");
    let ports = controller.listeners();
    for (port, words) in [(ports.agents, "asks for a certificate"), (ports.http, "does not speak TLS")] {
        let mut join = command(program("windlass-agent"), controller.directory());
        join.args(["join", "--controller", &port.to_string(), "--ca-pin", &token.ca_pin, "--token-file"]).arg(&file);
        join.arg("--state-dir").arg(controller.directory().join("agent"));
        let answer = run(&mut join).await;
        assert!(answer.code == 78 && answer.stderr.contains(words) && answer.stderr.contains("7601"), "{answer:?}");
    }
    assert!(file.exists(), "the token was not used");
}

#[tokio::test]
async fn a_state_directory_that_is_a_file_is_refused() {
    let controller = Controller::prepared("");
    std::fs::write(controller.state_dir(), "not a directory").expect("written");

    serve(&controller).await.assert_refused(78, "state directory", "make sure that it exists");

    assert_eq!(std::fs::read(controller.state_dir()).expect("still there"), b"not a directory");
}

#[tokio::test]
async fn a_state_directory_on_a_read_only_filesystem_is_refused() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tried: only root can mount");
        return;
    }
    let controller = Controller::prepared("");
    let serve = process::on_tmpfs(controller.serve_command(), &controller.state_dir(), "size=4m,ro");

    run(&mut { serve }).await.assert_refused(78, "Read-only file system", "belongs to the user of the controller");
}

#[tokio::test]
async fn a_full_disk_refuses_changes_keeps_what_was_and_works_again_with_room() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tried: only root can mount");
        return;
    }
    let mut controller = Controller::prepared("");
    controller.start_on_tmpfs("size=8m").await;
    let first = Token::create(&controller, "node1", "30m").await;
    let inside = controller.state_inside().join("filler");
    let full = std::fs::write(&inside, vec![0; 16 << 20]);
    assert!(full.is_err(), "the disk is full now");

    let mut refused = None;
    for nth in 0..2000 {
        // What is allocated already may take a few more records.
        let answer = controller.cli(&["token", "create", &format!("other{nth}")]).await;
        if answer.code != 0 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a full disk refuses changes in the end");
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("No space left") || refused.stderr.contains("full"), "{refused:?}");
    assert!(refused.stderr.contains("room") || refused.stderr.contains("free some space"), "{refused:?}");
    assert_eq!(controller.words("get nodes").await.code, 0, "reading goes on");
    let health = controller.words("check").await;
    assert!(health.code == 1 && health.stdout.contains("FAIL"), "{health:?}");

    std::fs::remove_file(&inside).expect("room again");
    assert_eq!(controller.words("token create node2").await.code, 0);
    wire::join(&controller, None, &first.token, &wire::request().0).await.expect("the first token is still good");
    let verified = controller.words("audit verify").await;
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[tokio::test]
async fn a_copy_never_fills_the_disk_and_a_node_is_revoked_on_a_full_one() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("not tried: only root can mount");
        return;
    }
    let mut controller = Controller::prepared("");
    controller.start_on_tmpfs("size=24m").await;
    let (_one, _two) = (wire::joined(&controller, "node1").await, wire::joined(&controller, "node2").await);
    let from = controller.directory().join("from");
    std::fs::write(&from, vec![7; 23 << 20]).expect("written");
    let copy = controller.cli(&["cp", from.to_str().expect("text"), "node1:/tmp/to"]).await;
    copy.assert_refused(1, "it takes 23 MiB", "limits.disk_reserve_bytes");
    assert_eq!(std::fs::read_dir(controller.state_inside().join("files")).expect("there").count(), 0);

    let filler = controller.state_inside().join("filler");
    std::fs::write(&filler, vec![0; 64 << 20]).expect_err("the disk is full now");
    let mut nth = 0;
    while controller.cli(&["node", "label", "node2", &format!("a={nth}")]).await.code == 0 {
        nth += 1;
        assert!(nth < 2000, "a full disk refuses changes in the end");
    }
    for node in ["node1", "node2"] {
        let revoked = controller.cli(&["node", "revoke", node, "--yes"]).await;
        assert_eq!(revoked.code, 0, "{revoked:?}");
        assert!(controller.cli(&["get", "node", node]).await.ok().contains("revoked"));
    }
    let verified = controller.words("audit verify").await;
    assert_eq!(verified.code, 0, "{verified:?}");

    std::fs::remove_file(&filler).expect("room again");
    let health = controller.words("check").await;
    assert_eq!(health.code, 0, "{health:?}");
    let ballast = std::fs::metadata(controller.state_inside().join("ballast")).expect("it is back");
    assert_eq!(ballast.len(), (24 << 20) / 16);
}

#[tokio::test]
async fn a_damaged_or_missing_database_is_refused_and_never_made_anew() {
    let mut controller = Controller::start().await;
    let _token = Token::create(&controller, "node1", "30m").await;
    controller.terminate().await;
    let database = controller.state_dir().join("state.db");
    let whole = std::fs::read(&database).expect("a database");
    let mut damaged = whole.clone();
    damaged[..64].fill(0xff);
    std::fs::write(&database, &damaged).expect("written");

    serve(&controller).await.assert_refused(1, "damaged", "windlass restore");
    assert_eq!(std::fs::read(&database).expect("still there"), damaged);

    std::fs::remove_file(&database).expect("removed");
    serve(&controller).await.assert_refused(1, "not made anew", "windlass restore");
    assert!(!database.exists());

    std::fs::write(&database, &whole).expect("written");
    controller.restart().await;
    assert!(controller.words("get tokens").await.ok().contains("node1"));
}

#[tokio::test]
async fn a_controller_that_does_not_run_is_told_with_how_to_start_it() {
    let controller = Controller::prepared("");
    controller.words("get nodes").await.assert_refused(69, "reach the controller", "windlass serve");
}

#[tokio::test]
async fn a_name_that_is_taken_is_told_with_what_to_do() {
    let controller = Controller::start().await;
    let _identity = wire::joined(&controller, "node1").await;

    let answer = controller.words("token create node1").await;

    answer.assert_refused(1, "already a node node1", "windlass node remove node1");
    let again = controller.words("operator create ana --role viewer --out ana1.toml").await;
    assert_eq!(again.code, 0, "{again:?}");
    let taken = controller.words("operator create ana --role admin --out ana2.toml").await;
    taken.assert_refused(1, "already an operator ana", "do: ");
    assert!(!controller.directory().join("ana2.toml").exists(), "an empty profile was left behind");
}

#[tokio::test]
async fn two_tokens_for_one_name_make_one_node_and_the_second_machine_is_told() {
    let controller = Controller::start().await;
    let (one, two) =
        (Token::create(&controller, "node1", "30m").await, Token::create(&controller, "node1", "30m").await);
    let (first, second) = (Agent::bare(&controller, "first"), Agent::bare(&controller, "second"));
    assert_eq!(first.join(&controller, &one).await.code, 0);

    let refused = second.join(&controller, &two).await;

    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("already a node node1"), "{refused:?}");
    assert!(refused.stderr.contains("windlass node remove node1"), "{refused:?}");
    assert!(!second.state_dir().join("identity.json").exists());
}

#[tokio::test]
async fn names_with_escape_sequences_are_refused_and_never_reach_the_terminal() {
    let controller = Controller::start().await;
    for name in ["x\u{1b}[2J", "a\nb", "\u{202e}evil", "../../etc", "-x", "", &"n".repeat(4096), "a;reboot", "node 1"] {
        for arguments in [
            &["token", "create", "--", name][..],
            &["get", "node", "--", name],
            &["node", "revoke", "--yes", "--", name],
        ] {
            let answer = controller.cli(arguments).await;
            assert_eq!(answer.code, 64, "{arguments:?}: {answer:?}");
            assert!(!answer.stderr.contains('\u{1b}') && !answer.stderr.contains('\u{202e}'), "{answer:?}");
            assert!(!answer.stderr.is_empty());
        }
    }
    assert_eq!(controller.words("get tokens -o name").await.ok(), "");
}

#[tokio::test]
async fn unknown_names_are_told_with_where_to_look() {
    let controller = Controller::start().await;
    let _identity = wire::joined(&controller, "node1").await;
    for (words, cause, step) in [
        ("get node nod1", "there is no node nod1", "node1"),
        ("exec nod1 -- true", "there is no node nod1", "node1"),
        ("node revoke nod1 --yes", "there is no node nod1", "windlass get nodes"),
        ("node label nod1 a=b", "there is no node nod1", "windlass get nodes"),
        ("token delete 0123456789ab", "there is no token", "windlass get tokens"),
        ("operator remove ana --yes", "there is no operator ana", "do: "),
        ("attach 4711", "there is no job", "windlass get jobs"),
        ("stop 4711", "there is no job", "windlass get jobs"),
    ] {
        let answer = controller.words(words).await;
        answer.assert_refused(1, cause, step);
    }
}

#[tokio::test]
async fn a_wrong_token_leaves_the_machine_as_it_was() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let agent = Agent::bare(&controller, "node1");
    let wrong = Token { token: format!("{}.{}", token.id, "0".repeat(64)), ..token.clone() };

    agent.join(&controller, &wrong).await.assert_refused(77, "refused", "windlass token create");
    let empty = Token { token: String::new(), ..token.clone() };
    agent.join(&controller, &empty).await.assert_refused(78, "holds no token", "windlass token create");

    assert_eq!(agent.join(&controller, &token).await.code, 0, "the right token still works");
}

#[tokio::test]
async fn an_expired_token_is_refused_with_how_to_get_another() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "1s").await;
    let agent = Agent::bare(&controller, "node1");
    wait_until("the token expires", LONG, || async { controller.words("get tokens").await.ok().contains("expired") })
        .await;

    agent.join(&controller, &token).await.assert_refused(77, "refused", "windlass token create");

    controller.wait_for_event("join.refused", "expired").await;
}

#[tokio::test]
async fn a_wrong_pin_is_refused_before_the_token_is_sent() {
    let controller = Controller::start().await;
    let token = Token::create(&controller, "node1", "30m").await;
    let agent = Agent::bare(&controller, "node1");
    let wrong = Token { ca_pin: format!("sha256:{}", "0".repeat(64)), ..token.clone() };

    agent.join(&controller, &wrong).await.assert_refused(77, "not the controller that was meant", "compare the pins");

    let tokens = controller.words("get tokens -o json").await.json();
    assert_eq!(tokens["items"][0]["attempts"], 0, "{tokens}");
    assert_eq!(agent.join(&controller, &token).await.code, 0, "the token is still good");
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_called_that_with_both_times() {
    let controller = Controller::prepared("");
    let agent = Agent::bare(&controller, "node1");
    let authority_key = rcgen::KeyPair::generate().expect("a key");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).expect("signed");
    let pin = windlass_controller::pki::pin_of(root.der()).expect("a pin").to_string();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut leaf = rcgen::CertificateParams::new(vec![wire::SERVER_NAME.to_owned()]).expect("a name");
    leaf.not_before = rcgen::date_time_ymd(2090, 1, 1);
    leaf.not_after = rcgen::date_time_ymd(2091, 1, 1);
    let certificate = leaf.signed_by(&key, &issuer).expect("signed");
    let chain = vec![certificate.der().clone(), root.der().clone()];
    let acceptor = tokio_rustls::TlsAcceptor::from(wire::server_config(chain, &key));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let server = tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let _refused_by_the_agent = acceptor.accept(tcp).await;
        }
    });

    let answer = agent.join_at(&address, &pin, &format!("{}.{}", "0".repeat(12), "0".repeat(64))).await;

    answer.assert_refused(78, "clocks do not agree", "set the clock");
    assert!(answer.stderr.contains("2090"), "{answer:?}");
    server.abort();
}

#[tokio::test]
async fn an_agent_without_an_identity_or_with_a_wrong_configuration_says_what_to_do() {
    let controller = Controller::start().await;
    let agent = Agent::bare(&controller, "node1");
    let start = async |config: &str| {
        agent.configure(config);
        let mut start = command(program("windlass-agent"), &agent.directory());
        start.arg("run").arg("--state-dir").arg(agent.state_dir());
        start.arg("--config").arg(agent.directory().join("agent.toml"));
        run(&mut start).await
    };

    start("").await.assert_refused(78, "has not joined", "windlass-agent join");
    start("jobz = 1\n").await.assert_refused(78, "line 1", "jobz");
    start("services = [\"a;reboot\"]\n").await.assert_refused(78, "a;reboot", "write the unit's full name");
}

#[tokio::test]
async fn joining_twice_changes_nothing_and_joining_elsewhere_is_refused() {
    let (controller, other) = (Controller::start().await, Controller::start().await);
    let agent = Agent::joined(&controller, "node1").await;
    let token = Token::create(&controller, "node2", "30m").await;

    let again = agent.join(&controller, &token).await;
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("already"), "{again:?}");

    let elsewhere = Token::create(&other, "node1", "30m").await;
    agent.join(&other, &elsewhere).await.assert_refused(78, "already node node1", "join again with a new token");
}
