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

/// Long enough for any sensible path.
const MOST_QUOTED: usize = 200;

/// The beginning of a text from elsewhere, for errors that quote it: escaped, and with its length where it is cut.
#[derive(Debug, Clone, Copy)]
pub struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(MOST_QUOTED) {
            Some((end, _)) => write!(f, "\"{}…\" ({} bytes)", Escaped(&self.0[..end]), self.0.len()),
            None => write!(f, "\"{}\"", Escaped(self.0)),
        }
    }
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

    #[test]
    fn a_long_quotation_is_cut_and_says_how_long_it_was() {
        assert_eq!(Quoted("a\u{1b}b").to_string().matches('\u{1b}').count(), 0);
        let long = "ü".repeat(60_000);
        let text = Quoted(&long).to_string();
        assert!(text.len() < 500 && text.ends_with("…\" (120000 bytes)"), "{text}");
    }
}
