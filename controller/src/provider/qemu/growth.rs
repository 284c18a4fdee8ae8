// SPDX-License-Identifier: Apache-2.0
//! Tells at once when a machine writes to its console: the kernel tells when a file is written.
//!
//! One inotify descriptor for all consoles, because a user has few. Where there is none left, consoles are looked at now
//! and then.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{Notify, OnceCell};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use super::arguments::CONSOLE;
use super::console;

/// A guest writes byte by byte. What comes within this time is read together.
const GATHER: Duration = Duration::from_millis(20);

/// How often a console is looked at that cannot be watched.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Bytes of an event before its name: which file, what, two that say nothing here; the length of the name is the last.
const HEAD_BYTES: usize = 16;

/// Who waits for which file, by the kernel's number of it.
type Bells = Arc<Mutex<HashMap<i32, Arc<Notify>>>>;

/// Whoever waits for consoles to grow.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Opened with the first who waits; `None` if that cannot be done.
    kernel: OnceCell<Option<Kernel>>,
}

#[derive(Debug)]
struct Kernel {
    inotify: Inotify,
    bells: Bells,
    _task: AbortOnDropHandle<()>,
}

impl Growth {
    /// Waits until the console in this directory may have something after this position.
    pub(super) async fn beyond(&self, directory: &Path, position: u64) {
        let kernel = self.kernel.get_or_init(async || Kernel::open()).await;
        let bell = kernel.as_ref().and_then(|kernel| kernel.watch(&directory.join(CONSOLE)));
        let Some(bell) = bell else { return sleep(LOOK_EVERY).await };
        let mut rung = std::pin::pin!(bell.notified());
        // From before the look, so that nothing falls between the two.
        rung.as_mut().enable();
        if console::end(directory).is_ok_and(|end| end <= position) {
            rung.await;
        }
    }
}

impl Kernel {
    fn open() -> Option<Self> {
        let open = || {
            let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
            // Read like any pipe.
            let events = Receiver::from_owned_fd_unchecked(inotify.as_fd().try_clone_to_owned()?)?;
            Ok::<_, io::Error>((inotify, events))
        };
        let (inotify, events) = open()
            .inspect_err(|error| tracing::warn!(%error, "consoles cannot be watched and are looked at now and then"))
            .ok()?;
        let bells = Bells::default();
        let task = tokio::spawn(ring(events, Arc::clone(&bells)));
        Some(Self { inotify, bells, _task: AbortOnDropHandle::new(task) })
    }

    /// What rings when this file is written; `None` if it is not there.
    fn watch(&self, file: &Path) -> Option<Arc<Notify>> {
        // Under the lock, so that a file that vanishes now is not forgotten before it is known.
        let mut bells = locked(&self.bells);
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_DELETE_SELF;
        let watched = self.inotify.add_watch(file, flags).ok()?;
        Some(Arc::clone(bells.entry(watched.as_raw()).or_default()))
    }
}

fn locked(bells: &Bells) -> MutexGuard<'_, HashMap<i32, Arc<Notify>>> {
    bells.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn ring(events: Receiver, bells: Bells) {
    let mut bytes = [0; 4096];
    while events.readable().await.is_ok() {
        match events.try_read(&mut bytes) {
            Ok(length) => ring_for(&bytes[..length], &mut locked(&bells)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => tracing::warn!(%error, "what the kernel tells of consoles cannot be read"),
        }
        sleep(GATHER).await;
    }
}

fn ring_for(mut events: &[u8], bells: &mut HashMap<i32, Arc<Notify>>) {
    while let Some((head, rest)) = events.split_first_chunk::<HEAD_BYTES>() {
        let [watched, what, _, name] = std::array::from_fn(|field| {
            let bytes = head[field * 4..][..4].try_into().expect("a field has four bytes");
            u32::from_ne_bytes(bytes)
        });
        let what = AddWatchFlags::from_bits_truncate(what);
        let watched = watched.cast_signed();
        let bell = match what.contains(AddWatchFlags::IN_IGNORED) {
            true => bells.remove(&watched),
            false => bells.get(&watched).cloned(),
        };
        bell.inspect(|bell| bell.notify_waiters());
        if what.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            bells.values().for_each(|bell| bell.notify_waiters());
        }
        events = rest.get(name as usize..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn whoever_waits_is_told_when_it_is_written_and_when_it_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join(CONSOLE);
        let mut file = std::fs::File::create(&path).expect("a file");
        let growth = Growth::default();
        file.write_all(b"before").expect("written");
        timeout(SOON, growth.beyond(directory.path(), 0)).await.expect("there is something already");
        for round in 1..4_u64 {
            let mut grown = std::pin::pin!(growth.beyond(directory.path(), 6 * round));
            let early = futures_util::poll!(grown.as_mut());
            assert!(early.is_pending(), "nothing was written");
            file.write_all(b" again").expect("written");
            timeout(SOON, grown).await.expect("it is told");
        }
        let mut gone = std::pin::pin!(growth.beyond(directory.path(), 24));
        assert!(futures_util::poll!(gone.as_mut()).is_pending());
        drop(file);
        std::fs::remove_file(&path).expect("removed");
        timeout(SOON, gone).await.expect("it is told");
    }
}
