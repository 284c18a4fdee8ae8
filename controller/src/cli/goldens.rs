// SPDX-License-Identifier: Apache-2.0
//! What people and programs see, compared with small files. `WINDLASS_BLESS=1` writes them anew; read the difference.

use std::path::Path;
use std::time::Duration;

use windlass_proto::convert::facts::to_wire;
use windlass_proto::v1;
use windlass_types::facts::{
    BlockDevice, Boot, Cpu, Fact, Kernel, Load, Memory, NetworkInterface, Os, PackageManager, ServiceState, Subject,
};
use windlass_types::time::UnixMillis;

use super::show::event::EventView;
use super::show::job::JobView;
use super::show::node::NodeView;
use super::show::operator::OperatorView;
use super::show::token::TokenView;
use super::show::{self, Format, Listed, node_sheet};

const NOW: UnixMillis = UnixMillis(1_795_373_541_000);
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}\r\nnode9  healthy \u{202e}";

fn ago(seconds: i64) -> i64 {
    NOW.0 - seconds * 1000
}

fn compare(name: &str, found: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/goldens").join(name);
    if std::env::var_os("WINDLASS_BLESS").is_some() {
        std::fs::write(&path, found).expect("a golden");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == found, "{name} differs; WINDLASS_BLESS=1 writes it anew\n--- found\n{found}");
    assert!(!found.contains('\u{1b}') && !found.contains('\u{202e}'), "{name}: hostile text reached the terminal");
}

fn listed<T: Listed>(items: &[T], format: Format) -> String {
    let mut out = Vec::new();
    show::list(&mut out, items, format, false, NOW).expect("a vector takes everything");
    String::from_utf8(out).expect("text")
}

fn condition(kind: v1::ConditionKind, holds: bool, reason: &str) -> v1::NodeCondition {
    v1::NodeCondition { kind: kind.into(), holds, reason: reason.into(), since_unix_millis: ago(192) }
}

fn node(name: &str, holds: [bool; 5]) -> v1::Node {
    let [connected, healthy, reboot, skewed, revoked] = holds;
    v1::Node {
        name: name.into(),
        labels: [("role".to_owned(), "worker".to_owned())].into(),
        conditions: vec![
            condition(v1::ConditionKind::Connected, connected, "its agent has a session"),
            condition(v1::ConditionKind::Healthy, healthy, "everything it watches is well"),
            condition(v1::ConditionKind::RebootNeeded, reboot, "the default kernel is not the running one"),
            condition(v1::ConditionKind::ClockSkewed, skewed, "its clock is 3 ms ahead"),
            condition(v1::ConditionKind::Revoked, revoked, ""),
        ],
        facts: facts().into_iter().map(|fact| v1::NodeFact { age_millis: 5_000, fact: Some(fact) }).collect(),
        agent_version: "0.1.0".into(),
        address: if connected { "10.0.0.171:41234".into() } else { String::new() },
        joined_unix_millis: ago(864_000),
        last_seen_unix_millis: ago(4),
        certificate_serial: "3fa2".into(),
        certificate_not_after_unix_millis: ago(-400_000),
        clock_offset_millis: 3,
        load_one_centi: 42,
        memory_available_mebibytes: 3_000,
    }
}

fn facts() -> Vec<v1::Fact> {
    let facts = [
        Fact::Os(Os {
            id: "centos".into(),
            version_id: "9".into(),
            pretty_name: "CentOS Stream 9".into(),
            architecture: "x86_64".into(),
            hostname: "node1.novalocal".into(),
        }),
        Fact::Kernel(Kernel {
            running: "5.14.0-503.11.1.el9_5.x86_64".into(),
            default_release: Some("5.14.0-522.el9.x86_64".into()),
        }),
        Fact::Boot(Boot { boot_id: "0b5c".into(), booted_at: UnixMillis(ago(3_600_000)) }),
        Fact::Cpu(Cpu { model: "Intel Xeon".into(), logical: 4 }),
        Fact::Memory(Memory { total_bytes: 8 << 30, available_bytes: 3 << 30, swap_total_bytes: 0 }),
        Fact::Load(Load { one_centi: 42, five_centi: 7, fifteen_centi: 100 }),
        Fact::Disks(disks()),
        Fact::Network(vec![NetworkInterface {
            name: "eth0".into(),
            mac: "fa:16:3e:00:00:01".into(),
            addresses: vec!["10.0.0.171/24".into()],
            mtu: 1450,
            up: true,
        }]),
        Fact::PackageManager(PackageManager { name: "dnf".into(), version: "4.14.0".into() }),
        Fact::PendingReboot(vec!["the default kernel is not the running one".into()]),
        Fact::Services(vec![ServiceState {
            unit: "docker.service".into(),
            active: "active".into(),
            sub: "running".into(),
        }]),
    ];
    facts.into_iter().map(|fact| to_wire(fact, Duration::from_secs(5))).collect()
}

fn disks() -> Vec<BlockDevice> {
    let disk = |name: &str, stable_id: &str, kind: &str, size_bytes| BlockDevice {
        name: name.into(),
        stable_id: stable_id.into(),
        kind: kind.into(),
        size_bytes,
        ..Default::default()
    };
    let root = BlockDevice {
        parent: "vda".into(),
        signature: "xfs".into(),
        mounts: vec!["/".into()],
        ..disk("vda1", "uuid-7c1e", "part", 21_473_787_904)
    };
    vec![root, disk("vdb", "serial-2f1b", "disk", 50 << 30), disk("vda", "serial-9d0c", "disk", 20 << 30)]
}

