// SPDX-License-Identifier: Apache-2.0
//! Settings.

use windlass_types::action::NodePath;
use windlass_types::facts::ServiceState;
use windlass_types::name::on_node::{PackageName, SysctlKey, UnitName, UserName};
use windlass_types::node_step::NodeStep;
use windlass_types::outcome::ErrorClass;
use windlass_types::setting::{ManagedFile, SelinuxMode, Setting, User};
use windlass_types::survey::{Found, SettingDue, Survey, SurveyRequest};

use super::{refused, survives_everything, to_the_end};
use crate::host::fake::FakeHost;

pub(super) async fn surveyed(host: &FakeHost, settings: Vec<Setting>) -> Vec<Found<SettingDue>> {
    let request = SurveyRequest { settings, ..SurveyRequest::default() };
    let answer = to_the_end(host, &NodeStep::Survey(Box::new(request))).await.unwrap();
    serde_json::from_str::<Survey>(&answer.output).unwrap().settings
}

pub(super) async fn due(host: &FakeHost, setting: &Setting) -> SettingDue {
    let found = surveyed(host, vec![setting.clone()]).await.remove(0);
    let Found::Due { due } = found else { panic!("{setting}: {found:?}") };
    due
}

/// The step by which a survey of such a node brings a setting about.
pub(super) async fn step(host: &FakeHost, setting: &Setting) -> NodeStep {
    NodeStep::ApplySetting { setting: Box::new(setting.clone()), seen: due(host, setting).await.seen, begun: false }
}

/// The whole life of a setting: due, brought about through every kill, then as wished.
pub(super) async fn lives(make: impl Fn() -> FakeHost, setting: &Setting) -> Vec<String> {
    let step = step(&make(), setting).await;
    let effects = survives_everything(&make, &step).await;
    assert!(effects.values().all(|count| *count == 1), "{effects:?}");
    let host = make();
    to_the_end(&host, &step).await.unwrap();
    assert_eq!(surveyed(&host, vec![setting.clone()]).await, [Found::AsWished]);
    effects.into_keys().collect()
}

fn file(path: &str, content: &str) -> ManagedFile {
    let root = UserName::new("root").unwrap();
    ManagedFile {
        path: NodePath::new(path).unwrap(),
        content: content.into(),
        mode: 0o644,
        owner: root.clone(),
        group: root,
        secret: false,
    }
}

fn with(path: &'static str, content: &'static str) -> impl Fn() -> FakeHost {
    move || {
        let host = FakeHost::new("node1");
        host.change(|node| drop(node.files.insert(path.into(), content.into())));
        host
    }
}

#[tokio::test]
async fn a_file_is_replaced_once_and_what_was_there_is_kept_once() {
    let make = with("/etc/motd", "old\nsame\n");
    let first = Setting::File(file("/etc/motd", "new\nsame\n"));
    let effects = lives(&make, &first).await;
    assert_eq!(effects, ["write /etc/motd", "write /etc/motd.before-windlass~"]);
    let host = make();
    for content in ["first", "second"] {
        let setting = Setting::File(file("/etc/motd", content));
        let step = step(&host, &setting).await;
        to_the_end(&host, &step).await.unwrap();
    }
    assert_eq!(host.node().files[std::path::Path::new("/etc/motd.before-windlass~")], "old\nsame\n");
}

#[tokio::test]
async fn a_survey_shows_the_difference_and_not_a_secret() {
    let host = with("/etc/motd", "old\nsame\n")();
    let mut wished = file("/etc/motd", "new\nsame\n");
    let changes = due(&host, &Setting::File(wished.clone())).await.changes;
    assert!(changes.contains(&"-old".to_owned()) && changes.contains(&"+new".to_owned()), "{changes:?}");
    (wished.secret, wished.mode) = (true, 0o600);
    let changes = due(&host, &Setting::File(wished)).await.changes.join("\n");
    assert!(!changes.contains("new") && !changes.contains("old") && changes.contains("0644 -> 0600"), "{changes}");
}

