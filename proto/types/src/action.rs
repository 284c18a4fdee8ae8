// SPDX-License-Identifier: Apache-2.0
//! What a node can be asked to do. Plain data: it prints, compares and is stored.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256Digest;
use crate::escape::Escaped;
use crate::node_step::StepOrder;

/// Most arguments an argv may have; more is a mistake, and the limit bounds what an order can cost an agent.
pub const MOST_ARGUMENTS: usize = 4096;

/// Longest sum of all arguments, bytes: well under the kernel's own limit (execve(2)) and one gRPC message.
pub const MOST_ARGUMENT_BYTES: usize = 128 * 1024;

/// Longest path, bytes: PATH_MAX of Linux.
const LONGEST_PATH: usize = 4096;

/// One thing to do on one node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Run a program without a shell.
    Exec(Argv),
    /// Place a file whose content the controller holds.
    PutFile {
        /// Where.
        path: NodePath,
        /// What.
        sha256: Sha256Digest,
        /// How much, bytes.
        size_bytes: u64,
        /// Permission bits, at most 0o7777.
        mode: u32,
    },
    /// Send a file to the controller.
    GetFile {
        /// Which.
        path: NodePath,
    },
    /// Do a step of a run.
    Step(Box<StepOrder>),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exec(argv) => write!(f, "exec {argv}"),
            Self::PutFile { path, size_bytes, .. } => write!(f, "copy {size_bytes} bytes to {path}"),
            Self::GetFile { path } => write!(f, "fetch {path}"),
            Self::Step(order) => order.fmt(f),
        }
    }
}

/// A program and its arguments: not empty, no NUL, bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Argv(Vec<String>);

/// An action that cannot be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAction {
    /// No program.
    #[error("nothing to run: give the program and its arguments after --")]
    NoProgram,
    /// The program's name is empty.
    #[error("the program's name is empty")]
    EmptyProgram,
    /// Too much.
    #[error("too many arguments: at most {MOST_ARGUMENTS} with {MOST_ARGUMENT_BYTES} bytes in all")]
    TooLarge,
    /// A NUL cannot be passed to a program.
    #[error("argument {0} contains a NUL character")]
    Nul(usize),
    /// Not absolute.
    #[error("{0:?} is not an absolute path")]
    Relative(String),
    /// Dot-dot, NUL, a newline, too long, or the root itself.
    #[error("{0:?} is not a path of a file: it must not contain '..', control characters or end with '/'")]
    Path(String),
    /// More than permission bits.
    #[error("{0:o} is not a file mode")]
    Mode(u32),
}

impl Argv {
    /// Checks and wraps.
    ///
    /// # Errors
    /// If there is no program, a NUL, or too much of anything.
    pub fn new(argv: Vec<String>) -> Result<Self, BadAction> {
        let program = argv.first().ok_or(BadAction::NoProgram)?;
        if program.is_empty() {
            return Err(BadAction::EmptyProgram);
        }
        if argv.len() > MOST_ARGUMENTS || argv.iter().map(String::len).sum::<usize>() > MOST_ARGUMENT_BYTES {
            return Err(BadAction::TooLarge);
        }
        match argv.iter().position(|argument| argument.contains('\0')) {
            Some(index) => Err(BadAction::Nul(index)),
            None => Ok(Self(argv)),
        }
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.0[0]
    }

    /// Its arguments.
    #[must_use]
    pub fn arguments(&self) -> &[String] {
        &self.0[1..]
    }

    /// Program and arguments.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Argv {
    type Error = BadAction;

    fn try_from(argv: Vec<String>) -> Result<Self, BadAction> {
        Self::new(argv)
    }
}

impl From<Argv> for Vec<String> {
    fn from(argv: Argv) -> Self {
        argv.0
    }
}

impl fmt::Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, argument) in self.0.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            let plain =
                !argument.is_empty() && argument.chars().all(|c| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c));
            if plain {
                write!(f, "{space}{argument}")?;
            } else {
                write!(f, "{space}'{}'", Escaped(argument))?;
            }
        }
        Ok(())
    }
}

/// An absolute path of a file on a node, without `..` and control characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodePath(String);

impl NodePath {
    /// Checks and wraps.
    ///
    /// # Errors
    /// If the path is relative or is not one of a file.
    pub fn new(path: impl Into<String>) -> Result<Self, BadAction> {
        let path = path.into();
        if !path.starts_with('/') {
            return Err(BadAction::Relative(path));
        }
        let climbs = path.split('/').any(|part| part == ".." || part == ".");
        if climbs || path.ends_with('/') || path.len() > LONGEST_PATH || path.chars().any(char::is_control) {
            return Err(BadAction::Path(path));
        }
        Ok(Self(path))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NodePath {
    type Error = BadAction;

    fn try_from(path: String) -> Result<Self, BadAction> {
        Self::new(path)
    }
}

impl From<NodePath> for String {
    fn from(path: NodePath) -> Self {
        path.0
    }
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.0))
    }
}

/// Checks the permission bits of a file.
///
/// # Errors
/// If there are more than permission bits.
pub fn checked_mode(mode: u32) -> Result<u32, BadAction> {
    if mode & !0o7777 == 0 { Ok(mode) } else { Err(BadAction::Mode(mode)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_program_could_be_given() {
        assert_eq!(Argv::new(vec![]), Err(BadAction::NoProgram));
        assert_eq!(Argv::new(vec![String::new()]), Err(BadAction::EmptyProgram));
        assert_eq!(Argv::new(vec!["a".into(), "b\0c".into()]), Err(BadAction::Nul(1)));
        assert_eq!(Argv::new(vec!["a".into(); MOST_ARGUMENTS + 1]), Err(BadAction::TooLarge));
    }

    #[test]
    fn refuses_paths_that_climb_or_hide() {
        for path in ["etc/passwd", "/a/../etc", "/", "/dev/vdb\nvdc", "/a/./b", "/dir/", "/a\0b"] {
            assert!(NodePath::new(path).is_err(), "{path:?}");
        }
        assert!(NodePath::new("/etc/windlass/agent.toml").is_ok());
    }

    #[test]
    fn prints_so_that_a_person_sees_where_arguments_end() {
        let argv = Argv::new(vec!["ls".into(), "-l".into(), "a b".into(), String::new()]).expect("valid");
        assert_eq!(argv.to_string(), "ls -l 'a b' ''");
    }
}
