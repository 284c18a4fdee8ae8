// SPDX-License-Identifier: Apache-2.0
//! systemctl(1) show: the states of units.

use std::time::Duration;

use windlass_types::facts::ServiceState;

use super::exec::{CommandSpec, ExecError, find};

const DEADLINE: Duration = Duration::from_secs(10);

/// Asks for the states of units. One `-p` each: the oldest supported systemctl knows no other form for certain.
pub(super) fn show_command(units: &[String]) -> Result<CommandSpec, ExecError> {
    let mut arguments = vec!["show", "--no-pager", "-p", "LoadState", "-p", "ActiveState", "-p", "SubState", "--"];
    arguments.extend(units.iter().map(String::as_str));
    Ok(CommandSpec::new(find("systemctl")?, &arguments, DEADLINE))
}

/// An answer that does not fit the question.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("systemctl answered about {answered} units instead of {asked}")]
pub struct BadAnswer {
    asked: usize,
    answered: usize,
}

/// Reads one block of `Key=value` lines per unit, in the order asked. The name is the one asked for, not what it is an
/// alias of. A unit that does not exist is `inactive` with the substate `not-found`.
///
/// # Errors
/// If there are more or fewer blocks than units.
pub fn parse_show(units: &[String], text: &str) -> Result<Vec<ServiceState>, BadAnswer> {
    let blocks: Vec<&str> = text.split("\n\n").map(str::trim).filter(|block| !block.is_empty()).collect();
    if blocks.len() != units.len() {
        return Err(BadAnswer { asked: units.len(), answered: blocks.len() });
    }
    Ok(units.iter().zip(blocks).map(|(unit, block)| state(unit, block)).collect())
}

fn state(unit: &str, block: &str) -> ServiceState {
    let value = |key| {
        let mut pairs = block.lines().filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| *name == key).map_or("", |(_, value)| value)
    };
    let sub = if value("LoadState") == "not-found" { "not-found" } else { value("SubState") };
    ServiceState { unit: unit.to_owned(), active: value("ActiveState").to_owned(), sub: sub.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn units(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn reads_the_states_in_the_order_asked() {
        let text = "LoadState=loaded\nActiveState=active\nSubState=running\n\n\
                    LoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        let states = parse_show(&units(&["sshd.service", "gone.service"]), text).unwrap();
        let shown: Vec<String> = states.iter().map(|s| format!("{} {} {}", s.unit, s.active, s.sub)).collect();
        assert_eq!(shown, ["sshd.service active running", "gone.service inactive not-found"]);
    }

    #[test]
    fn refuses_an_answer_about_fewer_units() {
        let error = parse_show(&units(&["a.service", "b.service"]), "ActiveState=active\n").unwrap_err();
        assert_eq!(error, BadAnswer { asked: 2, answered: 1 });
    }

    #[test]
    fn a_unit_that_looks_like_an_option_stays_a_unit() {
        let Ok(spec) = show_command(&units(&["--root=/"])) else { return };
        assert_eq!(spec.arguments[spec.arguments.len() - 2..], ["--", "--root=/"]);
    }

    proptest! {
        #[test]
        fn garbage_does_not_panic(text in any::<String>()) {
            let _ = parse_show(&["a.service".to_owned()], &text);
        }
    }
}
