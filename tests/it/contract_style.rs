// SPDX-License-Identifier: Apache-2.0
//! The shape of the wire contract: the rules of buf's STANDARD category that apply to a proto3 package of our own, a
//! comment on every element, and a policy row for every method and for nothing else.
//!
//! Read from the compiled descriptor, so that neither buf nor protoc is needed.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, EnumDescriptor, FileDescriptor, Kind, MessageDescriptor, ServiceDescriptor};
use windlass_proto::policy;

const PACKAGE: &str = "windlass.v1";

/// What was found against the contract, in sentences.
type Findings = Vec<String>;

fn contract() -> Vec<FileDescriptor> {
    let pool = DescriptorPool::decode(windlass_proto::DESCRIPTOR).expect("the build script wrote a descriptor set");
    let ours: Vec<_> = pool.files().filter(|file| !file.name().starts_with("google/")).collect();
    assert!(ours.len() >= 10, "the descriptor lost files");
    ours
}

fn is_pascal(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

fn is_snake(name: &str, letter: fn(&char) -> bool) -> bool {
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| letter(&c) || c.is_ascii_digit());
    name.starts_with(|c| letter(&c)) && name.split('_').all(word)
}

fn is_lower_snake(name: &str) -> bool {
    is_snake(name, char::is_ascii_lowercase)
}

/// `JobState` as enum values begin: `JOB_STATE_`.
fn value_prefix(name: &str) -> String {
    let mut prefix = String::new();
    for (index, c) in name.chars().enumerate() {
        if index > 0 && c.is_ascii_uppercase() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix + "_"
}

fn say(findings: &mut Findings, ok: bool, finding: impl FnOnce() -> String) {
    if !ok {
        findings.push(finding());
    }
}

/// Every message of a file except the entries of maps, nested ones too.
fn messages(file: &FileDescriptor) -> Vec<MessageDescriptor> {
    let (mut found, mut open) = (Vec::new(), file.messages().collect::<Vec<_>>());
    while let Some(message) = open.pop() {
        open.extend(message.child_messages().filter(|child| !child.is_map_entry()));
        found.push(message);
    }
    found
}

fn enums(file: &FileDescriptor) -> Vec<EnumDescriptor> {
    file.enums().chain(messages(file).iter().flat_map(|m| m.child_enums().collect::<Vec<_>>())).collect()
}

fn check_file(file: &FileDescriptor, findings: &mut Findings) {
    let name = file.name();
    let stem = name.strip_prefix("windlass/v1/").and_then(|rest| rest.strip_suffix(".proto"));
    say(findings, file.package_name() == PACKAGE, || format!("{name}: package is not {PACKAGE}"));
    say(findings, stem.is_some_and(is_lower_snake), || format!("{name}: not windlass/v1/lower_snake.proto"));
    let proto = file.file_descriptor_proto();
    say(findings, proto.syntax() == "proto3", || format!("{name}: no proto3 syntax line"));
    say(findings, proto.public_dependency.is_empty(), || format!("{name}: public import"));
    say(findings, proto.weak_dependency.is_empty(), || format!("{name}: weak import"));
}

fn check_message(message: &MessageDescriptor, findings: &mut Findings) {
    say(findings, is_pascal(message.name()), || format!("{}: not PascalCase", message.full_name()));
    for field in message.fields() {
        say(findings, is_lower_snake(field.name()), || format!("{}: not lower_snake_case", field.full_name()));
    }
    for oneof in message.oneofs().filter(|oneof| !oneof.is_synthetic()) {
        say(findings, is_lower_snake(oneof.name()), || format!("{}: not lower_snake_case", oneof.full_name()));
    }
}

fn check_enum(kind: &EnumDescriptor, findings: &mut Findings) {
    let prefix = value_prefix(kind.name());
    say(findings, is_pascal(kind.name()), || format!("{}: not PascalCase", kind.full_name()));
    let first = kind.values().next().expect("proto3 requires a value");
    let zero = first.number() == 0 && first.name() == format!("{prefix}UNSPECIFIED");
    say(findings, zero, || format!("{}: does not begin with {prefix}UNSPECIFIED = 0", kind.full_name()));
    let numbers: BTreeSet<_> = kind.values().map(|value| value.number()).collect();
    say(findings, numbers.len() == kind.values().len(), || format!("{}: has an alias", kind.full_name()));
    for value in kind.values() {
        let ok = value.name().starts_with(&prefix) && is_snake(value.name(), char::is_ascii_uppercase);
        say(findings, ok, || format!("{}: not {prefix}UPPER_SNAKE_CASE", value.full_name()));
    }
}

fn check_service(service: &ServiceDescriptor, findings: &mut Findings) {
    let ok = is_pascal(service.name()) && service.name().ends_with("Service");
    say(findings, ok, || format!("{}: not PascalCaseService", service.full_name()));
    for method in service.methods() {
        let name = method.name();
        say(findings, is_pascal(name), || format!("{}: not PascalCase", method.full_name()));
        for (message, suffix) in [(method.input(), "Request"), (method.output(), "Response")] {
            let ok = message.name() == format!("{name}{suffix}");
            say(findings, ok, || format!("{}: {} is not {name}{suffix}", method.full_name(), message.name()));
        }
    }
}

/// Files a file needs: those that define what its fields, methods and options name.
fn needs(file: &FileDescriptor) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    for field in messages(file).iter().flat_map(|message| message.fields().collect::<Vec<_>>()) {
        // The value of a map may be defined elsewhere; its entry never is.
        let kind = match field.kind() {
            Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
            other => other,
        };
        match kind {
            Kind::Message(message) => needed.insert(message.parent_file().name().to_owned()),
            Kind::Enum(kind) => needed.insert(kind.parent_file().name().to_owned()),
            _ => false,
        };
    }
    for method in file.services().flat_map(|service| service.methods().collect::<Vec<_>>()) {
        needed.extend([method.input(), method.output()].map(|message| message.parent_file().name().to_owned()));
        needed.extend(method.options().extensions().map(|(option, _)| option.parent_file().name().to_owned()));
    }
    needed.extend(file.extensions().map(|option| option.containing_message().parent_file().name().to_owned()));
    needed
}

