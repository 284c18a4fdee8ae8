// SPDX-License-Identifier: Apache-2.0
//! lsblk(8): every block device, as JSON where lsblk has it (util-linux 2.27), else as `KEY="value"` pairs (CentOS 7).

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde_json::{Map, Value};

use super::exec::{CommandSpec, ExecError, find};

/// Columns that every supported lsblk has, 2.23 included.
const COLUMNS: &str =
    "NAME,KNAME,MAJ:MIN,TYPE,SIZE,RO,ROTA,PKNAME,FSTYPE,LABEL,UUID,PARTUUID,SERIAL,WWN,MODEL,MOUNTPOINT";

/// A device that does not answer holds lsblk up; a healthy machine needs milliseconds.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks for JSON.
pub(super) fn json_command() -> Result<CommandSpec, ExecError> {
    Ok(CommandSpec::new(find("lsblk")?, &["--json", "--bytes", "--output", COLUMNS], DEADLINE))
}

/// Asks for pairs.
pub(super) fn pairs_command() -> Result<CommandSpec, ExecError> {
    Ok(CommandSpec::new(find("lsblk")?, &["--pairs", "--bytes", "--output", COLUMNS], DEADLINE))
}

/// Whether a command failed because it does not know an option.
pub(super) fn is_unknown_option(error: &ExecError) -> bool {
    matches!(error, ExecError::Failed { stderr, .. } if stderr.contains("unrecognized option"))
}

/// How long an answer is trusted without asking again. Where udev runs, every new signature is an event of the kernel's;
/// where it does not, this is how old a signature can be.
const TRUSTED: Duration = Duration::from_secs(600);

/// What tells that lsblk would answer as before: the kernel's count of device events, mounts, swaps, and that the last
/// answer is not old.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unchanged {
    digest: u64,
    period: u64,
}

impl Unchanged {
    /// As it is now.
    pub(super) fn read() -> Self {
        let mut hasher = DefaultHasher::new();
        for path in ["/sys/kernel/uevent_seqnum", "/proc/self/mountinfo", "/proc/swaps"] {
            std::fs::read(path).unwrap_or_default().hash(&mut hasher);
        }
        Self { digest: hasher.finish(), period: periods_since_boot() }
    }
}

/// `CLOCK_MONOTONIC`, which nobody can set back.
fn periods_since_boot() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(0, |time| time.tv_sec());
    now.unsigned_abs() / TRUSTED.as_secs()
}

/// What lsblk printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Printed {
    /// With `--json`.
    Json(String),
    /// With `--pairs`.
    Pairs(String),
}

/// One device as lsblk sees it; empty text where it sees nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Name for people, such as `vg-root`.
    pub name: String,
    /// Kernel name, such as `dm-0`.
    pub kernel_name: String,
    /// Device number, `major:minor`.
    pub number: String,
    /// `TYPE`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// Cannot be written.
    pub read_only: bool,
    /// Rotating medium.
    pub rotational: bool,
    /// Kernel name of the first device below.
    pub parent: String,
    /// Signature.
    pub signature: String,
    /// Its label.
    pub label: String,
    /// Its UUID.
    pub uuid: String,
    /// UUID of the partition.
    pub partition_uuid: String,
    /// Serial number.
    pub serial: String,
    /// World wide name.
    pub wwn: String,
    /// Model.
    pub model: String,
    /// One place where it is mounted, or `[SWAP]`.
    pub mount: String,
}

/// Output that is not what lsblk prints.
#[derive(Debug, thiserror::Error)]
pub enum BadOutput {
    /// Not JSON.
    #[error("lsblk printed something else than JSON")]
    Json(#[source] serde_json::Error),
    /// JSON without devices.
    #[error("lsblk printed no \"blockdevices\"")]
    NoDevices,
    /// A device without kernel name or type.
    #[error("lsblk printed a device without kernel name or type")]
    Nameless,
    /// Not pairs.
    #[error("line {0} of lsblk is not KEY=\"value\" pairs")]
    Pairs(usize),
}

impl Printed {
    /// The devices, each once, ordered by kernel name.
    ///
    /// # Errors
    /// If this is not what lsblk prints.
    pub fn parse(&self) -> Result<Vec<Device>, BadOutput> {
        let mut devices = match self {
            Self::Json(text) => parse_json(text)?,
            Self::Pairs(text) => parse_pairs(text)?,
        };
        // A device built on several others is printed below each of them.
        let mut seen = HashSet::new();
        devices.retain(|device| seen.insert(device.kernel_name.clone()));
        devices.sort_by(|a, b| a.kernel_name.cmp(&b.kernel_name));
        Ok(devices)
    }
}

fn parse_json(text: &str) -> Result<Vec<Device>, BadOutput> {
    let tree: Value = serde_json::from_str(text).map_err(BadOutput::Json)?;
    let mut devices = Vec::new();
    let mut waiting: Vec<&Value> = tree["blockdevices"].as_array().ok_or(BadOutput::NoDevices)?.iter().rev().collect();
    while let Some(value) = waiting.pop() {
        let row = value.as_object().ok_or(BadOutput::Nameless)?;
        devices.push(device(|column| json_text(row, column))?);
        waiting.extend(value["children"].as_array().into_iter().flatten().rev());
    }
    Ok(devices)
}

/// Older versions print numbers and truth as text.
fn json_text(row: &Map<String, Value>, column: &str) -> String {
    match row.get(&column.to_ascii_lowercase()) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(truth)) => u8::from(*truth).to_string(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

fn parse_pairs(text: &str) -> Result<Vec<Device>, BadOutput> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let pairs = pairs_of(line).ok_or(BadOutput::Pairs(index + 1))?;
            device(|column| {
                pairs.iter().find(|(key, _)| *key == column).map(|(_, value)| value.clone()).unwrap_or_default()
            })
        })
        .collect()
}

