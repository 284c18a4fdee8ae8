// SPDX-License-Identifier: Apache-2.0
//! The operator API: read the message, call the part that decides, put its answer on the wire. No decisions here.

pub mod admin;
pub mod adoption;
pub mod claim;
pub mod events;
pub mod jobs;
pub mod machines;
pub mod nodes;
pub mod packages;
pub mod plans;
pub mod runs;
pub mod tokens;

use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::error_chain::ErrorChain;

/// Whatever a message says that cannot be meant.
fn bad(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::BadRequest, ErrorChain(error).to_string())
}

/// Whatever fails here and is not the caller's doing.
fn internal(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise("see the controller's log")
}
