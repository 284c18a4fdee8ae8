// SPDX-License-Identifier: Apache-2.0
//! Programs of steps: each runs to its end whatever becomes of the agent, and what it printed is kept.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use windlass_types::action::Argv;
use windlass_types::escape::Escaped;
use windlass_types::name::on_node::BootId;

/// How much of standard error is told of a program that failed.
const STDERR_TAIL_BYTES: usize = 2 * 1024;

/// A program of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// What.
    pub argv: Argv,
    /// When it is asked to end.
    pub limit: Duration,
    /// Whether it is killed if it does not end then: what writes to the package database never is.
    pub may_be_killed: bool,
    /// Exit codes that are answers and not failures.
    pub answers: BTreeSet<i32>,
    /// Whether what it prints belongs to the step's output.
    pub is_shown: bool,
    /// Whether it runs to its end although somebody asked to stop: it takes back what must not stay.
    pub ignores_stop: bool,
}

impl Program {
    /// A program that only looks.
    #[must_use]
    pub fn query(argv: Argv, limit: Duration) -> Self {
        Self { argv, limit, may_be_killed: true, answers: BTreeSet::from([0]), is_shown: false, ignores_stop: false }
    }

    /// Whether it changes something.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        !self.may_be_killed
    }

    /// A program that changes something and must not be killed.
    #[must_use]
    pub fn change(argv: Argv, limit: Duration) -> Self {
        Self { may_be_killed: false, is_shown: true, ..Self::query(argv, limit) }
    }

    /// With another exit code that is an answer.
    #[must_use]
    pub fn answering(mut self, code: i32) -> Self {
        self.answers.insert(code);
        self
    }
}

/// Program and arguments that are ours or checked names.
///
/// # Panics
/// Never: there is a program, nothing contains NUL, and nothing comes near the limits but lists of packages, which are
/// cut into several calls.
#[must_use]
pub fn argv<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Argv {
    Argv::new(arguments.into_iter().map(str::to_owned).collect()).expect("built from constants and checked names")
}

/// How a program ended and what it printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program that did not do what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// It did not start.
    #[error("start `{program}`: {reason}")]
    NotStarted {
        /// Which.
        program: String,
        /// Why.
        reason: String,
    },
    /// It ended with something else than an answer.
    #[error("`{program}` failed with exit code {code}: {stderr}")]
    Failed {
        /// Which.
        program: String,
        /// Its exit code.
        code: i32,
        /// The end of what it complained, control characters written out.
        stderr: String,
    },
    /// A signal ended it, or nobody saw how it ended.
    #[error("`{program}` {how}")]
    Lost {
        /// Which.
        program: String,
        /// What is known.
        how: String,
    },
    /// Its time was over.
    #[error("`{program}` did not end in time")]
    TimedOut {
        /// Which.
        program: String,
    },
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
    /// Something the agent keeps could not be written.
    #[error("{what}: {reason}")]
    NotKept {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

impl Ran {
    /// Itself, if it ended with an answer.
    ///
    /// # Errors
    /// If not.
    pub fn answered(self, program: &Program) -> Result<Self, ToolError> {
        if program.answers.contains(&self.code) {
            return Ok(self);
        }
        let said = if self.stderr.trim().is_empty() { self.stdout.trim() } else { self.stderr.trim() };
        let begin = said.ceil_char_boundary(said.len().saturating_sub(STDERR_TAIL_BYTES));
        let stderr = Escaped(&said[begin..]).to_string();
        Err(ToolError::Failed { program: program.argv.to_string(), code: self.code, stderr })
    }
}

/// Runs the programs of one step.
#[async_trait]
pub trait Tools: Send + Sync + std::fmt::Debug {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// If it did not end with an answer.
    async fn run(&self, program: &Program) -> Result<Ran, ToolError>;

    /// Waits for the end of what an earlier agent started for this step. `None` if there is nothing, or nobody knows.
    async fn settle(&self) -> Option<Ran>;

    /// Makes it known that from now on, in this boot of the machine, something may be changed: see [`crate::steps`].
    ///
    /// # Errors
    /// If it cannot be recorded; then nothing must be changed.
    async fn intend(&self, boot: Option<BootId>) -> Result<(), ToolError>;

    /// Waits until this agent has opened a session with the controller; for ever if it never does.
    async fn reached(&self);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_tells_the_end_of_what_the_program_complained() {
        let program = Program::query(argv(["dnf", "x"]), Duration::from_secs(1));
        let failed = Ran { code: 1, stdout: String::new(), stderr: format!("{}\u{1b}end", "ü".repeat(3000)) };
        let text = failed.answered(&program).unwrap_err().to_string();
        assert!(text.len() < 2 * STDERR_TAIL_BYTES && text.ends_with("\\u{1b}end"), "{text}");
        let only_out = Ran { code: 1, stdout: "Error: no".into(), stderr: "\n".into() };
        assert!(only_out.answered(&program).unwrap_err().to_string().ends_with("1: Error: no"));
        assert!(Ran { code: 1, ..Ran::default() }.answered(&program.answering(1)).is_ok());
    }
}
