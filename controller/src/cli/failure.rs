// SPDX-License-Identifier: Apache-2.0
//! How a command fails: what failed, why, what to do, and which exit code follows.

use std::error::Error;
use std::fmt;
use std::io;

use tonic::{Code, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;

use super::exit::Exit;

/// What kind of failure; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The command was not understood, or lacks a confirmation.
    Usage,
    /// The controller cannot be reached, or the connection broke.
    Unreachable,
    /// The controller refused, and said why.
    Refused(Reason),
    /// The controller or the network took too long.
    TimedOut,
    /// Someone else works on the same thing.
    Locked,
    /// This user, or this operator's certificate, may not.
    NotPermitted,
    /// A configuration or profile file is wrong.
    Misconfigured,
    /// A file or something else on this machine.
    Local,
    /// Whoever read our output has gone, as `head` does; nothing to tell.
    OutputClosed,
}

/// A failed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What kind.
    pub(crate) cause: Cause,
    /// What failed.
    pub(crate) what: String,
    /// Why; may be empty.
    pub(crate) why: String,
    /// What to do about it; may be empty.
    pub(crate) advice: String,
}

impl Failure {
    /// A failure without a reason and advice.
    pub(crate) fn new(cause: Cause, what: impl Into<String>) -> Self {
        Self { cause, what: what.into(), why: String::new(), advice: String::new() }
    }

    /// Says why.
    #[must_use]
    pub(crate) fn because(mut self, why: impl Into<String>) -> Self {
        self.why = why.into();
        self
    }

    /// Says why, with all causes of an error.
    #[must_use]
    pub(crate) fn because_of(self, error: &(dyn Error + 'static)) -> Self {
        self.because(on_one_line(&ErrorChain(error).to_string()))
    }

    /// Says what to do.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// A failure of a call.
    pub(crate) fn call(what: impl Into<String>, status: &Status) -> Self {
        let refusal = Refusal::from_status(status);
        let cause = cause_of(status, refusal.reason);
        let why = if refusal.message.is_empty() { status.code().to_string() } else { refusal.message };
        let advice = if refusal.advice.is_empty() { advice_for(cause, status).to_owned() } else { refusal.advice };
        Self { cause, what: what.into(), why, advice }
    }

    /// The exit code. Every kind is named here, so that a new one cannot be forgotten.
    #[must_use]
    pub(crate) const fn exit(&self) -> Exit {
        match self.cause {
            Cause::OutputClosed => Exit::Done,
            Cause::Usage => Exit::Usage,
            Cause::Unreachable => Exit::Unreachable,
            Cause::TimedOut => Exit::TimedOut,
            Cause::Locked => Exit::Locked,
            Cause::NotPermitted => Exit::NotPermitted,
            Cause::Misconfigured => Exit::Misconfigured,
            Cause::Local => Exit::Failed,
            Cause::Refused(reason) => exit_of(reason),
        }
    }
}

/// Parsers draw the line they did not understand, with a gutter; the words around the drawing say enough.
fn on_one_line(text: &str) -> String {
    let is_drawing =
        |line: &&str| line.trim_start_matches([' ', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).starts_with('|');
    let words = text.lines().filter(|line| !is_drawing(line)).map(str::trim).filter(|line| !line.is_empty());
    words.collect::<Vec<_>>().join(": ")
}

const fn exit_of(reason: Reason) -> Exit {
    match reason {
        Reason::BadRequest => Exit::Usage,
        Reason::NotTrusted | Reason::NotPermitted | Reason::JoinRefused | Reason::SwitchedOff => Exit::NotPermitted,
        Reason::ReadOnly | Reason::Unsafe | Reason::WorldChanged => Exit::Unsafe,
        Reason::RunInProgress => Exit::Locked,
        Reason::ShuttingDown => Exit::Unreachable,
        Reason::NotFound
        | Reason::AlreadyExists
        | Reason::RateLimited
        | Reason::LimitReached
        | Reason::AuditUnavailable
        | Reason::StateUnavailable
        | Reason::DiskFull
        | Reason::Other => Exit::Failed,
    }
}

/// A status that carries none of our reasons comes from the library: the connection, or a peer that is not ours.
fn cause_of(status: &Status, reason: Reason) -> Cause {
    match (reason, status.code()) {
        (Reason::Other, _) if is_untrusted(status) => Cause::NotPermitted,
        (Reason::Other, Code::Unavailable) => Cause::Unreachable,
        (Reason::Other, Code::DeadlineExceeded) => Cause::TimedOut,
        (Reason::Other, Code::PermissionDenied | Code::Unauthenticated) => Cause::NotPermitted,
        (Reason::Other, Code::Unknown | Code::Cancelled | Code::Internal) if status.source().is_some() => {
            Cause::Unreachable
        }
        (reason, _) => Cause::Refused(reason),
    }
}

fn advice_for(cause: Cause, status: &Status) -> &'static str {
    match (cause, status.code()) {
        (Cause::NotPermitted, _) => {
            "ask an admin for a certificate or role that may do this: windlass operator create or role"
        }
        (Cause::Unreachable, _) => "try again; if it goes on: systemctl status windlass-controller",
        (_, Code::Unimplemented) => "the controller is older than this program: install the same version on both",
        _ => "",
    }
}

/// Whether the peer ended TLS because it does not trust our certificate. In TLS 1.3 that arrives after the handshake.
fn is_untrusted(status: &Status) -> bool {
    tls_error(status).is_some_and(|error| matches!(error, rustls::Error::AlertReceived(_)))
}

/// The TLS error among the causes. `io::Error` hides what it carries from `source`, so it is asked directly.
pub(crate) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Escaped(&self.what))?;
        if !self.why.is_empty() {
            write!(f, ": {}", Escaped(&self.why))?;
        }
        if !self.advice.is_empty() {
            write!(f, "\n  do: {}", Escaped(&self.advice))?;
        }
        Ok(())
    }
}

