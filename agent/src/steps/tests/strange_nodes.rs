// SPDX-License-Identifier: Apache-2.0
//! Settings on nodes on which somebody was before.

use windlass_types::facts::ServiceState;
use windlass_types::name::on_node::{SysctlKey, UnitName, UserName};
use windlass_types::node_step::NodeStep;
use windlass_types::setting::{Repository, Setting, User};
use windlass_types::survey::{Found, Survey};

use super::settings::{due, lives, step, surveyed};
use super::to_the_end;
use crate::host::fake::{FakeHost, ModelPackage, Scripted};
use crate::host::{rpm, sysctl, systemctl};

const ADA: &str = "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n";

fn with(files: &[(&str, &str)]) -> FakeHost {
    let host = FakeHost::new("node1");
    host.change(|node| node.files.extend(files.iter().map(|(path, content)| (path.into(), (*content).to_owned()))));
    host
}

fn ada() -> User {
    User {
        name: UserName::new("ada").unwrap(),
        present: true,
        groups: vec![],
        authorized_keys: Some(vec!["ssh-ed25519 AAAA ada".into()]),
        sudo: false,
    }
}

async fn is_blocked(host: &FakeHost, setting: Setting, reason_has: &str) {
    let found = surveyed(host, vec![setting]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains(reason_has)), "{found:?}");
}

#[tokio::test]
async fn a_parameter_of_the_network_is_read_by_a_program_and_not_in_the_agents_own_network() {
    let key = SysctlKey::new("net.core.somaxconn").unwrap();
    let host = with(&[
        ("/proc/sys/net/core/somaxconn", "128\n"),
        ("/etc/sysctl.d/99-windlass-net.core.somaxconn.conf", "# Written by Windlass.\nnet.core.somaxconn = 4096\n"),
    ]);
    let path = sysctl::path_of(&key).unwrap();
    host.script(&sysctl::read(&path).argv, Scripted { exit_code: 0, stdout: "4096\n".into() });
    let wished = Setting::Sysctl { key, value: "4096".into() };
    assert_eq!(surveyed(&host, vec![wished]).await, [Found::AsWished]);
}

#[tokio::test]
async fn a_unit_that_is_masked_is_said_and_another_that_sets_the_clock_is_taken() {
    let host = FakeHost::new("node1");
    let [chronyd, timesyncd] =
        ["chronyd.service", "systemd-timesyncd.service"].map(|unit| UnitName::new(unit).unwrap());
    let masked = "LoadState=masked\nActiveState=inactive\nUnitFileState=masked\n";
    host.script(&systemctl::state_of(&chronyd).argv, Scripted { exit_code: 0, stdout: masked.into() });
    is_blocked(&host, Setting::Service { unit: chronyd.clone(), on: true }, "is masked").await;
    is_blocked(&host, Setting::TimeSync, "chronyd.service is masked").await;
    let off = Setting::Service { unit: chronyd, on: false };
    assert_eq!(surveyed(&host, vec![off]).await, [Found::AsWished]);
    let runs = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n";
    host.script(&systemctl::state_of(&timesyncd).argv, Scripted { exit_code: 0, stdout: runs.into() });
    assert_eq!(surveyed(&host, vec![Setting::TimeSync]).await, [Found::AsWished]);
}

#[tokio::test]
async fn a_swap_unit_that_is_a_file_of_the_site_is_said_before_anything_is_done() {
    let host = with(&[("/etc/systemd/system/swapfile.swap", "[Swap]\nWhat=/swapfile\n")]);
    host.change(|node| node.swap_units = vec!["swapfile.swap".into()]);
    is_blocked(&host, Setting::SwapOff, "swapfile.swap is a file in").await;
}

#[tokio::test]
async fn a_group_that_is_not_there_is_said_before_the_user_is_made() {
    let groups = vec![UserName::new("docker").unwrap()];
    let user = Setting::User(User { groups, ..ada() });
    is_blocked(&FakeHost::new("node1"), user.clone(), "there is no group docker").await;
    let of_docker = Setting::User(User { name: UserName::new("docker").unwrap(), authorized_keys: None, ..ada() });
    let found = surveyed(&FakeHost::new("node1"), vec![of_docker, user]).await;
    assert!(matches!(&found[..], [Found::Due { .. }, Found::Due { .. }]), "their own group comes too: {found:?}");
}

