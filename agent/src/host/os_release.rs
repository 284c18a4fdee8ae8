// SPDX-License-Identifier: Apache-2.0
//! os-release(5).

/// The files, the first that exists counts.
pub const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Three of the keys; empty if absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OsRelease {
    /// `ID`; `linux` if absent, as the manual says.
    pub id: String,
    /// `VERSION_ID`.
    pub version_id: String,
    /// `PRETTY_NAME`; `Linux` if absent.
    pub pretty_name: String,
}

/// Reads assignments as a shell would; later ones win, lines that are none are skipped.
#[must_use]
pub fn parse(text: &str) -> OsRelease {
    let mut found = OsRelease { id: "linux".into(), version_id: String::new(), pretty_name: "Linux".into() };
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    for (key, value) in lines.filter_map(|line| line.split_once('=')) {
        match key {
            "ID" => found.id = unquote(value),
            "VERSION_ID" => found.version_id = unquote(value),
            "PRETTY_NAME" => found.pretty_name = unquote(value),
            _ => {}
        }
    }
    found
}

/// Takes off the shell's quotes, and its backslashes except between single quotes.
fn unquote(value: &str) -> String {
    let inside = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    if let Some(literal) = inside('\'') {
        return literal.to_owned();
    }
    let mut plain = String::new();
    let mut characters = inside('"').unwrap_or(value).chars();
    while let Some(c) = characters.next() {
        plain.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn reads_the_release_of_each_distribution() {
        for (text, expected) in [
            (include_str!("fixtures/debian12-os-release"), ["debian", "12", "Debian GNU/Linux 12 (bookworm)"]),
            (include_str!("fixtures/el7-os-release"), ["centos", "7", "CentOS Linux 7 (Core)"]),
            (include_str!("fixtures/el9-os-release"), ["rocky", "9.4", "Rocky Linux 9.4 (Blue Onyx)"]),
            ("", ["linux", "", "Linux"]),
            ("# ID=x\nID=a\nID='b\\c'\nPRETTY_NAME=\"The \\\"Best\\\"\"\nnonsense", ["b\\c", "", "The \"Best\""]),
        ] {
            let found = parse(text);
            assert_eq!([&*found.id, &*found.version_id, &*found.pretty_name], expected);
        }
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = parse(&text);
            let _ = parse(&format!("ID={text}"));
        }
    }
}
