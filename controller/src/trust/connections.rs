// SPDX-License-Identifier: Apache-2.0
//! Open connections and the certificates they were made with, so that revoking one closes them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::pki::Serial;

/// The open connections.
#[derive(Debug, Default, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Option<Serial>, CancellationToken)>>,
}

/// Keeps a connection listed until it is dropped.
#[derive(Debug)]
pub struct ConnectionGuard {
    connections: Connections,
    id: u64,
    closed: CancellationToken,
}

impl Connections {
    /// Lists a connection.
    #[must_use]
    pub fn register(&self, serial: Option<Serial>) -> ConnectionGuard {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let closed = CancellationToken::new();
        self.open().insert(id, (serial, closed.clone()));
        ConnectionGuard { connections: self.clone(), id, closed }
    }

    /// Closes the connections made with these certificates; returns how many there were.
    pub fn close(&self, serials: &[Serial]) -> usize {
        let open = self.open();
        let hit = open.values().filter(|(serial, _)| serial.is_some_and(|serial| serials.contains(&serial)));
        hit.map(|(_, closed)| closed.cancel()).count()
    }

    /// Closes every connection made with a certificate.
    pub fn close_certified(&self) {
        let open = self.open();
        open.values().filter(|(serial, _)| serial.is_some()).for_each(|(_, closed)| closed.cancel());
    }

    /// Closes every connection.
    pub fn close_all(&self) {
        self.open().values().for_each(|(_, closed)| closed.cancel());
    }

    /// How many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open().len()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (Option<Serial>, CancellationToken)>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionGuard {
    /// Cancelled when the connection shall close.
    #[must_use]
    pub const fn closed(&self) -> &CancellationToken {
        &self.closed
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.open().remove(&self.id);
    }
}
