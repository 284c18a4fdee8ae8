// SPDX-License-Identifier: Apache-2.0
//! Everything a machine wrote to its disk, in order, and the disk as it would be had the power failed at some moment.
//!
//! QEMU's block driver `blklogwrites` writes the log, in the format of Linux' dm-log-writes: a first sector that says how
//! many entries there are, then for each entry a sector that describes it and what was written. Killing QEMU would show
//! nothing: what a guest wrote and did not flush is in the host's memory and reaches its disk all the same.
//!
//! A disk may keep what was written since the last flush, or lose it, or keep a part. So everything up to the last flush
//! before the moment is there, and each later write is there or not, as chance has it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use fastrand::Rng;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

/// What an entry is, as flags.
const FLUSH: u64 = 1;
const FORCED: u64 = 2;
const DISCARD: u64 = 4;

/// A log.
#[derive(Debug)]
pub(crate) struct WriteLog {
    file: File,
    sector_bytes: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Where on the disk.
    offset: u64,
    length: u64,
    flags: u64,
    /// Where in the log.
    content: u64,
}

impl WriteLog {
    /// How many entries a log has by now.
    pub(crate) fn count(path: &Path) -> usize {
        let file = File::open(path).expect("a log");
        let [.., entries] = numbers(&file, 0);
        usize::try_from(entries).expect("few enough")
    }

    /// Reads a log to which nothing is written any more.
    pub(crate) fn read(path: &Path) -> Self {
        let file = File::open(path).expect("a log");
        let [magic, version, count] = numbers(&file, 0);
        assert_eq!((magic, version), (MAGIC, VERSION), "{} is no log of writes", path.display());
        let mut sector = [0; 4];
        file.read_exact_at(&mut sector, 24).expect("readable");
        let mut log = Self { file, sector_bytes: u32::from_le_bytes(sector).into(), entries: Vec::new() };
        let mut at = log.sector_bytes;
        for _ in 0..count {
            let [sector, sectors, flags] = numbers(&log.file, at);
            let length = sectors * log.sector_bytes;
            let content = at + log.sector_bytes;
            log.entries.push(Entry { offset: sector * log.sector_bytes, length, flags, content });
            at = content + if flags & DISCARD == 0 { length } else { 0 };
        }
        log
    }

    /// The last flush up to an entry; everything before it is on the disk for certain.
    pub(crate) fn flushed(&self, cut: usize) -> usize {
        self.entries[..cut].iter().rposition(|entry| entry.flags & FLUSH != 0).map_or(0, |flush| flush + 1)
    }

    /// Writes entries to a disk.
    pub(crate) fn write_all(&self, disk: &File, entries: std::ops::Range<usize>) {
        self.entries[entries].iter().for_each(|entry| self.write(disk, entry));
    }

    /// Writes to a disk what chance keeps of these entries.
    pub(crate) fn write_some(&self, disk: &File, entries: std::ops::Range<usize>, chance: &mut Rng) {
        let kept = self.entries[entries].iter().filter(|entry| entry.flags & FORCED != 0 || chance.bool());
        kept.for_each(|entry| self.write(disk, entry));
    }

    /// What was discarded may be read as before.
    fn write(&self, disk: &File, entry: &Entry) {
        if entry.flags & DISCARD != 0 || entry.length == 0 {
            return;
        }
        let mut content = vec![0; usize::try_from(entry.length).expect("short enough")];
        self.file.read_exact_at(&mut content, entry.content).expect("the whole log");
        disk.write_all_at(&content, entry.offset).expect("written");
    }
}

/// The first three numbers at a place of a log.
fn numbers(file: &File, at: u64) -> [u64; 3] {
    let mut bytes = [0; 24];
    file.read_exact_at(&mut bytes, at).expect("readable");
    let number = |nth: usize| u64::from_le_bytes(bytes[nth * 8..nth * 8 + 8].try_into().expect("eight bytes"));
    [number(0), number(1), number(2)]
}