fn nodes() -> Vec<NodeView> {
    let mut hostile = node("node3", [true, false, false, true, false]);
    hostile.labels.insert("x".into(), HOSTILE.into());
    hostile.agent_version = HOSTILE.into();
    hostile.facts = [
        Fact::Kernel(Kernel { running: HOSTILE.into(), default_release: None }),
        Fact::Disks(vec![BlockDevice { name: HOSTILE.into(), parent: HOSTILE.into(), ..Default::default() }]),
        Fact::Unavailable { subject: Subject::Os, reason: HOSTILE.into() },
    ]
    .into_iter()
    .map(|fact| v1::NodeFact { age_millis: 100_000, fact: Some(to_wire(fact, Duration::ZERO)) })
    .collect();
    let nodes = [
        node("master1", [true, true, false, false, false]),
        node("node1", [true, true, true, false, false]),
        node("node2", [false, false, false, false, false]),
        hostile,
        node("node4", [false, false, false, false, true]),
    ];
    nodes.into_iter().map(NodeView::from).collect()
}

#[test]
fn nodes_fit_eighty_columns() {
    let table = listed(&nodes()[..3], Format::Table);
    compare("nodes.txt", &table);
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn a_node_in_quarantine_says_so_and_why() {
    let mut quarantined = nodes()[0].clone();
    quarantined.quarantine = Some("smoke\u{1b}".into());
    let table = listed(std::slice::from_ref(&quarantined), Format::Table);
    assert!(table.contains("  healthy,quarantined  "), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    let page = sheet(&quarantined);
    assert!(page.contains("\nquarantine    smoke\\u{1b}\n"), "{page}");
    assert!(listed(&[quarantined], Format::Json).contains("\"quarantine\": \"smoke"));
}

#[test]
fn nodes_in_other_formats() {
    compare("nodes-wide.txt", &listed(&nodes(), Format::Wide));
    compare("nodes-name.txt", &listed(&nodes(), Format::Name));
    compare("nodes.yaml", &listed(&nodes()[..1], Format::Yaml));
    let json = listed(&nodes()[1..2], Format::Json);
    compare("nodes.json", &json);
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["apiVersion"], "windlass/v1");
    assert_eq!(document["kind"], "NodeList");
    assert_eq!(document["items"][0]["facts"]["os"]["value"]["id"], "centos");
    assert_eq!(document["items"][0]["facts"]["os"]["age_seconds"], 5);
}

fn sheet(node: &NodeView) -> String {
    let mut out = Vec::new();
    node_sheet::write(&mut out, node, false, NOW, jiff::tz::TimeZone::UTC).expect("a vector takes everything");
    String::from_utf8(out).expect("text")
}

#[test]
fn one_node_on_one_page() {
    let page = sheet(&nodes()[1]);
    compare("node.txt", &page);
    assert!(page.lines().all(|line| line.chars().count() <= 80), "{page}");
    compare("node-hostile.txt", &sheet(&nodes()[3]));
}

#[test]
fn jobs_tokens_and_operators() {
    let job = |id: &str, state: v1::JobState, summary: &str| v1::Job {
        id: id.into(),
        state: state.into(),
        summary: summary.into(),
        created_by: "alice".into(),
        created_unix_millis: ago(4_000),
        ended_unix_millis: 0,
        nodes: 100,
        succeeded: 97,
        failed: 3,
    };
    let jobs = [
        job("42", v1::JobState::Running, "exec dnf -y --setopt=install_weak_deps=False update kernel"),
        job("41", v1::JobState::Failed, HOSTILE),
    ];
    let jobs: Vec<JobView> = jobs.into_iter().map(JobView::from).collect();
    compare("jobs.txt", &listed(&jobs[..1], Format::Table));
    compare("jobs-wide.txt", &listed(&jobs, Format::Wide));
    compare("jobs.json", &listed(&jobs[..1], Format::Json));
    let token = v1::Token {
        id: "7f3a".into(),
        node: "node1".into(),
        state: v1::TokenState::Unused.into(),
        expires_unix_millis: ago(-1_800),
        created_by: "uid 0".into(),
        attempts: 0,
    };
    let tokens = [TokenView::from(token)];
    compare("tokens.txt", &listed(&tokens, Format::Table));
    compare("tokens.json", &listed(&tokens, Format::Json));
    let operator = v1::Operator {
        name: "alice".into(),
        role: "admin".into(),
        certificate_serial: "01".into(),
        not_after_unix_millis: ago(-864_000),
    };
    compare("operators.txt", &listed(&[OperatorView::from(operator)], Format::Table));
}

#[test]
fn events_as_documents() {
    let event = v1::Event {
        cursor: 17,
        unix_millis: NOW.0,
        kind: "node.connected".into(),
        severity: v1::Severity::Info.into(),
        node: "node1".into(),
        job: String::new(),
        run: String::new(),
        message: format!("node1 connected {HOSTILE}"),
    };
    let event = EventView::from(event);
    let mut line = Vec::new();
    show::json_line(&mut line, EventView::KIND, &event).expect("a vector takes everything");
    let line = String::from_utf8(line).expect("text");
    assert_eq!(line.lines().count(), 1);
    assert!(!line.contains('\u{1b}'), "{line}");
    let text = event.line(true);
    assert!(
        text.starts_with("    17  2026-11-2") && text.contains("  node.connected  node1 connected \\u{1b}"),
        "{text}"
    );
}
