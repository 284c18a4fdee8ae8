// SPDX-License-Identifier: Apache-2.0
//! Takes out of a support bundle what could be a secret. What is taken out is marked, so that nobody looks for it.

use serde_json::Value;

const MARK: &str = "[redacted]";

/// Words after which a value follows that nobody else should see.
const TELLING: [&str; 7] = ["password", "passwd", "secret", "token", "apikey", "api-key", "credential"];

/// Redacts every text in a document.
pub(crate) fn redact(value: &mut Value) {
    match value {
        Value::String(text) => *text = redacted(text),
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::Object(members) => members.values_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A job's summary without the arguments of its program, which may be passwords: `exec mysql [redacted]`.
pub(crate) fn without_arguments(summary: &str) -> String {
    let mut words = summary.split(' ');
    let kept: Vec<_> = words.by_ref().take(2).collect();
    let kept = kept.join(" ");
    if summary.starts_with("exec ") && words.next().is_some() { format!("{kept} {MARK}") } else { summary.to_owned() }
}

fn redacted(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") {
        return MARK.to_owned();
    }
    let mut hide_next = false;
    let words = text.split(' ').map(|word| {
        if std::mem::take(&mut hide_next) && !word.is_empty() {
            return MARK.to_owned();
        }
        let lower = word.to_ascii_lowercase();
        if !TELLING.iter().any(|telling| lower.contains(telling)) {
            return word.to_owned();
        }
        // `--password=x` and `password: x` hide what follows; `--password x` hides the next word.
        if let Some((name, value)) = word.split_once(['=', ':']) {
            hide_next = value.is_empty();
            return if value.is_empty() { word.to_owned() } else { format!("{name}={MARK}") };
        }
        hide_next = word.starts_with('-');
        word.to_owned()
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_after_telling_words_are_hidden() {
        for (text, expected) in [
            ("exec mysql --password=x7 -e q", "exec mysql --password=[redacted] -e q"),
            ("exec mysql --password x7 -e q", "exec mysql --password [redacted] -e q"),
            ("PASSWORD: x7", "PASSWORD: [redacted]"),
            ("OS_PASSWORD=x7", "OS_PASSWORD=[redacted]"),
            ("made a token for node1", "made a token for node1"),
            ("-----BEGIN PRIVATE KEY-----\nx7", "[redacted]"),
        ] {
            assert_eq!(redacted(text), expected);
        }
    }

    #[test]
    fn no_canary_survives_anywhere_in_a_document() {
        let mut value = serde_json::json!({"a": [{"b": "--token=canary"}, "x"], "c": {"d": "secret: canary"}});
        redact(&mut value);
        assert!(!value.to_string().contains("canary"), "{value}");
    }

    #[test]
    fn arguments_of_programs_are_left_out() {
        assert_eq!(without_arguments("exec mysql -pcanary"), "exec mysql [redacted]");
        assert_eq!(without_arguments("exec uptime"), "exec uptime");
        assert_eq!(without_arguments("fetch /etc/motd"), "fetch /etc/motd");
    }
}