#[tokio::test]
async fn what_changed_in_between_stops_the_step_and_half_of_its_own_does_not() {
    let host = with("/etc/motd", "old")();
    let step = step(&host, &Setting::File(file("/etc/motd", "new"))).await;
    host.change(|node| drop(node.files.insert("/etc/motd".into(), "of somebody else".into())));
    assert_eq!(refused(&host, &step, "neither as it was").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_file_in_a_new_directory_makes_the_directory() {
    let effects = lives(|| FakeHost::new("node1"), &Setting::File(file("/etc/docker/daemon.json", "{}"))).await;
    assert_eq!(effects, ["make /etc/docker", "write /etc/docker/daemon.json"]);
}

#[tokio::test]
async fn a_users_link_in_the_way_is_named_and_does_not_keep_the_rest_from_being_told() {
    let make = || {
        let host = with("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n")();
        host.change(|node| node.links = vec!["/home/ada/.config".into(), "/home/ada/.ssh".into()]);
        host
    };
    let in_the_way = Setting::File(file("/home/ada/.config/containers/registries.conf", "new"));
    let keys = Setting::User(User {
        name: UserName::new("ada").unwrap(),
        present: true,
        groups: vec![],
        authorized_keys: Some(vec!["ssh-ed25519 AAAA ada".into()]),
        sudo: false,
    });
    let motd = Setting::File(file("/etc/motd", "new"));
    let found = surveyed(&make(), vec![in_the_way.clone(), keys, motd]).await;
    let [Found::Blocked { reason, advice }, Found::Blocked { reason: of_keys, .. }, Found::Due { .. }] = &found[..]
    else {
        panic!("{found:?}")
    };
    assert!(reason.contains("registries.conf cannot be looked at") && advice.contains("namei -l"), "{found:?}");
    assert!(of_keys.contains("authorized_keys"), "{found:?}");
    let before = make();
    before.change(|node| node.links.clear());
    let step = step(&before, &in_the_way).await;
    assert_eq!(refused(&make(), &step, "cannot be looked at").await, ErrorClass::Blocked);
}

#[tokio::test]
async fn a_link_in_the_place_of_a_configuration_is_not_written_over() {
    let host = with("/etc/fstab", "/dev/b none swap sw 0 0\n")();
    let step = step(&host, &Setting::SwapOff).await;
    host.change(|node| node.links.push("/etc/fstab".into()));
    assert_eq!(to_the_end(&host, &step).await.unwrap_err().class(), ErrorClass::Blocked);
    assert!(host.effects().is_empty(), "{:?}", host.effects());
}

#[tokio::test]
async fn the_owner_of_a_file_must_be_there_or_come_with_the_same_plan() {
    let host = FakeHost::new("node1");
    let wished = ManagedFile { owner: UserName::new("nobody-knows").unwrap(), ..file("/etc/motd", "new") };
    let found = surveyed(&host, vec![Setting::File(wished)]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains("nobody-knows")), "{found:?}");
}

#[tokio::test]
async fn a_parameter_is_set_now_and_kept() {
    let key = SysctlKey::new("net.ipv4.ip_forward").unwrap();
    let setting = Setting::Sysctl { key, value: "1".into() };
    let effects = lives(with("/proc/sys/net/ipv4/ip_forward", "0\n"), &setting).await;
    assert_eq!(effects, ["sysctl net.ipv4.ip_forward=1", "write /etc/sysctl.d/99-windlass-net.ipv4.ip_forward.conf"]);
    let found = surveyed(&FakeHost::new("node1"), vec![setting]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains("no parameter")), "{found:?}");
}

#[tokio::test]
async fn swap_is_off_now_in_fstab_and_in_units() {
    let make = || {
        let host = with("/etc/fstab", "/dev/a / xfs defaults 0 0\n/dev/b none swap sw 0 0\n")();
        host.change(|node| {
            node.files.insert("/proc/swaps".into(), "Filename Type\n/dev/b partition\n".into());
            node.swap_units = vec!["dev-b.swap".into()];
        });
        host
    };
    let effects = lives(make, &Setting::SwapOff).await;
    assert_eq!(effects, ["mask dev-b.swap", "swap off", "write /etc/fstab", "write /etc/fstab.before-windlass~"]);
}

