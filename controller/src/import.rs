// SPDX-License-Identifier: Apache-2.0
//! What another tool has written down of machines, read so that they can be taken over as they are. Nothing here asks
//! anybody or changes anything.
//!
//! - [`terraform`]: a Terraform state, of version 3 or 4.
//! - [`servers`]: the servers in it, with what belongs to them; and what of it is whose from now on.
//! - [`draft`]: the spec that describes them, to be looked at by a person.

pub mod draft;
pub mod servers;
pub mod terraform;
