// SPDX-License-Identifier: Apache-2.0
//! Results on stdout: tables for people; JSON, YAML and names for programs.
//!
//! JSON and YAML carry `apiVersion` and `kind`, and members are only ever added to them. Tables may change.

pub(crate) mod event;
pub(crate) mod facts;
pub(crate) mod job;
pub(crate) mod machine;
pub(crate) mod node;
pub(crate) mod node_sheet;
pub(crate) mod operator;
pub(crate) mod package;
pub(crate) mod run;
pub(crate) mod token;

use std::io::{self, Write};

use clap::ValueEnum;
use serde::Serialize;
use windlass_types::escape::is_harmless;
use windlass_types::time::UnixMillis;

use super::table::{Cell, Table};
use super::yaml::Yaml;

/// Version of every JSON and YAML document.
const API_VERSION: &str = "windlass/v1";

/// How a list or thing is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// For people with a wide screen
    Wide,
    /// For programs
    Json,
    /// For programs and people
    Yaml,
    /// Names only, one per line
    Name,
}

/// How the result of an action is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ResultFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Something that is listed.
pub(crate) trait Listed: Serialize {
    /// What it is called in JSON; a list of them is a `KIND` with `List` after it.
    const KIND: &'static str;

    /// What `-o name` prints.
    fn name(&self) -> String;

    /// Titles of the columns.
    fn header(wide: bool) -> Vec<&'static str>;

    /// One cell per column.
    fn cells(&self, wide: bool, now: UnixMillis) -> Vec<Cell>;
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListDocument<'a, T> {
    api_version: &'static str,
    kind: String,
    items: &'a [T],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, T> {
    api_version: &'static str,
    kind: &'static str,
    #[serde(flatten)]
    item: &'a T,
}

/// Writes a list.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn list<T: Listed>(
    out: &mut dyn Write,
    items: &[T],
    format: Format,
    colour: bool,
    now: UnixMillis,
) -> io::Result<()> {
    let document = ListDocument { api_version: API_VERSION, kind: format!("{}List", T::KIND), items };
    match format {
        Format::Json => json(out, &document),
        Format::Yaml => yaml(out, &document),
        Format::Name => items.iter().try_for_each(|item| writeln!(out, "{}", item.name())),
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let mut table = Table::new(T::header(wide));
            items.iter().for_each(|item| table.row(item.cells(wide, now)));
            table.write(out, colour, "")
        }
    }
}

/// Writes one thing as JSON.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn json_document<T: Serialize>(out: &mut dyn Write, kind: &'static str, item: &T) -> io::Result<()> {
    json(out, &Document { api_version: API_VERSION, kind, item })
}

/// Writes one thing as YAML.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn yaml_document<T: Serialize>(out: &mut dyn Write, kind: &'static str, item: &T) -> io::Result<()> {
    yaml(out, &Document { api_version: API_VERSION, kind, item })
}

/// Writes one thing as one line of JSON.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn json_line<T: Serialize>(out: &mut dyn Write, kind: &'static str, item: &T) -> io::Result<()> {
    writeln!(out, "{}", harmless(&serde_json::to_string(&Document { api_version: API_VERSION, kind, item })?))
}

fn json(out: &mut dyn Write, document: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", harmless(&serde_json::to_string_pretty(document)?))
}

/// The same JSON with every character that could do something to a terminal as `\uXXXX`. serde_json does that for
/// the control characters of ASCII only; all others stand in strings, where JSON knows this form too.
fn harmless(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || is_harmless(c) {
            text.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
        }
    }
    text
}

fn yaml(out: &mut dyn Write, document: &impl Serialize) -> io::Result<()> {
    write!(out, "{}", Yaml(&serde_json::to_value(document)?))
}

/// A moment for programs: RFC 3339 in UTC.
pub(crate) fn utc(at: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}

/// A moment for programs, or nothing when it never was.
pub(crate) fn utc_unless_never(at: UnixMillis) -> Option<String> {
    (at.0 != 0).then(|| utc(at))
}

/// A moment for people: RFC 3339 with the offset of this machine, to the second.
pub(crate) fn local(at: UnixMillis) -> String {
    local_in(at, jiff::tz::TimeZone::system())
}

/// The same, somewhere else.
pub(crate) fn local_in(at: UnixMillis, zone: jiff::tz::TimeZone) -> String {
    let zoned = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_zoned(zone);
    zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

/// Bytes for people: `512 B`, `50.0 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = bytes.ilog2() / 10;
    let tenths = (u128::from(bytes) * 10) >> (power * 10);
    let unit = UNITS[power as usize - 1];
    if tenths.is_multiple_of(10) {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        let sizes = [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (53_687_091_200, "50 GiB")];
        for (bytes, text) in sizes {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn moments_for_programs_are_utc() {
        assert_eq!(utc(UnixMillis(1_795_373_541_000)), "2026-11-22T18:52:21Z");
        assert_eq!(utc_unless_never(UnixMillis(0)), None);
    }
}
