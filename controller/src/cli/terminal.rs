// SPDX-License-Identifier: Apache-2.0
//! Where output goes: results to stdout, messages to stderr; colour, questions and progress only where a person looks.

use std::fmt::{self, Display};
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write as _};

use super::failure::{Cause, Failure};

/// Large enough for the answers of a hundred nodes in one write.
const OUTPUT_BUFFER_BYTES: usize = 64 * 1024;

/// What may be done with the standard streams.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// A person reads stdout.
    pub(crate) stdout_is_terminal: bool,
    /// A person reads stderr.
    pub(crate) stderr_is_terminal: bool,
    /// Colours are wanted, where a person reads.
    pub(crate) colour: bool,
    /// Lines may be drawn again.
    pub(crate) animates: bool,
    /// Questions may be asked.
    may_ask: bool,
}

/// The few colours in use, by meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Wrong.
    Bad,
    /// Unimportant.
    Faint,
}

impl Tone {
    const fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warning => "33",
            Self::Bad => "31",
            Self::Faint => "2",
        }
    }
}

/// Text in a colour, or plain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Toned<T> {
    tone: Option<Tone>,
    text: T,
}

impl<T: Display> Display for Toned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tone {
            Some(tone) => write!(f, "\u{1b}[{}m{}\u{1b}[0m", tone.code(), self.text),
            None => self.text.fmt(f),
        }
    }
}

/// Colours `text` if `colour` is set.
pub(crate) fn toned<T: Display>(colour: bool, tone: Tone, text: T) -> Toned<T> {
    Toned { tone: colour.then_some(tone), text }
}

impl Terminal {
    /// Looks at the standard streams and the environment.
    pub(crate) fn new(no_color: bool, no_input: bool) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let stderr_is_terminal = io::stderr().is_terminal();
        Self {
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal,
            animates: !dumb,
            colour: !no_color && !dumb && !set("NO_COLOR") && !set("WINDLASS_NO_COLOR"),
            may_ask: !no_input && io::stdin().is_terminal() && stderr_is_terminal,
        }
    }

    /// Stdout, locked once and buffered.
    pub(crate) fn out(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(OUTPUT_BUFFER_BYTES, io::stdout().lock())
    }

    /// Whether what goes to stdout may be coloured.
    pub(crate) const fn colours_stdout(&self) -> bool {
        self.colour && self.stdout_is_terminal
    }

    /// Says something to the person; a closed stderr is nobody to tell.
    pub(crate) fn say(&self, message: impl Display) {
        let _ = writeln!(io::stderr(), "{message}");
    }

    /// Says to somebody who sits there what is waited for.
    pub(crate) fn announce(&self, message: &str) {
        if self.stderr_is_terminal {
            self.say(message);
        }
    }

    /// Prints a failure.
    pub(crate) fn report(&self, failure: &Failure) {
        if failure.cause != Cause::OutputClosed {
            let error = toned(self.colour && self.stderr_is_terminal, Tone::Bad, "error:");
            self.say(format_args!("{error} {failure}"));
        }
    }

    /// Asks before something that cannot be undone. `confirmed` is the flag `--yes`.
    ///
    /// # Errors
    /// If nobody can be asked, or the answer is no.
    pub(crate) fn confirm(&self, question: &str, confirmed: bool) -> Result<(), Failure> {
        if confirmed {
            return Ok(());
        }
        if !self.may_ask {
            let what = question.split('?').next().unwrap_or(question);
            return Err(Failure::new(Cause::Usage, what)
                .because("this needs a confirmation and nobody can be asked here")
                .advise("add --yes if that is what you want"));
        }
        let _ = write!(io::stderr(), "{question} [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(|error| {
            Failure::new(Cause::Local, "read the answer").because_of(&error).advise("add --yes instead")
        })?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new(Cause::Usage, "nothing was changed").because("the answer was not y")),
        }
    }
}

impl Terminal {
    /// Asks for a name before something that destroys. `typed` is the flag `--confirm`. Gives the name.
    ///
    /// # Errors
    /// If nobody can be asked, or another name was typed.
    pub(crate) fn confirm_by_name(&self, warning: &str, name: &str, typed: Option<&str>) -> Result<String, Failure> {
        let answer = match typed {
            Some(typed) => typed.to_owned(),
            None if !self.may_ask => {
                return Err(Failure::new(Cause::Usage, warning)
                    .because("this needs a confirmation and nobody can be asked here")
                    .advise(format!("add --confirm {name} if that is what you want")));
            }
            None => {
                let _ = write!(io::stderr(), "{warning}; type {name} to go on: ");
                let mut answer = String::new();
                io::stdin().read_line(&mut answer).map_err(|error| {
                    Failure::new(Cause::Local, "read the answer").because_of(&error).advise("use --confirm instead")
                })?;
                answer.trim().to_owned()
            }
        };
        if answer == name {
            return Ok(answer);
        }
        Err(Failure::new(Cause::Usage, "nothing was changed").because(format!("the answer was not {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Terminal =
        Terminal { stdout_is_terminal: false, stderr_is_terminal: false, colour: true, animates: true, may_ask: false };

    #[test]
    fn where_nobody_can_be_asked_the_flag_is_named() {
        let failure = PIPE.confirm("revoke node1?", false).expect_err("no terminal");
        assert_eq!(failure.exit().code(), 64);
        assert!(failure.advice.contains("--yes"), "{failure}");
        assert_eq!(PIPE.confirm("revoke node1?", true), Ok(()));
    }

    #[test]
    fn what_destroys_needs_the_right_name_also_from_a_script() {
        assert!(PIPE.confirm_by_name("x", "k8s1", None).expect_err("nobody to ask").advice.contains("--confirm k8s1"));
        assert!(PIPE.confirm_by_name("x", "k8s1", Some("k8s2")).is_err());
        assert_eq!(PIPE.confirm_by_name("x", "k8s1", Some("k8s1")), Ok("k8s1".to_owned()));
    }

    #[test]
    fn a_pipe_gets_no_colour() {
        assert!(!PIPE.colours_stdout());
        assert_eq!(toned(false, Tone::Bad, "x").to_string(), "x");
        assert_eq!(toned(true, Tone::Bad, "x").to_string(), "\u{1b}[31mx\u{1b}[0m");
    }
}
