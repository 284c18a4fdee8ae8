// SPDX-License-Identifier: Apache-2.0
//! Services that fail, refuse, hang up or say nothing: what is sent again and what is not.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use windlass_types::error_chain::ErrorChain;
use windlass_types::outcome::ErrorClass;

use crate::openstack::again;
use crate::openstack::client::Client;
use crate::openstack::clouds::{CloudConfig, Proxies};
use crate::openstack::error::CloudError;
use crate::openstack::network::{Filter, Networking as _, NewNetwork, Part};
use crate::openstack::refusal::Kind;
use crate::openstack::secret::Secret;
use crate::openstack::testing::{FakeCloud, Reply, TOKEN, reply, reply_with};

const READ: &str = "GET /network/v2.0/networks";
const CHANGE: &str = "POST /network/v2.0/networks";

fn new() -> NewNetwork {
    NewNetwork { name: "n".to_owned(), description: "d".to_owned() }
}

fn network() -> serde_json::Value {
    json!({"id": "n1", "name": "n"})
}

async fn change_of(reply: Reply) -> (CloudError, usize) {
    let cloud = FakeCloud::start().await;
    cloud.on(CHANGE, [reply]);
    let error = cloud.client().create_network(&new()).await.expect_err("refused");
    assert!(!format!("{error:?} {}", ErrorChain(&error)).contains(TOKEN), "{error:?}");
    (error, cloud.asked(CHANGE).len())
}

#[tokio::test]
async fn a_lost_connection_is_opened_again_for_a_read_and_a_change_is_not_repeated() {
    let cloud = FakeCloud::start().await;
    cloud.on(READ, [Reply::HangUp, Reply::HangUp, reply(200, json!({"networks": [network()]}))]);
    let found = cloud.client().networks(&Filter::any()).await.expect("networks");
    assert_eq!((found.len(), cloud.asked(READ).len()), (1, 3));
    let (error, asked) = change_of(Reply::HangUp).await;
    assert!(matches!(error, CloudError::Broken { .. }) && error.may_be_done(), "{error:?}");
    assert_eq!((asked, error.class()), (1, ErrorClass::Transient));
}

#[tokio::test]
async fn a_server_that_closes_without_saying_so_disturbs_nobody() {
    let cloud = FakeCloud::start().await;
    cloud.on(READ, [Reply::AnswerAndClose(json!({"networks": []}))]);
    cloud.on(CHANGE, [Reply::AnswerAndClose(json!({"network": network()}))]);
    let client = cloud.client();
    for _ in 0..10 {
        client.networks(&Filter::any()).await.expect("networks");
        client.create_network(&new()).await.expect("made");
    }
    assert_eq!(cloud.asked(CHANGE).len(), 10);
}

#[tokio::test]
async fn a_change_has_a_connection_of_its_own() {
    let cloud = FakeCloud::start().await;
    cloud.on(READ, [reply(200, json!({"networks": []}))]);
    cloud.on(CHANGE, [reply(201, json!({"network": network()}))]);
    let client = cloud.client();
    for _ in 0..3 {
        client.networks(&Filter::any()).await.expect("networks");
        client.create_network(&new()).await.expect("made");
    }
    // One for the token, one for all reads, three for the changes.
    let used: BTreeSet<_> = cloud.asked("").iter().map(|asked| asked.connection).collect();
    assert_eq!(used.len(), 5);
}

