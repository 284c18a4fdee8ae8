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

/// A word, or a list of packages.
pub(super) fn update(_: &mut SchemaGenerator) -> Schema {
    let names = json_schema!({ "type": "array", "items": { "type": "string" } });
    json_schema!({ "anyOf": [{ "enum": ["all", "security"] }, names] })
}

/// The same, or nothing.
pub(super) fn update_or_null(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [update(generator), { "type": "null" }] })
}

pub(super) fn channel(_: &mut SchemaGenerator) -> Schema {
    let other = json_schema!({
        "type": "object",
        "properties": { "package": { "type": "string" } },
        "required": ["package"],
        "additionalProperties": false,
    });
    json_schema!({ "anyOf": [{ "enum": ["distribution", "elrepo-lt", "elrepo-ml"] }, other] })
}

/// A window, or several.
pub(super) fn window(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

pub(super) fn on_failure(_: &mut SchemaGenerator) -> Schema {
    let most = json_schema!({
        "type": "object",
        "properties": { "continue": { "type": "integer", "minimum": 0 } },
        "required": ["continue"],
        "additionalProperties": false,
    });
    json_schema!({ "anyOf": [{ "enum": ["stop", "pause"] }, most] })
}

pub(super) fn unreachable(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["wait", "skip", "fail"] })
}

pub(super) fn reboot(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["never", "if-needed", "always"] })
}

pub(super) fn selinux(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["enforcing", "permissive"] })
}

/// Editors take on and off for words or for yes and no.
pub(super) fn on(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["on", true] })
}

pub(super) fn off(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "enum": ["off", false] })
}

pub(super) fn services(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "additionalProperties": { "enum": ["on", "off", true, false] } })
}

pub(super) fn sysctls(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": { "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "integer" }] },
    })
}

pub(super) fn volumes(generator: &mut SchemaGenerator) -> Schema {
    let volume = generator.subschema_for::<Volume>();
    json_schema!({
        "type": "object",
        "propertyNames": { "pattern": "^[a-z0-9][a-z0-9-]{0,31}$" },
        "additionalProperties": volume,
    })
}
