// SPDX-License-Identifier: Apache-2.0
//! What a spec says of nodes that are there.

use windlass_plan::{OnFailure, RebootWish, Unreachable};
use windlass_types::package::UpdateScope;
use windlass_types::setting::Setting;
use windlass_types::survey::KernelChannel;

use super::*;

const ALL: &str = "  kernel: {channel: elrepo-lt, version: 6.1.140-1.el9, keep: 2}
  reboot: always
  hooks:
    before: {run: [/usr/libexec/site/drain, \"{{ not filled in }}\"], timeout: 15m}
    after: {run: [/usr/libexec/site/undrain]}
  policy:
    maxUnavailable: 2
    window: [\"Tue 02:00-06:00 America/Vancouver\", \"Sat,Sun 00:00-24:00 UTC\"]
    onFailure: {continue: 3}
    unreachable: skip
  settings:
    repositories: [{name: elrepo, url: https://mirror.example/, gpgKey: key}]
    files:
      - path: /etc/hosts
        template: true
        content: |
          {% for other in nodes %}
          {{ other.address or 'unknown' }} {{ other.name }}.{{ cluster.name }}
          {% endfor %}
          # this is {{ node.name }}
      - {path: /etc/plain, file: plain.conf, mode: \"0600\", owner: chrony, secret: true}
    sysctls: {net.ipv4.ip_forward: 1, vm.swappiness: \"10\", kernel.core_pattern: \"|/bin/false\"}
    swap: off
    timeSync: on
    selinux: permissive
    users:
      - {name: ops, groups: [wheel], sudo: true, authorizedKeys: [ssh-ed25519 AAAA ops@site]}
      - {name: gone, present: false}
    services: {chronyd.service: on, firewalld.service: off}
";

fn whole() -> String {
    format!("{GOOD}{ALL}").replace("packages: {", "packages: {update: security, exclude: [docker-ce], ")
}

fn files() -> std::collections::BTreeMap<String, String> {
    let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    [file("key", "-----BEGIN PGP PUBLIC KEY BLOCK-----"), file("plain.conf", "{{ as it is }}\n")].into()
}

#[test]
fn everything_of_the_spec_becomes_a_wish_of_every_node() {
    let cluster = Cluster::parse(&whole()).expect("a good spec");
    let wishes = cluster.wishes(&files()).expect("wishes");
    assert_eq!(wishes.keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["master1", "node1"]);
    let wish = &wishes["node1"];
    let packages = wish.packages.as_ref().expect("packages");
    assert_eq!((&packages.update, packages.exclude[0].as_str()), (&UpdateScope::Security, "docker-ce"));
    let kernel = wish.kernel.as_ref().expect("a kernel");
    assert_eq!((&kernel.channel, kernel.keep), (&KernelChannel::ElrepoLt, 2));
    assert_eq!(kernel.version.as_ref().expect("a version").as_str(), "6.1.140-1.el9");
    assert_eq!(wish.reboot, RebootWish::AfterChanges);
    let before = wish.hooks.before.as_ref().expect("a hook");
    assert_eq!((before.argv.arguments()[0].as_str(), before.timeout_millis), ("{{ not filled in }}", 900_000));
    assert_eq!(wish.hooks.after.as_ref().expect("a hook").timeout_millis, 600_000);
    let settings: Vec<_> = wish.settings.iter().map(ToString::to_string).collect();
    assert_eq!(
        settings,
        [
            "package repository elrepo",
            "user ops",
            "no user gone",
            "file /etc/hosts",
            "file /etc/plain",
            "sysctl kernel.core_pattern = |/bin/false",
            "sysctl net.ipv4.ip_forward = 1",
            "sysctl vm.swappiness = 10",
            "no swap",
            "time synchronisation",
            "SELinux permissive",
            "service chronyd.service on",
            "service firewalld.service off",
        ]
    );
    let Setting::File(plain) = &wish.settings[4] else { unreachable!("it is a file") };
    assert_eq!((plain.content.as_str(), plain.mode, plain.owner.as_str()), ("{{ as it is }}\n", 0o600, "chrony"));
    assert!(plain.secret);
}

#[test]
fn a_template_is_filled_in_for_each_node() {
    let cluster = Cluster::parse(&whole()).expect("a good spec");
    let wishes = cluster.wishes(&files()).expect("wishes");
    for node in ["master1", "node1"] {
        let Setting::File(hosts) = &wishes[node].settings[3] else { unreachable!("it is a file") };
        assert_eq!(hosts.content, format!("10.0.0.172 master1.k8s1\nunknown node1.k8s1\n# this is {node}\n"));
    }
}

#[test]
fn a_template_that_cannot_be_filled_in_is_refused_with_node_and_line() {
    for (template, named) in [
        ("\\n{{ node.naem }}", "line 2: undefined value"),
        ("{{ node.name", "line 1: syntax error"),
        ("{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}", "fuel"),
        ("{% include '/etc/shadow' %}", "syntax error"),
    ] {
        let settings = format!("  settings: {{files: [{{path: /etc/a, template: true, content: \"{template}\"}}]}}\n");
        let cluster = Cluster::parse(&format!("{GOOD}{settings}")).expect(template);
        let error = cluster.wishes(&files()).expect_err(template);
        let text = windlass_types::error_chain::ErrorChain(&error).to_string();
        assert!(text.contains("/etc/a for master1") && text.contains(named), "{text}");
    }
}

#[test]
fn the_policy_is_the_one_of_the_spec() {
    let policy = Cluster::parse(&whole()).expect("a good spec").policy();
    assert_eq!((policy.parallel, policy.max_unavailable), (10, 2));
    let window = policy.window.expect("a window").to_string();
    assert_eq!(window, "Tue 02:00-06:00 America/Vancouver; Sat,Sun 00:00-24:00 UTC");
    assert_eq!((policy.on_failure, policy.unreachable), (OnFailure::Continue { most: 3 }, Unreachable::Skip));
    let plain = Cluster::parse(GOOD).expect("a good spec");
    assert_eq!(plain.policy(), windlass_plan::Policy::default());
    assert!(plain.wishes(&files()).expect("none").is_empty(), "nobody is asked for nothing");
}

#[test]
fn nodes_reboot_if_needed_where_something_is_kept_current_and_else_never() {
    for (section, reboot) in [
        ("  kernel: {channel: distribution}", RebootWish::IfNeeded),
        ("  settings: {swap: off}", RebootWish::Never),
        ("  settings: {swap: off}\n  reboot: if-needed", RebootWish::IfNeeded),
    ] {
        let wishes = Cluster::parse(&format!("{GOOD}{section}\n")).expect(section).wishes(&files()).expect("wishes");
        assert_eq!(wishes["node1"].reboot, reboot, "{section}");
    }
}

#[test]
fn what_a_node_says_of_itself_stands_in_place_of_what_the_cluster_says() {
    let of = |own: &str| {
        let text = whole().replace("- name: node1\n", &format!("- name: node1\n      {own}\n"));
        assert_ne!(text, whole(), "the spec has no such node");
        let wishes = Cluster::parse(&text).expect(own).wishes(&files()).expect("wishes");
        let others = Cluster::parse(&whole()).expect("a good spec").wishes(&files()).expect("wishes");
        assert_eq!(wishes["master1"], others["master1"], "{own}");
        wishes["node1"].clone()
    };
    assert_eq!(of("kernel: null").kernel, None);
    assert!(of("kernel: {channel: distribution}").kernel.is_some_and(|kernel| kernel.keep == 1));
    let exclude = of("kernel: {channel: {package: kernel-site}}").packages.expect("packages").exclude;
    assert!(exclude.iter().any(|name| name.as_str() == "kernel-site-core"), "{exclude:?}");
    assert_eq!(of("packages: {update: null}").packages, None);
    let packages = of("packages: {update: all}").packages.expect("packages");
    assert_eq!((&packages.update, packages.exclude[0].as_str()), (&UpdateScope::All, "docker-ce"));
    let packages = of("packages: {exclude: []}").packages.expect("packages");
    assert_eq!((&packages.update, packages.exclude.len()), (&UpdateScope::Security, 0));
    assert_eq!(of("reboot: never").reboot, RebootWish::Never);
    assert!(of("hooks: {}").hooks.before.is_none());
    let text = GOOD.replace("- name: node1\n", "- name: node1\n      packages: {update: all}\n");
    let text = text.replace("packages: {repositories", "packages: {exclude: [docker-ce], repositories");
    assert!(Cluster::parse(&text).is_ok(), "what no update touches is said for the one that has one");
}

#[test]
fn the_files_that_have_to_come_with_it_are_named() {
    let cluster = Cluster::parse(&whole()).expect("a good spec");
    let names: Vec<_> = cluster.files().iter().map(|file| file.name).collect();
    assert_eq!(names, ["key", "key", "plain.conf"]);
    let missing = cluster.wishes(&std::collections::BTreeMap::new()).expect_err("nothing was sent").to_string();
    assert!(missing.contains("\"key\""), "{missing}");
}

#[test]
fn what_is_wrong_is_refused_with_its_line() {
    for (section, named) in [
        ("kernel: {channel: elrepo}", "elrepo"),
        ("kernel: {channel: elrepo-lt, keep: 0}", "zero"),
        ("kernel: {channel: {package: --nogpgcheck}}", "package name"),
        ("reboot: sometimes", "sometimes"),
        ("hooks: {before: {run: []}}", "nothing to run"),
        ("hooks: {before: {run: [/bin/true], timeout: 10}}", "duration"),
        ("policy: {maxUnavailable: 0}", "zero"),
        ("policy: {parallel: 0}", "1 to 1000"),
        ("policy: {window: Tuesday}", "America/Vancouver"),
        ("policy: {window: [Tue 02:00-06:00 Mars/Base]}", "Mars/Base"),
        ("policy: {onFailure: ignore}", "ignore"),
        ("policy: {unreachable: never}", "never"),
        ("settings: {swap: on}", "only be off"),
        ("settings: {timeSync: off}", "only be on"),
        ("settings: {selinux: disabled}", "disabled"),
        ("settings: {sysctls: {../../etc/passwd: 1}}", "sysctl"),
        ("settings: {sysctls: {vm.swappiness: \"1\\n2\"}}", "one line"),
        ("settings: {services: {a.service: maybe}}", "neither on nor off"),
        ("settings: {users: [{name: Root}]}", "user name"),
        ("settings: {users: [{name: a}, {name: a}]}", "named twice"),
        ("settings: {users: [{name: a, authorizedKeys: [AAAA]}]}", "public key"),
        ("settings: {files: [{path: etc/motd, content: a}]}", "absolute"),
        ("settings: {files: [{path: /etc/motd}]}", "exactly one of content and file"),
        ("settings: {files: [{path: /etc/motd, content: a, file: b}]}", "exactly one of content and file"),
        ("settings: {files: [{path: /etc/motd, content: a, mode: \"rw\"}]}", "no mode"),
        ("settings: {files: [{path: /etc/a, content: a}, {path: /etc/a, content: b}]}", "named twice"),
        ("settings: {repositories: [{name: a, url: x, gpgKey: key}]}", "needs a name"),
    ] {
        let refusal = refusal(&format!("{GOOD}  {section}\n"));
        assert!(refusal.contains(named) && refusal.contains("line 14"), "{section}: {refusal}");
    }
    let update = |update: &str| refusal(&GOOD.replace("packages: {", &format!("packages: {{{update}, ")));
    for (written, named) in [
        ("update: everything", "all, security"),
        ("update: []", "no package"),
        ("update: [-y]", "package name"),
        ("exclude: [bash]", "without packages.update"),
    ] {
        let refusal = update(written);
        assert!(refusal.contains(named) && refusal.contains("line 13"), "{written}: {refusal}");
    }
}

#[test]
fn locked_packages_are_a_setting_and_no_update_touches_them() {
    let text = GOOD.replace("packages: {", "packages: {update: all, locked: [kubelet], ");
    let cluster = Cluster::parse(&text).expect("a good spec");
    let wish = &cluster.wishes(&files()).expect("wishes")["node1"];
    assert_eq!(wish.settings[0].to_string(), "locked packages kubelet");
    assert_eq!(wish.packages.as_ref().expect("packages").exclude[0].as_str(), "kubelet");
    let unlocked = Cluster::parse(&text.replace("[kubelet]", "[]")).expect("a good spec");
    let wish = &unlocked.wishes(&files()).expect("wishes")["node1"];
    assert_eq!(wish.settings[0].to_string(), "no locked packages");
}

#[test]
fn the_examples_of_the_manual_are_read() {
    let manual = std::fs::read_to_string(example("../docs/spec.md")).expect("the manual");
    let head = GOOD.lines().take(4).collect::<Vec<_>>().join("\n");
    let mut read = 0;
    for block in manual.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
        if ["schema", "volumes", "as before"].iter().any(|part| block.contains(part)) {
            continue;
        }
        let section: String = block.lines().map(|line| format!("  {line}\n")).collect();
        let text = format!("{head}\n  provider: {{existing: {{}}}}\n  nodes: [{{name: node1}}]\n{section}");
        assert!(Cluster::parse(&text).is_ok(), "{block}{}", refusal(&text));
        assert_eq!(fits(&text), Ok(()), "{block}");
        read += 1;
    }
    assert!(read > 5, "{read} examples were found");
}

#[test]
fn the_schema_knows_it_all() {
    assert_eq!(fits(&whole()), Ok(()));
    for (from, to) in [
        ("elrepo-lt", "elrepo"),
        ("keep: 2", "keep: 0"),
        ("reboot: always", "reboot: sometimes"),
        ("maxUnavailable: 2", "maxUnavailable: 0"),
        ("{continue: 3}", "{continue: -1}"),
        ("unreachable: skip", "unreachable: never"),
        ("update: security", "update: everything"),
        ("selinux: permissive", "selinux: disabled"),
        ("swap: off", "swap: on"),
        ("firewalld.service: off", "firewalld.service: maybe"),
        ("timeout: 15m", "timeout: 15"),
        ("path: /etc/plain", "path: etc/plain"),
    ] {
        let text = whole().replacen(from, to, 1);
        assert_ne!(text, whole(), "{from}");
        assert!(Cluster::parse(&text).is_err() && fits(&text).is_err(), "{from} -> {to}: {:?}", fits(&text));
    }
}
