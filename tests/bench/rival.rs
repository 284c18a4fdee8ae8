// SPDX-License-Identifier: Apache-2.0
//! The rivals: each installs itself into the cache, is tuned as its own manual advises, and does the same work.
//!
//! - [`sshd`]: one ssh server with many addresses: the nodes of everything that speaks ssh.
//! - [`rebooting`]: a server for each node, that goes down and comes back.
//! - [`ansible`], [`pyinfra`], [`salt`].

pub(crate) mod ansible;
pub(crate) mod pyinfra;
pub(crate) mod rebooting;
pub(crate) mod salt;
pub(crate) mod sshd;
