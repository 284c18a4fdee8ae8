// SPDX-License-Identifier: Apache-2.0
//! Disk images, by way of `qemu-img`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::provider::exec::{Call, ExecError, run};

/// Making a sparse image takes milliseconds; on a disk that is busy, seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It is not there, or cannot be read.
    #[error("use the image {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// QEMU does not take it.
    #[error("use the image {path}")]
    Inspect {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ExecError,
    },
    /// It is no disk image of a kind that is used here.
    #[error("use the image {path}: it is {what}, neither qcow2 nor a raw disk with a partition table")]
    Kind {
        /// Which.
        path: PathBuf,
        /// What it is.
        what: String,
    },
    /// It is larger than the disk it shall become.
    #[error("use the image {path}: it has {size} bytes, and the root disk shall have {wanted}")]
    Larger {
        /// Which.
        path: PathBuf,
        /// What it has.
        size: u64,
        /// What the spec says.
        wanted: u64,
    },
    /// A disk cannot be made.
    #[error("make the disk {path}")]
    Make {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: ExecError,
    },
}

/// What is known of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Image {
    format: String,
    virtual_size: u64,
}

/// Looks at the image that machines are made from.
pub(super) async fn inspect(qemu_img: &Path, path: &Path, wanted_bytes: u64) -> Result<Image, ImageError> {
    let read = |source| ImageError::Read { path: path.to_owned(), source };
    let metadata = std::fs::File::open(path).and_then(|file| file.metadata()).map_err(read)?;
    if !metadata.is_file() {
        return Err(read(std::io::Error::other("it is not a file")));
    }
    let arguments = ["info", "--force-share", "--output=json"].map(ToOwned::to_owned).into();
    let text = run(call(qemu_img, arguments, path)).await;
    let text = text.map_err(|source| ImageError::Inspect { path: path.to_owned(), source })?;
    let kind = |what: &str| ImageError::Kind { path: path.to_owned(), what: what.to_owned() };
    let image: Image = serde_json::from_slice(&text).map_err(|_| kind("not understood"))?;
    match image.format.as_str() {
        "qcow2" => {}
        // Anything that is nothing else is raw to QEMU, a text too.
        "raw" if has_partition_table(path).map_err(read)? => {}
        "raw" => return Err(kind("something else")),
        other => return Err(kind(other)),
    }
    if wanted_bytes != 0 && wanted_bytes < image.virtual_size {
        return Err(ImageError::Larger { path: path.to_owned(), size: image.virtual_size, wanted: wanted_bytes });
    }
    Ok(image)
}

fn has_partition_table(path: &Path) -> std::io::Result<bool> {
    use std::io::Read as _;
    let mut sector = Vec::new();
    std::fs::File::open(path)?.take(512).read_to_end(&mut sector)?;
    Ok(sector.ends_with(&[0x55, 0xaa]) && sector.len() == 512)
}

/// Makes a disk that begins as the image and leaves that as it is.
pub(super) async fn overlay(
    qemu_img: &Path,
    path: &Path,
    base: &Path,
    image: &Image,
    bytes: u64,
) -> Result<(), ImageError> {
    let mut arguments: Vec<_> =
        ["create", "-q", "-f", "qcow2", "-F", &image.format, "-b"].map(ToOwned::to_owned).into();
    arguments.push(base.display().to_string());
    create(qemu_img, arguments, path, bytes).await
}

/// Makes an empty disk.
pub(super) async fn empty(qemu_img: &Path, path: &Path, bytes: u64) -> Result<(), ImageError> {
    create(qemu_img, ["create", "-q", "-f", "qcow2"].map(ToOwned::to_owned).into(), path, bytes).await
}

async fn create(qemu_img: &Path, arguments: Vec<String>, path: &Path, bytes: u64) -> Result<(), ImageError> {
    let mut call = call(qemu_img, arguments, path);
    if bytes != 0 {
        call.arguments.push(bytes.to_string());
    }
    run(call).await.map(|_| ()).map_err(|source| ImageError::Make { path: path.to_owned(), source })
}

/// The path comes after the options, as it is: it begins with a slash.
fn call(qemu_img: &Path, mut arguments: Vec<String>, path: &Path) -> Call {
    arguments.push(path.display().to_string());
    Call { program: qemu_img.to_owned(), arguments, directory: "/".into(), deadline: PATIENCE }
}
