// SPDX-License-Identifier: Apache-2.0
//! A console of which a cloud keeps only the end, as one stream with positions.
//!
//! What is told each time is the last of what was written. Where it goes on from what was told before is found by what
//! both have; if they have nothing in common, something between is lost, and that is a gap nobody can close.

use crate::provider::{ConsoleFrom, ConsolePiece};

/// A piece has at most so much.
const LARGEST_PIECE_BYTES: usize = 64 << 10;

/// So much of the end of what was told before has to be found again.
const FINGERPRINT_BYTES: usize = 256;

/// What was told of a console so far.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// The end of it.
    kept: Vec<u8>,
    /// The position after its last byte.
    end: u64,
}

impl Screen {
    /// Takes what is told now.
    pub(super) fn told(&mut self, now: &str) {
        let now = now.as_bytes();
        let new = match self.position_after_known(now) {
            Some(known) => &now[known..],
            None => now,
        };
        self.end += new.len() as u64;
        self.kept = now.to_vec();
    }

    /// Up to where `now` has what was told before.
    fn position_after_known(&self, now: &[u8]) -> Option<usize> {
        if now.starts_with(&self.kept) {
            return Some(self.kept.len());
        }
        let mark = &self.kept[self.kept.len().saturating_sub(FINGERPRINT_BYTES)..];
        now.windows(mark.len()).rposition(|window| window == mark).map(|at| at + mark.len())
    }

    /// Reads a piece.
    pub(super) fn piece(&self, from: ConsoleFrom) -> ConsolePiece {
        let start = self.end - self.kept.len() as u64;
        let from = match from {
            ConsoleFrom::Tail(bytes) => self.end.saturating_sub(bytes),
            // A position past the end is one of a console that was there before.
            ConsoleFrom::Position(position) if position > self.end => start,
            ConsoleFrom::Position(position) => position,
        };
        let skipped = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX).min(self.kept.len());
        let data: Vec<u8> = self.kept[skipped..].iter().take(LARGEST_PIECE_BYTES).copied().collect();
        ConsolePiece { next: start + (skipped + data.len()) as u64, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(screen: &Screen, from: u64) -> (String, u64) {
        let piece = screen.piece(ConsoleFrom::Position(from));
        (String::from_utf8(piece.data).expect("text"), piece.next)
    }

    #[test]
    fn what_is_told_again_and_again_is_read_once() {
        let mut screen = Screen::default();
        screen.told("one ");
        let (text, next) = read(&screen, 0);
        assert_eq!(text, "one ");
        screen.told("one two ");
        assert_eq!(read(&screen, next), ("two ".to_owned(), 8));
        screen.told("one two ");
        assert_eq!(read(&screen, 8), (String::new(), 8));
    }

    #[test]
    fn a_console_whose_beginning_is_no_longer_kept_goes_on() {
        let line = |n: usize| format!("line {n} of many that a kernel writes while it boots\n");
        let lines = |from: usize, to: usize| (from..to).map(line).collect::<String>();
        let mut screen = Screen::default();
        screen.told(&lines(0, 30));
        let (_, next) = read(&screen, 0);
        screen.told(&lines(10, 40));
        assert_eq!(read(&screen, next).0, lines(30, 40));
        screen.told("something else altogether");
        let (_, next) = read(&screen, next);
        assert_eq!(read(&screen, next).0, "");
    }

    #[test]
    fn a_tail_and_a_position_of_another_console_give_what_there_is() {
        let mut screen = Screen::default();
        screen.told("0123456789");
        assert_eq!(screen.piece(ConsoleFrom::Tail(3)).data, b"789");
        assert_eq!(read(&screen, 99), ("0123456789".to_owned(), 10));
        let large = "x".repeat(LARGEST_PIECE_BYTES + 1);
        let mut screen = Screen::default();
        screen.told(&large);
        assert_eq!(read(&screen, 0).0.len(), LARGEST_PIECE_BYTES);
    }
}