#[tokio::test]
async fn a_new_user_is_told_with_keys_groups_and_what_they_may() {
    let user = User { groups: vec![UserName::new("wheel").unwrap()], sudo: true, ..ada() };
    let changes = due(&FakeHost::new("node1"), &Setting::User(user)).await.changes;
    assert_eq!(
        changes,
        ["user ada is made", "ada joins wheel", "the key ada may log in as ada", "ada may become root"]
    );
}

#[tokio::test]
async fn keys_that_others_can_write_are_made_theirs_alone() {
    let path = "/home/ada/.ssh/authorized_keys";
    let make = || {
        let host = with(&[("/etc/passwd", ADA), (path, "ssh-ed25519 AAAA ada\n")]);
        host.change(|node| node.attributes.extend([(path.into(), (0o666, 1000, 1000))]));
        host
    };
    let changes = due(&make(), &Setting::User(ada())).await.changes;
    assert!(changes[0].contains("theirs alone"), "{changes:?}");
    lives(make, &Setting::User(ada())).await;
}

#[tokio::test]
async fn a_line_for_sudo_that_is_not_roots_alone_is_written_anew() {
    let path = "/etc/sudoers.d/windlass-ada";
    let line = "# Written by Windlass.\nada ALL=(ALL) NOPASSWD: ALL\n";
    let make = || {
        let host = with(&[("/etc/passwd", ADA), (path, line)]);
        host.change(|node| node.attributes.extend([(path.into(), (0o440, 1000, 1000))]));
        host
    };
    let user = Setting::User(User { sudo: true, authorized_keys: None, ..ada() });
    assert_eq!(due(&make(), &user).await.changes, ["ada may become root"]);
    let host = make();
    to_the_end(&host, &step(&host, &user).await).await.unwrap();
    assert_eq!(host.node().attributes[std::path::Path::new(path)], (0o440, 0, 0));
}

#[tokio::test]
async fn keys_without_a_home_are_said_before_anything_is_done() {
    is_blocked(&with(&[("/etc/passwd", ADA)]), Setting::User(ada()), "/home/ada, is not there").await;
}

#[tokio::test]
async fn a_repository_file_of_the_sites_is_shown_as_a_difference_and_kept() {
    let path = "/etc/yum.repos.d/elrepo.repo";
    let host = with(&[(path, "[elrepo]\nbaseurl=http://old\n[elrepo-kernel]\n")]);
    let setting = Setting::Repository(Repository {
        id: "elrepo".parse().unwrap(),
        url: "http://new/".into(),
        gpg_key: "-----BEGIN PGP PUBLIC KEY BLOCK-----\nabc".into(),
        signed_metadata: false,
    });
    let changes = due(&host, &setting).await.changes;
    assert!(changes.contains(&"-[elrepo-kernel]".to_owned()), "{changes:?}");
    to_the_end(&host, &step(&host, &setting).await).await.unwrap();
    let kept = format!("{path}.before-windlass~");
    assert!(host.node().files[std::path::Path::new(&kept)].contains("[elrepo-kernel]"));
}

#[tokio::test]
async fn a_unit_file_that_is_gone_hides_no_other_service_that_is_outdated() {
    let host = FakeHost::new("node1");
    host.advance(std::time::Duration::from_secs(60));
    host.change(|node| {
        node.services[0].unit = "web.service".into();
        let gone = ServiceState { unit: "gone.service".into(), ..node.services[0].clone() };
        node.services.push(gone);
        node.packages = vec![ModelPackage { at: node.now.0 / 1000 - 5, ..ModelPackage::new("web", "2-1") }];
    });
    let paths = ["web", "gone"].map(|unit| format!("/usr/lib/systemd/system/{unit}.service"));
    let of_web = host.run(&rpm::owners(&paths[..1]).argv);
    host.script(&rpm::owners(&paths).argv, of_web);
    let answer = to_the_end(&host, &NodeStep::Survey(Box::default())).await.unwrap();
    let survey: Survey = serde_json::from_str(&answer.output).unwrap();
    assert_eq!(survey.outdated_services.iter().map(UnitName::as_str).collect::<Vec<_>>(), ["web.service"]);
}
