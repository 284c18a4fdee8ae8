// SPDX-License-Identifier: Apache-2.0
//! Output and files, between the executor, which has them, and the controller, which the front carries them to.
//!
//! Whatever is moved goes in a call of its own: the executor announces it, the front connects anew for it and passes the
//! messages of one method of `TransferService` on, over a connection to the controller that is there for this alone. So a
//! heartbeat never waits behind a file. Everything moved can be taken up again where it broke off: the controller says how
//! much it has, or the executor asks from an offset.

mod apart;
mod file;
mod output;
mod part;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::carry_request::Part as Sent;
use windlass_proto::v1::carry_response::Part as Answered;

pub use file::{FileError, Files, Put};
pub use output::push;

use crate::local::{Receiver, Sender};

/// Most bytes in one message: small enough that no buffer on the way grows.
const PIECE_BYTES: usize = 32 * 1024;

/// Something was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The front lost its connection to the controller, or has none.
    #[error("the way to the controller broke: {0}")]
    Broken(String),
    /// The controller said no.
    #[error("the transfer broke off")]
    Call(#[source] Refusal),
    /// The controller, or the front, ended the transfer too early.
    #[error("the transfer ended early")]
    Ended,
    /// The front is gone.
    #[error("talk to the front")]
    Front(#[source] std::io::Error),
    /// The spool cannot be read.
    #[error("read the spool")]
    Spool(#[source] std::io::Error),
}

impl TransferError {
    /// Whether the controller will say the same again.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Call(refusal) => matches!(
                refusal.reason,
                Reason::BadRequest
                    | Reason::NotFound
                    | Reason::NotPermitted
                    | Reason::SwitchedOff
                    | Reason::LimitReached
            ),
            Self::Spool(_) => true,
            Self::Broken(_) | Self::Ended | Self::Front(_) => false,
        }
    }

    /// Whether the controller has no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Call(refusal) if refusal.reason == Reason::DiskFull)
    }
}

impl From<v1::CarryFailure> for TransferError {
    fn from(failure: v1::CarryFailure) -> Self {
        if !failure.is_refusal {
            return Self::Broken(failure.message);
        }
        let reason = Reason::ALL.iter().find(|reason| reason.as_str() == failure.reason).copied();
        let refusal = Refusal::new(reason.unwrap_or(Reason::Other), failure.message).advise(failure.advice);
        Self::Call(refusal)
    }
}

/// Calls that wait for the front, by number.
type Waiting = BTreeMap<u64, oneshot::Sender<(Sender, Receiver)>>;

/// Whoever carries calls to the controller.
#[derive(Debug)]
pub struct Carriers {
    directory: PathBuf,
    seed: u64,
    waiting: Mutex<(u64, Waiting)>,
    announced: Notify,
}

impl Carriers {
    /// Nobody yet; unfinished files are kept in `directory`.
    #[must_use]
    pub fn new(directory: PathBuf, seed: u64) -> Arc<Self> {
        Arc::new(Self { directory, seed, waiting: Mutex::default(), announced: Notify::new() })
    }

    fn waiting(&self) -> MutexGuard<'_, (u64, Waiting)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the front carries a call.
    async fn call(&self) -> Result<Call, TransferError> {
        let (taken, takes) = oneshot::channel();
        let number = {
            let (last, waiting) = &mut *self.waiting();
            *last += 1;
            waiting.insert(*last, taken);
            *last
        };
        let _withdrawn = Withdraw(self, number);
        self.announced.notify_waiters();
        let (sender, receiver) = takes.await.map_err(|_| TransferError::Ended)?;
        Ok(Call { sender, receiver })
    }

    /// The next call that waits, beyond those up to `last`. May be dropped while it waits.
    pub(crate) async fn next_after(&self, last: u64) -> u64 {
        loop {
            let announced = self.announced.notified();
            let next = self.waiting().1.range(last + 1..).next().map(|(number, _)| *number);
            match next {
                Some(number) => return number,
                None => announced.await,
            }
        }
    }

    /// The front carries this call. One that nobody waits for any more is not begun.
    pub(crate) fn take(&self, call: u64, sender: Sender, receiver: Receiver) {
        let taken = self.waiting().1.remove(&call);
        if taken.is_none_or(|taken| taken.send((sender, receiver)).is_err()) {
            tracing::debug!(call, "nobody waits for this call any more");
        }
    }
}

/// A call that is given up is not announced any more.
struct Withdraw<'a>(&'a Carriers, u64);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        self.0.waiting().1.remove(&self.1);
    }
}

/// One call, carried by the front.
#[derive(Debug)]
struct Call {
    sender: Sender,
    receiver: Receiver,
}

impl Call {
    async fn send(&mut self, part: Sent) -> Result<(), TransferError> {
        self.sender.send(&v1::CarryRequest { part: Some(part) }).await.map_err(TransferError::Front)
    }

    /// The next answer; nothing at the end. May be dropped while it waits.
    async fn answer(&mut self) -> Result<Option<Answered>, TransferError> {
        let answer: Option<v1::CarryResponse> = self.receiver.next().await.map_err(TransferError::Front)?;
        match answer {
            None => Ok(None),
            Some(v1::CarryResponse { part: Some(Answered::Failure(failure)) }) => Err(failure.into()),
            Some(v1::CarryResponse { part }) => part.map(Some).ok_or(TransferError::Ended),
        }
    }
}
