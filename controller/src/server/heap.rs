// SPDX-License-Identifier: Apache-2.0
//! Gives memory back to the system once connections have ended.
//!
//! Large messages and many connections leave gaps in the heap, which glibc keeps: after a file to each of a hundred nodes
//! the controller would stay several times as large as it must be.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

/// Connections end together: a command and the transfers it asked for, or a fleet behind a switch.
const TOGETHER: Duration = Duration::from_secs(2);

/// Works until it is dropped.
pub(super) async fn keep_small(connection_ended: Arc<Notify>) {
    loop {
        connection_ended.notified().await;
        tokio::time::sleep(TOGETHER).await;
        trim();
    }
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "JUSTIFICATION: only glibc itself can give its free pages back")]
fn trim() {
    // SAFETY: malloc_trim(3) takes the allocator's own locks and may be called by any thread at any time.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries do it by themselves.
#[cfg(not(target_env = "gnu"))]
const fn trim() {}
