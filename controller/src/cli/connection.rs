// SPDX-License-Identifier: Apache-2.0
//! Which controller is meant, and what to say when it cannot be reached.

use std::io;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Cause, Failure, tls_error};
use crate::client::{self, ConnectError, Connected, Target};
use crate::profile::{Profile, ProfileError};

/// Where the controller of this machine listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/windlass/windlass.sock";

/// Which controller. A flag wins over the environment, that over the profile in the home directory.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct ConnectionArgs {
    /// Local socket of the controller
    #[arg(long, global = true, value_name = "PATH", env = "WINDLASS_SOCKET", help_heading = "Connection")]
    pub(crate) socket: Option<PathBuf>,
    /// Profile file of a remote controller
    #[arg(long, global = true, value_name = "FILE", env = "WINDLASS_PROFILE", help_heading = "Connection")]
    pub(crate) profile: Option<PathBuf>,
}

/// What a person typed, as opposed to what the environment holds: clap merges the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Typed {
    /// `--socket` is on the command line.
    pub(crate) socket: bool,
    /// `--profile` is on the command line.
    pub(crate) profile: bool,
}

impl ConnectionArgs {
    /// The controller that is meant.
    ///
    /// # Errors
    /// If both are named equally strongly, or the profile cannot be used.
    pub(crate) fn target(&self, typed: Typed) -> Result<Target, Failure> {
        match self.choice(typed, home_profile().filter(|path| path.exists()))? {
            Choice::Socket(path) => Ok(Target::Socket(path)),
            Choice::Profile(path) => {
                let profile = Profile::load(&path).map_err(|error| profile_failure(&error))?;
                Ok(Target::Remote { profile: Box::new(profile), path })
            }
        }
    }

    fn choice(&self, typed: Typed, home: Option<PathBuf>) -> Result<Choice, Failure> {
        let choice = match (&self.socket, &self.profile) {
            (Some(_), Some(_)) if typed.socket == typed.profile => {
                return Err(Failure::new(Cause::Usage, "choose a controller")
                    .because("both a socket and a profile are given")
                    .advise("give one of --socket and --profile, or unset WINDLASS_SOCKET or WINDLASS_PROFILE"));
            }
            (Some(socket), profile) if typed.socket || profile.is_none() => Choice::Socket(socket.clone()),
            (_, Some(profile)) => Choice::Profile(profile.clone()),
            (Some(socket), None) => Choice::Socket(socket.clone()),
            (None, None) => home.map_or_else(|| Choice::Socket(DEFAULT_SOCKET.into()), Choice::Profile),
        };
        Ok(choice)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Socket(PathBuf),
    Profile(PathBuf),
}

fn home_profile() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")))?;
    Some(config.join("windlass/profile.toml"))
}

/// Connects, and explains if that fails.
///
/// # Errors
/// If the controller cannot be reached.
pub(crate) async fn connect(target: &Target) -> Result<Connected, Failure> {
    client::connect(target).await.map_err(|error| connect_failure(&error))
}

fn connect_failure(error: &ConnectError) -> Failure {
    let what = "reach the controller";
    match error {
        ConnectError::Socket { path, source } => {
            Failure::new(cause_of(source), what).because_of(error).advise(socket_advice(path, source))
        }
        ConnectError::Dial { source, .. } => {
            Failure::new(Cause::Unreachable, what).because_of(error).advise(match source.kind() {
                io::ErrorKind::ConnectionRefused => "is the controller running there, and is this its port (7600)?",
                io::ErrorKind::TimedOut => "check the address and the firewall between here and the controller",
                _ => "check `controller` in the profile",
            })
        }
        ConnectError::Handshake { source, .. } => {
            Failure::new(Cause::Unreachable, what).because_of(error).advise(handshake_advice(source))
        }
        ConnectError::Profile(profile) => profile_failure(profile),
        ConnectError::Http(_) => Failure::new(Cause::Unreachable, what)
            .because_of(error)
            .advise("is something else than a controller listening there?"),
    }
}

fn cause_of(error: &io::Error) -> Cause {
    if error.kind() == io::ErrorKind::PermissionDenied { Cause::NotPermitted } else { Cause::Unreachable }
}

