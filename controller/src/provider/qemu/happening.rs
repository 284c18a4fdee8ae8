// SPDX-License-Identifier: Apache-2.0
//! What QEMU tells of a machine, and how it is said to a person. Pure.
//!
//! What a person did through Windlass is not news; QEMU says of most things whose doing they are.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use windlass_types::escape::Escaped;
use windlass_types::event::EventKind;
use windlass_types::name::NodeName;

/// A reason of QEMU's longer than this is cut.
const LONGEST_REASON: usize = 200;

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Happening {
    /// It is about to end.
    Ending(Ending),
    /// It was restarted.
    Restarted {
        /// By itself.
        by_guest: bool,
    },
    /// Its kernel panicked.
    Panicked,
    /// A disk cannot be read or written on the host.
    DiskFailed {
        /// Its name in the spec, or `root`.
        disk: String,
        /// To `read` or to `write`.
        operation: String,
        /// Why, in the words of the host.
        reason: String,
        /// It stands still until the disk can be used again.
        stands_still: bool,
    },
    /// It stands still.
    Paused,
    /// It goes on.
    Resumed,
}

/// Why a machine is off although nobody here switched it off. It is kept with the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Ending {
    /// The guest did it.
    ByGuest,
    /// Its process was asked to end.
    BySignal,
    /// Somebody else told QEMU to end.
    ByCommand,
    /// It said nothing.
    Killed,
    /// Its host was restarted.
    WithHost,
    /// It ended while the controller was away; or as another version of Windlass knows it.
    #[serde(other)]
    Unseen,
}

impl Happening {
    /// Reads an event of QEMU's; `None` for those that are no news.
    pub(super) fn read(event: &Value) -> Option<Self> {
        let data = &event["data"];
        let text = |name: &str| data[name].as_str().unwrap_or_default();
        match event["event"].as_str()? {
            "SHUTDOWN" => Some(Self::Ending(match text("reason") {
                "host-signal" => Ending::BySignal,
                "guest-shutdown" | "guest-reset" | "guest-panic" => Ending::ByGuest,
                _ => Ending::ByCommand,
            })),
            "RESET" => Some(Self::Restarted { by_guest: data["guest"] == true }),
            "GUEST_PANICKED" => Some(Self::Panicked),
            "BLOCK_IO_ERROR" => {
                let node = text("node-name");
                Some(Self::DiskFailed {
                    disk: cut(node.strip_prefix("data-").unwrap_or(node)),
                    operation: cut(text("operation")),
                    reason: cut(text("reason")),
                    stands_still: text("action") == "stop",
                })
            }
            "STOP" => Some(Self::Paused),
            "RESUME" => Some(Self::Resumed),
            _ => None,
        }
    }

    /// What stands behind the machine's name wherever its state is shown; `None` if nothing is out of order with it now.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::Ending(ending) => Some(ending.words().to_owned()),
            Self::DiskFailed { disk, operation, reason, stands_still: true } => {
                Some(format!("stands still: its disk {disk} cannot {operation}: {reason}"))
            }
            Self::Paused => Some("stands still".to_owned()),
            Self::Panicked => Some("its kernel panicked".to_owned()),
            Self::Restarted { .. } | Self::Resumed | Self::DiskFailed { stands_still: false, .. } => None,
        }
    }

    /// The news, in a sentence with what to do; `None` if somebody here did it.
    pub(super) fn told(&self, name: &NodeName) -> Option<(EventKind, String)> {
        Some(match self {
            Self::Ending(ending) => {
                let how = format!("windlass machine power {name} on, or windlass apply, switches it on");
                (EventKind::MachineStopped, format!("the machine of {name} is off: {}; {how}", ending.words()))
            }
            Self::Restarted { by_guest: false } => return None,
            Self::Restarted { by_guest: true } => {
                (EventKind::MachineRestarted, format!("the machine of {name} restarted itself"))
            }
            Self::Panicked => {
                let look = format!("windlass console {name} --tail 50 shows its last words");
                (EventKind::MachinePanicked, format!("the kernel of {name} panicked; {look}"))
            }
            Self::DiskFailed { disk, operation, reason, stands_still } => {
                let then = if *stands_still {
                    format!("it stands still; mend that on its host, then windlass machine power {name} on")
                } else {
                    "the machine was told of the error; see its host's disks".to_owned()
                };
                let text = format!("the disk {disk} of {name} cannot {operation} on its host: {reason}; {then}");
                (EventKind::MachineDiskFailed, text)
            }
            Self::Paused => {
                let how = format!("windlass machine power {name} on lets it go on");
                (EventKind::MachinePaused, format!("the machine of {name} stands still; {how}"))
            }
            Self::Resumed => (EventKind::MachineResumed, format!("the machine of {name} goes on")),
        })
    }
}

impl Ending {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::ByGuest => "it switched itself off",
            Self::BySignal => "its process was ended by a signal from outside",
            Self::ByCommand => "somebody told its QEMU to quit, not through Windlass",
            Self::Killed => "its process was killed from outside, or crashed",
            Self::WithHost => "its host was restarted",
            Self::Unseen => "its process ended while the controller was away",
        }
    }
}

fn cut(text: &str) -> String {
    Escaped(&text.chars().take(LONGEST_REASON).collect::<String>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(event: &Value) -> Option<(EventKind, String)> {
        let name = NodeName::new("node1").expect("a name");
        Happening::read(event).and_then(|happening| happening.told(&name))
    }

    #[test]
    fn each_ending_is_told_in_words_with_what_to_do() {
        for (reason, words) in [
            ("guest-shutdown", "it switched itself off"),
            ("host-signal", "ended by a signal"),
            ("host-qmp-quit", "told its QEMU to quit"),
        ] {
            let (kind, text) = told(&json!({"event": "SHUTDOWN", "data": {"reason": reason}})).expect("news");
            assert_eq!(kind, EventKind::MachineStopped);
            assert!(text.contains(words) && text.contains("windlass machine power node1 on"), "{text}");
        }
    }

    #[test]
    fn an_ending_that_another_version_wrote_down_is_one_that_nobody_saw() {
        let read = |text: &str| serde_json::from_value::<Ending>(json!(text)).expect("an ending");
        assert_eq!(read("by-guest"), Ending::ByGuest);
        assert_eq!(read("by-magic"), Ending::Unseen);
    }

    #[test]
    fn a_full_disk_names_the_disk_and_that_the_machine_waits() {
        let event = json!({"event": "BLOCK_IO_ERROR", "data": {"device": "", "node-name": "data-docker",
            "operation": "write", "action": "stop", "nospace": true, "reason": "No space left on device\u{1b}"}});
        let (kind, text) = told(&event).expect("news");
        assert_eq!(kind, EventKind::MachineDiskFailed);
        assert!(text.starts_with("the disk docker of node1 cannot write on its host: No space left on device\\u{1b}"));
        assert!(text.contains("it stands still; mend that"), "{text}");
        assert!(Happening::read(&event).and_then(|happening| happening.note()).is_some());
    }

    #[test]
    fn what_was_done_through_windlass_and_what_is_not_known_is_no_news() {
        for event in [
            json!({"event": "RESET", "data": {"guest": false, "reason": "host-qmp-system-reset"}}),
            json!({"event": "RTC_CHANGE", "data": {"offset": 1}}),
            json!({"event": 7}),
            json!({"return": {}}),
            json!(null),
        ] {
            assert_eq!(told(&event), None, "{event}");
        }
    }
}