#[test]
fn names_follow_the_standard() {
    let mut findings = Findings::new();
    for file in contract() {
        check_file(&file, &mut findings);
        messages(&file).iter().for_each(|message| check_message(message, &mut findings));
        enums(&file).iter().for_each(|kind| check_enum(kind, &mut findings));
        file.services().for_each(|service| check_service(&service, &mut findings));
    }
    assert_eq!(findings, Findings::new());
}

#[test]
fn no_request_or_response_serves_two_methods() {
    let methods = contract()
        .into_iter()
        .flat_map(|file| file.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect::<Vec<_>>());
    let mut seen = BTreeSet::new();
    for message in methods.flat_map(|method| [method.input(), method.output()]) {
        assert!(seen.insert(message.full_name().to_owned()), "{} serves two methods", message.full_name());
    }
}

#[test]
fn no_import_is_idle() {
    for file in contract() {
        let needed = needs(&file);
        for import in &file.file_descriptor_proto().dependency {
            assert!(needed.contains(import), "{} imports {import} for nothing", file.name());
        }
    }
}

/// Path in the descriptor and name of everything in a file that a reader may ask about.
fn elements(file: &FileDescriptor) -> Vec<(Vec<i32>, String)> {
    let mut found = Vec::new();
    for message in messages(file) {
        found.push((message.path().to_vec(), message.full_name().to_owned()));
        found.extend(message.fields().map(|field| (field.path().to_vec(), field.full_name().to_owned())));
        let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect::<Vec<_>>();
        found.extend(oneofs.iter().map(|oneof| (oneof.path().to_vec(), oneof.full_name().to_owned())));
    }
    for kind in enums(file) {
        found.push((kind.path().to_vec(), kind.full_name().to_owned()));
        // What "unspecified" means is the same everywhere: the message is refused.
        let values = kind.values().filter(|value| value.number() != 0).collect::<Vec<_>>();
        found.extend(values.iter().map(|value| (value.path().to_vec(), value.full_name().to_owned())));
    }
    for service in file.services() {
        found.push((service.path().to_vec(), service.full_name().to_owned()));
        found.extend(service.methods().map(|method| (method.path().to_vec(), method.full_name().to_owned())));
    }
    found
}

#[test]
fn everything_is_commented() {
    for file in contract() {
        let proto = file.file_descriptor_proto();
        let info = proto.source_code_info.as_ref().expect("the build script keeps comments");
        let commented = info.location.iter().filter(|l| !l.leading_comments().trim().is_empty());
        let commented: BTreeSet<_> = commented.map(|location| location.path.clone()).collect();
        for (path, name) in elements(&file) {
            assert!(commented.contains(&path), "{name} has no comment");
        }
    }
}

#[test]
fn every_method_has_a_policy_row_and_every_row_a_method() {
    let methods: BTreeSet<String> = contract()
        .iter()
        .flat_map(|file| file.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect::<Vec<_>>())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    for method in &methods {
        assert!(policy::lookup(method).is_some(), "{method} has no row");
    }
    let rows: BTreeSet<String> = policy::POLICY.iter().map(|row| row.path.to_owned()).collect();
    assert_eq!(rows, methods);
}
