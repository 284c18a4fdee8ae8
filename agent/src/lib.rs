// SPDX-License-Identifier: Apache-2.0
//! The Windlass agent: runs on every node, dials the controller, opens no port.
//!
//! - [`host`]: the door to the machine.
//! - [`observe`]: what is reported about the node.

pub mod host;
pub mod observe;