impl Error for Failure {}

impl From<io::Error> for Failure {
    /// For errors of our own output; whoever touches a file says which.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::new(Cause::OutputClosed, "write the output");
        }
        Self::new(Cause::Local, "write the output").because_of(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_documented_exit_code() {
        let rows = [
            (Cause::OutputClosed, 0),
            (Cause::Local, 1),
            (Cause::Refused(Reason::NotFound), 1),
            (Cause::Refused(Reason::DiskFull), 1),
            (Cause::Refused(Reason::Unsafe), 4),
            (Cause::Refused(Reason::ReadOnly), 4),
            (Cause::Refused(Reason::WorldChanged), 4),
            (Cause::Refused(Reason::RunInProgress), 6),
            (Cause::TimedOut, 5),
            (Cause::Locked, 6),
            (Cause::Usage, 64),
            (Cause::Refused(Reason::BadRequest), 64),
            (Cause::Unreachable, 69),
            (Cause::Refused(Reason::ShuttingDown), 69),
            (Cause::NotPermitted, 77),
            (Cause::Refused(Reason::NotPermitted), 77),
            (Cause::Refused(Reason::SwitchedOff), 77),
            (Cause::Misconfigured, 78),
        ];
        for (cause, code) in rows {
            assert_eq!(Failure::new(cause, "x").exit().code(), code, "{cause:?}");
        }
    }

    #[test]
    fn prints_what_why_and_do_on_two_lines() {
        let failure = Failure::new(Cause::Local, "read a file").because("no such file").advise("name another");
        assert_eq!(failure.to_string(), "read a file: no such file\n  do: name another");
    }

    #[test]
    fn the_drawing_of_a_parser_is_left_out() {
        let error = toml::from_str::<std::collections::BTreeMap<String, u8>>("a = 1\nb = x\n").expect_err("no number");
        let why = Failure::new(Cause::Misconfigured, "x").because_of(&error).why;
        assert!(why.contains("line 2") && !why.contains('|') && !why.contains('\n'), "{why}");
    }

    #[test]
    fn words_from_elsewhere_cannot_add_lines_or_move_the_cursor() {
        let hostile = "gone\n  do: rm -rf /\u{1b}[2J";
        let status = Status::from(Refusal::new(Reason::NotFound, hostile).advise("look\nelsewhere"));
        let text = Failure::call("find node1", &status).to_string();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_lost_connection_is_not_a_refusal() {
        for status in [Status::unavailable("reset"), Status::from_error(Box::new(io::Error::other("broken pipe")))] {
            assert_eq!(Failure::call("list the nodes", &status).exit(), Exit::Unreachable, "{status:?}");
        }
        let ours = Status::from(Refusal::new(Reason::StateUnavailable, "the database is closed"));
        assert_eq!(Failure::call("list the nodes", &ours).exit(), Exit::Failed);
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_found_among_the_causes() {
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateRevoked);
        let status = Status::from_error(Box::new(io::Error::new(io::ErrorKind::InvalidData, alert)));
        assert_eq!(Failure::call("list the nodes", &status).exit(), Exit::NotPermitted);
    }
}
