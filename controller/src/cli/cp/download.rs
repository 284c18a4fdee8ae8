// SPDX-License-Identifier: Apache-2.0
//! Brings a file from the controller's cache here: beside its place first, and into it when the digest is right.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use windlass_proto::v1;
use windlass_types::digest::Sha256Digest;

use super::upload::{MOST_ATTEMPTS, PAUSE, digest_of};
use crate::cli::context::{Context, job_client};
use crate::cli::failure::{Cause, Failure};
use crate::cli::follow::may_pass;

/// Downloads; goes on after a lost connection, also of an earlier run. Gives the size.
///
/// # Errors
/// If the file cannot be written, its digest is wrong, or the controller cannot be reached or refuses.
pub(super) async fn run(context: &Context, sha256: Sha256Digest, target: &Path) -> Result<u64, Failure> {
    let part = part_of(target, sha256);
    let mut client = context.jobs().await?;
    let mut attempt = 1;
    loop {
        match once(&mut client, sha256, &part).await {
            Ok(()) => break,
            Err(failure) if attempt == MOST_ATTEMPTS || !may_pass(failure.cause) => return Err(failure),
            Err(_) => tokio::time::sleep(PAUSE * attempt).await,
        }
        attempt += 1;
        if let Ok(channel) = context.connect().await {
            client = job_client(channel);
        }
    }
    settle(&part, target, sha256)
}

/// Beside the target, so that moving it there is one step; with the digest, so that nothing else is continued.
fn part_of(target: &Path, sha256: Sha256Digest) -> PathBuf {
    let mut part = target.as_os_str().to_owned();
    part.push(format!(".{}.part", &sha256.to_string()[..16]));
    part.into()
}

type Client = v1::job_service_client::JobServiceClient<crate::client::Calls>;

async fn once(client: &mut Client, sha256: Sha256Digest, part: &Path) -> Result<(), Failure> {
    let local = |error: std::io::Error| failed(part).because_of(&error);
    let refused = |status| Failure::call(format!("fetch {}", part.display()), &status);
    // Files of nodes may be anything, so only the owner may read them until they decide otherwise.
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(part).map_err(local)?;
    let offset = file.metadata().map_err(local)?.len();
    let request = v1::DownloadFileRequest { sha256: sha256.as_bytes().to_vec().into(), offset };
    let mut stream = client.download_file(request).await.map_err(refused)?.into_inner();
    while let Some(piece) = stream.message().await.map_err(refused)? {
        file.write_all(&piece.data).map_err(local)?;
    }
    file.sync_all().map_err(local)
}

fn settle(part: &Path, target: &Path, sha256: Sha256Digest) -> Result<u64, Failure> {
    let local = |error: std::io::Error| failed(target).because_of(&error);
    let (found, size) = File::open(part).and_then(|mut file| digest_of(&mut file)).map_err(local)?;
    if found != sha256 {
        // What is there is of no use to a next attempt either.
        std::fs::remove_file(part).map_err(local)?;
        return Err(failed(target)
            .because("what arrived has another digest than what was sent")
            .advise("copy it again"));
    }
    std::fs::rename(part, target).map_err(local)?;
    Ok(size)
}

fn failed(path: &Path) -> Failure {
    Failure::new(Cause::Local, format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn only_the_right_content_takes_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("abc");
        let sha256: Sha256Digest = ABC.parse().expect("a digest");
        let part = part_of(&target, sha256);
        std::fs::write(&part, "abd").expect("written");
        assert!(settle(&part, &target, sha256).is_err());
        assert!(!part.exists() && !target.exists());
        std::fs::write(&part, "abc").expect("written");
        assert_eq!(settle(&part, &target, sha256), Ok(3));
        assert!(!part.exists() && target.exists());
    }
}
