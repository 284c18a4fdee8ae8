// SPDX-License-Identifier: Apache-2.0
//! The end of what a node's machine wrote to its console, for whoever has to see why it is not well.

use std::sync::Arc;

use windlass_types::name::NodeName;

use super::Runs;
use crate::provider::{ConsoleFrom, MachineKey, Provider};

/// What is shown.
const TAIL_BYTES: usize = 4096;

/// What is looked through for the boot before the last one: a boot that says all it can writes 100 KiB.
const LOOKED_THROUGH_BYTES: u64 = 512 * 1024;

/// What a kernel says first, unless it was told to be quiet.
const BEGINNING: &str = "Linux version ";

/// What a kernel says last when it panics: if it reboots, and if not.
const LAST_WORDS: [&str; 2] = ["Rebooting in ", "end Kernel panic"];

impl Runs {
    /// The end of the console of a node; empty if nobody can tell.
    pub(super) async fn console_tail(&self, node: &NodeName) -> String {
        tail(&self.console(node, TAIL_BYTES as u64).await).to_owned()
    }

    /// The end of what a node wrote in the boot before the one it is in; empty if nobody can tell.
    pub(super) async fn console_of_boot_before(&self, node: &NodeName) -> String {
        tail(boot_before(&self.console(node, LOOKED_THROUGH_BYTES).await)).to_owned()
    }

    async fn console(&self, node: &NodeName, bytes: u64) -> String {
        let Some((provider, key)) = self.machine_of(node).await else { return String::new() };
        let (mut text, mut from) = (Vec::new(), ConsoleFrom::Tail(bytes));
        loop {
            match provider.console(&key, from).await {
                Ok(piece) if piece.data.is_empty() => break,
                Ok(piece) => {
                    text.extend(piece.data);
                    from = ConsoleFrom::Position(piece.next);
                }
                Err(error) => {
                    tracing::debug!(%node, %error, "the console cannot be read");
                    break;
                }
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn machine_of(&self, node: &NodeName) -> Option<(Arc<dyn Provider>, MachineKey)> {
        let memberships = self.with.observer.memberships().await.ok()?;
        let cluster = memberships.get(node)?;
        let clusters = self.with.observer.clusters().await.ok()?;
        let record = clusters.into_iter().find(|record| record.name == *cluster)?;
        let provider = self.with.observer.provider(&record.provider).await.ok()?;
        Some((provider, MachineKey::new(cluster.clone(), node.clone())))
    }
}

/// What came before the last boot began. A quiet kernel does not say where that is; then what came before the end of the
/// last panic.
fn boot_before(console: &str) -> &str {
    if let Some(at) = console.rfind(BEGINNING) {
        let line = console[..at].rfind('\n').map_or(0, |end| end + 1);
        return if line == 0 { console } else { &console[..line] };
    }
    let Some(at) = LAST_WORDS.iter().filter_map(|words| console.rfind(words)).max() else { return console };
    let end = console[at..].find('\n').map_or(console.len(), |length| at + length + 1);
    &console[..end]
}

fn tail(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANICKED: &str =
        "[0.0] Linux version 6.9\n[1.0] Kernel panic - not syncing: x\n[1.1] Rebooting in 10 seconds..\n";

    #[test]
    fn the_boot_before_the_last_ends_where_that_began() {
        let console = format!("{PANICKED}GRUB\n[0.0] Linux version 6.1\n[9.0] login:\n");
        assert_eq!(boot_before(&console), format!("{PANICKED}GRUB\n"));
        assert_eq!(boot_before("[0.0] Linux version 6.1\nlogin:\n"), "[0.0] Linux version 6.1\nlogin:\n");
    }

    #[test]
    fn where_kernels_are_quiet_the_last_panic_is_shown() {
        let panic = PANICKED.replace("Linux version", "");
        assert_eq!(boot_before(&format!("{panic}login:\n")), panic);
        assert_eq!(boot_before("login:\n"), "login:\n");
    }

    #[test]
    fn a_tail_is_short_and_never_half_a_character() {
        let text = "ü".repeat(TAIL_BYTES);
        assert!(tail(&text).len() <= TAIL_BYTES && tail("short") == "short");
    }
}