#[tokio::test]
async fn a_proxy_is_used_where_one_is_named() {
    let proxy = FakeCloud::start().await;
    let secret = |text: &str| Some(Secret::new(text));
    let address = proxy.root.replace("http://", "http://me:hunter22@");
    let proxies = Proxies { http: secret(&address), https: None, except: Some("other.invalid".to_owned()) };
    let config = CloudConfig { auth_url: "http://cloud.invalid/v3".to_owned(), proxies, ..proxy.config() };
    let client = Client::new(config.clone()).expect("a client");
    assert!(!format!("{client:?}").contains("hunter22"), "{client:?}");
    client.account().await.expect_err("this is no proxy");
    let asked = proxy.asked("POST http://cloud.invalid/v3/auth/tokens");
    assert_eq!(asked.len(), 1);
    assert!(asked[0].header("proxy-authorization").is_some());
    let proxies = Proxies { except: Some("127.0.0.1".to_owned()), ..config.proxies };
    Client::new(CloudConfig { proxies, ..proxy.config() }).expect("a client").account().await.expect("an account");
    let proxies = Proxies { https: secret("me:hunter22:x"), ..Proxies::default() };
    let error = Client::new(CloudConfig { proxies, ..proxy.config() }).expect_err("no address");
    let said = format!("{} {error:?}", ErrorChain(&error));
    assert!(said.starts_with("use the proxy that https_proxy names") && !said.contains("hunter22"), "{said}");
}

#[tokio::test]
async fn reads_share_a_connection() {
    let cloud = FakeCloud::start().await;
    cloud.on(READ, [reply(200, json!({"networks": []}))]);
    let client = cloud.client();
    for _ in 0..3 {
        client.networks(&Filter::any()).await.expect("networks");
    }
    let used: Vec<_> = cloud.asked(READ).iter().map(|asked| asked.connection).collect();
    assert!(used.iter().all(|connection| *connection == used[0]), "{used:?}");
}

#[tokio::test]
async fn a_service_that_says_nothing_may_have_done_the_change() {
    let cloud = FakeCloud::start().await;
    cloud.on(CHANGE, [Reply::Silence]);
    let client = cloud.client();
    client.account().await.expect("an account");
    let asked = async {
        while cloud.asked(CHANGE).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // From here on nothing but time passes.
        tokio::time::pause();
    };
    let new = new();
    let (answer, ()) = futures_util::future::join(client.create_network(&new), asked).await;
    let error = answer.expect_err("no answer");
    assert_eq!(error.to_string(), "wait for the network service: POST /networks was not answered within 90s");
    assert!(error.may_be_done());
    assert_eq!(cloud.asked(CHANGE).len(), 1);
}

#[tokio::test]
async fn a_service_that_asks_for_patience_gets_it_for_what_is_safe() {
    let cloud = FakeCloud::start().await;
    let slow = || reply_with(429, ("retry-after", "1"), json!({"error": {"message": "slow down"}}));
    cloud.on(READ, [slow(), reply(200, json!({"networks": []}))]);
    let begun = tokio::time::Instant::now();
    cloud.client().networks(&Filter::any()).await.expect("networks");
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let (error, asked) = change_of(slow()).await;
    let refusal = error.refusal().expect("a refusal");
    assert_eq!((asked, refusal.kind, refusal.retry_after), (1, Kind::TooMany, Some(Duration::from_secs(1))));
    assert!(!error.may_be_done());
    // Nobody waits an hour here.
    let (error, _) = change_of(reply_with(429, ("retry-after", "3600"), json!({}))).await;
    assert_eq!(again::pause(true, &error, 1), None);
}

#[tokio::test]
async fn a_failing_service_is_asked_again_for_what_is_safe_and_not_for_ever() {
    let cloud = FakeCloud::start().await;
    let failed = || reply_with(503, ("x-openstack-request-id", "req-9"), json!({"message": "down"}));
    cloud.on(READ, [failed(), reply(200, json!({"networks": []}))]);
    cloud.client().networks(&Filter::any()).await.expect("networks");
    let delete = "DELETE /network/v2.0/ports/p1";
    cloud.on(delete, [failed(), reply(204, json!({}))]);
    cloud.client().delete_part(Part::Port, "p1").await.expect("removed");
    assert_eq!((cloud.asked(READ).len(), cloud.asked(delete).len()), (2, 2));
    let (error, asked) = change_of(failed()).await;
    assert_eq!(error.to_string(), "the network service refused POST /networks with 503: down (req-9)");
    assert!(error.may_be_done() && asked == 1);
    let pauses: Vec<_> = (1..=7).map_while(|attempts| again::pause(true, &error, attempts)).collect();
    assert_eq!(pauses.len(), 5);
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert_eq!(again::pause(false, &error, 1), None);
}

