// SPDX-License-Identifier: Apache-2.0
//! Lines of 80 columns, and lists that do not run away.

use std::fmt;

use windlass_types::escape::Escaped;

/// Lines are broken before this column.
const WIDTH: usize = 80;

/// Where the particulars of a step begin.
const INDENT: usize = 6;

/// Names of a list that are shown.
const SHOWN: usize = 12;

/// The first names of a list, and how many more there are.
pub(super) fn named<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let all: Vec<_> = names.into_iter().collect();
    let shown = all.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match all.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// A line of its own, without breaks at spaces: of a difference every space counts. Cut where the screen ends.
pub(super) fn verbatim(f: &mut fmt::Formatter<'_>, indent: usize, text: &str) -> fmt::Result {
    let text = Escaped(text).to_string();
    let room = WIDTH - indent;
    if text.chars().count() <= room {
        return writeln!(f, "{:indent$}{text}", "");
    }
    let cut: String = text.chars().take(room - 3).collect();
    writeln!(f, "{:indent$}{cut}...", "")
}

pub(super) fn wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    wrapped_at(f, INDENT, text)
}

/// One line of text for people, escaped and indented: broken at spaces before it is wider than 80 columns; continued lines
/// stand two further in.
///
/// # Errors
/// If `f` does not take it.
pub fn wrapped_at(f: &mut impl fmt::Write, indent: usize, text: &str) -> fmt::Result {
    let text = Escaped(text).to_string();
    let mut column = indent;
    write!(f, "{:indent$}", "")?;
    for (index, word) in text.split(' ').enumerate() {
        let width = word.chars().count();
        if index > 0 && column + 1 + width > WIDTH {
            let further = indent + 2;
            write!(f, "\n{:further$}{word}", "")?;
            column = further + width;
        } else {
            let space = if index > 0 { " " } else { "" };
            write!(f, "{space}{word}")?;
            column += space.len() + width;
        }
    }
    f.write_char('\n')
}
