// SPDX-License-Identifier: Apache-2.0
//! What a machine says on its console, line by line: the marks by which it tells how far it is, and the end of it all for
//! whoever asks why it failed. Pure; what a machine says is news, never proof.

use windlass_types::machine::MachineStage;
use windlass_types::name::NodeName;

use crate::cloud_init::mark::{Mark, MarkStage, MarkState, Trouble};

/// What a person reads of a console that ended badly.
const TAIL_LINES: usize = 15;

/// A line longer than this is cut; a machine must not fill our memory.
const LONGEST_LINE: usize = 300;

/// Something a machine said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It has reached this stage.
    Reached(MachineStage),
    /// It tries again.
    Retrying(Trouble),
    /// It does not try again.
    Failed(Trouble),
}

/// Reads a console.
#[derive(Debug)]
pub struct Console {
    node: NodeName,
    begun: Vec<u8>,
    tail: std::collections::VecDeque<String>,
    has_spoken: bool,
}

impl Console {
    /// Of this node's machine, of which nothing was read.
    #[must_use]
    pub const fn new(node: NodeName) -> Self {
        Self { node, begun: Vec::new(), tail: std::collections::VecDeque::new(), has_spoken: false }
    }

    /// Takes a piece; gives what was said in it.
    pub fn read(&mut self, piece: &[u8]) -> Vec<Said> {
        let mut said = Vec::new();
        if !piece.is_empty() && !std::mem::replace(&mut self.has_spoken, true) {
            said.push(Said::Reached(MachineStage::Booting));
        }
        for byte in piece {
            match byte {
                b'\n' | b'\r' => said.extend(self.line()),
                byte if self.begun.len() < LONGEST_LINE * 4 => self.begun.push(*byte),
                _ => {}
            }
        }
        said
    }

    /// The last lines.
    #[must_use]
    pub fn tail(&self) -> String {
        self.tail.iter().map(|line| format!("{line}\n")).collect()
    }

    fn line(&mut self) -> Option<Said> {
        let text = plain(&String::from_utf8_lossy(&std::mem::take(&mut self.begun)));
        if text.is_empty() {
            return None;
        }
        let mark = Mark::find(&text).filter(|mark| mark.node == self.node);
        self.tail.push_back(text);
        if self.tail.len() > TAIL_LINES {
            self.tail.pop_front();
        }
        match mark? {
            Mark { state: MarkState::Retrying(trouble), .. } => Some(Said::Retrying(trouble)),
            Mark { state: MarkState::Failed(trouble), .. } => Some(Said::Failed(trouble)),
            // Whether it has joined and is well is known from its certificate and its agent, not from its word.
            Mark { stage: MarkStage::Stage(stage), state: MarkState::Reached, .. }
                if stage < MachineStage::Enrolled =>
            {
                Some(Said::Reached(stage))
            }
            Mark { state: MarkState::Reached, .. } => None,
        }
    }
}

/// Without colours, cursor movements and other control characters, and cut.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            // A control sequence ends with a letter.
            if chars.next() == Some('[') {
                chars.by_ref().find(|c| c.is_ascii_alphabetic() || *c == '@' || *c == '~');
            }
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text.trim().chars().take(LONGEST_LINE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> Console {
        Console::new(NodeName::new("node1").expect("a name"))
    }

    #[test]
    fn the_first_byte_is_a_sign_of_life_and_marks_are_found_across_pieces() {
        let mut console = console();
        assert_eq!(console.read(b"\x1b[2JSea"), [Said::Reached(MachineStage::Booting)]);
        assert_eq!(console.read(b"BIOS\r\nWINDLASS-MARK node=node1 stage=cloud"), []);
        assert_eq!(console.read(b"-init state=reached\r\n"), [Said::Reached(MachineStage::CloudInit)]);
        assert_eq!(console.tail(), "SeaBIOS\nWINDLASS-MARK node=node1 stage=cloud-init state=reached\n");
    }

    #[test]
    fn a_machine_can_neither_speak_for_another_nor_say_that_it_has_joined() {
        let mut console = console();
        console.read(b"x");
        for line in [
            "WINDLASS-MARK node=node2 stage=cloud-init state=reached\n",
            "WINDLASS-MARK node=node1 stage=enrolled state=reached\n",
            "WINDLASS-MARK node=node1 stage=healthy state=reached\n",
            "WINDLASS-MARK node=node1 stage=agent-started state=reached\n",
        ] {
            assert_eq!(console.read(line.as_bytes()), [], "{line}");
        }
    }

    #[test]
    fn trouble_is_passed_on_and_the_tail_is_short_and_harmless() {
        let mut console = console();
        console.read("noise \u{1b}[31mred\u{7}\n".repeat(100).as_bytes());
        console.read(&vec![b'x'; 1 << 20]);
        let said =
            console.read(b"\nWINDLASS-MARK node=node1 stage=enrolled state=failed code=join-refused attempt=1\n");
        assert!(matches!(&said[..], [Said::Failed(trouble)] if trouble.code == "join-refused"), "{said:?}");
        let tail = console.tail();
        assert!(tail.lines().count() == TAIL_LINES && tail.len() < 8_000, "{}", tail.len());
        assert!(!tail.chars().any(|c| c.is_control() && c != '\n'));
    }
}
