// SPDX-License-Identifier: Apache-2.0
//! Wire to types and types to wire. `TryFrom` of a message is the only validation of wire input.

pub mod facts;
pub mod order;
pub mod outcome;
pub mod selector;
pub mod state;
