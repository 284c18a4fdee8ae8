// SPDX-License-Identifier: Apache-2.0
//! Writes JSON values as YAML (1.2) that any reader takes back to the same value. Output only: nothing here parses.

use std::fmt::{self, Display, Write as _};

use serde_json::Value;

/// Displays a value as a YAML document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Yaml<'a>(pub &'a Value);

impl Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Object(_) | Value::Array(_) if !is_empty(self.0) => block(f, self.0, 0),
            scalar => {
                inline(f, scalar)?;
                f.write_char('\n')
            }
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Everything that is not a filled object or array fits on the line of its key.
fn is_inline(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_)) || is_empty(value)
}

fn block(f: &mut fmt::Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    match value {
        Value::Object(members) => members.iter().enumerate().try_for_each(|(index, (key, value))| {
            // The first member of an object inside a list stands on the line of the dash.
            if index > 0 || depth == 0 {
                indent(f, depth)?;
            }
            member(f, key, value, depth)
        }),
        Value::Array(items) => items.iter().enumerate().try_for_each(|(index, value)| {
            if index > 0 || depth == 0 {
                indent(f, depth)?;
            }
            f.write_str("- ")?;
            nested(f, value, depth + 1)
        }),
        scalar => inline(f, scalar),
    }
}

fn member(f: &mut fmt::Formatter<'_>, key: &str, value: &Value, depth: usize) -> fmt::Result {
    text(f, key)?;
    f.write_char(':')?;
    if is_inline(value) {
        f.write_char(' ')?;
        inline(f, value)?;
        return f.write_char('\n');
    }
    f.write_char('\n')?;
    indent(f, depth + 1)?;
    block(f, value, depth + 1)
}

fn nested(f: &mut fmt::Formatter<'_>, value: &Value, depth: usize) -> fmt::Result {
    if is_inline(value) {
        inline(f, value)?;
        return f.write_char('\n');
    }
    block(f, value, depth)
}

fn indent(f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
    (0..depth).try_for_each(|_| f.write_str("  "))
}

fn inline(f: &mut fmt::Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => f.write_str("null"),
        Value::Bool(flag) => write!(f, "{flag}"),
        Value::Number(number) => write!(f, "{number}"),
        Value::String(string) => text(f, string),
        Value::Array(_) => f.write_str("[]"),
        Value::Object(_) => f.write_str("{}"),
    }
}

/// Plain when no reader could take it for anything else, otherwise double-quoted as in JSON, which is valid YAML.
fn text(f: &mut fmt::Formatter<'_>, string: &str) -> fmt::Result {
    if is_plain(string) {
        return f.write_str(string);
    }
    f.write_char('"')?;
    for c in string.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            // Marks and overrides that change how their neighbours look are neither.
            c if c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric() => f.write_char(c)?,
            c if u32::from(c) <= 0xffff => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "\\U{:08x}", u32::from(c))?,
        }
    }
    f.write_char('"')
}

fn is_plain(string: &str) -> bool {
    let lower = string.to_ascii_lowercase();
    let is_word = matches!(lower.as_str(), "true" | "false" | "yes" | "no" | "on" | "off" | "null" | "y" | "n");
    let starts_well = string.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    starts_well && !is_word && string.chars().all(|c| c.is_ascii_alphanumeric() || "-_./+@".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_nested_values() {
        let value = serde_json::json!({
            "kind": "NodeList",
            "items": [
                {"name": "node1", "labels": {}, "disks": [{"name": "vda", "mounts": ["/", "/boot"]}], "load": 0.5},
                "plain",
                [1, [2, 3]],
            ],
            "none": null,
        });
        let expected = "\
items:
  - disks:
      - mounts:
          - /
          - /boot
        name: vda
    labels: {}
    load: 0.5
    name: node1
  - plain
  - - 1
    - - 2
      - 3
kind: NodeList
none: null
";
        assert_eq!(Yaml(&value).to_string(), expected);
    }

    #[test]
    fn quotes_what_a_reader_could_misread() {
        for string in ["", "yes", "No", "null", "1.5", "~", "a: b", "- a", "#x", "a ", "x\ny", "\u{1b}[31m", "a,b", "é"]
        {
            let text = Yaml(&Value::String(string.to_owned())).to_string();
            assert!(text.starts_with('"') && text.ends_with("\"\n") && text.lines().count() == 1, "{text}");
            assert!(!text.contains('\u{1b}'), "{text}");
        }
        assert_eq!(Yaml(&Value::String("5.14.0-503".into())).to_string(), "\"5.14.0-503\"\n");
        assert_eq!(Yaml(&Value::String("/dev/vda".into())).to_string(), "/dev/vda\n");
    }

    #[test]
    fn empty_documents_are_documents() {
        assert_eq!(Yaml(&serde_json::json!([])).to_string(), "[]\n");
        assert_eq!(Yaml(&serde_json::json!({})).to_string(), "{}\n");
    }

    proptest::proptest! {
        /// JSON strings are YAML double-quoted strings, so what is quoted without `\U` must read back as JSON.
        #[test]
        fn quoted_text_reads_back(string in "[\\x00-\\x7f\u{80}-\u{2fff}]{0,40}") {
            let text = Yaml(&Value::String(string.clone())).to_string();
            let back = if text.starts_with('"') {
                serde_json::from_str::<String>(text.trim_end()).expect("JSON")
            } else {
                text.trim_end().to_owned()
            };
            proptest::prop_assert_eq!(back, string);
        }
    }
}
