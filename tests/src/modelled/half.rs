// SPDX-License-Identifier: Apache-2.0
//! A half of an agent on a thread of its own, and the door from the front to the executor.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use windlass_agent::dial::{Dial, Io};
use windlass_agent::local::PipeDial;

/// A half of an agent that runs.
#[derive(Debug)]
pub struct Half {
    dead: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Half {
    /// Starts one.
    pub fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let dead = CancellationToken::new();
        let killed = dead.clone();
        let thread = std::thread::spawn(move || {
            // One thread, as the halves have it: once it is over nothing of it goes on.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(killed.run_until_cancelled(work));
            runtime.shutdown_background();
        });
        Self { dead, thread }
    }

    /// Ends it wherever it is.
    pub fn kill(self) {
        self.dead.cancel();
        // What it panicked with was printed.
        drop(self.thread.join());
    }
}

/// Leads to the executor that runs now, as the file of a socket does.
#[derive(Debug, Clone, Default)]
pub struct Door(Arc<Mutex<Option<PipeDial>>>);

impl Door {
    /// From now on it leads there.
    pub fn leads_to(&self, dial: PipeDial) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(dial);
    }
}

#[async_trait]
impl Dial for Door {
    async fn dial(&self) -> io::Result<Box<dyn Io>> {
        let dial = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        dial.ok_or(io::ErrorKind::NotFound)?.dial().await
    }
}
