// SPDX-License-Identifier: Apache-2.0
//! Whether KVM works here, found out by using it.
//!
//! That `/dev/kvm` is there says little: on some hosts QEMU then dies at once, on others the guest hangs. So a machine of
//! one sector is booted that does nothing but tell QEMU to end with a certain code. It takes a tenth of a second, once.

use std::path::Path;
use std::time::Duration;

use windlass_types::machine::Accel;

use super::record::boot_of_host;
use crate::provider::exec::{Call, how, run_to_end};

/// A boot sector: `mov dx, 0xf4; mov al, 0x10; out dx, al; hlt`. QEMU's debug device ends it with twice 0x10 and one.
const CODE: [u8; 7] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4];
const GOOD_CODE: i32 = 0x21;

/// With KVM it is done in 100 ms; this is for a busy host.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a machine has shown that the probe cannot: KVM hangs kernels on this host. Kept beside the machines, because they
/// go and this stays true.
const FAILED: &str = "kvm-failed";

/// Why KVM failed a machine since the host was booted, if it did: another controller need not see it again.
pub(super) fn known_failure(place: &Path) -> Option<String> {
    let text = std::fs::read_to_string(place.with_file_name(FAILED)).ok()?;
    let (boot, why) = text.split_once('\n')?;
    (boot == boot_of_host()).then(|| why.trim_end().to_owned())
}

/// Keeps that KVM failed a machine. If it cannot be kept, the next controller finds out itself.
pub(super) fn remember_failure(place: &Path, why: &str) {
    if let Err(error) = std::fs::write(place.with_file_name(FAILED), format!("{}\n{why}\n", boot_of_host())) {
        tracing::warn!(%error, "that KVM does not work here cannot be kept");
    }
}

/// Tries a machine. The error says why not, for people.
pub(super) async fn probe(qemu: &Path, directory: &Path, accel: Accel) -> Result<(), String> {
    if accel == Accel::Kvm {
        let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
        opened.map_err(|error| format!("/dev/kvm cannot be opened: {error}"))?;
    }
    let image = directory.join(format!(".probe-{}", uuid::Uuid::new_v4()));
    let result = boot(qemu, directory, &image, accel).await;
    let _leftover = std::fs::remove_file(&image);
    result
}

async fn boot(qemu: &Path, directory: &Path, image: &Path, accel: Accel) -> Result<(), String> {
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    std::fs::write(image, sector).map_err(|error| format!("{} cannot be written: {error}", image.display()))?;
    let (accel, cpu) = match accel {
        Accel::Kvm => ("kvm", "host"),
        Accel::Emulation => ("tcg", "max"),
    };
    let disk = serde_json::json!({
        "driver": "raw", "node-name": "disk", "file": { "driver": "file", "filename": image },
    });
    let disk = disk.to_string();
    let arguments = [
        ["-accel", accel],
        ["-cpu", cpu],
        ["-machine", "pc"],
        ["-m", "32"],
        ["-display", "none"],
        ["-blockdev", &disk],
        ["-device", "ide-hd,drive=disk,bootindex=1"],
        ["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"],
    ];
    let mut arguments: Vec<_> = arguments.concat().into_iter().map(ToOwned::to_owned).collect();
    arguments.extend(["-nodefaults".to_owned(), "-no-user-config".to_owned()]);
    let call = Call { program: qemu.to_owned(), arguments, directory: directory.to_owned(), deadline: PATIENCE };
    match run_to_end(&call).await {
        Ok(ended) if ended.status.code() == Some(GOOD_CODE) => Ok(()),
        Ok(ended) => Err(format!("a test machine {}: {}", how(ended.status), ended.shown_stderr())),
        Err(error) => Err(windlass_types::error_chain::ErrorChain(&error).to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::qemu;
    use super::*;

    #[tokio::test]
    async fn the_test_machine_boots_by_emulation_everywhere_and_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        assert_eq!(probe(&qemu(), directory.path(), Accel::Emulation).await, Ok(()));
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 0);
    }

    #[test]
    fn what_kvm_did_to_a_machine_is_known_until_the_host_boots() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join("machines");
        assert_eq!(known_failure(&place), None);
        remember_failure(&place, "node1 said nothing");
        assert_eq!(known_failure(&place), Some("node1 said nothing".to_owned()));
        std::fs::write(directory.path().join(FAILED), "another boot\nnode1 said nothing\n").expect("written");
        assert_eq!(known_failure(&place), None);
    }

    #[tokio::test]
    async fn a_machine_that_does_not_come_to_the_end_of_its_sector_is_told_with_what_qemu_said() {
        let directory = tempfile::tempdir().expect("a directory");
        let error = probe(Path::new("/bin/false"), directory.path(), Accel::Emulation).await.expect_err("no machine");
        assert_eq!(error, "a test machine ended with code 1: it said nothing");
    }
}
