// SPDX-License-Identifier: Apache-2.0
//! How nodes are, for whoever asks often.

use tokio::sync::watch;
use windlass_types::name::NodeName;

use super::{Fleet, Standing, lock};

impl Fleet {
    /// How every node is, without what was observed there: cheap enough to be asked whenever somebody wants to go down.
    #[must_use]
    pub fn standings(&self) -> Vec<Standing> {
        self.entries().iter().map(|entry| lock(entry).standing()).collect()
    }

    /// How one node is; `None` if there is none of this name.
    #[must_use]
    pub fn standing(&self, name: &NodeName) -> Option<Standing> {
        self.entry(name).map(|entry| lock(&entry).standing())
    }

    /// Is told whenever a conclusion about any node turned.
    #[must_use]
    pub fn turns(&self) -> watch::Receiver<u64> {
        self.turned.subscribe()
    }
}
