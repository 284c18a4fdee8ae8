// SPDX-License-Identifier: Apache-2.0
//! What Windlass itself adds to the time a machine needs to boot and install: from the beginning of its making until its
//! process runs, and from the agent's being installed until the node is enrolled. Told, not judged.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinHandle;
use windlass_tests::wait::wait_until;

use crate::site::{BOOT, Site};

const INSTALLED: &str = "stage=agent-installed state=reached";

/// Looks for the moment at which a machine has the agent.
#[derive(Debug)]
pub(crate) struct Watch {
    node: &'static str,
    installed: JoinHandle<Timestamp>,
}

/// Begins to look, before the machine is made.
pub(crate) fn watch(site: &Site, node: &'static str) -> Watch {
    let console = site.machine(node).join("console.log");
    Watch { node, installed: tokio::spawn(installed(console)) }
}

/// The time of the mark, to the twentieth of a second or so: wait_until looks that often.
async fn installed(console: PathBuf) -> Timestamp {
    wait_until("the agent to be installed", BOOT, async || written(&console)).await;
    Timestamp::now()
}

fn written(console: &Path) -> bool {
    let written = std::fs::read(console).unwrap_or_default();
    written.windows(INSTALLED.len()).any(|part| part == INSTALLED.as_bytes())
}

impl Watch {
    /// Tells how long it took, once the node has joined.
    #[expect(clippy::print_stdout, reason = "the figure is for people")]
    pub(crate) async fn tell(self, site: &Site) {
        let installed = self.installed.await.expect("it was seen");
        let node = self.node;
        let begun = at(site, "step.started", &format!("create/{node} began")).await;
        let created = at(site, "machine.stage", &format!("{node}: created")).await;
        let joined = at(site, "node.joined", &format!("{node} joined")).await;
        let making = between(begun, created);
        let joining = between(installed, joined);
        let whole = between(begun, joined);
        println!("{node}: {making:.2?} to make it, {joining:.2?} to enrol it, of {whole:.1?} from nothing to enrolled");
    }
}

async fn at(site: &Site, kind: &str, words: &str) -> Timestamp {
    let event = site.wait_event(kind, words).await;
    event["at"].as_str().and_then(|at| at.parse().ok()).expect("a time")
}

/// Nothing if the second came first, which the looking can make seem so.
fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
