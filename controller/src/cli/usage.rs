// SPDX-License-Identifier: Apache-2.0
//! What to print when a command line was not understood: the mistake and the way out, in our own three lines.

use clap::error::ErrorKind;

use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::terminal::Terminal;

/// Prints help, or the mistake; gives the exit code.
pub(crate) fn report(error: &clap::Error) -> Exit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed stdout is nobody to help.
            let _ = error.print();
            Exit::Done
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Exit::Usage
        }
        _ => {
            let failure = failure(&error.render().to_string());
            Terminal::new(false, true).report(&failure);
            failure.exit()
        }
    }
}

/// clap's message is paragraphs: the mistake, perhaps tips, the usage, where to find more.
fn failure(message: &str) -> Failure {
    let mut paragraphs =
        message.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let mistake = paragraphs.next().unwrap_or_default();
    let mistake = mistake.strip_prefix("error: ").unwrap_or(&mistake).to_owned();
    let rest: Vec<_> = paragraphs.collect();
    let find = |prefix: &str| rest.iter().find_map(|paragraph| paragraph.strip_prefix(prefix)).map(str::to_owned);
    let advice = find("tip: ").or_else(|| find("Usage: ")).unwrap_or_else(|| "windlass --help".to_owned());
    Failure::new(Cause::Usage, mistake).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(line: &str) -> Failure {
        use clap::Parser as _;
        let error = super::super::Arguments::try_parse_from(line.split(' ')).expect_err(line);
        failure(&error.render().to_string())
    }

    #[test]
    fn a_slip_gets_a_suggestion() {
        let failure = mistake("windlass get noses");
        assert_eq!(failure.what, "unrecognized subcommand 'noses'");
        assert!(failure.advice.contains("'nodes'"), "{failure}");
    }

    #[test]
    fn a_missing_argument_gets_the_usage() {
        let failure = mistake("windlass token create");
        assert!(failure.what.contains("<NODE>"), "{failure}");
        assert!(failure.advice.starts_with("windlass token create"), "{failure}");
    }

    #[test]
    fn a_bad_value_is_explained_in_our_words_on_few_lines() {
        for line in ["windlass token create node1 --ttl 30", "windlass get nodes \u{1b}[2J", "windlass --nope"] {
            let text = mistake(line).to_string();
            assert!(text.lines().count() <= 3 && !text.contains('\u{1b}'), "{text}");
        }
        assert!(mistake("windlass token create n --ttl 30").what.contains("30m"));
    }
}
