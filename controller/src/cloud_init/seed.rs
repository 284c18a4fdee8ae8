// SPDX-License-Identifier: Apache-2.0
//! The disk on which a local machine finds its user-data: ISO 9660 with Rock Ridge, labelled `cidata`.
//!
//! Three small files in one directory, always laid out the same way, so this is written here: the one crate that is kept
//! and writes Rock Ridge brings two dozen others, a clock and a random generator among them, and the image could not be
//! compared byte by byte. Rock Ridge is there for the names: in plain ISO 9660, `user-data` is called `USER_DAT`, and
//! cloud-init would not see it.
//!
//! Every image has the same size, so that one can be written over another while a machine has it open.

/// What cloud-init looks for.
const LABEL: &[u8] = b"cidata";

const SECTOR: usize = 2048;

/// Where the parts lie, in sectors. The first sixteen belong to boot loaders.
const VOLUME_DESCRIPTOR: usize = 16;
const TERMINATOR: usize = 17;
const PATH_TABLE_LITTLE: usize = 18;
const PATH_TABLE_BIG: usize = 19;
const ROOT: usize = 20;
const FIRST_FILE: usize = 21;

/// 128 KiB: the largest user-data has 48 KiB, and the other two files have less than one.
const SECTORS: usize = 64;

const DIRECTORY_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;

/// A file: its name in plain ISO 9660, its name, its content.
struct File<'a> {
    plain_name: &'a [u8],
    name: &'a [u8],
    content: &'a [u8],
}

/// The image of a seed.
#[must_use]
pub fn image(meta_data: &str, network_config: &str, user_data: &str) -> Vec<u8> {
    // In the order of their plain names, as ISO 9660 wants it.
    let files = [
        File { plain_name: b"META_DAT.;1", name: b"meta-data", content: meta_data.as_bytes() },
        File { plain_name: b"NETWORK_.;1", name: b"network-config", content: network_config.as_bytes() },
        File { plain_name: b"USER_DAT.;1", name: b"user-data", content: user_data.as_bytes() },
    ];
    let mut image = Image(vec![0; SECTORS * SECTOR]);
    let mut root = [
        record(&[0], ROOT, SECTOR, true, &[sharing(), attributes(DIRECTORY_MODE), extension()].concat()),
        record(&[1], ROOT, SECTOR, true, &attributes(DIRECTORY_MODE)),
    ]
    .concat();
    let mut next = FIRST_FILE;
    for file in files {
        let extensions = [attributes(FILE_MODE), name(file.name)].concat();
        root.extend(record(file.plain_name, next, file.content.len(), false, &extensions));
        image.put(next, file.content);
        next += file.content.len().div_ceil(SECTOR);
    }
    image.put(ROOT, &root);
    image.put(PATH_TABLE_LITTLE, &[&[1, 0][..], &number(ROOT).to_le_bytes(), &[1, 0, 0, 0]].concat());
    image.put(PATH_TABLE_BIG, &[&[1, 0][..], &number(ROOT).to_be_bytes(), &[0, 1, 0, 0]].concat());
    image.put(VOLUME_DESCRIPTOR, &volume_descriptor(next.max(SECTORS)));
    image.put(TERMINATOR, b"\xffCD001\x01");
    image.0
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        let end = start + bytes.len();
        if self.0.len() < end {
            self.0.resize(end.next_multiple_of(SECTOR), 0);
        }
        self.0[start..end].copy_from_slice(bytes);
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).expect("user-data is limited to 48 KiB")
}

/// A number in both byte orders, as ISO 9660 has it.
fn both(value: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    bytes[4..].copy_from_slice(&value.to_be_bytes());
    bytes
}

fn both_short(value: u16) -> [u8; 4] {
    let [low, high] = value.to_le_bytes();
    [low, high, high, low]
}

/// ISO 9660, 9.1: a directory record, without a date.
fn record(plain_name: &[u8], sector: usize, size: usize, is_directory: bool, extensions: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0];
    record.extend(both(number(sector)));
    record.extend(both(number(size)));
    record.extend([0; 7]);
    record.extend([if is_directory { 2 } else { 0 }, 0, 0]);
    record.extend(both_short(1));
    record.push(u8::try_from(plain_name.len()).expect("at most eleven characters"));
    record.extend(plain_name);
    if plain_name.len().is_multiple_of(2) {
        record.push(0);
    }
    record.extend(extensions);
    if !record.len().is_multiple_of(2) {
        record.push(0);
    }
    record[0] = u8::try_from(record.len()).expect("short names and few extensions");
    record
}

/// SUSP 5.3: says in the first record that extensions follow.
fn sharing() -> Vec<u8> {
    vec![b'S', b'P', 7, 1, 0xbe, 0xef, 0]
}

/// SUSP 5.5: says which extensions, in short.
fn extension() -> Vec<u8> {
    [&[b'E', b'R', 18, 1, 10, 0, 0, 1][..], b"RRIP_1991A"].concat()
}

/// RRIP 4.1.1: the POSIX attributes.
fn attributes(mode: u32) -> Vec<u8> {
    let links = if mode == DIRECTORY_MODE { 2 } else { 1 };
    [&[b'P', b'X', 36, 1][..], &both(mode), &both(links), &both(0), &both(0)].concat()
}

/// RRIP 4.1.4: the real name.
fn name(name: &[u8]) -> Vec<u8> {
    let length = u8::try_from(5 + name.len()).expect("short names");
    [&[b'N', b'M', length, 1, 0][..], name].concat()
}

/// ISO 9660, 8.4: the primary volume descriptor.
fn volume_descriptor(sectors: usize) -> Vec<u8> {
    let mut descriptor = vec![0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| descriptor[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x01CD001\x01");
    put(8, &[b' '; 32]);
    put(40, &[b' '; 32]);
    put(40, LABEL);
    put(80, &both(number(sectors)));
    for at in [120, 124] {
        put(at, &both_short(1));
    }
    put(128, &both_short(2048));
    put(132, &both(10));
    put(140, &number(PATH_TABLE_LITTLE).to_le_bytes());
    put(148, &number(PATH_TABLE_BIG).to_be_bytes());
    put(156, &record(&[0], ROOT, SECTOR, true, &[]));
    put(190, &[b' '; 623]);
    for at in [813, 830, 847, 864] {
        put(at, b"0000000000000000\0");
    }
    put(881, &[1]);
    descriptor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_has_the_same_size_and_names_cidata() {
        let small = image("m", "n", "u");
        let large = image("m", "n", &"u".repeat(49_150));
        assert_eq!((small.len(), large.len()), (SECTORS * SECTOR, SECTORS * SECTOR));
        assert_eq!(&small[16 * SECTOR + 40..16 * SECTOR + 47], b"cidata ");
    }

    #[test]
    fn the_same_seed_is_the_same_image() {
        assert_eq!(image("a", "b", "c"), image("a", "b", "c"));
        assert_ne!(image("a", "b", "c"), image("a", "b", "d"));
    }
}
