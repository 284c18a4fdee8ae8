// SPDX-License-Identifier: Apache-2.0
//! Which cloud, and as whom: `clouds.yaml` with `secure.yaml` over it, or the `OS_*` variables of an openrc file.
//!
//! What other OpenStack clients read is read here, from the same places and in the same order. Nothing is read from the
//! process itself: [`Surroundings`] are passed in. Of a cloud that cannot be used, the file, the key and, where there is
//! one, the line are told, and never a value of `auth`.

mod document;
mod search;
mod variables;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;

use windlass_types::outcome::ErrorClass;

use super::secret::Secret;
use document::{Document, Entry, Found};

/// The name of the cloud that `OS_*` variables describe, as other clients call it.
const FROM_VARIABLES: &str = "envvars";

/// What is looked at to find a cloud.
#[derive(Clone)]
pub struct Surroundings {
    /// The environment's variables.
    pub variables: BTreeMap<String, String>,
    /// The directory in which the program was started.
    pub directory: PathBuf,
    /// The user's home directory, if there is one.
    pub home: Option<PathBuf>,
    /// Where the host's own configuration of clouds is, `/etc/openstack`.
    pub system: PathBuf,
}

impl std::fmt::Debug for Surroundings {
    // One of the variables may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Surroundings")
            .field("directory", &self.directory)
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

impl Surroundings {
    /// A variable; one that is empty is not set.
    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A path as people write it.
    fn path(&self, text: &str) -> PathBuf {
        match (text.strip_prefix("~/"), &self.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => self.directory.join(text),
        }
    }
}

/// Which cloud is wanted.
#[derive(Debug, Clone, Default)]
pub struct Choice {
    /// Its name; by default what `OS_CLOUD` says, or the only one there is.
    pub cloud: Option<String>,
    /// Whether `verify: false` is obeyed. Whoever stands between could then read and change everything.
    pub unverified: bool,
}

/// A cloud, and as whom it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudConfig {
    /// What it is called here.
    pub name: String,
    /// Where its identity service is.
    pub auth_url: String,
    /// As whom.
    pub login: Login,
    /// For which project; `None` where the credential is bound to one.
    pub project: Option<Project>,
    /// In which region; by default the only one there is.
    pub region: Option<String>,
    /// Through which door.
    pub interface: Interface,
    /// A file with the certificate authorities that are trusted instead of the host's.
    pub cacert: Option<PathBuf>,
    /// Whether the cloud must prove who it is.
    pub verify: bool,
    /// What stands between here and the cloud.
    pub proxies: Proxies,
}

/// Proxies, as their variables name them. An address of one may have a password in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For addresses without TLS, from `http_proxy`.
    pub http: Option<Secret>,
    /// For addresses with TLS, from `https_proxy`.
    pub https: Option<Secret>,
    /// Where none is used, from `no_proxy`: hosts and networks with commas between.
    pub except: Option<String>,
}

/// As whom a cloud is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// A user with a password.
    Password {
        /// Who.
        user: Named,
        /// The password.
        password: Secret,
    },
    /// A token that somebody got before. It ends when it ends.
    Token(Secret),
    /// A credential made for a program, with fewer rights than the user who made it.
    ApplicationCredential {
        /// By its id, or by its name and whose it is.
        credential: ApplicationCredential,
        /// The secret that belongs to it.
        secret: Secret,
    },
}

/// How an application credential is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplicationCredential {
    /// By its id.
    Id(String),
    /// By its name, which is unique only for its user.
    Name {
        /// Its name.
        name: String,
        /// Whose it is.
        user: Named,
    },
}

/// A user or project: by an id, or by a name that is unique in a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    /// By id.
    Id(String),
    /// By name.
    Name {
        /// The name.
        name: String,
        /// Where it is unique.
        domain: Domain,
    },
}

/// A domain of users or projects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Domain {
    /// By id.
    Id(String),
    /// By name.
    Name(String),
}

/// For which project a cloud is used.
pub type Project = Named;

/// Through which door of a cloud.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Interface {
    /// The one for everybody.
    #[default]
    Public,
    /// The one for programs inside.
    Internal,
    /// The one for administrators.
    Admin,
}

impl Interface {
    /// As the catalogue calls it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Admin => "admin",
        }
    }
}

