// SPDX-License-Identifier: Apache-2.0
//! Tokens: how they are asked for, and renewed.

use serde_json::{Value, json};
use windlass_types::error_chain::ErrorChain;
use windlass_types::outcome::ErrorClass;

use crate::openstack::client::Client;
use crate::openstack::clouds::{ApplicationCredential, CloudConfig, Domain, Login, Named};
use crate::openstack::error::CloudError;
use crate::openstack::identity::Account;
use crate::openstack::network::{Filter, Networking as _};
use crate::openstack::refusal::Kind;
use crate::openstack::secret::Secret;
use crate::openstack::service::Service;
use crate::openstack::testing::{FakeCloud, PASSWORD, Reply, TOKEN, reply, reply_with, token};

const TOKENS: &str = "POST /identity/v3/auth/tokens";
const NETWORKS: &str = "GET /network/v2.0/networks";
const WHOLE_HOUR: (&str, &str) = ("2026-11-26T03:00:00Z", "2026-11-26T04:00:00Z");

fn unauthorized() -> Reply {
    reply(401, json!({"error": {"code": 401, "message": "Not you.", "title": "Unauthorized"}}))
}

fn no_networks() -> Reply {
    reply(200, json!({"networks": []}))
}

/// What is sent to get a token.
async fn sent(change: impl FnOnce(&mut CloudConfig)) -> Value {
    let cloud = FakeCloud::start().await;
    let mut config = cloud.config();
    change(&mut config);
    let client = Client::new(config).expect("a client");
    client.account().await.expect("an account");
    let shown = format!("{client:?}");
    for secret in [PASSWORD, TOKEN, "s3cr3t"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    cloud.asked(TOKENS).remove(0).body
}

#[tokio::test]
async fn logs_in_with_a_password() {
    let cloud = FakeCloud::start().await;
    let expected = Account {
        user: "demo".to_owned(),
        project_id: "p1".to_owned(),
        project: "demo".to_owned(),
        roles: vec!["member".to_owned(), "reader".to_owned()],
    };
    assert_eq!(cloud.client().account().await.expect("an account"), expected);
    let domain = json!({"name": "Default"});
    let user = json!({"name": "demo", "domain": domain, "password": PASSWORD});
    let expected = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": "demo", "domain": domain}},
    }});
    assert_eq!(sent(|_| {}).await, expected);
}

#[tokio::test]
async fn logs_in_with_a_token_or_an_application_credential() {
    let by_token = sent(|config| {
        config.login = Login::Token(Secret::new("s3cr3t"));
        config.project = Some(Named::Id("p1".to_owned()));
    });
    let expected = json!({"auth": {
        "identity": {"methods": ["token"], "token": {"id": "s3cr3t"}},
        "scope": {"project": {"id": "p1"}},
    }});
    assert_eq!(by_token.await, expected);
    let credential = |credential| {
        sent(|config| {
            config.login = Login::ApplicationCredential { credential, secret: Secret::new("s3cr3t") };
            config.project = None;
        })
    };
    let expected = |credential: Value| json!({"auth": {"identity": {"methods": ["application_credential"], "application_credential": credential}}});
    let by_id = credential(ApplicationCredential::Id("a1".to_owned())).await;
    assert_eq!(by_id, expected(json!({"id": "a1", "secret": "s3cr3t"})));
    let user = Named::Name { name: "demo".to_owned(), domain: Domain::Id("default".to_owned()) };
    let by_name = credential(ApplicationCredential::Name { name: "windlass".to_owned(), user }).await;
    let user = json!({"name": "demo", "domain": {"id": "default"}});
    assert_eq!(by_name, expected(json!({"name": "windlass", "user": user, "secret": "s3cr3t"})));
}

#[tokio::test]
async fn the_address_of_the_identity_service_is_written_in_several_ways() {
    for ending in ["/identity", "/identity/", "/identity/v3/", "/identity/v2.0"] {
        let cloud = FakeCloud::start().await;
        let config = CloudConfig { auth_url: format!("{}{ending}", cloud.root), ..cloud.config() };
        Client::new(config).expect("a client").account().await.expect("an account");
    }
}

#[tokio::test]
async fn a_token_serves_many_calls_and_one_that_ends_is_renewed_before() {
    let cloud = FakeCloud::start().await;
    cloud.on(NETWORKS, [no_networks()]);
    let client = cloud.client();
    for _ in 0..3 {
        client.networks(&Filter::any()).await.expect("networks");
    }
    assert_eq!(cloud.logins(), 1);
    // This one ends as it begins.
    let ended = token(&cloud.root, WHOLE_HOUR.0, WHOLE_HOUR.0);
    cloud.on(TOKENS, [reply_with(201, ("x-subject-token", "short"), ended)]);
    let client = cloud.client();
    for _ in 0..3 {
        client.networks(&Filter::any()).await.expect("networks");
    }
    assert_eq!(cloud.logins(), 1 + 3);
}

