// SPDX-License-Identifier: Apache-2.0
//! Text that a node, a program or a person elsewhere wrote, made safe for a terminal, a journal or a log line.

use std::fmt;

/// Displays text with control characters, escape sequences and bidirectional overrides written out.
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .chars()
            .try_for_each(|c| if is_harmless(c) { write!(f, "{c}") } else { write!(f, "{}", c.escape_unicode()) })
    }
}

/// Whether a character changes nothing but its own cell.
#[must_use]
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_out_what_would_move_the_cursor_or_turn_the_line() {
        let hostile = "a\u{1b}[2Jb\r\nc\u{202e}d\u{9b}e";
        assert_eq!(Escaped(hostile).to_string(), r"a\u{1b}[2Jb\u{d}\u{a}c\u{202e}d\u{9b}e");
    }

    #[test]
    fn leaves_ordinary_text_alone() {
        assert_eq!(Escaped("größe 5 µs, 日本").to_string(), "größe 5 µs, 日本");
    }
}
