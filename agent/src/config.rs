// SPDX-License-Identifier: Apache-2.0
//! /etc/windlass/agent.toml. Everything has a default, and the file may be absent.

use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where the file is looked for.
pub const DEFAULT_PATH: &str = "/etc/windlass/agent.toml";

/// Where the front keeps what it must remember.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/windlass-agent";

/// Where the executor keeps what it must remember.
pub const DEFAULT_EXECUTOR_DIR: &str = "/var/lib/windlass-executor";

/// Where the front finds the executor.
pub const DEFAULT_EXECUTOR_SOCKET: &str = "/run/windlass-agent/executor.sock";

/// How jobs are run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobRunner {
    /// Transient units where systemd runs the machine, else process groups.
    #[default]
    Auto,
    /// Transient systemd units.
    Systemd,
    /// Process groups of the agent's own.
    ProcessGroup,
}

/// What an operator may set.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the front keeps what it must remember: its key and certificate; `--state-dir` wins.
    pub state_dir: PathBuf,
    /// Where the executor keeps what it must remember: its journal, whose orders it obeys. With `--state-dir` the same.
    pub executor_state_dir: PathBuf,
    /// Where the front finds the executor.
    pub executor_socket: PathBuf,
    /// Whether this node runs programs for operators.
    pub exec: bool,
    /// How programs are run.
    pub jobs: JobRunner,
    /// systemd units whose state is a fact and part of the node's health.
    pub services: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from(DEFAULT_STATE_DIR),
            executor_state_dir: PathBuf::from(DEFAULT_EXECUTOR_DIR),
            executor_socket: PathBuf::from(DEFAULT_EXECUTOR_SOCKET),
            exec: true,
            jobs: JobRunner::Auto,
            services: Vec::new(),
        }
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be; the source tells line and column.
    #[error("the configuration {} is wrong at the key {key}", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Which key; `.` where there is none yet.
        key: String,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A service's name could not be one.
    #[error("the configuration {} names a service {name:?}: write the unit's full name, such as \"sshd.service\"", path.display())]
    Service {
        /// Which file.
        path: PathBuf,
        /// Which service.
        name: String,
    },
}

impl Config {
    /// Reads the given file, which must be there, or the default one, which need not.
    ///
    /// # Errors
    /// If a file that is there, or should be, cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let at = path.unwrap_or_else(|| Path::new(DEFAULT_PATH));
        match std::fs::read_to_string(at) {
            Ok(text) => Self::parse(&text, at),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: at.to_owned(), source }),
        }
    }

    /// Understands the text of a file; `path` is for the error.
    ///
    /// # Errors
    /// Names what is wrong, with line and column where there are any.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let wrong = |key: String, source| ConfigError::Parse { path: path.to_owned(), key, source: Box::new(source) };
        let written = toml::Deserializer::parse(text).map_err(|source| wrong(".".to_owned(), source))?;
        let config: Self = serde_path_to_error::deserialize(written)
            .map_err(|error| wrong(error.path().to_string(), error.into_inner()))?;
        let is_unit = |name: &&String| {
            name.contains('.')
                && !name.starts_with('-')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || ".-_@:\\".contains(c))
        };
        match config.services.iter().find(|name| !is_unit(name)) {
            Some(name) => Err(ConfigError::Service { path: path.to_owned(), name: name.clone() }),
            None => Ok(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        use windlass_types::error_chain::ErrorChain;
        Config::parse(text, Path::new("agent.toml")).map_err(|error| ErrorChain(&error).to_string())
    }

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn reads_every_key() {
        let text = "state_dir = \"/tmp/w\"\nexec = false\njobs = \"process-group\"\nservices = [\"sshd.service\"]\n";
        let config = parse(text).expect("valid");
        assert_eq!((config.exec, config.jobs), (false, JobRunner::ProcessGroup));
        assert_eq!(config.services, ["sshd.service"]);
    }

    #[test]
    fn an_unknown_key_or_type_is_told_with_its_place() {
        for (text, place) in [("exec = true\nexce = 1\n", "line 2, column 1"), ("exec = 3\n", "line 1, column 8")] {
            let error = parse(text).expect_err("wrong");
            assert!(error.contains(place) && error.contains("agent.toml"), "{error}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_unit() {
        for name in ["sshd", "-H.service", "a b.service", "x;reboot.service"] {
            assert!(parse(&format!("services = [\"{name}\"]")).is_err(), "{name}");
        }
    }

    #[test]
    fn a_file_that_was_asked_for_must_be_there() {
        assert!(Config::load(Some(Path::new("/nonexistent/agent.toml"))).is_err());
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_key_and_place() {
        let error = Config::parse("exec = true\njobs = 3\n", Path::new("c")).expect_err("a number");
        let text = windlass_types::error_chain::ErrorChain(&error).to_string();
        assert!(text.contains("at the key jobs: ") && text.contains("line 2, column"), "{text}");
    }
}
