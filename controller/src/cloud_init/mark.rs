// SPDX-License-Identifier: Apache-2.0
//! The lines on a machine's console by which it tells how far its first boot is.
//!
//! Anything in the machine can write to its console, so a mark is news for people and for progress, never proof: that a
//! node has joined is known from its certificate.

use std::str::FromStr;

use windlass_types::machine::MachineStage;
use windlass_types::name::NodeName;

/// What every mark begins with.
pub const PREFIX: &str = "WINDLASS-MARK ";

/// A code or detail longer than this is cut.
const LONGEST_TEXT: usize = 300;

/// A mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The node it says it is about.
    pub node: NodeName,
    /// The stage that was, or was to be, reached.
    pub stage: MarkStage,
    /// How that went.
    pub state: MarkState,
}

/// What a mark is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MarkStage {
    /// A stage of the machine.
    Stage(MachineStage),
    /// The agent runs; whether it is healthy the controller knows better.
    AgentStarted,
}

/// How it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MarkState {
    /// The stage is reached.
    Reached,
    /// It is tried again.
    Retrying(Trouble),
    /// It is not tried again before the next boot.
    Failed(Trouble),
}

/// Why a stage is not reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// For programs: `repository-unreachable`, `wrong-signature`, `package-missing`, `not-installed`,
    /// `no-package-manager`, `controller-unreachable`, `join-refused`, `not-joined`, `not-started`.
    pub code: String,
    /// Which attempt it was, counted from 1.
    pub attempt: u32,
    /// In the machine's words. Not to be trusted, and to be escaped.
    pub detail: String,
}

impl Trouble {
    /// Whether the same may go well at the next boot: what was refused has cost the machine its token.
    #[must_use]
    pub fn is_worth_another_try(&self) -> bool {
        self.code != "join-refused"
    }

    /// What an operator does about it; empty for a code of another version.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self.code.as_str() {
            "repository-unreachable" => "see that the repository of the spec can be reached from the machine",
            "wrong-signature" => "see that the key in the spec is the one the repository is signed with",
            "package-missing" => "see that the repository has the agent's package",
            "no-package-manager" => "use an image with dnf or yum",
            "controller-unreachable" => "see that the machine can reach the controller's join port (7601)",
            "join-refused" => "the token was used, had expired, or is of another controller: destroy and apply again",
            "not-installed" | "not-joined" | "not-started" => "see the machine's console: windlass console NODE",
            _ => "",
        }
    }
}

impl Mark {
    /// Finds the mark in a line of a console, whatever stands before it.
    #[must_use]
    pub fn find(line: &str) -> Option<Self> {
        let (_, rest) = line.split_once(PREFIX)?;
        let (mut node, mut stage, mut state) = (None, None, None);
        let mut trouble = Trouble { code: String::new(), attempt: 0, detail: String::new() };
        let (fields, detail) = rest.split_once(" detail=\"").unwrap_or((rest, ""));
        trouble.detail = detail.split('"').next().unwrap_or_default().chars().take(LONGEST_TEXT).collect();
        for (key, value) in fields.split_ascii_whitespace().filter_map(|field| field.split_once('=')) {
            match key {
                "node" => node = NodeName::new(value).ok(),
                "stage" => stage = value.parse().ok(),
                "state" => state = Some(value),
                "code" => trouble.code = value.chars().take(LONGEST_TEXT).collect(),
                "attempt" => trouble.attempt = value.parse().unwrap_or(0),
                _ => {}
            }
        }
        let state = match state? {
            "reached" => MarkState::Reached,
            "retrying" => MarkState::Retrying(trouble),
            "failed" => MarkState::Failed(trouble),
            _ => return None,
        };
        Some(Self { node: node?, stage: stage?, state })
    }
}

impl FromStr for MarkStage {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if text == "agent-started" {
            return Ok(Self::AgentStarted);
        }
        MachineStage::ALL.into_iter().find(|stage| stage.as_str() == text).map(Self::Stage).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_mark_behind_what_others_wrote() {
        let mark = Mark::find("[   12.5] cloud-init[310]: WINDLASS-MARK node=n1 stage=cloud-init state=reached\r");
        let mark = mark.expect("a mark");
        assert_eq!((mark.node.as_str(), mark.stage), ("n1", MarkStage::Stage(MachineStage::CloudInit)));
        assert_eq!(mark.state, MarkState::Reached);
    }

    #[test]
    fn reads_why_a_stage_is_not_reached() {
        let line = "WINDLASS-MARK node=n1 stage=agent-installed state=retrying code=wrong-signature attempt=2 \
                    detail=\"Error: GPG check FAILED\"";
        let MarkState::Retrying(trouble) = Mark::find(line).expect("a mark").state else { panic!("not retrying") };
        assert_eq!((trouble.code.as_str(), trouble.attempt), ("wrong-signature", 2));
        assert_eq!(trouble.detail, "Error: GPG check FAILED");
        assert!(trouble.advice().contains("key"));
    }

    #[test]
    fn what_is_no_mark_is_none() {
        for line in [
            "",
            "login:",
            "WINDLASS-MARK ",
            "WINDLASS-MARK node=n1 stage=x state=reached",
            "WINDLASS-MARK node=../.. stage=enrolled state=reached",
            "WINDLASS-MARK node=n1 stage=enrolled state=perhaps",
            "WINDLASS-MARK stage=enrolled state=reached",
        ] {
            assert_eq!(Mark::find(line), None, "{line}");
        }
    }

    #[test]
    fn every_code_of_the_script_has_advice() {
        let assigned = |line: &'static str| line.split_once("code=\"")?.1.split('"').next();
        let echoed = |line: &'static str| line.trim().strip_prefix("echo ").filter(|word| !word.contains(' '));
        let codes = super::super::FIRST_BOOT_SCRIPT.lines().filter_map(|line| assigned(line).or_else(|| echoed(line)));
        let mut seen = 0;
        for code in codes {
            let trouble = Trouble { code: code.to_owned(), attempt: 1, detail: String::new() };
            assert!(!trouble.advice().is_empty(), "{code}");
            seen += 1;
        }
        assert!(seen == 9, "the script was not understood");
    }
}
