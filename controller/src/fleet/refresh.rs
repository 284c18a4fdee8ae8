// SPDX-License-Identifier: Apache-2.0
//! Waiting for nodes that were asked to observe everything now.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use windlass_types::name::NodeName;

type Waiting = Arc<Mutex<HashMap<u64, mpsc::UnboundedSender<NodeName>>>>;

/// The refreshes under way.
#[derive(Debug, Default)]
pub(super) struct Refreshes {
    next: AtomicU64,
    waiting: Waiting,
}

/// One refresh; forgotten when dropped.
#[derive(Debug)]
pub(super) struct Refresh {
    id: u64,
    answers: mpsc::UnboundedReceiver<NodeName>,
    waiting: Waiting,
}

impl Refreshes {
    pub(super) fn begin(&self) -> Refresh {
        let id = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answers) = mpsc::unbounded_channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        Refresh { id, answers, waiting: Arc::clone(&self.waiting) }
    }

    pub(super) fn answered(&self, id: u64, name: &NodeName) {
        if let Some(sender) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            // Whoever waited may have given up.
            let _gone = sender.send(name.clone());
        }
    }
}

impl Refresh {
    pub(super) const fn id(&self) -> u64 {
        self.id
    }

    /// Waits for this many answers or until the time is over.
    pub(super) async fn wait(&mut self, wanted: usize, timeout: Duration) -> Vec<NodeName> {
        let mut names = Vec::with_capacity(wanted);
        let collect = async {
            while names.len() < wanted {
                let Some(name) = self.answers.recv().await else { return };
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        };
        // A silent node is a fact, not an error.
        let _timed_out = tokio::time::timeout(timeout, collect).await;
        names
    }
}

impl Drop for Refresh {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
