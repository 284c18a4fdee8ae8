// SPDX-License-Identifier: Apache-2.0
//! The daemon's configuration: the TOML file as written ([`File`]), then checked and complete ([`Settings`]).
//!
//! Everything past this module deals in [`Settings`] only. Unknown keys are refused with line and column, so that a
//! misspelt limit is never silently the default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::duration;

/// Renewal takes a connection and two writes to disk; a shorter life leaves no room for a second attempt.
const SHORTEST_LIFE_SECONDS: u64 = 10;

/// Where the file is looked for when nobody names one.
pub const DEFAULT_FILE: &str = "/etc/windlass/controller.toml";

/// The configuration file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    /// Where agents and remote operators connect.
    pub listen: Option<SocketAddr>,
    /// Where machines join.
    pub join_listen: Option<SocketAddr>,
    /// Where livez, readyz and metrics are served.
    pub http_listen: Option<SocketAddr>,
    /// Where local operators connect.
    pub socket: Option<PathBuf>,
    /// Where state is kept.
    pub state_dir: Option<PathBuf>,
    /// Host names or addresses by which agents reach this machine; the first goes into join commands.
    pub advertise: Vec<String>,
    /// What strangers and peers may cost.
    pub limits: LimitsFile,
    /// Jobs.
    pub jobs: JobsFile,
    /// Agent sessions.
    pub session: SessionFile,
    /// Certificates.
    pub certificates: CertificatesFile,
    /// Who is who on the socket.
    pub socket_access: SocketAccess,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsFile {
    /// Connections in all.
    pub max_connections: Option<usize>,
    /// Seconds for a TLS handshake.
    pub handshake_seconds: Option<u64>,
    /// Handshakes under way at once.
    pub unfinished_handshakes: Option<usize>,
    /// Connections without a trusted certificate from one address at once.
    pub per_address_unauthenticated: Option<usize>,
    /// Bytes of the disk that files and output leave free; 0 for a twentieth of the disk, 1 GiB at most.
    pub disk_reserve_bytes: Option<u64>,
}

/// `[jobs]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsFile {
    /// Whether programs may be run with `windlass exec`.
    pub exec: Option<bool>,
    /// Seconds a job may take on a node unless the operator says otherwise.
    pub default_timeout_seconds: Option<u64>,
    /// Bytes of each output stream kept per node.
    pub output_limit_bytes: Option<u64>,
}

/// `[session]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionFile {
    /// Seconds between heartbeats.
    pub heartbeat_seconds: Option<u64>,
    /// Seconds a node's clock may be off before it counts as skewed.
    pub clock_skew_limit_seconds: Option<u64>,
}

/// `[certificates]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CertificatesFile {
    /// How long an agent's certificate is valid, such as `7d`.
    pub agent_life: Option<String>,
    /// How long an operator's certificate is valid, such as `90d`.
    pub operator_life: Option<String>,
}

/// `[socket_access]`: users and `@groups` per role. Root and the daemon's own user are always admins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SocketAccess {
    /// Who may do everything.
    pub admins: Vec<String>,
    /// Who may change nodes and run jobs.
    pub operators: Vec<String>,
    /// Who may read.
    pub viewers: Vec<String>,
}

