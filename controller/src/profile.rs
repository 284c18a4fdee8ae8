// SPDX-License-Identifier: Apache-2.0
//! The profile file: where a remote controller is and who the operator is there. It holds a private key.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Only the owner may read or write a private key.
const MODE: u32 = 0o600;

/// A profile as written in its file.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Where the controller listens, `HOST:PORT`.
    pub controller: String,
    /// Whom to trust, PEM, one certificate or more.
    pub ca_pem: String,
    /// The operator's certificate, PEM.
    pub certificate_pem: String,
    /// Its private key, PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Profile").field("controller", &self.controller).finish_non_exhaustive()
    }
}

/// A profile that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It cannot be read.
    #[error("read the profile {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
    /// Others may read the key in it.
    #[error("the profile {} holds a private key and has mode {mode:04o}, so others may read it", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is not what a profile is.
    #[error("understand the profile {}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Line, column and fault.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A certificate or key in it is not one.
    #[error("{field} in the profile is not usable: {fault}")]
    Pem {
        /// Which field.
        field: &'static str,
        /// What is wrong.
        fault: String,
    },
    /// It cannot be written.
    #[error("write the profile {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: std::io::Error,
    },
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// If it cannot be read, others may read it, or it has unknown or missing keys.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let read = |source| ProfileError::Read { path: path.to_owned(), source };
        let mut file = std::fs::File::open(path).map_err(read)?;
        // The mode of the open file, so that nobody can exchange it between the check and the reading.
        let mode = file.metadata().map_err(read)?.permissions().mode() & 0o7777;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(read)?;
        let profile = toml::from_str(&text)
            .map_err(|source| ProfileError::Malformed { path: path.to_owned(), source: Box::new(source) })?;
        // Only once it is known to be a profile: nobody should be told to chmod something else.
        if mode & 0o077 != 0 {
            return Err(ProfileError::Exposed { path: path.to_owned(), mode });
        }
        Ok(profile)
    }

    /// Writes the profile into a file made by [`reserve`].
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, mut file: std::fs::File, path: &Path) -> Result<(), ProfileError> {
        let write = |source| ProfileError::Write { path: path.to_owned(), source };
        let text = toml::to_string(self).map_err(|fault| write(std::io::Error::other(fault)))?;
        file.write_all(text.as_bytes()).map_err(write)?;
        file.sync_all().map_err(write)
    }
}

/// A file that takes the place of a profile once it is written.
#[derive(Debug)]
pub struct Replacement {
    file: std::fs::File,
    path: PathBuf,
    place: PathBuf,
}

impl Replacement {
    /// Makes the file beside the profile, or beside what a link there points to.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn reserve(path: &Path) -> Result<Self, ProfileError> {
        let place = path.canonicalize().map_err(|source| ProfileError::Write { path: path.to_owned(), source })?;
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let path = place.with_file_name(name);
        // Of a process that had our id and was killed.
        let _gone = std::fs::remove_file(&path);
        Ok(Self { file: reserve(&path)?, path, place })
    }

    /// Writes the profile and puts it in its place.
    ///
    /// # Errors
    /// If it cannot be written; then the old one stays.
    pub fn complete(self, profile: &Profile) -> Result<(), ProfileError> {
        let written = profile.save(self.file, &self.path).and_then(|()| {
            std::fs::rename(&self.path, &self.place)
                .map_err(|source| ProfileError::Write { path: self.place.clone(), source })
        });
        written.inspect_err(|_| remove(&self.path))
    }

    /// Leaves the profile as it is.
    pub fn abandon(self) {
        remove(&self.path);
    }
}

/// What stays behind is empty or a valid profile of the same owner, and its name says what it is.
fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// A key for an operator, and the request for its certificate.
///
/// # Errors
/// If there is no randomness.
pub fn new_key() -> Result<(rcgen::KeyPair, Vec<u8>), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let request = rcgen::CertificateParams::default().serialize_request(&key)?;
    Ok((key, request.der().to_vec()))
}

/// A certificate as profiles hold it.
#[must_use]
pub fn certificate_pem(der: &[u8]) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", der),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// Makes the empty file of a profile, readable by its owner only; never replaces one.
///
/// # Errors
/// If the file exists or cannot be made.
pub fn reserve(path: &Path) -> Result<std::fs::File, ProfileError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)
        .map_err(|source| ProfileError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Profile {
        Profile {
            controller: "bastion:7600".into(),
            ca_pem: "ca\n".into(),
            certificate_pem: "certificate\n".into(),
            key_pem: "very private\n".into(),
        }
    }

    fn written(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("profile.toml");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("mode");
        (directory, path)
    }

    #[test]
    fn what_is_saved_is_loaded_and_is_private() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("p.toml");
        example().save(reserve(&path).expect("reserved"), &path).expect("saved");
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
        assert_eq!(Profile::load(&path).expect("loaded"), example());
        assert!(reserve(&path).is_err(), "an existing profile is not replaced");
    }

    #[test]
    fn a_replacement_takes_the_place_of_what_a_link_points_to_or_leaves_it_alone() {
        let (directory, path) = written(&toml::to_string(&example()).expect("toml"), 0o600);
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        Replacement::reserve(&link).expect("writable").abandon();
        assert_eq!(Profile::load(&path).expect("there"), example());
        let renewed = Profile { key_pem: "another\n".into(), ..example() };
        Replacement::reserve(&link).expect("writable").complete(&renewed).expect("written");
        assert_eq!(Profile::load(&path).expect("private and whole"), renewed);
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).expect("readable").count(), 2, "something was left behind");
    }

    #[test]
    fn refuses_a_profile_that_others_can_read() {
        for mode in [0o644, 0o640, 0o604, 0o610, 0o602] {
            let (_directory, path) = written(&toml::to_string(&example()).expect("toml"), mode);
            assert!(matches!(Profile::load(&path), Err(ProfileError::Exposed { mode: found, .. }) if found == mode));
        }
    }

    #[test]
    fn a_file_that_is_no_profile_is_not_called_one_that_others_can_read() {
        let (_directory, path) = written("root:x:0:0:root:/root:/bin/bash\n", 0o644);
        assert!(matches!(Profile::load(&path), Err(ProfileError::Malformed { .. })));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let text = toml::to_string(&example()).expect("toml") + "colour = \"red\"\n";
        let (_directory, path) = written(&text, 0o600);
        let error = Profile::load(&path).expect_err("an unknown key");
        let chain = windlass_types::error_chain::ErrorChain(&error).to_string();
        assert!(chain.contains("colour") && chain.contains("line"), "{chain}");
    }

    #[test]
    fn debug_output_has_no_key() {
        assert!(!format!("{:?}", example()).contains("private"));
    }
}
