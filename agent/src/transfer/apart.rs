// SPDX-License-Identifier: Apache-2.0
//! Work with files on threads of its own. A path may lead to a mount whose server is gone, where the kernel holds up whoever
//! touches it for as long as it likes. Everything else goes on meanwhile, and an order can still be stopped and has its
//! time: then its thread stays behind, and does nothing more once the kernel lets it go.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use aws_lc_rs::digest::{Context, SHA256};
use tokio_util::sync::CancellationToken;
use windlass_types::digest::Sha256Digest;

/// Hashed between two looks at whether anybody still waits.
const HASH_PIECE_BYTES: usize = 256 * 1024;

/// Does `work` on another thread. Its token is cancelled when nobody waits for it any more.
///
/// # Errors
/// Those of `work`, and if it panicked.
pub(super) async fn apart<T: Send + 'static>(
    work: impl FnOnce(&CancellationToken) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let given_up = CancellationToken::new();
    let _when_dropped = given_up.clone().drop_guard();
    tokio::task::spawn_blocking(move || work(&given_up)).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Fails once nobody waits any more: then nothing may be changed.
pub(super) fn require_waited_for(given_up: &CancellationToken) -> io::Result<()> {
    if given_up.is_cancelled() { Err(io::Error::other("nobody waits for it any more")) } else { Ok(()) }
}

/// SHA-256 of a whole file.
pub(super) fn digest_of(file: &File, given_up: &CancellationToken) -> io::Result<Sha256Digest> {
    let mut context = Context::new(&SHA256);
    let (mut piece, mut offset) = (vec![0; HASH_PIECE_BYTES], 0);
    loop {
        require_waited_for(given_up)?;
        let length = file.read_at(&mut piece, offset)?;
        if length == 0 {
            let mut digest = [0; 32];
            digest.copy_from_slice(context.finish().as_ref());
            return Ok(Sha256Digest::new(digest));
        }
        context.update(&piece[..length]);
        offset += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn work_that_is_held_up_is_given_up_and_knows_it() {
        let (let_go, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let work = apart(move |given_up| {
            held.recv().map_err(io::Error::other)?;
            tell.send(require_waited_for(given_up).is_err()).map_err(io::Error::other)
        });
        // This thread goes on: otherwise nobody would see that the time is over.
        assert!(tokio::time::timeout(Duration::from_millis(10), work).await.is_err());
        let_go.send(()).unwrap();
        assert!(told.recv_timeout(Duration::from_secs(10)).unwrap());
    }

    #[test]
    fn a_file_nobody_waits_for_is_not_hashed() {
        let given_up = CancellationToken::new();
        given_up.cancel();
        assert!(digest_of(&tempfile::tempfile().unwrap(), &given_up).is_err());
    }
}
