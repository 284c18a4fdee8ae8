// SPDX-License-Identifier: Apache-2.0
//! Where `clouds.yaml` and `secure.yaml` are looked for: the file that a variable names, then three directories. Of each
//! the first that is there is read, and the second is laid over the first.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::document::Document;
use super::{CloudsError, Surroundings};

/// No honest one is larger; a device or a log by mistake is.
const LARGEST_FILE_BYTES: u64 = 1 << 20;

/// The endings that other clients look for, in their order. JSON is YAML too.
const ENDINGS: [&str; 3] = ["yaml", "yml", "json"];

/// What was found.
pub(super) struct Files {
    /// Both files as one; `None` if there is no file.
    pub(super) document: Option<Document>,
    /// What was read, for people.
    pub(super) origin: String,
    /// Where it was looked for, for people.
    pub(super) looked: String,
}

/// Reads the first of each kind.
pub(super) fn files(around: &Surroundings) -> Result<Files, CloudsError> {
    let directories = directories(around);
    let looked = directories.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let clouds = first(around, "OS_CLIENT_CONFIG_FILE", "clouds", &directories)?;
    let secure = first(around, "OS_CLIENT_SECURE_FILE", "secure", &directories)?;
    let origin = [&clouds, &secure].into_iter().flatten().map(|(path, _)| path.display().to_string());
    let origin = origin.collect::<Vec<_>>().join(" and ");
    let parse = |(path, text): (PathBuf, String)| Document::parse(&path, &text);
    let document = match (clouds.map(parse).transpose()?, secure.map(parse).transpose()?) {
        (Some(clouds), Some(secure)) => Some(clouds.under(secure)),
        (clouds, secure) => clouds.or(secure),
    };
    Ok(Files { document, origin, looked })
}

fn directories(around: &Surroundings) -> Vec<PathBuf> {
    let of_user = match around.variable("XDG_CONFIG_HOME") {
        Some(directory) => Some(PathBuf::from(directory)),
        None => around.home.as_ref().map(|home| home.join(".config")),
    };
    let of_user = of_user.map(|directory| directory.join("openstack"));
    [Some(around.directory.clone()), of_user, Some(around.system.clone())].into_iter().flatten().collect()
}

/// A file that a variable names must be there; of the others the first that is.
fn first(
    around: &Surroundings,
    variable: &str,
    stem: &str,
    directories: &[PathBuf],
) -> Result<Option<(PathBuf, String)>, CloudsError> {
    if let Some(named) = around.variable(variable) {
        let path = around.directory.join(named);
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{variable} names it, and it is not there"));
        let text = read(&path)?.ok_or_else(|| CloudsError::Read { path: path.clone(), source: missing() })?;
        return Ok(Some((path, text)));
    }
    for directory in directories {
        for ending in ENDINGS {
            let path = directory.join(format!("{stem}.{ending}"));
            if let Some(text) = read(&path)? {
                return Ok(Some((path, text)));
            }
        }
    }
    Ok(None)
}

fn read(path: &Path) -> Result<Option<String>, CloudsError> {
    let failed = |source| CloudsError::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        file => file.map_err(failed)?,
    };
    let mut text = String::new();
    file.take(LARGEST_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LARGEST_FILE_BYTES {
        return Err(failed(io::Error::other("it is larger than 1 MiB")));
    }
    Ok(Some(text))
}