/// What flags and environment say; each wins over the file.
#[derive(Debug, Default)]
pub struct Overrides {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--join-listen`.
    pub join_listen: Option<SocketAddr>,
    /// `--http-listen`.
    pub http_listen: Option<SocketAddr>,
    /// `--socket`.
    pub socket: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
}

/// Checked and complete.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where agents and remote operators connect.
    pub listen: SocketAddr,
    /// Where machines join.
    pub join_listen: SocketAddr,
    /// Where livez, readyz and metrics are served.
    pub http_listen: SocketAddr,
    /// Where local operators connect.
    pub socket: PathBuf,
    /// Where state is kept.
    pub state_dir: PathBuf,
    /// Host names or addresses by which agents reach this machine; may be empty.
    pub advertise: Vec<String>,
    /// What strangers and peers may cost.
    pub limits: Limits,
    /// Whether programs may be run with `windlass exec`.
    pub exec: bool,
    /// What a job may take on a node unless the operator says otherwise.
    pub default_timeout: Duration,
    /// Bytes of each output stream kept per node.
    pub output_limit_bytes: u64,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// How far a node's clock may be off before it counts as skewed.
    pub clock_skew_limit: Duration,
    /// How long an agent's certificate is valid.
    pub agent_certificate: Duration,
    /// How long an operator's certificate is valid.
    pub operator_certificate: Duration,
    /// Who is who on the socket.
    pub socket_access: SocketAccess,
}

/// What strangers and peers may cost.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections in all; further ones wait in the kernel's queue.
    pub max_connections: usize,
    /// Time for a TLS handshake.
    pub handshake: Duration,
    /// Handshakes under way at once; further ones wait.
    pub unfinished_handshakes: usize,
    /// Connections without a trusted certificate from one address at once.
    pub per_address_unauthenticated: usize,
    /// Bytes of the disk that files and output leave free; 0 for a twentieth of the disk, 1 GiB at most.
    pub disk_reserve_bytes: u64,
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read the configuration file {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be; the source names line and column.
    #[error("understand the configuration file {path}")]
    Parse {
        /// Which.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<Misread>,
    },
    /// A length of time is not one.
    #[error("use the configuration: {key}")]
    Duration {
        /// Which key.
        key: &'static str,
        /// What is wrong.
        #[source]
        source: duration::NotADuration,
    },
    /// A value is out of range.
    #[error("use the configuration: {key} must be {rule}, not {value}")]
    Range {
        /// Which key.
        key: &'static str,
        /// What it must be.
        rule: &'static str,
        /// What it is.
        value: u64,
    },
}

/// A value that is not what its key wants.
#[derive(Debug, thiserror::Error)]
#[error("key {key}")]
pub struct Misread {
    /// Which key, such as `limits.handshake_seconds`; `.` where there is none yet.
    key: String,
    /// Line, column and what is wrong.
    #[source]
    source: toml::de::Error,
}

impl File {
    /// Reads a file. Without a name the default is read if it exists.
    ///
    /// # Errors
    /// If the file cannot be read or understood.
    pub fn read(named: Option<&Path>) -> Result<Self, ConfigError> {
        let path = named.unwrap_or(Path::new(DEFAULT_FILE));
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) }),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Understands the text of a file.
    ///
    /// # Errors
    /// Names key, line and column of what is wrong.
    pub fn parse(text: &str) -> Result<Self, Misread> {
        let written = toml::Deserializer::parse(text).map_err(|source| Misread { key: ".".to_owned(), source })?;
        serde_path_to_error::deserialize(written)
            .map_err(|error| Misread { key: error.path().to_string(), source: error.into_inner() })
    }
}

impl Settings {
    /// Fills in defaults and checks ranges.
    ///
    /// # Errors
    /// If a value is out of range.
    pub fn new(file: File, overrides: Overrides) -> Result<Self, ConfigError> {
        let seconds = |key, value: Option<u64>, default, longest| {
            range(key, value.unwrap_or(default), 1, longest).map(Duration::from_secs)
        };
        let life = |key, text: Option<String>, default: &str, longest_days: u64| {
            let text = text.unwrap_or_else(|| default.to_owned());
            let life = duration::parse(&text).map_err(|source| ConfigError::Duration { key, source })?;
            range(key, life.as_secs(), SHORTEST_LIFE_SECONDS, longest_days * 86_400).map(|_| life)
        };
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        Ok(Self {
            listen: overrides.listen.or(file.listen).unwrap_or(any(7600)),
            join_listen: overrides.join_listen.or(file.join_listen).unwrap_or(any(7601)),
            http_listen: overrides.http_listen.or(file.http_listen).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 7602))),
            socket: overrides.socket.or(file.socket).unwrap_or("/run/windlass/windlass.sock".into()),
            state_dir: overrides.state_dir.or(file.state_dir).unwrap_or("/var/lib/windlass".into()),
            advertise: file.advertise,
            limits: Limits::new(&file.limits)?,
            exec: file.jobs.exec.unwrap_or(true),
            default_timeout: seconds("jobs.default_timeout_seconds", file.jobs.default_timeout_seconds, 600, 604_800)?,
            output_limit_bytes: file.jobs.output_limit_bytes.unwrap_or(1 << 20),
            heartbeat: seconds("session.heartbeat_seconds", file.session.heartbeat_seconds, 10, 600)?,
            clock_skew_limit: seconds(
                "session.clock_skew_limit_seconds",
                file.session.clock_skew_limit_seconds,
                10,
                86_400,
            )?,
            agent_certificate: life("certificates.agent_life", file.certificates.agent_life, "7d", 365)?,
            operator_certificate: life("certificates.operator_life", file.certificates.operator_life, "90d", 825)?,
            socket_access: file.socket_access,
        })
    }

    /// The state of a controller for tests and simulations, below one directory.
    #[must_use]
    pub fn for_tests(directory: &Path) -> Self {
        let loopback = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let overrides = Overrides {
            listen: loopback,
            join_listen: loopback,
            http_listen: loopback,
            socket: Some(directory.join("windlass.sock")),
            state_dir: Some(directory.join("state")),
        };
        Self::new(File::default(), overrides).expect("the defaults are in range")
    }
}

impl Limits {
    /// Under the common hard limit of open files; each connection is one descriptor.
    const DEFAULT_CONNECTIONS: usize = 16_384;

    fn new(file: &LimitsFile) -> Result<Self, ConfigError> {
        let count = |key, value: Option<usize>, default: usize| {
            let value = value.unwrap_or(default);
            range(key, value as u64, 1, 1 << 20).map(|_| value)
        };
        Ok(Self {
            max_connections: count("limits.max_connections", file.max_connections, Self::DEFAULT_CONNECTIONS)?,
            handshake: Duration::from_secs(range(
                "limits.handshake_seconds",
                file.handshake_seconds.unwrap_or(5),
                1,
                60,
            )?),
            unfinished_handshakes: count("limits.unfinished_handshakes", file.unfinished_handshakes, 64)?,
            per_address_unauthenticated: count(
                "limits.per_address_unauthenticated",
                file.per_address_unauthenticated,
                8,
            )?,
            disk_reserve_bytes: file.disk_reserve_bytes.unwrap_or(0),
        })
    }
}

fn range(key: &'static str, value: u64, least: u64, most: u64) -> Result<u64, ConfigError> {
    if value < least {
        return Err(ConfigError::Range { key, rule: "larger", value });
    }
    if value > most {
        return Err(ConfigError::Range { key, rule: "smaller", value });
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::error_chain::ErrorChain;

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_its_key_and_place() {
        for (text, key, line) in [
            ("[limits]\nhandshake_seconds = \"5\"", "limits.handshake_seconds", "line 2"),
            ("advertise = [\"a\", 2]", "advertise[1]", "line 1"),
            ("listen = \"nowhere\"", "listen", "line 1"),
        ] {
            let error = File::parse(text).expect_err("a wrong type");
            let text = ErrorChain(&error).to_string();
            assert!(text.contains(&format!("key {key}: ")) && text.contains(line) && text.contains("column"), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = File::parse("listen = \"0.0.0.0:7600\"\n[jobs]\nexce = false\n").expect_err("a misspelt key");
        let text = ErrorChain(&error).to_string();
        assert!(text.contains("line 3") && text.contains("exce"), "{text}");
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = File::parse("listen = \"10.0.0.1:1\"\njoin_listen = \"10.0.0.1:2\"").expect("valid");
        let flag = SocketAddr::from(([127, 0, 0, 1], 9));
        let settings = Settings::new(file, Overrides { listen: Some(flag), ..Overrides::default() }).expect("in range");
        assert_eq!(settings.listen, flag);
        assert_eq!(settings.join_listen.port(), 2);
        assert_eq!(settings.http_listen.port(), 7602);
    }

    #[test]
    fn a_number_out_of_range_names_its_key() {
        let file = File::parse("[session]\nheartbeat_seconds = 0").expect("valid");
        let error = Settings::new(file, Overrides::default()).expect_err("zero").to_string();
        assert!(error.contains("session.heartbeat_seconds"), "{error}");
    }
}
