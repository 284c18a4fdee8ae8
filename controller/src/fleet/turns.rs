// SPDX-License-Identifier: Apache-2.0
//! Whose turn it is to change what is stored of a node.
//!
//! A change reads the record, stores it with what is new, and takes it over once that is stored. Two at once would each
//! store what the other had not read: a node that was revoked in between would be trusted again.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use tokio::sync::{Mutex, MutexGuard};
use windlass_types::name::NodeName;

use super::Fleet;

/// How many turns there are. Nodes share them, and wait for each other where they do; so many that a fleet which renews at
/// once still stores many certificates with one flush.
const TURNS: usize = 256;

/// The turns.
#[derive(Debug)]
pub(super) struct Turns(Vec<Mutex<()>>);

/// The right to change what is stored of one node, until it is dropped.
pub type Turn<'a> = MutexGuard<'a, ()>;

impl Default for Turns {
    fn default() -> Self {
        Self(std::iter::repeat_with(Mutex::default).take(TURNS).collect())
    }
}

impl Turns {
    fn of(&self, name: &NodeName) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let nth = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or_default();
        &self.0[nth]
    }
}

impl Fleet {
    /// Waits for the turn to change what is stored of a node. It is kept from before the record is read, or its certificates
    /// are, until the change is taken over. Whoever has one never waits for another: two nodes may share it.
    pub async fn turn(&self, name: &NodeName) -> Turn<'_> {
        self.turns.of(name).lock().await
    }
}

#[cfg(test)]
mod tests;