#[tokio::test]
async fn a_token_that_a_service_refuses_is_renewed_once_by_all_together() {
    let cloud = FakeCloud::start().await;
    let client = cloud.client();
    client.account().await.expect("an account");
    // Each of the eight is refused once, then answered.
    let refused = || unauthorized();
    cloud.on(
        NETWORKS,
        [refused(), refused(), refused(), refused(), refused(), refused(), refused(), refused(), no_networks()],
    );
    let filter = Filter::any();
    let all = (0..8).map(|_| client.networks(&filter));
    for answer in futures_util::future::join_all(all).await {
        answer.expect("networks");
    }
    assert_eq!(cloud.logins(), 2);
    let asked = cloud.asked(NETWORKS);
    assert_eq!(asked.len(), 16);
    let last = asked.last().and_then(|asked| asked.header("x-auth-token")).map(ToOwned::to_owned);
    assert_eq!(last, Some(format!("{TOKEN}-2")));
}

#[tokio::test]
async fn a_change_is_sent_again_after_a_renewal_for_it_was_not_done() {
    let cloud = FakeCloud::start().await;
    let tags = "PUT /network/v2.0/routers/r1/add_router_interface";
    cloud.on(tags, [unauthorized(), reply(200, json!({"id": "r1"}))]);
    cloud.client().add_router_interface("r1", "s1").await.expect("added");
    assert_eq!((cloud.asked(tags).len(), cloud.logins()), (2, 2));
}

#[tokio::test]
async fn a_service_that_refuses_the_new_token_too_is_not_asked_for_ever() {
    let cloud = FakeCloud::start().await;
    cloud.on(NETWORKS, [unauthorized()]);
    let error = cloud.client().networks(&Filter::any()).await.expect_err("refused");
    assert_eq!(
        error.refusal().map(|refusal| (refusal.service, refusal.kind)),
        Some((Service::Network, Kind::Unauthorized))
    );
    assert_eq!(error.class(), ErrorClass::Operator);
    assert_eq!((cloud.asked(NETWORKS).len(), cloud.logins()), (2, 2));
}

#[tokio::test]
async fn a_wrong_password_is_tried_once_by_all_together() {
    let cloud = FakeCloud::start().await;
    cloud.on(TOKENS, [unauthorized()]);
    let client = cloud.client();
    let filter = Filter::any();
    let all = (0..8).map(|_| client.networks(&filter));
    for answer in futures_util::future::join_all(all).await {
        let error = answer.expect_err("refused");
        let said = ErrorChain(&error).to_string();
        assert_eq!(said, "the identity service refused POST /auth/tokens with 401: Not you.");
        assert!(error.advice().contains("credential in clouds.yaml"), "{}", error.advice());
    }
    assert_eq!(cloud.logins(), 1);
    // Whoever comes later tries again: somebody may have mended it.
    client.account().await.expect_err("refused");
    assert_eq!(cloud.logins(), 2);
}

#[tokio::test]
async fn what_the_identity_service_repeats_of_a_secret_is_hidden() {
    let cloud = FakeCloud::start().await;
    let echo = format!("the password {PASSWORD} is expired");
    cloud.on(TOKENS, [reply(401, json!({"error": {"code": 401, "message": echo}}))]);
    let error = cloud.client().account().await.expect_err("refused");
    assert!(error.to_string().ends_with("the password (secret) is expired"), "{error}");
    let odd = json!({"token": {"project": PASSWORD}});
    cloud.on(TOKENS, [reply_with(201, ("x-subject-token", "t"), odd)]);
    let error = cloud.client().account().await.expect_err("not understood");
    assert!(matches!(error, CloudError::Malformed { .. }), "{error}");
    assert!(!format!("{error} {error:?}").contains(PASSWORD), "{error:?}");
}

#[tokio::test]
async fn a_token_without_a_project_says_so() {
    let cloud = FakeCloud::start().await;
    let mut unscoped = token(&cloud.root, WHOLE_HOUR.0, WHOLE_HOUR.1);
    unscoped["token"]["project"] = Value::Null;
    cloud.on(TOKENS, [reply_with(201, ("x-subject-token", "t"), unscoped)]);
    let error = cloud.client().account().await.expect_err("refused").to_string();
    assert!(error.contains("its token is for no project"), "{error}");
}
