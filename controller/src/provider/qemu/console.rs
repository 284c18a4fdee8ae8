// SPDX-License-Identifier: Apache-2.0
//! What a machine wrote to its serial port: one stream with positions that count from its first byte, of which the newest
//! part is kept.
//!
//! QEMU appends to a file. When that has grown large it is copied aside and emptied, so at most two files are kept. QEMU
//! opened it for appending, so it goes on at the new end. What comes between copying and emptying is lost: nothing, or a
//! few lines.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::arguments::CONSOLE;
use super::record::write_secret;
use crate::provider::{ConsoleFrom, ConsolePiece};

/// A whole boot with cloud-init writes about 100 KiB.
const LARGEST_FILE_BYTES: u64 = 4 << 20;

/// Most that is read at once.
const LARGEST_PIECE_BYTES: u64 = 64 << 10;

const OLDER: &str = "console.log.1";

/// How many bytes of the stream came before the current file.
const BASE: &str = "console.base";

/// Reads a piece.
pub(super) fn read(directory: &Path, from: ConsoleFrom) -> io::Result<ConsolePiece> {
    rotate(directory)?;
    let (older, base) = (length(&directory.join(OLDER))?, base(directory)?);
    let end = end(directory)?;
    let oldest = base.saturating_sub(older);
    let start = match from {
        ConsoleFrom::Tail(bytes) => end.saturating_sub(bytes),
        // A position past the end is one of a console that was there before.
        ConsoleFrom::Position(position) if position > end => oldest,
        ConsoleFrom::Position(position) => position,
    };
    let start = start.max(oldest);
    let (name, offset, most) = match start < base {
        true => (OLDER, start - oldest, base - start),
        false => (CONSOLE, start - base, u64::MAX),
    };
    let mut data = Vec::new();
    if start < end {
        let mut file = File::open(directory.join(name))?;
        file.seek(SeekFrom::Start(offset))?;
        file.take(most.min(LARGEST_PIECE_BYTES)).read_to_end(&mut data)?;
    }
    let next = start + data.len() as u64;
    Ok(ConsolePiece { data, next })
}

/// The position after the last byte.
pub(super) fn end(directory: &Path) -> io::Result<u64> {
    Ok(base(directory)? + length(&directory.join(CONSOLE))?)
}

/// Empties the file if it has grown large.
pub(super) fn rotate(directory: &Path) -> io::Result<()> {
    let current = directory.join(CONSOLE);
    let size = length(&current)?;
    if size <= LARGEST_FILE_BYTES {
        return Ok(());
    }
    let copied = fs::copy(&current, directory.join(OLDER))?;
    let before = base(directory)?;
    OpenOptions::new().write(true).open(&current)?.set_len(0)?;
    write_secret(&directory.join(BASE), (before + copied).to_string().as_bytes())
}

fn length(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn base(directory: &Path) -> io::Result<u64> {
    match fs::read_to_string(directory.join(BASE)) {
        Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    fn write(directory: &Path, bytes: &[u8]) {
        let mut file = OpenOptions::new().append(true).create(true).open(directory.join(CONSOLE)).expect("a file");
        file.write_all(bytes).expect("written");
    }

    fn all(directory: &Path, mut from: ConsoleFrom) -> (Vec<u8>, u64) {
        let mut all = Vec::new();
        loop {
            let piece = read(directory, from).expect("readable");
            if piece.data.is_empty() {
                return (all, piece.next);
            }
            all.extend(&piece.data);
            from = ConsoleFrom::Position(piece.next);
        }
    }

    #[test]
    fn reads_on_from_where_it_was_and_from_the_tail() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        assert_eq!(all(path, ConsoleFrom::Position(0)), (Vec::new(), 0));
        write(path, b"one\n");
        let (first, next) = all(path, ConsoleFrom::Position(0));
        write(path, b"two\n");
        assert_eq!((first.as_slice(), next), (&b"one\n"[..], 4));
        assert_eq!(all(path, ConsoleFrom::Position(next)).0, b"two\n");
        assert_eq!(all(path, ConsoleFrom::Tail(4)).0, b"two\n");
        assert_eq!(all(path, ConsoleFrom::Tail(u64::MAX)).0, b"one\ntwo\n");
    }

    #[test]
    fn a_reader_loses_nothing_when_the_file_is_emptied_and_the_disk_does_not_fill() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let chunk = vec![b'x'; usize::try_from(LARGEST_FILE_BYTES).expect("fits")];
        write(path, &chunk);
        let (_, next) = all(path, ConsoleFrom::Position(0));
        write(path, b"tail of the first");
        rotate(path).expect("emptied");
        write(path, b" and more");
        assert_eq!(all(path, ConsoleFrom::Position(next)).0, b"tail of the first and more");
        for _ in 0..4 {
            write(path, &chunk);
            write(path, b"!");
            rotate(path).expect("emptied");
        }
        let kept: u64 = [CONSOLE, OLDER].iter().map(|name| length(&path.join(name)).expect("a length")).sum();
        assert!(kept <= 2 * LARGEST_FILE_BYTES + 100, "{kept}");
        // What is too old is passed over.
        let (rest, end) = all(path, ConsoleFrom::Position(0));
        assert_eq!((rest.len() as u64, end), (LARGEST_FILE_BYTES + 1, 5 * LARGEST_FILE_BYTES + 26 + 4));
    }
}
