// SPDX-License-Identifier: Apache-2.0
//! How answers of services are read that say `null` where others say nothing, or text where others say an object.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What stands there, or the default for `null`.
pub(super) fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The id of what is referred to; services write an empty text where there is nothing.
pub(super) fn reference<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.get("id").and_then(Value::as_str).map(ToOwned::to_owned))
}