/// A cloud that is not described well enough to be used.
#[derive(Debug, thiserror::Error)]
pub enum CloudsError {
    /// A file that is there cannot be read.
    #[error("read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file that is no such file.
    #[error("understand {path} at line {line}, column {column}: {reason}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// Counted from 1; 0 if the place is not known.
        line: u64,
        /// Counted from 1; 0 if the place is not known.
        column: u64,
        /// What is wrong.
        reason: String,
    },
    /// Nothing says where a cloud is.
    #[error("find a cloud: there is no clouds.yaml in {looked}, and OS_AUTH_URL is not set")]
    Nowhere {
        /// Where one was looked for.
        looked: String,
    },
    /// No cloud of that name.
    #[error("find cloud {wanted:?} in {origin}: it has {has}")]
    NoSuchCloud {
        /// Which.
        wanted: String,
        /// What was read.
        origin: String,
        /// Those that are there.
        has: String,
    },
    /// Several, and none was chosen.
    #[error("choose a cloud from {origin}: it has {has}")]
    Ambiguous {
        /// What was read.
        origin: String,
        /// Those that are there.
        has: String,
    },
    /// Something needed is not said.
    #[error("use cloud {cloud:?} of {origin}: {key} is missing{because}")]
    Missing {
        /// Which cloud.
        cloud: String,
        /// What was read.
        origin: String,
        /// What is missing, as it would be written there.
        key: String,
        /// Why it is needed, if that is not plain; begins with a comma.
        because: String,
    },
    /// Something is said that cannot be used.
    #[error("use cloud {cloud:?} of {origin}: {key} is {found:?}: {why}")]
    Value {
        /// Which cloud.
        cloud: String,
        /// What was read, with the line where that is known.
        origin: String,
        /// The key.
        key: String,
        /// What it says. No key of this error is a secret.
        found: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It shall be used without being verified.
    #[error(
        "use cloud {cloud:?} of {origin}: verify is false, so anyone on the way could take the credential and change \
         what is asked for"
    )]
    Unverified {
        /// Which cloud.
        cloud: String,
        /// What was read, with the line where that is known.
        origin: String,
    },
}

impl CloudsError {
    /// What a program does about it: a person must mend the file.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        ErrorClass::Operator
    }

    /// What a person does about it.
    #[must_use]
    pub const fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } => "let the user who runs this read the file",
            Self::Syntax { .. } => "mend the file at that line",
            Self::Nowhere { .. } => {
                "download clouds.yaml from the cloud's dashboard (API access) into ~/.config/openstack, or source its \
                 openrc file"
            }
            Self::NoSuchCloud { .. } | Self::Ambiguous { .. } => "name one of them, in the spec or as OS_CLOUD",
            Self::Missing { .. } | Self::Value { .. } => {
                "mend it there; docs.openstack.org/openstacksdk describes the file"
            }
            Self::Unverified { .. } => "name the cloud's certificate authority as `cacert` and remove `verify: false`",
        }
    }
}

impl CloudConfig {
    /// Finds the cloud that is wanted.
    ///
    /// # Errors
    /// If there is none, several without a choice, or not everything that is needed.
    pub fn find(around: &Surroundings, choice: &Choice) -> Result<Self, CloudsError> {
        let wanted = choice.cloud.as_deref().or_else(|| around.variable("OS_CLOUD"));
        let by_variables = around.variable("OS_AUTH_URL").is_some();
        if wanted.is_none_or(|wanted| wanted == FROM_VARIABLES) && by_variables {
            let (name, origin) = (FROM_VARIABLES.to_owned(), "the environment".to_owned());
            let found = Found { around, name, origin, variables: true };
            return found.resolve(variables::entry(around), choice);
        }
        let files = search::files(around)?;
        let Some(document) = files.document else {
            return Err(CloudsError::Nowhere { looked: files.looked });
        };
        let (name, entry) = pick(document, wanted, &files.origin)?;
        Found { around, name, origin: files.origin, variables: false }.resolve(entry, choice)
    }
}

/// The entry that is wanted, or the only one.
fn pick(mut document: Document, wanted: Option<&str>, origin: &str) -> Result<(String, Entry), CloudsError> {
    let has = || match document.clouds.is_empty() {
        true => "none".to_owned(),
        false => document.clouds.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    let (origin, has) = (origin.to_owned(), has());
    let name = match (wanted, document.clouds.len()) {
        (Some(wanted), _) => wanted.to_owned(),
        (None, 1) => document.clouds.keys().next().cloned().unwrap_or_default(),
        (None, _) => return Err(CloudsError::Ambiguous { origin, has }),
    };
    match document.clouds.remove(&name) {
        Some(entry) => Ok((name, entry)),
        None => Err(CloudsError::NoSuchCloud { wanted: name, origin, has }),
    }
}
