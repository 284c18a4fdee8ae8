// SPDX-License-Identifier: Apache-2.0
//! What to print when a command line was not understood: the mistake and the way out, in our own three lines.

use std::ffi::OsString;

use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::terminal::Terminal;

/// Prints help, or the mistake; gives the exit code.
pub(crate) fn report(error: &clap::Error, arguments: &[OsString]) -> Exit {
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
            let failure = failure(&error.render().to_string(), &help_for(arguments));
            Terminal::new(false, true).report(&failure);
            failure.exit()
        }
    }
}

/// clap's message is paragraphs: the mistake, perhaps tips, the usage, where to find more.
/// The help of the command that was meant.
fn help_for(arguments: &[OsString]) -> String {
    let tree = super::Arguments::command();
    let (mut command, mut path) = (&tree, "windlass".to_owned());
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(verb) = command.find_subcommand(word) {
            path = format!("{path} {word}");
            command = verb;
        }
    }
    format!("{path} --help")
}

fn failure(message: &str, help: &str) -> Failure {
    let mut paragraphs =
        message.split("\n\n").map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "));
    let mistake = paragraphs.next().unwrap_or_default();
    let mistake = mistake.strip_prefix("error: ").unwrap_or(&mistake).to_owned();
    let rest: Vec<_> = paragraphs.collect();
    let find = |prefix: &str| rest.iter().find_map(|paragraph| paragraph.strip_prefix(prefix)).map(str::to_owned);
    // What the environment holds is listed as if it had been typed.
    let usage = || find("Usage: ").map(|usage| usage.replace(" --socket <PATH>", "").replace(" --profile <FILE>", ""));
    let advice = find("tip: ").or_else(usage).unwrap_or_else(|| help.to_owned());
    Failure::new(Cause::Usage, mistake).advise(advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(line: &str) -> Failure {
        use clap::Parser as _;
        let error = super::super::Arguments::try_parse_from(line.split(' ')).expect_err(line);
        failure(&error.render().to_string(), "windlass --help")
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
    fn a_mistake_leads_to_the_help_of_its_own_command() {
        let help = |line: &str| help_for(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(help("windlass --no-color token create Node1"), "windlass token create --help");
        assert_eq!(help("windlass nonsense"), "windlass --help");
    }

    #[test]
    fn the_usage_does_not_list_what_the_environment_holds() {
        let message = "error: it lacks <ARGV>\n\nUsage: windlass exec --socket <PATH> <NODE>... -- <ARGV>...\n";
        assert_eq!(failure(message, "windlass --help").advice, "windlass exec <NODE>... -- <ARGV>...");
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
