// SPDX-License-Identifier: Apache-2.0
//! Takes secrets and bulk out of a request before it is recorded.

use serde_json::{Map, Value};

use super::record::shorten;

/// A member whose name contains one of these as a word carries a secret, or bytes that say nothing to a reader.
const SECRET: [&str; 15] = [
    "token",
    "secret",
    "key",
    "password",
    "passphrase",
    "proof",
    "csr",
    "certificate",
    "der",
    "pem",
    "data",
    "stdin",
    "stdout",
    "stderr",
    "credential",
];

/// What stands in their place.
const REMOVED: &str = "(removed)";

/// Longest string that is kept, characters. An argument of a program is one string.
const LONGEST: usize = 256;

/// The same value without secrets, and with long strings shortened.
#[must_use]
pub fn redact(arguments: Value) -> Value {
    match arguments {
        Value::Object(members) => Value::Object(members.into_iter().map(member).collect::<Map<_, _>>()),
        Value::Array(values) => Value::Array(values.into_iter().map(redact).collect()),
        Value::String(mut text) => {
            shorten(&mut text, LONGEST);
            Value::String(text)
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    }
}

fn member((name, value): (String, Value)) -> (String, Value) {
    let value = if is_secret(&name) { Value::String(REMOVED.to_owned()) } else { redact(value) };
    (name, value)
}

/// `join_token`, `joinToken`, `Join-Tokens` and `TOKEN` are all the same.
fn is_secret(name: &str) -> bool {
    let mut words = String::with_capacity(name.len() + 4);
    let mut follows_lower_case = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && follows_lower_case {
            words.push('_');
        }
        follows_lower_case = c.is_ascii_lowercase() || c.is_ascii_digit();
        words.push(c.to_ascii_lowercase());
    }
    words
        .split(|c: char| !c.is_ascii_alphanumeric())
        .any(|word| SECRET.contains(&word) || word.strip_suffix('s').is_some_and(|singular| SECRET.contains(&singular)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_secret_passes_however_it_is_spelled_or_nested() {
        let names = [
            "token",
            "TOKEN",
            "joinToken",
            "join_tokens",
            "private-key",
            "password",
            "client_secret",
            "proof",
            "csr_der",
            "certificate_der",
            "ca_der",
            "data",
            "apiKey",
        ];
        for name in names {
            let printed = redact(json!({ "list": [{ name: ["canary"], "node": "node1" }] })).to_string();
            assert!(!printed.contains("canary") && printed.contains("node1"), "{printed}");
        }
    }

    #[test]
    fn what_an_auditor_needs_stays() {
        let arguments =
            json!({ "node": "node1", "ttl_seconds": 1800, "argv": ["w", "-h"], "dry_run": true, "monkey": 1 });
        assert_eq!(redact(arguments.clone()), arguments);
    }

    #[test]
    fn long_strings_are_shortened_on_a_character() {
        let short = redact(json!("ä".repeat(300)));
        assert_eq!(short, json!(format!("{}… (88 bytes more)", "ä".repeat(256))));
    }
}