fn socket_advice(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            // The socket itself is open to everybody: the controller decides by the caller's role.
            format!("{} is closed to you: run as root, or ask an admin to open its directory", path.display())
        }
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            "is the controller running? systemctl status windlass-controller, or start it: windlass serve".to_owned()
        }
        _ => "name the controller's socket with --socket, or a remote controller with --profile".to_owned(),
    }
}

fn handshake_advice(error: &io::Error) -> &'static str {
    use rustls::{CertificateError, Error};
    match tls_error(error) {
        Some(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => "compare the clocks of this machine and the controller: timedatectl",
        Some(Error::InvalidCertificate(_)) => {
            "this is another controller than the profile's, or its CA was rotated: ask an admin for a new profile"
        }
        Some(Error::AlertReceived(_)) => "the controller refused the certificate: ask an admin for a new profile",
        _ => "check that `controller` in the profile names the operators' port (7600)",
    }
}

fn profile_failure(error: &ProfileError) -> Failure {
    let failure = Failure::new(Cause::Misconfigured, "use the profile").because_of(error);
    match error {
        ProfileError::Exposed { path, .. } => failure.advise(format!("chmod 600 {}", path.display())),
        ProfileError::Read { .. } => failure.advise("name another with --profile, or use --socket"),
        ProfileError::Malformed { .. } | ProfileError::Pem { .. } => {
            failure.advise("make a new one on the bastion: windlass operator create NAME --role ROLE --out FILE")
        }
        ProfileError::Write { .. } => Failure { cause: Cause::Local, what: "make the profile".to_owned(), ..failure }
            .advise("choose a file that does not exist yet, in a directory that can be written"),
    }
}

/// A profile that could not be written.
pub(crate) fn unwritten_profile(error: &ProfileError) -> Failure {
    profile_failure(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(socket: Option<&str>, profile: Option<&str>) -> ConnectionArgs {
        ConnectionArgs { socket: socket.map(PathBuf::from), profile: profile.map(PathBuf::from) }
    }

    const SOCKET_TYPED: Typed = Typed { socket: true, profile: false };
    const PROFILE_TYPED: Typed = Typed { socket: false, profile: true };

    #[test]
    fn flag_beats_environment_beats_home_beats_default() {
        let home = || Some(PathBuf::from("/home/p"));
        let both = arguments(Some("/s"), Some("/p"));
        let choice = |arguments: &ConnectionArgs, typed, home| arguments.choice(typed, home).expect("a choice");
        assert_eq!(choice(&both, SOCKET_TYPED, home()), Choice::Socket("/s".into()));
        assert_eq!(choice(&both, PROFILE_TYPED, home()), Choice::Profile("/p".into()));
        assert_eq!(choice(&arguments(Some("/s"), None), Typed::default(), home()), Choice::Socket("/s".into()));
        assert_eq!(choice(&arguments(None, Some("/p")), Typed::default(), home()), Choice::Profile("/p".into()));
        assert_eq!(choice(&arguments(None, None), Typed::default(), home()), Choice::Profile("/home/p".into()));
        assert_eq!(choice(&arguments(None, None), Typed::default(), None), Choice::Socket(DEFAULT_SOCKET.into()));
    }

    #[test]
    fn refuses_to_guess_between_two_equals() {
        let both = arguments(Some("/s"), Some("/p"));
        for typed in [Typed::default(), Typed { socket: true, profile: true }] {
            assert_eq!(both.choice(typed, None).expect_err("two").exit().code(), 64);
        }
    }

    #[tokio::test]
    async fn a_missing_socket_says_how_to_start_the_controller() {
        let directory = tempfile::tempdir().expect("a directory");
        let failure = connect(&Target::Socket(directory.path().join("s"))).await.expect_err("no socket");
        assert_eq!(failure.exit().code(), 69);
        assert!(failure.advice.contains("windlass serve"), "{failure}");
    }

    #[test]
    fn a_wrong_clock_is_recognised() {
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYet);
        let error = io::Error::new(io::ErrorKind::InvalidData, expired);
        assert!(handshake_advice(&error).contains("clock"));
    }

    #[test]
    fn a_socket_in_a_closed_directory_says_so() {
        let failure = connect_failure(&ConnectError::Socket {
            path: "/run/w/w.sock".into(),
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        });
        assert_eq!(failure.exit().code(), 77);
        assert!(failure.advice.contains("/run/w/w.sock is closed to you"), "{failure}");
    }
}
