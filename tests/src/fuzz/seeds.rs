// SPDX-License-Identifier: Apache-2.0
//! Well-formed inputs, from which mutation goes on.

use std::path::PathBuf;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use windlass_proto::refusal::{Reason, Refusal};

/// Deep enough for every message of the contract, which has no recursive one.
const MOST_DEEP: usize = 6;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/src/host/fixtures");

/// One encoded message of every kind in the contract, with every field set.
#[must_use]
pub fn messages() -> Vec<Vec<u8>> {
    let pool = DescriptorPool::decode(windlass_proto::DESCRIPTOR).expect("the build script wrote a descriptor set");
    let ours = pool.all_messages().filter(|m| m.package_name() == "windlass.v1" && !m.is_map_entry());
    ours.map(|message| filled(&message, 0).encode_to_vec()).collect()
}

/// The example configuration of the controller with every key in force.
#[must_use]
pub fn controller_config() -> Vec<Vec<u8>> {
    vec![crate::example::in_force("controller.toml").expect("the example is in the tree").into_bytes()]
}

/// The example of the agent's configuration.
///
/// # Panics
/// If it is not in the tree.
#[must_use]
pub fn agent_config() -> Vec<Vec<u8>> {
    vec![crate::example::in_force("agent.toml").expect("the example is in the tree").into_bytes()]
}

/// Specs, a good one and some that are not.
#[must_use]
pub fn specs() -> Vec<Vec<u8>> {
    let good = "apiVersion: windlass/v1\nkind: Cluster\nmetadata: {name: k8s1}\nspec:\n  nodes:\n    \
                - {name: node1, address: 10.0.0.1}\n    - name: node2\n      labels: {rack: a}\n";
    let bad = ["a: &a [x, x]\nb: [*a, *a]\n", "<<: {a: b}\n", "- !!binary |\n  aGk=\n", "{{{{", "? a\n: - - b\n"];
    std::iter::once(good).chain(bad).map(|text| text.as_bytes().to_vec()).collect()
}

/// The details of a refusal of each kind.
#[must_use]
pub fn refusals() -> Vec<Vec<u8>> {
    let refusal = |reason: &Reason| Refusal::new(*reason, "no").advise("try again");
    Reason::ALL.iter().map(|reason| tonic::Status::from(refusal(reason)).details().to_vec()).collect()
}

/// A fact of every subject.
#[must_use]
pub fn facts() -> Vec<Vec<u8>> {
    let pool = DescriptorPool::decode(windlass_proto::DESCRIPTOR).expect("the build script wrote a descriptor set");
    let fact = pool.get_message_by_name("windlass.v1.Fact").expect("facts are in the contract");
    let with = |field: FieldDescriptor| {
        let mut message = DynamicMessage::new(fact.clone());
        message.set_field(&field, value(&field, 0));
        message.encode_to_vec()
    };
    fact.fields().map(with).collect()
}

/// What tools printed on real machines.
#[must_use]
pub fn fixtures() -> Vec<Vec<u8>> {
    let (mut found, mut open) = (Vec::new(), vec![PathBuf::from(FIXTURES)]);
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("the fixtures are in the tree").flatten() {
            if entry.path().is_dir() { open.push(entry.path()) } else { found.extend(std::fs::read(entry.path())) }
        }
    }
    found.sort();
    found
}

fn filled(descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    if depth < MOST_DEEP {
        for field in descriptor.fields() {
            message.set_field(&field, value(&field, depth));
        }
    }
    message
}

fn value(field: &FieldDescriptor, depth: usize) -> Value {
    let kind = field.kind();
    match &kind {
        Kind::Message(entry) if field.is_map() => {
            let value = scalar(&entry.map_entry_value_field().kind(), depth);
            Value::Map([(MapKey::String("key".to_owned()), value)].into())
        }
        _ if field.is_list() => Value::List(vec![scalar(&kind, depth), scalar(&kind, depth)]),
        _ => scalar(&kind, depth),
    }
}

fn scalar(kind: &Kind, depth: usize) -> Value {
    match kind {
        Kind::Message(message) => Value::Message(filled(message, depth + 1)),
        Kind::Enum(_) => Value::EnumNumber(1),
        Kind::String => Value::String("/node1".to_owned()),
        Kind::Bytes => Value::Bytes(vec![7; 32].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Double => Value::F64(1.5),
        Kind::Float => Value::F32(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(-3),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(-3),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(300),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(300),
    }
}