#[tokio::test]
async fn packages_are_locked_in_the_configuration_of_the_package_manager() {
    let make = || {
        let host = with("/etc/dnf/dnf.conf", "[main]\ngpgcheck=1\n")();
        host.change(|node| drop(node.files.insert("/usr/bin/dnf".into(), "".into())));
        host
    };
    let locks = Setting::PackageLocks { names: vec![PackageName::new("kubelet").unwrap()] };
    assert!(due(&make(), &locks).await.changes.contains(&"+excludepkgs=kubelet".to_owned()));
    let effects = lives(make, &locks).await;
    assert_eq!(effects, ["write /etc/dnf/dnf.conf", "write /etc/dnf/dnf.conf.before-windlass~"]);
    let closed = make();
    closed.change(|node| {
        node.attributes.insert("/etc/dnf/dnf.conf".into(), (0o600, 0, 0));
    });
    to_the_end(&closed, &step(&closed, &locks).await).await.unwrap();
    assert_eq!(closed.node().attributes[std::path::Path::new("/etc/dnf/dnf.conf")], (0o600, 0, 0));
    let unlocked = Setting::PackageLocks { names: vec![] };
    assert_eq!(surveyed(&make(), vec![unlocked]).await, [Found::AsWished]);
    let foreign = with("/etc/dnf/dnf.conf", "[main]\nexclude=kernel*\n")();
    foreign.change(|node| drop(node.files.insert("/usr/bin/dnf".into(), "".into())));
    let found = surveyed(&foreign, vec![locks]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains("exclude=kernel*")), "{found:?}");
}

#[tokio::test]
async fn whichever_program_sets_the_clock_is_switched_on() {
    let make = || {
        let host = FakeHost::new("node1");
        host.change(|node| {
            let text = str::to_owned;
            let (unit, active, sub) = (text("chronyd.service"), text("inactive"), text("dead"));
            node.services.push(ServiceState { unit, active, sub });
        });
        host
    };
    assert_eq!(lives(make, &Setting::TimeSync).await, ["enable chronyd.service", "start chronyd.service"]);
    let found = surveyed(&FakeHost::new("node1"), vec![Setting::TimeSync]).await;
    assert!(matches!(&found[..], [Found::Blocked { advice, .. }] if advice.contains("chrony")), "{found:?}");
}

#[tokio::test]
async fn selinux_is_set_now_and_for_every_boot_and_its_absence_is_said() {
    let setting = Setting::Selinux { mode: SelinuxMode::Permissive };
    let make = || {
        let host = with("/etc/selinux/config", "# a comment\nSELINUX=enforcing\nSELINUXTYPE=targeted\n")();
        host.change(|node| drop(node.files.insert("/sys/fs/selinux/enforce".into(), "1".into())));
        host
    };
    let effects = lives(make, &setting).await;
    assert_eq!(effects, ["setenforce 0", "write /etc/selinux/config", "write /etc/selinux/config.before-windlass~"]);
    for (host, words) in [
        (FakeHost::new("node1"), "there is no SELinux"),
        (with("/etc/selinux/config", "SELINUX=disabled\n")(), "disabled"),
    ] {
        let found = surveyed(&host, vec![setting.clone()]).await;
        assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains(words)), "{found:?}");
    }
}

#[tokio::test]
async fn a_user_is_made_with_groups_keys_and_sudo_and_taken_away() {
    let user = User {
        name: UserName::new("ada").unwrap(),
        present: true,
        groups: vec![UserName::new("wheel").unwrap()],
        authorized_keys: Some(vec!["ssh-ed25519 AAAA ada".into()]),
        sudo: true,
    };
    let effects = lives(|| FakeHost::new("node1"), &Setting::User(user.clone())).await;
    for effect in [
        "make user ada",
        "ada joins wheel",
        "write /home/ada/.ssh/authorized_keys",
        "write /etc/sudoers.d/windlass-ada",
    ] {
        assert!(effects.iter().any(|there| there == effect), "{effect}: {effects:?}");
    }
    let make = || {
        let host = with("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n")();
        host.change(|node| drop(node.files.insert("/etc/sudoers.d/windlass-ada".into(), "ada ALL".into())));
        host
    };
    let gone = Setting::User(User { present: false, ..user.clone() });
    assert_eq!(lives(make, &gone).await, ["remove /etc/sudoers.d/windlass-ada", "remove user ada"]);
    let without_sudo = with("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\n")();
    without_sudo.change(|node| node.lacks.push("/usr/sbin/visudo".into()));
    let found = surveyed(&without_sudo, vec![Setting::User(user.clone())]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains("no sudo")), "{found:?}");
    let hidden = User { authorized_keys: Some(vec!["ssh-ed25519 A\nssh-ed25519 B".into()]), ..user };
    let found = surveyed(&FakeHost::new("node1"), vec![Setting::User(hidden)]).await;
    assert!(matches!(&found[..], [Found::Blocked { .. }]), "{found:?}");
}

