// SPDX-License-Identifier: Apache-2.0
//! Files and variables, and which cloud they mean.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use windlass_types::error_chain::ErrorChain;

use super::{
    ApplicationCredential, Choice, CloudConfig, CloudsError, Domain, Interface, Login, Named, Proxies, Secret,
    Surroundings,
};

const CLOUDS: &str = "\
clouds:
  lab:
    auth:
      auth_url: https://cloud.example:5000/v3
      username: demo
      user_domain_name: Default
      project_name: demo
      project_domain_id: default
    region_name: RegionOne
    interface: internal
    cacert: /etc/pki/lab.pem
";

/// Three directories in which files may be.
struct Place {
    root: TempDir,
    around: Surroundings,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a directory");
        let at = |name: &str| root.path().join(name);
        for name in ["here", "home/.config/openstack", "etc"] {
            fs::create_dir_all(at(name)).expect("a directory");
        }
        let around =
            Surroundings { variables: [].into(), directory: at("here"), home: Some(at("home")), system: at("etc") };
        Self { root, around }
    }

    fn with(self, path: &str, text: &str) -> Self {
        fs::write(self.root.path().join(path), text).expect("written");
        self
    }

    fn set(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        let value = value.as_ref().to_str().expect("text").to_owned();
        self.around.variables.insert(name.to_owned(), value);
        self
    }

    fn find(&self) -> Result<CloudConfig, CloudsError> {
        CloudConfig::find(&self.around, &Choice::default())
    }

    fn refusal(&self) -> String {
        let error = self.find().expect_err("refused");
        assert!(!error.advice().is_empty(), "no advice for {error}");
        ErrorChain(&error).to_string().replace(&self.root.path().display().to_string(), "")
    }
}

fn cloud(name: &str, url: &str) -> String {
    CLOUDS.replace("lab:", &format!("{name}:")).replace("cloud.example", url)
}

#[test]
fn a_secure_file_is_laid_over_the_other_key_by_key() {
    let secure = "clouds: {lab: {auth: {password: 0123}, region_name: Other}, other: {auth: {password: x}}}";
    // They need not stand in the same place.
    let place = Place::new().with("here/clouds.yaml", CLOUDS).with("etc/secure.yaml", secure).set("OS_CLOUD", "lab");
    let found = place.find().expect("a cloud");
    let domain = Domain::Name("Default".to_owned());
    let expected = CloudConfig {
        name: "lab".to_owned(),
        auth_url: "https://cloud.example:5000/v3".to_owned(),
        login: Login::Password {
            user: Named::Name { name: "demo".to_owned(), domain },
            // As it is written: a password of digits is no number.
            password: Secret::new("0123"),
        },
        project: Some(Named::Name { name: "demo".to_owned(), domain: Domain::Id("default".to_owned()) }),
        region: Some("Other".to_owned()),
        interface: Interface::Internal,
        cacert: Some("/etc/pki/lab.pem".into()),
        verify: true,
        proxies: Proxies::default(),
    };
    assert_eq!(found, expected);
    assert!(!format!("{found:?} {:?}", place.around).contains("0123"));
}

#[test]
fn the_first_file_wins_in_the_order_of_other_clients() {
    let password = "clouds: {lab: {auth: {password: secret}}}";
    let mut place = Place::new().with("here/secure.yaml", password);
    let url = |place: &Place| place.find().expect("a cloud").auth_url;
    place = place.with("etc/clouds.yaml", &cloud("lab", "system"));
    assert_eq!(url(&place), "https://system:5000/v3");
    place = place.with("home/.config/openstack/clouds.yml", &cloud("lab", "home"));
    assert_eq!(url(&place), "https://home:5000/v3");
    place = place.with("here/clouds.yaml", &cloud("lab", "here"));
    assert_eq!(url(&place), "https://here:5000/v3");
    let named = place.root.path().join("named");
    place = place.with("named", &cloud("lab", "named")).set("OS_CLIENT_CONFIG_FILE", named);
    assert_eq!(url(&place), "https://named:5000/v3");
    place = place.set("OS_CLIENT_CONFIG_FILE", "/nowhere/clouds.yaml");
    assert!(place.refusal().contains("OS_CLIENT_CONFIG_FILE names it"), "{}", place.refusal());
}

