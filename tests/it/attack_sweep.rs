// SPDX-License-Identifier: Apache-2.0
//! Attack case A10: every method of the contract, called by every kind of caller, on every listener. What must come out
//! is worked out from the policy table alone.

use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::future::join_all;
use nix::unistd::{Uid, seteuid};
use prost::Message as _;
use rustls::ClientConfig;
use tonic::Status;
use tonic::transport::Channel;
use windlass_proto::policy::{Caller, POLICY};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_tests::controller::Controller;
use windlass_tests::wait::{LONG, wait_until};
use windlass_tests::wire::{self, Identity};
use windlass_types::role::OperatorRole;

/// Local users who exist everywhere, as roles on the socket; and room for one connection per call from one address.
const CONFIG: &str = "[limits]\nper_address_unauthenticated = 1000\n\
    [socket_access]\nviewers = [\"daemon\"]\noperators = [\"bin\"]\nadmins = [\"sys\"]\n";

/// What a kind of caller is, as far as the table knows.
#[derive(Debug, Clone, Copy)]
enum Known {
    /// Not even a connection.
    Nobody,
    /// Somebody who may only do what anyone may.
    Stranger,
    Agent,
    Operator(OperatorRole),
}

fn expected(known: Known, needed: Caller) -> bool {
    match (known, needed) {
        (Known::Nobody, _) => false,
        (_, Caller::Anyone) | (Known::Agent, Caller::Agent) => true,
        (Known::Operator(role), Caller::Operator(least)) => role >= least,
        (Known::Stranger | Known::Agent | Known::Operator(_), _) => false,
    }
}

/// Refused by the gate or cut off before it; any other answer means that the method itself looked at the call. A refused
/// renewal or join is such an answer.
fn admitted(answer: &Result<Option<Bytes>, Status>) -> bool {
    let Err(status) = answer else { return true };
    let is_ours = !matches!(Refusal::from_status(status).reason, Reason::Other);
    let cut_off = !is_ours && !matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::InvalidArgument);
    !cut_off && !matches!(Refusal::from_status(status).reason, Reason::NotTrusted | Reason::NotPermitted)
}

/// An empty message, except where that would move the fleet to a new CA.
fn message(path: &str) -> Bytes {
    match path.rsplit('/').next() {
        Some("RotateCa") => v1::RotateCaRequest { dry_run: true, leave_behind: false }.encode_to_vec().into(),
        _ => Bytes::new(),
    }
}

/// Makes one call, which hears something in the end, if only that the connection broke.
async fn call(
    kind: &str,
    path: &str,
    connect: impl Future<Output = std::io::Result<Channel>>,
) -> Result<Option<Bytes>, Status> {
    let channel = tokio::time::timeout(LONG, connect).await;
    let channel = channel.unwrap_or_else(|_| panic!("{kind} does not get through to call {path}"));
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let answer = tokio::time::timeout(LONG, wire::call(channel, path, message(path))).await;
    answer.unwrap_or_else(|_| panic!("{kind} calls {path} and hears nothing"))
}