fn pairs_of(line: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"")?;
        // A quote inside a value is printed as \x22.
        let (value, after) = after.split_once('"')?;
        // One release printed MAJ_MIN so that a shell could read it.
        pairs.push((if key == "MAJ_MIN" { "MAJ:MIN" } else { key }, unescape(value)));
        rest = after.trim_start();
    }
    Some(pairs)
}

/// Undoes `\xHH`.
fn unescape(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"x").and_then(|digits| digits.get(..2)).and_then(hex_byte);
        let (byte, consumed) = escaped.filter(|_| first == b'\\').map_or((first, 0), |byte| (byte, 3));
        bytes.push(byte);
        rest = &after[consumed..];
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn device(column: impl Fn(&str) -> String) -> Result<Device, BadOutput> {
    let text = |name| column(name).trim().to_owned();
    let device = Device {
        name: text("NAME"),
        kernel_name: text("KNAME"),
        number: text("MAJ:MIN"),
        kind: text("TYPE"),
        size: text("SIZE").parse().unwrap_or_default(),
        read_only: text("RO") == "1",
        rotational: text("ROTA") == "1",
        parent: text("PKNAME"),
        signature: text("FSTYPE"),
        label: column("LABEL"),
        uuid: text("UUID"),
        partition_uuid: text("PARTUUID"),
        serial: text("SERIAL"),
        wwn: text("WWN"),
        model: text("MODEL"),
        mount: column("MOUNTPOINT"),
    };
    if device.kernel_name.is_empty() || device.kind.is_empty() { Err(BadOutput::Nameless) } else { Ok(device) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn json(text: &str) -> Vec<Device> {
        Printed::Json(text.into()).parse().unwrap()
    }

    fn pairs(text: &str) -> Vec<Device> {
        Printed::Pairs(text.into()).parse().unwrap()
    }

    fn named<'a>(devices: &'a [Device], kernel_name: &str) -> &'a Device {
        devices.iter().find(|device| device.kernel_name == kernel_name).unwrap()
    }

    #[test]
    fn both_formats_say_the_same_about_the_same_machine() {
        let devices = json(include_str!("fixtures/debian12-lsblk-2.38-virtio.json"));
        assert_eq!(devices, pairs(include_str!("fixtures/debian12-lsblk-2.38-virtio.pairs")));
        let disk = named(&devices, "vda");
        assert_eq!((disk.size, &*disk.mount, &*disk.kind, &*disk.number), (274_877_906_944, "/", "disk", "254:0"));
        assert!(disk.rotational && !disk.read_only);
    }

    #[test]
    fn reads_partitions_and_volumes_of_el9() {
        let devices = json(include_str!("fixtures/el9-lsblk-2.37-lvm.json"));
        let names: Vec<&str> = devices.iter().map(|device| device.kernel_name.as_str()).collect();
        assert_eq!(names, ["dm-0", "dm-1", "dm-2", "sr0", "vda", "vda1", "vda2", "vdb", "vdc"]);
        let root = named(&devices, "dm-0");
        assert_eq!((&*root.name, &*root.parent, &*root.signature, &*root.mount), ("rl-root", "vda2", "xfs", "/"));
        assert_eq!(named(&devices, "dm-1").mount, "[SWAP]");
        assert_eq!(named(&devices, "vdb").serial, "gluster-brick-01");
        assert_eq!(named(&devices, "dm-2").parent, "vdb", "printed below two, belongs to the first");
    }

    #[test]
    fn reads_pairs_of_el7() {
        let devices = pairs(include_str!("fixtures/el7-lsblk-2.23-lvm.pairs"));
        let disk = named(&devices, "sda");
        assert_eq!((&*disk.wwn, &*disk.model, disk.size), ("0x600508b1001c4d2f", "LOGICAL VOLUME", 599_932_581_888));
        assert!(disk.rotational);
        assert_eq!(named(&devices, "dm-0").name, "centos-root");
        assert_eq!(named(&devices, "sda1").label, "boot \"old\" ü");
        assert!(named(&devices, "sr0").read_only);
    }

    #[test]
    fn reads_numbers_and_truth_that_an_older_lsblk_prints_as_text() {
        let text = r#"{"blockdevices":[{"kname":"sda","type":"disk","size":"512","ro":"1","rota":"0","wwn":null}]}"#;
        let device = &json(text)[0];
        assert_eq!((device.size, device.read_only, device.rotational), (512, true, false));
    }

    #[test]
    fn refuses_what_lsblk_does_not_print() {
        for text in ["", "{}", "[]", r#"{"blockdevices":[1]}"#, r#"{"blockdevices":[{"kname":"sda"}]}"#] {
            assert!(Printed::Json(text.into()).parse().is_err(), "{text}");
        }
        for text in ["lsblk: error", "NAME=\"a", "NAME=\"a\"", "KNAME=\"\" TYPE=\"disk\""] {
            assert!(Printed::Pairs(text.into()).parse().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>(), value in any::<String>()) {
            let _ = Printed::Json(text.clone()).parse();
            let _ = Printed::Pairs(text).parse();
            let _ = Printed::Pairs(format!("KNAME=\"a\\x{value}\" TYPE=\"\\x\" LABEL=\"{value}")).parse();
            unescape(&format!("\\x{value}"));
        }
    }
}
