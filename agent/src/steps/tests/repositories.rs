// SPDX-License-Identifier: Apache-2.0
//! Repositories of packages.

use windlass_types::name::on_node::RepositoryId;
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;
use windlass_types::package::{PackagesWish, UpdateScope};
use windlass_types::setting::{Repository, Setting};
use windlass_types::survey::{Found, Survey, SurveyRequest};

use super::settings::{lives, step, surveyed};
use super::to_the_end;
use crate::host::dnf::Manager;
use crate::host::fake::{FakeHost, Scripted};

fn signed_repository() -> Repository {
    Repository {
        id: RepositoryId::new("lab").unwrap(),
        url: "http://10.0.2.2/repo".into(),
        gpg_key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\nabc".into(),
        signed_metadata: true,
    }
}

#[tokio::test]
async fn a_repository_has_its_key_and_signatures_are_checked() {
    let repository = signed_repository();
    let unsigned = Setting::Repository(Repository { signed_metadata: false, ..repository.clone() });
    let effects = lives(|| FakeHost::new("node1"), &unsigned).await;
    let written = ["write /etc/pki/rpm-gpg/RPM-GPG-KEY-windlass-lab", "write /etc/yum.repos.d/lab.repo"];
    assert_eq!(effects, written);
    let effects = lives(|| FakeHost::new("node1"), &Setting::Repository(repository.clone())).await;
    let tried = "write /run/windlass-repositories";
    let [key, file] = ["RPM-GPG-KEY-windlass-lab", "lab.repo"].map(|name| format!("{tried}/{name}"));
    assert_eq!(effects, ["make /run/windlass-repositories", written[0], written[1], key.as_str(), file.as_str()]);
    for bad in [
        Repository { url: "http://a\ngpgcheck=0".into(), ..repository.clone() },
        Repository { url: "gopher://a".into(), ..repository.clone() },
        Repository { gpg_key: "no key".into(), ..repository },
    ] {
        let found = surveyed(&FakeHost::new("node1"), vec![Setting::Repository(bad)]).await;
        assert!(matches!(&found[..], [Found::Blocked { .. }]), "{found:?}");
    }
}

#[tokio::test]
async fn a_repository_with_signed_metadata_does_not_keep_the_package_manager_from_its_work() {
    let ask = |refresh| {
        let packages = Some(PackagesWish { update: UpdateScope::All, exclude: vec![] });
        NodeStep::Survey(Box::new(SurveyRequest { packages, refresh, ..SurveyRequest::default() }))
    };
    let found = async |host: &FakeHost, refresh| {
        let answer = to_the_end(host, &ask(refresh)).await.unwrap().output;
        serde_json::from_str::<Survey>(&answer).unwrap().packages.unwrap()
    };
    let setting = Setting::Repository(signed_repository());
    let host = FakeHost::new("node1");
    to_the_end(&host, &step(&host, &setting).await).await.unwrap();
    assert_eq!(found(&host, false).await, Found::AsWished);
    // Somebody threw the cache away, and the answer with it.
    host.change(|node| node.trusted.clear());
    assert!(matches!(found(&host, false).await, Found::Blocked { reason, .. } if reason.contains("Signing key")));
    assert_eq!(found(&host, true).await, Found::AsWished);
}

#[tokio::test]
async fn a_repository_that_its_key_did_not_sign_is_not_put_beside_the_others() {
    let repository = signed_repository();
    let host = FakeHost::new("node1");
    let tried = Manager::DNF.try_repository("/run/windlass-repositories", &repository.id);
    host.script(&tried.argv, Scripted { exit_code: 1, stdout: "Error: Bad GPG signature\n".into() });
    let error = to_the_end(&host, &step(&host, &Setting::Repository(repository)).await).await.unwrap_err();
    assert!(error.to_string().contains("Bad GPG signature"), "{error}");
    assert_eq!(error.class(), ErrorClass::Blocked);
    assert!(host.node().files.keys().all(|path| !path.starts_with("/etc")), "{:?}", host.node().files);
}
