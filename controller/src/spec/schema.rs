// SPDX-License-Identifier: Apache-2.0
//! The JSON Schema of `cluster.yaml`, for editors. Made from the same types as the reader, so that they cannot part.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use windlass_types::machine::MachineRole;

use super::document::{Document, Volume};

/// The schema.
///
/// # Panics
/// Never: a schema is JSON.
#[must_use]
pub fn schema() -> Value {
    let schema = SchemaGenerator::default().into_root_schema_for::<Document>();
    serde_json::to_value(schema).expect("a schema is JSON")
}

pub(super) fn roles(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = MachineRole::ALL.iter().map(|role| role.as_str()).collect();
    json_schema!({ "type": "array", "items": { "enum": names } })
}

pub(super) fn accel(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["auto", "kvm", "emulation"] })
}

pub(super) fn protocol(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["tcp", "udp"] })
}

pub(super) fn volumes(generator: &mut SchemaGenerator) -> Schema {
    let volume = generator.subschema_for::<Volume>();
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": "^[a-z0-9][a-z0-9-]{0,31}$" },
        "additionalProperties": volume,
    })
}
