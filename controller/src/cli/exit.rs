// SPDX-License-Identifier: Apache-2.0
//! What the program ends with. The numbers are an interface: scripts match them.

use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or nothing to do.
    Done,
    /// Failed.
    Failed,
    /// There is something to do; only with `--detailed-exitcode`.
    ChangesPresent,
    /// Some nodes failed, or are not well.
    NodesFailed,
    /// A safety check refused.
    Unsafe,
    /// Timed out waiting.
    TimedOut,
    /// Someone else holds the lock.
    Locked,
    /// Interrupted or detached; the work continues.
    Detached,
    /// The command was not understood, or not confirmed.
    Usage,
    /// The controller cannot be reached.
    Unreachable,
    /// Not permitted.
    NotPermitted,
    /// The configuration is wrong.
    Misconfigured,
}

impl Exit {
    /// Every way to end, by number.
    pub const ALL: [Self; 12] = [
        Self::Done,
        Self::Failed,
        Self::ChangesPresent,
        Self::NodesFailed,
        Self::Unsafe,
        Self::TimedOut,
        Self::Locked,
        Self::Detached,
        Self::Usage,
        Self::Unreachable,
        Self::NotPermitted,
        Self::Misconfigured,
    ];

    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::ChangesPresent => 2,
            Self::NodesFailed => 3,
            Self::Unsafe => 4,
            Self::TimedOut => 5,
            Self::Locked => 6,
            Self::Detached => 7,
            // From here on as in sysexits(3).
            Self::Usage => 64,
            Self::Unreachable => 69,
            Self::NotPermitted => 77,
            Self::Misconfigured => 78,
        }
    }

    /// What the number says, for the manual.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Done => "done, or nothing to do",
            Self::Failed => "failed",
            Self::ChangesPresent => "there is something to do (only with --detailed-exitcode)",
            Self::NodesFailed => "some nodes failed, or are not well",
            Self::Unsafe => "refused by a safety check",
            Self::TimedOut => "timed out waiting",
            Self::Locked => "someone else holds the lock",
            Self::Detached => "interrupted or detached; the work continues",
            Self::Usage => "the command was not understood, or not confirmed",
            Self::Unreachable => "the controller cannot be reached",
            Self::NotPermitted => "not permitted",
            Self::Misconfigured => "the configuration is wrong",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_the_documented_ones() {
        assert_eq!(Exit::ALL.map(Exit::code), [0, 1, 2, 3, 4, 5, 6, 7, 64, 69, 77, 78]);
    }
}