/// Calls every method, each on a connection of its own; returns how many calls were made.
async fn sweep<F>(kind: &str, known: Known, connect: impl Fn() -> F) -> usize
where
    F: Future<Output = std::io::Result<Channel>>,
{
    let unknown = ["/windlass.v1.AdminService/Nope", "/windlass.v1.AdminService/", "/nope"];
    for (path, needed) in POLICY.iter().map(|row| (row.path, Some(row.caller))).chain(unknown.map(|path| (path, None)))
    {
        let answer = call(kind, path, connect()).await;
        let expected = needed.is_some_and(|needed| expected(known, needed));
        assert_eq!(admitted(&answer), expected, "{kind} calls {path}: {answer:?}");
    }
    POLICY.len() + unknown.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a10_every_method_admits_exactly_the_callers_of_the_policy_table() {
    let controller = Controller::start_with(CONFIG).await;
    let expired = wire::operator(&controller, "leaver", "admin", 1).await;
    let roles = OperatorRole::ALL.map(|role| (role, role.to_string()));
    let revoked = wire::operator(&controller, "revoked", "admin", 0).await;
    assert_eq!(controller.words("operator remove revoked --yes").await.code, 0);
    let revoked_agent = wire::joined(&controller, "gone").await;
    assert_eq!(controller.words("node revoke gone --yes").await.code, 0);
    let uri = format!("windlass://{}/operator/root", "0".repeat(8));
    let mut kinds = vec![
        ("foreign CA".to_owned(), Known::Nobody, Some(Identity::foreign(&uri))),
        ("no certificate".to_owned(), Known::Nobody, None),
        ("revoked operator".to_owned(), Known::Nobody, Some(revoked)),
        ("revoked agent".to_owned(), Known::Nobody, Some(revoked_agent)),
        ("agent".to_owned(), Known::Agent, Some(wire::joined(&controller, "node1").await)),
    ];
    for (role, name) in &roles {
        let identity = wire::operator(&controller, name, name, 0).await;
        kinds.push((name.clone(), Known::Operator(*role), Some(identity)));
    }
    wait_until("the leaver's certificate ends", LONG, || async {
        let connect = wire::remote(&controller, &expired, None);
        call("the leaver", "/windlass.v1.AdminService/GetStatus", connect).await.is_err()
    })
    .await;
    kinds.push(("expired".to_owned(), Known::Nobody, Some(expired)));

    // All kinds at once. One after the other, each of some hundred changes waits for the disk on its own, and a disk that
    // is busy with something else makes minutes of it.
    let controller = &controller;
    let calls = join_all(kinds.iter().map(|(kind, known, identity)| async move {
        let (agents, identity) = (controller.listeners().agents, identity.as_ref());
        let config = wire::tls_config(controller, identity);
        let calls = sweep(&format!("{kind} on the agents' listener"), *known, || grpc(agents, config.clone())).await;
        // Certificates are not asked for there, so whoever comes is a stranger.
        let join = controller.listeners().join;
        calls + sweep(&format!("{kind} on the join listener"), Known::Stranger, || grpc(join, config.clone())).await
    }));
    println!("{} calls", calls.await.into_iter().sum::<usize>());
}

async fn grpc(listener: SocketAddr, config: ClientConfig) -> std::io::Result<Channel> {
    let stream = wire::tls(listener, None, config).await?;
    wire::grpc(stream).await.map_err(std::io::Error::other)
}

/// Connects to the socket as another user. The kernel notes who connects, so the rest is done as oneself again.
async fn as_user(controller: &Controller, name: &str) -> std::io::Result<Channel> {
    let user = nix::unistd::User::from_name(name)?.expect("a user that exists everywhere");
    seteuid(user.uid)?;
    let stream = tokio::net::UnixStream::connect(controller.socket()).await;
    seteuid(Uid::from_raw(0))?;
    wire::grpc(stream?).await.map_err(std::io::Error::other)
}

#[tokio::test]
async fn a10_every_method_on_the_socket_admits_exactly_the_users_of_the_configuration() {
    use std::os::unix::fs::PermissionsExt;
    let controller = Controller::start_with(CONFIG).await;
    assert!(
        sweep("the controller's own user", Known::Operator(OperatorRole::Admin), || wire::local(&controller)).await > 0
    );
    if !Uid::effective().is_root() {
        println!("other users are not tried: only root can become them");
        return;
    }
    std::fs::set_permissions(controller.directory(), PermissionsExt::from_mode(0o711)).expect("changed");
    for (user, known) in [
        ("nobody", Known::Stranger),
        ("daemon", Known::Operator(OperatorRole::Viewer)),
        ("bin", Known::Operator(OperatorRole::Operator)),
        ("sys", Known::Operator(OperatorRole::Admin)),
    ] {
        sweep(&format!("{user} on the socket"), known, || as_user(&controller, user)).await;
    }
}
