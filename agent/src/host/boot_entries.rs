// SPDX-License-Identifier: Apache-2.0
//! Boot loader entries (the files of the Boot Loader Specification in /boot/loader/entries) and GRUB's environment block.

use std::cmp::Ordering;
use std::path::Path;

use super::Observe;
use super::grubby::release_of;

/// Where the entries are.
pub const DIRECTORY: &str = "/boot/loader/entries";

/// One entry that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// File name without `.conf`.
    pub id: String,
    /// For people.
    pub title: String,
    /// Kernel release, if it can be told.
    pub release: Option<String>,
    /// What the kernel is started with. A variable of the environment block may stand for a part of it.
    pub options: String,
}

/// Reads one entry.
#[must_use]
pub fn parse_entry(file_name: &str, text: &str) -> Entry {
    let value = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.trim().split_once(char::is_whitespace));
        pairs.find(|(name, _)| *name == key).map(|(_, value)| value.trim().to_owned())
    };
    Entry {
        id: file_name.strip_suffix(".conf").unwrap_or(file_name).to_owned(),
        title: value("title").unwrap_or_default(),
        release: value("linux").and_then(|path| release_of(&path)).or_else(|| value("version")),
        options: value("options").unwrap_or_default(),
    }
}

/// A variable of GRUB's environment block.
#[must_use]
pub fn grubenv_value<'a>(grubenv: &'a str, variable: &str) -> Option<&'a str> {
    let mut pairs = grubenv.lines().filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| *name == variable).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

/// The entry GRUB starts: the saved one by id, title or number; without one, the first of its order, newest first.
/// `None` if the saved one does not exist, because then it is not ours to guess what the firmware shows.
#[must_use]
pub fn default_entry<'a>(entries: &'a [Entry], saved: Option<&str>) -> Option<&'a Entry> {
    let mut ordered: Vec<&Entry> = entries.iter().collect();
    ordered.sort_by(|a, b| compare_versions(&b.id, &a.id));
    let Some(saved) = saved else { return ordered.first().copied() };
    entry_named(&ordered, saved)
}

/// An entry by id, title or number in GRUB's order.
fn entry_named<'a>(ordered: &[&'a Entry], name: &str) -> Option<&'a Entry> {
    let wanted = name.strip_suffix(".conf").unwrap_or(name);
    let named = ordered.iter().find(|entry| entry.id == wanted || entry.title == name);
    named.or_else(|| ordered.get(name.parse::<usize>().ok()?)).copied()
}

/// Every entry there is.
#[must_use]
pub fn read_all(host: &dyn Observe) -> Vec<Entry> {
    let directory = Path::new(DIRECTORY);
    let names = host.list(directory).unwrap_or_default();
    let entry = |name: &String| Some(parse_entry(name, &host.read(&directory.join(name)).ok()?));
    names.iter().filter(|name| name.ends_with(".conf")).filter_map(entry).collect()
}

/// Compares runs of digits as numbers and runs of letters as text, as GRUB orders entries.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (a, b) = (segments(a), segments(b));
    let differing = a.iter().zip(&b).map(|(a, b)| compare_segments(a, b)).find(|order| order.is_ne());
    differing.unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn segments(text: &str) -> Vec<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric())
        .flat_map(|word| {
            word.as_bytes()
                .chunk_by(|x, y| x.is_ascii_digit() == y.is_ascii_digit())
                .filter_map(|run| std::str::from_utf8(run).ok())
        })
        .collect()
}

fn compare_segments(a: &str, b: &str) -> Ordering {
    let is_number = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    match (is_number(a), is_number(b)) {
        (true, true) => {
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        }
        (a_is_number, b_is_number) => a_is_number.cmp(&b_is_number).then_with(|| a.cmp(b)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    const NEW: &str = "4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-5.14.0-503.11.1.el9_5.x86_64";

    fn el9() -> Vec<Entry> {
        [
            (
                "4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-0-rescue.conf",
                include_str!("fixtures/el9-bls/4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-0-rescue.conf"),
            ),
            (
                "4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-5.14.0-427.13.1.el9_4.x86_64.conf",
                include_str!("fixtures/el9-bls/4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-5.14.0-427.13.1.el9_4.x86_64.conf"),
            ),
            (
                "4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-5.14.0-503.11.1.el9_5.x86_64.conf",
                include_str!("fixtures/el9-bls/4f2a9c1e7b3d4e5f8a6b0c1d2e3f4a5b-5.14.0-503.11.1.el9_5.x86_64.conf"),
            ),
        ]
        .map(|(name, text)| parse_entry(name, text))
        .to_vec()
    }

    #[test]
    fn the_saved_entry_is_found_by_id_title_or_number() {
        let entries = el9();
        let saved = grubenv_value(include_str!("fixtures/el9-grubenv"), "saved_entry");
        let newest = "Rocky Linux (5.14.0-503.11.1.el9_5.x86_64) 9.4 (Blue Onyx)";
        for (saved, release) in [
            (saved, Some("5.14.0-427.13.1.el9_4.x86_64")),
            (None, Some("5.14.0-503.11.1.el9_5.x86_64")),
            (Some(NEW), Some("5.14.0-503.11.1.el9_5.x86_64")),
            (Some(newest), Some("5.14.0-503.11.1.el9_5.x86_64")),
            (Some("1"), Some("5.14.0-427.13.1.el9_4.x86_64")),
            (Some("7"), None),
            (Some("gone"), None),
        ] {
            let found = default_entry(&entries, saved).and_then(|entry| entry.release.as_deref());
            assert_eq!(found, release, "{saved:?}");
        }
    }

    #[test]
    fn versions_compare_by_number() {
        for (a, b) in [("x-5.9", "x-5.14"), ("x-0-rescue", "x-5.14"), ("x-5.14", "x-5.14.1"), ("x-5.el9", "x-5.1")] {
            assert_eq!(compare_versions(a, b), Ordering::Less, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic_and_order_is_symmetric(a in any::<String>(), b in any::<String>()) {
            let entries = [parse_entry(&a, &b), parse_entry(&b, &a)];
            let _ = default_entry(&entries, grubenv_value(&a, &b));
            prop_assert_eq!(compare_versions(&a, &b), compare_versions(&b, &a).reverse());
        }
    }
}
