// SPDX-License-Identifier: Apache-2.0
//! The order of versions, as rpm has it: rpmvercmp.

use std::cmp::Ordering;

use windlass_types::name::on_node::PackageVersion;

/// Compares epoch, version and release.
#[must_use]
pub fn compare(a: &PackageVersion, b: &PackageVersion) -> Ordering {
    let ((epoch_a, version_a, release_a), (epoch_b, version_b, release_b)) = (parts(a.as_str()), parts(b.as_str()));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| compare_part(version_a, version_b))
        .then_with(|| compare_part(release_a, release_b))
}

fn parts(text: &str) -> (u64, &str, &str) {
    let (epoch, rest) = text.split_once(':').map_or((0, text), |(epoch, rest)| (epoch.parse().unwrap_or(0), rest));
    let (version, release) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, version, release)
}

/// Runs of digits and runs of letters in turn; digits are newer than letters, `~` is older than the end, `^` newer than
/// the end and older than anything else.
fn compare_part(mut a: &str, mut b: &str) -> Ordering {
    let is_separator = |c: char| !c.is_ascii_alphanumeric() && c != '~' && c != '^';
    loop {
        a = a.trim_start_matches(is_separator);
        b = b.trim_start_matches(is_separator);
        match (a.starts_with('~'), b.starts_with('~')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        match (a.starts_with('^'), b.starts_with('^')) {
            (true, true) => {
                (a, b) = (&a[1..], &b[1..]);
                continue;
            }
            (true, false) => return if b.is_empty() { Ordering::Greater } else { Ordering::Less },
            (false, true) => return if a.is_empty() { Ordering::Less } else { Ordering::Greater },
            (false, false) => {}
        }
        if a.is_empty() || b.is_empty() {
            return a.len().min(1).cmp(&b.len().min(1));
        }
        let is_number = a.starts_with(|c: char| c.is_ascii_digit());
        let (run_a, rest_a) = split_run(a, is_number);
        let (run_b, rest_b) = split_run(b, is_number);
        if run_b.is_empty() {
            return if is_number { Ordering::Greater } else { Ordering::Less };
        }
        let order = if is_number { compare_numbers(run_a, run_b) } else { run_a.cmp(run_b) };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

fn split_run(text: &str, is_number: bool) -> (&str, &str) {
    let belongs = |c: char| if is_number { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    fn order(a: &str, b: &str) -> Ordering {
        compare(&PackageVersion::new(a).unwrap(), &PackageVersion::new(b).unwrap())
    }

    #[test]
    fn versions_are_in_the_order_of_rpm() {
        // From rpm's own tests of rpmvercmp.
        for (older, newer) in [
            ("1.0-1", "2.0-1"),
            ("2.0-1", "2.0.1-1"),
            ("5.5p1-1", "5.5p2-1"),
            ("10xyz-1", "10.1xyz-1"),
            ("xyz10-1", "xyz10.1-1"),
            ("1.0~rc1-1", "1.0-1"),
            ("1.0~rc1-1", "1.0~rc2-1"),
            ("1.0-1", "1.0^git1-1"),
            ("1.0^git1-1", "1.01-1"),
            ("1.0-2", "1.0-10"),
            ("9.9-1", "1:0.1-1"),
            ("6.0.rc1-1", "6.0-1"),
        ] {
            // The last is the famous one: without a tilde a candidate is newer.
            let expected = if older == "6.0.rc1-1" { Ordering::Greater } else { Ordering::Less };
            assert_eq!(order(older, newer), expected, "{older} {newer}");
            assert_eq!(order(newer, older), expected.reverse(), "{newer} {older}");
        }
        assert_eq!(order("2_0-1", "2.0-1"), Ordering::Equal);
        assert_eq!(order("0:1.05-1", "1.5-1"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn the_order_is_symmetric(a in "[0-9][a-z0-9.~^_-]{0,12}", b in "[0-9][a-z0-9.~^_-]{0,12}") {
            prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
        }
    }
}
