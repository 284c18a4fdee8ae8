// SPDX-License-Identifier: Apache-2.0
//! The reader, the schema, and that they agree.

mod openstack;
mod upkeep;

use serde_json::Value;

use super::*;
use windlass_types::machine::ProviderKind;

const GOOD: &str = "apiVersion: windlass/v1
kind: Cluster
metadata: {name: k8s1}
spec:
  provider: {qemu: {image: ~/guest.qcow2, network: 10.0.0.0/24}}
  nodes:
    - {name: master1, address: 10.0.0.172, roles: [worker, etcd]}
    - name: node1
      labels: {rack: a}
      memory: 3GiB
      forwards: [{host: 6443, guest: 6443}]
  volumes: {docker: {size: 50GiB}}
  packages: {repositories: [{name: w, url: http://10.0.2.2/, gpgKey: key}]}
";

fn refusal(text: &str) -> String {
    let error = Cluster::parse(text).expect_err(text);
    windlass_types::error_chain::ErrorChain(&error).to_string()
}

#[test]
fn reads_a_plain_spec() {
    let cluster = Cluster::parse(GOOD).expect("a good spec");
    assert_eq!((cluster.name.as_str(), cluster.provider()), ("k8s1", ProviderKind::Qemu));
    let spec = cluster.machines(Some("/home/a/")).expect("a home");
    assert_eq!((spec.machines[0].image.as_str(), spec.machines[0].cpus), ("/home/a/guest.qcow2", 2));
    assert_eq!(spec.machines[1].memory_bytes, 3 << 30);
    assert_eq!(spec.machines[1].data_disks[0].size_bytes, 50 << 30);
    assert_ne!(spec.machines[0].data_disks[0].serial, spec.machines[1].data_disks[0].serial);
    assert!(cluster.machines(None).is_err());
}

#[test]
fn names_the_place_of_an_unknown_key_and_of_a_wrong_type() {
    let unknown = refusal(&GOOD.replace("address", "adress"));
    assert!(unknown.contains("line 7") && unknown.contains("adress"), "{unknown}");
    let wrong = refusal(&GOOD.replace("10.0.0.172", "[1]"));
    assert!(wrong.contains("line 7"), "{wrong}");
}

#[test]
fn a_section_of_a_later_version_is_refused_by_name_and_line() {
    for (section, name) in [
        ("  docker: {storage: {volume: docker}}", "docker"),
        ("  etcd: {}", "etcd"),
        ("  kubernetes: {version: v1.20.2}", "kubernetes"),
        ("  gluster: {}", "gluster"),
    ] {
        let refusal = refusal(&format!("{GOOD}{section}\n"));
        assert!(refusal.contains(&format!("`{name}` is not supported by this version")), "{refusal}");
        assert!(refusal.contains("line 14"), "{refusal}");
    }
}

#[test]
fn parts_that_do_not_go_together_are_refused() {
    let cases = [
        (GOOD.replace("kind: Cluster", "kind: Pod"), "kind must be Cluster"),
        (GOOD.replace("master1", "node1"), "node1 is named twice"),
        (GOOD.replace("labels: {rack: a}", "address: 10.0.0.172"), "is another node's"),
        (GOOD.replace("10.0.0.172", "10.0.1.172"), "network 10.0.0.0/24"),
        (GOOD.replace("10.0.0.172", "10.0.0.255"), "network 10.0.0.0/24"),
        (GOOD.replace("guest: 6443}", "guest: 6443}, {host: 6443, guest: 1}"), "forwarded twice"),
        (GOOD.replace("host: 6443", "host: 443"), "below 1024"),
        (GOOD.replace("3GiB", "64MiB"), "less than 256MiB"),
        (GOOD.replace("~/guest", "guest"), "begins with / or ~/"),
        (GOOD.replace("qemu: {image: ~/guest.qcow2, network: 10.0.0.0/24}", "existing: {}"), "volumes cannot be made"),
        (GOOD.replace("provider: {qemu", "provider: {existing: {}, qemu"), "exactly one"),
        (GOOD.replace("url: http://10.0.2.2/", "url: 10.0.2.2"), "needs a name"),
    ];
    for (text, expected) in cases {
        let refusal = refusal(&text);
        assert!(refusal.contains(expected), "{refusal}");
        assert!(refusal.contains("line ") && !refusal.contains("line 0"), "{refusal}");
    }
}

#[test]
fn a27_hostile_yaml_is_refused_with_its_place() {
    let bomb = format!("a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: [*b,*b,*b,*b]\n{GOOD}");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let twice = GOOD.replace("kind: Cluster", "kind: Cluster\nkind: Cluster");
    let merge = GOOD.replace("    - name: node1", "    - <<: {name: node1}");
    let tag = GOOD.replace("kind: Cluster", "kind: !!python/object/apply:os.system [reboot]");
    for text in [&bomb, &deep, &twice, &merge, &tag] {
        let refusal = refusal(text);
        assert!(refusal.contains("line ") && !refusal.contains("line 0"), "{refusal}");
    }
}

#[test]
fn a27_a_huge_file_is_not_even_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("cluster.yaml");
    File::create(&path).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    assert!(matches!(Cluster::read(&path), Err(SpecError::TooLarge(_))));
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

#[test]
fn the_published_schema_is_the_one_the_program_prints() {
    if std::env::var_os("WINDLASS_BLESS").is_some() {
        let printed = serde_json::to_string_pretty(&schema::schema()).expect("JSON") + "\n";
        std::fs::write(example("cluster.schema.json"), printed).expect("written");
    }
    let published = std::fs::read_to_string(example("cluster.schema.json")).unwrap_or_default();
    let printed = serde_json::to_string_pretty(&schema::schema()).expect("JSON") + "\n";
    assert_eq!(published, printed, "windlass schema > examples/cluster.schema.json");
}

#[test]
fn every_example_is_read_and_fits_the_schema() {
    let mut seen = 0;
    for entry in std::fs::read_dir(example("")).expect("examples").flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "yaml") {
            let text = text(&entry.path()).expect("readable");
            assert!(Cluster::parse(&text).is_ok(), "{}", refusal(&text));
            assert_eq!(fits(&text), Ok(()));
            seen += 1;
        }
    }
    assert!(seen > 0, "there are no examples");
}

#[test]
fn the_example_that_the_manual_goes_through_is_the_one_that_is_read() {
    let text = text(&example("existing.yaml")).expect("readable");
    let (_, shown) = text.split_once("apiVersion").expect("a spec");
    let manual = std::fs::read_to_string(example("../docs/migrating.md")).expect("the manual");
    assert!(manual.contains(&format!("```yaml\napiVersion{shown}```")), "docs/migrating.md shows another one");
    assert_eq!(Cluster::parse(&text).expect("a good spec").provider(), ProviderKind::Existing);
}

#[test]
fn the_schema_and_the_reader_agree() {
    assert_eq!(fits(GOOD), Ok(()));
    for (from, to) in [
        ("windlass/v1", "windlass/v2"),
        ("metadata: {name: k8s1}", "metadata: {}"),
        ("metadata: {name: k8s1}", "metadata: {name: K8S}"),
        ("address", "adress"),
        ("name: node1", "name: Node_1"),
        ("[worker, etcd]", "[worker, etc]"),
        ("[worker, etcd]", "worker"),
        ("3GiB", "3 GB"),
        ("3GiB", "3"),
        ("6443, guest", "99999, guest"),
        ("host: 6443, ", ""),
        ("size: 50GiB", "siize: 50GiB"),
        ("docker:", "Docker:"),
        ("gpgKey: key", "gpgKey: \"\""),
        ("url: http://10.0.2.2/", "url: x"),
        ("name: w,", "name: W,"),
        ("image: ~/guest.qcow2", "image: guest.qcow2"),
        ("network: 10.0.0.0/24", "network: 10.0.0.0"),
        ("network: 10.0.0.0/24", "accel: fast"),
        ("volumes:", "kernel: {}\n  volumes:"),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        assert!(Cluster::parse(&text).is_err() && fits(&text).is_err(), "{from} -> {to}: {:?}", fits(&text));
    }
}

/// Whether a document fits the schema, as far as ours uses JSON Schema.
fn fits(text: &str) -> Result<(), String> {
    let value: Value = serde_saphyr::from_str(text).expect("YAML");
    let schema = schema::schema();
    matches(&schema, &schema, &value)
}

fn matches(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).expect("a definition");
        matches(root, target, value)?;
    }
    if let Some(any) = schema["anyOf"].as_array() {
        any.iter().find(|one| matches(root, one, value).is_ok()).ok_or(format!("{value}: no form fits"))?;
    }
    if !schema["const"].is_null() && schema["const"] != *value {
        return Err(format!("{value}: not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        return Err(format!("{value}: none of {}", schema["enum"]));
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("the schema says {other}"),
    };
    let fits = match &schema["type"] {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    if !fits {
        return Err(format!("{value}: not of type {}", schema["type"]));
    }
    numbers_and_text(schema, value)?;
    members(root, schema, value)
}

fn numbers_and_text(schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(number) = value.as_u64() {
        let within = schema["minimum"].as_u64().is_none_or(|least| number >= least)
            && schema["maximum"].as_u64().is_none_or(|most| number <= most);
        within.then_some(()).ok_or(format!("{number}: out of range"))?;
    }
    if let Some(text) = value.as_str() {
        if schema["minLength"].as_u64().is_some_and(|least| (text.len() as u64) < least) {
            return Err("too short".to_owned());
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            pattern_fits(pattern, text).then_some(()).ok_or(format!("{text}: not {pattern}"))?;
        }
    }
    Ok(())
}

fn pattern_fits(pattern: &str, text: &str) -> bool {
    regex::Regex::new(pattern).expect("a pattern").is_match(text)
}

fn members(root: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    for item in value.as_array().into_iter().flatten() {
        matches(root, &schema["items"], item)?;
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        object.get(required).ok_or(format!("{required} is missing"))?;
    }
    for (key, member) in object {
        if let Some(pattern) = schema["propertyNames"]["pattern"].as_str() {
            pattern_fits(pattern, key).then_some(()).ok_or(format!("{key}: not {pattern}"))?;
        }
        match (&schema["properties"][key], &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("{key} is unknown")),
            (Value::Null, Value::Null | Value::Bool(true)) => {}
            (Value::Null, other) => matches(root, other, member)?,
            (known, _) => matches(root, known, member)?,
        }
    }
    Ok(())
}