#[test]
fn a_cloud_must_be_named_if_there_are_several() {
    let both = format!("{}{}", cloud("a", "a"), cloud("b", "b").replace("clouds:\n", ""));
    let place = Place::new().with("here/clouds.yaml", &both);
    assert_eq!(place.refusal(), "choose a cloud from /here/clouds.yaml: it has a, b");
    let place = place.set("OS_CLOUD", "c");
    assert_eq!(place.refusal(), r#"find cloud "c" in /here/clouds.yaml: it has a, b"#);
    let place = place.set("OS_CLOUD", "b").with("here/secure.yaml", "clouds: {b: {auth: {password: p}}}");
    assert_eq!(place.find().expect("a cloud").name, "b");
    assert!(Place::new().refusal().starts_with("find a cloud: there is no clouds.yaml in /here, /home/.config"));
}

#[test]
fn reads_each_kind_of_login() {
    let login = |text: &str| {
        let auth = "auth_url: 'http://k/v3', project_id: p";
        let text = format!("clouds: {{lab: {}}}", text.replace("auth: {", &format!("auth: {{{auth}, ")));
        let found = Place::new().with("here/clouds.yaml", &text).find().expect("a cloud");
        (found.login, found.project)
    };
    let project = Some(Named::Id("p".to_owned()));
    assert_eq!(login("{auth: {token: abc}}"), (Login::Token(Secret::new("abc")), project.clone()));
    assert_eq!(login("{auth_type: v3token, auth: {token: abc}}"), (Login::Token(Secret::new("abc")), project.clone()));
    let user = Named::Id("u".to_owned());
    let password = Login::Password { user: user.clone(), password: Secret::new("pw") };
    assert_eq!(login("{auth_type: password, auth: {user_id: u, password: pw}}"), (password, project));
    let credential = |credential| Login::ApplicationCredential { credential, secret: Secret::new("s3") };
    let by_id = "{auth: {application_credential_id: i, application_credential_secret: s3}}";
    assert_eq!(login(by_id), (credential(ApplicationCredential::Id("i".to_owned())), None));
    let by_name = "{auth_type: v3applicationcredential, \
                    auth: {application_credential_name: n, user_id: u, application_credential_secret: s3}}";
    let named = ApplicationCredential::Name { name: "n".to_owned(), user };
    assert_eq!(login(by_name), (credential(named), None));
}

#[test]
fn a_sourced_openrc_file_is_a_cloud_too() {
    let place = Place::new()
        .with("here/clouds.yaml", CLOUDS)
        .set("OS_AUTH_URL", "https://rc/v3")
        .set("OS_USERNAME", "demo")
        .set("OS_PASSWORD", "secret")
        .set("OS_PROJECT_ID", "p")
        .set("OS_REGION_NAME", "R")
        .set("OS_USER_DOMAIN_NAME", "");
    assert_eq!(
        place.refusal(),
        "use cloud \"envvars\" of the environment: OS_USER_DOMAIN_NAME is missing, and a name is unique only in a \
         domain; often it is Default"
    );
    let place = place.set("OS_USER_DOMAIN_NAME", "Default");
    let found = place.find().expect("a cloud");
    assert_eq!((found.auth_url.as_str(), found.region.as_deref()), ("https://rc/v3", Some("R")));
    // A name says that the file is meant.
    let place = place.set("OS_CLOUD", "lab").with("here/secure.yaml", "clouds: {lab: {auth: {password: p}}}");
    assert_eq!(place.find().expect("a cloud").name, "lab");
    let place = place.set("OS_CLOUD", "envvars").set("OS_INSECURE", "true");
    assert!(place.refusal().contains("verify is false"), "{}", place.refusal());
}

#[test]
fn the_openrc_file_of_an_application_credential_is_enough() {
    let place = Place::new()
        .set("OS_AUTH_TYPE", "v3applicationcredential")
        .set("OS_AUTH_URL", "https://rc/v3")
        .set("OS_IDENTITY_API_VERSION", "3")
        .set("OS_INTERFACE", "public")
        .set("OS_APPLICATION_CREDENTIAL_ID", "i")
        .set("OS_APPLICATION_CREDENTIAL_SECRET", "s3cr3t")
        .set("OS_CACERT", "~/ca.pem")
        .set("HTTPS_PROXY", "http://proxy:1")
        .set("https_proxy", "http://proxy:2")
        .set("NO_PROXY", "10.0.0.0/8");
    let found = place.find().expect("a cloud");
    let credential = ApplicationCredential::Id("i".to_owned());
    assert_eq!(found.login, Login::ApplicationCredential { credential, secret: Secret::new("s3cr3t") });
    assert_eq!((found.project, found.cacert), (None, Some(place.root.path().join("home/ca.pem"))));
    let https = Some(Secret::new("http://proxy:2"));
    assert_eq!(found.proxies, Proxies { http: None, https, except: Some("10.0.0.0/8".to_owned()) });
    let place = place.set("OS_APPLICATION_CREDENTIAL_SECRET", "");
    let missing = "use cloud \"envvars\" of the environment: OS_APPLICATION_CREDENTIAL_SECRET is missing";
    assert_eq!(place.refusal(), missing);
}

#[test]
fn says_which_line_or_key_is_wrong() {
    let refusal = |text: &str| Place::new().with("here/clouds.yaml", text).refusal();
    let text = CLOUDS.replace("username: demo", "username: demo\n      password: [hunter2");
    let refused = refusal(&text);
    assert!(refused.starts_with("understand /here/clouds.yaml at line "), "{refused}");
    assert!(!refused.contains("at line 0") && !refused.contains("hunter2"), "{refused}");
    assert_eq!(refusal(CLOUDS), r#"use cloud "lab" of /here/clouds.yaml: auth.password is missing"#);
    let whole = CLOUDS.replace("username: demo", "username: demo\n      password: hunter2");
    for (from, to, said) in [
        ("interface: internal", "interface: intern", "line 11: interface is \"intern\": it must be public"),
        ("https://cloud", "cloud", "line 4: auth.auth_url is \"cloud.example:5000/v3\": it must begin"),
        ("region_name", "auth_type: v3oidc\n    region_name", "line 10: auth_type is \"v3oidc\": password, token"),
        ("region_name", "identity_api_version: 2\n    region_name", "identity_api_version is \"2\": only version 3"),
        ("region_name", "verify: maybe\n    region_name", "line 10: verify is \"maybe\": it must be true or false"),
        ("project_name: demo", "x: y", "auth.project_name is missing, and only in a project"),
    ] {
        let refused = refusal(&whole.replace(from, to));
        assert!(refused.contains(said) && !refused.contains("hunter2"), "{refused}");
    }
}

#[test]
fn an_unverified_cloud_is_used_only_if_that_is_allowed() {
    let text = CLOUDS
        .replace("username: demo", "username: demo\n      password: p")
        .replace("region_name", "verify: no\n    region_name");
    let place = Place::new().with("here/clouds.yaml", &text);
    let refused = place.refusal();
    assert!(refused.contains("clouds.yaml, line 10: verify is false, so anyone on the way"), "{refused}");
    let allowed = CloudConfig::find(&place.around, &Choice { cloud: None, unverified: true });
    assert!(!allowed.expect("a cloud").verify);
}

#[test]
fn anchors_and_merge_keys_are_understood() {
    let text = "\
defaults: &defaults {auth_url: https://k/v3, project_id: p, user_id: u}
clouds:
  one: {auth: {<<: *defaults, password: one}}
  two: {auth: {<<: *defaults, password: two, project_id: q}}
";
    let place = Place::new().with("here/clouds.yaml", text).set("OS_CLOUD", "two");
    let found = place.find().expect("a cloud");
    assert_eq!((found.auth_url.as_str(), found.project), ("https://k/v3", Some(Named::Id("q".to_owned()))));
}