#[tokio::test]
async fn refusals_are_told_by_kind_and_never_repeated() {
    let neutron = |kind: &str| json!({"NeutronError": {"type": kind, "message": "no", "detail": ""}});
    for (status, body, kind, class) in [
        (400, neutron("BadRequest"), Kind::Other, ErrorClass::Bug),
        (403, neutron("Policy"), Kind::Forbidden, ErrorClass::Operator),
        (404, neutron("NetworkNotFound"), Kind::NotFound, ErrorClass::Operator),
        (409, neutron("NetworkInUse"), Kind::Conflict, ErrorClass::Blocked),
        (409, neutron("OverQuota"), Kind::Quota, ErrorClass::Operator),
        (413, json!({}), Kind::TooLarge, ErrorClass::Bug),
    ] {
        let (error, asked) = change_of(reply(status, body)).await;
        assert_eq!(error.refusal().map(|refusal| refusal.kind), Some(kind));
        assert_eq!((error.class(), asked, error.may_be_done()), (class, 1, false), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_removed_already() {
    let cloud = FakeCloud::start().await;
    cloud.client().delete_part(Part::FloatingIp, "gone").await.expect("removed");
    assert_eq!(cloud.asked("DELETE /network/v2.0/floatingips/gone").len(), 1);
}

#[tokio::test]
async fn a_redirection_is_not_followed_with_the_token() {
    let elsewhere = FakeCloud::start().await;
    let target = format!("{}/x", elsewhere.root);
    let (error, _) = change_of(reply_with(301, ("location", &target), json!(null))).await;
    assert!(error.to_string().ends_with(&format!("with 301: it is at {target}")), "{error}");
    let (error, _) = change_of(Reply::Answer {
        status: 302,
        headers: vec![("location", target.clone())],
        body: "<html>Found</html>".to_owned(),
    })
    .await;
    assert!(error.to_string().ends_with(&format!("with 302: it is at {target}")), "{error}");
    assert!(elsewhere.asked("").is_empty());
}

#[tokio::test]
async fn an_answer_that_is_none_names_what_is_wrong_with_it() {
    let (error, asked) = change_of(reply(200, json!({"network": {"id": 7}}))).await;
    let said = error.to_string();
    assert!(
        said.starts_with("understand the answer of the network service to POST /networks: network at id:"),
        "{said}"
    );
    assert!(error.may_be_done() && asked == 1);
    let page = Reply::Answer { status: 200, headers: Vec::new(), body: "<html>".to_owned() };
    assert!(change_of(page).await.0.to_string().contains("it is no JSON"));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_told_with_the_address_and_tried_again() {
    let cloud = FakeCloud::start().await;
    // Nobody listens on the port of a listener that is gone.
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    let config = CloudConfig { auth_url: format!("http://{gone}/v3"), ..cloud.config() };
    let error = Client::new(config).expect("a client").account().await.expect_err("nobody");
    assert_eq!(error.to_string(), format!("reach the identity service at http://{gone}"));
    assert!(!error.may_be_done());
    assert!(again::pause(false, &error, 1).is_some());
}

#[tokio::test]
async fn only_a_cloud_that_proves_itself_is_used_unless_that_is_not_wanted() {
    let cloud = FakeCloud::start_with_tls().await;
    cloud.client().account().await.expect("an account");
    let stranger = FakeCloud::start_with_tls().await;
    let config = CloudConfig { cacert: stranger.config().cacert, ..cloud.config() };
    let error = Client::new(config.clone()).expect("a client").account().await.expect_err("not trusted");
    assert!(matches!(error, CloudError::Connect { untrusted: true, .. }), "{error:?}");
    assert_eq!((error.class(), again::pause(true, &error, 1)), (ErrorClass::Operator, None));
    let config = CloudConfig { verify: false, ..config };
    Client::new(config).expect("a client").account().await.expect("an account");
    let config = CloudConfig { cacert: Some("/nowhere.pem".into()), ..cloud.config() };
    let error = Client::new(config).expect_err("no file").to_string();
    assert!(error.starts_with("use the certificate authorities in /nowhere.pem: "), "{error}");
}