#[tokio::test]
async fn keys_that_come_and_go_are_named_and_those_that_were_there_are_kept() {
    let make = || {
        let host = with("/etc/passwd", "root:x:0:0:root:/root:/bin/bash\nada:x:1000:1000::/home/ada:/bin/bash\n")();
        let keys = "# hers\nssh-ed25519 AAAA ada\nssh-rsa BBBB old laptop\nssh-rsa AAAAB3NzaC1yc2E=\n";
        host.change(|node| drop(node.files.insert("/home/ada/.ssh/authorized_keys".into(), keys.into())));
        host
    };
    let of_ada = |keys: &[&str]| {
        let authorized_keys = Some(keys.iter().map(|key| (*key).to_owned()).collect());
        Setting::User(User {
            name: UserName::new("ada").unwrap(),
            present: true,
            groups: vec![],
            authorized_keys,
            sudo: false,
        })
    };
    let new = of_ada(&["ssh-ed25519 AAAA ada", "from=\"10.0.0.0/8\" sk-ssh-ed25519@openssh.com CCCC token"]);
    let effects = lives(make, &new).await;
    let path = "write /home/ada/.ssh/authorized_keys";
    assert_eq!(effects, [path.to_owned(), format!("{path}.before-windlass~")]);
    let expected = [
        "the key token may log in as ada",
        "the key that ends with B3NzaC1yc2E= may not log in as ada any more",
        "the key old laptop may not log in as ada any more",
    ];
    assert_eq!(due(&make(), &new).await.changes, expected);
    let same = of_ada(&["ssh-ed25519 AAAA ada", "ssh-rsa BBBB old laptop", "ssh-rsa AAAAB3NzaC1yc2E="]);
    assert_eq!(due(&make(), &same).await.changes, ["the same keys of ada, written anew"]);
    let many: Vec<String> = (0..100).map(|nth| format!("ssh-rsa A{nth} k{nth}")).collect();
    let changes = due(&make(), &of_ada(&many.iter().map(String::as_str).collect::<Vec<_>>())).await.changes;
    assert_eq!((changes.len(), changes[40].as_str()), (41, "63 more keys of ada change"));
}

#[tokio::test]
async fn a_service_is_switched_on_and_off() {
    let unit = UnitName::new("sshd.service").unwrap();
    let make = || {
        let host = FakeHost::new("node1");
        host.change(|node| node.enabled.push("sshd.service".into()));
        host
    };
    let off = Setting::Service { unit, on: false };
    assert_eq!(lives(make, &off).await, ["disable sshd.service", "stop sshd.service"]);
    let unknown = Setting::Service { unit: UnitName::new("none.service").unwrap(), on: true };
    let found = surveyed(&FakeHost::new("node1"), vec![unknown]).await;
    assert!(matches!(&found[..], [Found::Blocked { reason, .. }] if reason.contains("none.service")), "{found:?}");
}

#[tokio::test]
async fn what_a_failed_attempt_left_half_done_is_finished_by_the_next_and_by_nobody_else() {
    let user = User {
        name: UserName::new("ada").unwrap(),
        present: true,
        groups: vec![UserName::new("wheel").unwrap()],
        authorized_keys: None,
        sudo: true,
    };
    let host = FakeHost::new("node1");
    let first = step(&host, &Setting::User(user)).await;
    host.break_after(1, "the disk is full");
    let error = to_the_end(&host, &first).await.unwrap_err();
    assert!(error.to_string().contains("the disk is full") && host.effects()["make user ada"] == 1, "{error}");
    host.mend();
    assert_eq!(refused(&host, &first, "neither as it was").await, ErrorClass::Blocked);
    let NodeStep::ApplySetting { setting, seen, .. } = first else { panic!("{first}") };
    to_the_end(&host, &NodeStep::ApplySetting { setting, seen, begun: true }).await.unwrap();
    assert!(host.effects().values().all(|count| *count == 1), "{:?}", host.effects());
}
