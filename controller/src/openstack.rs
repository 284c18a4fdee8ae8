// SPDX-License-Identifier: Apache-2.0
//! A client for OpenStack: what is needed of its services to make machines, and no more.
//!
//! - [`clouds`]: the files and variables that say where it is and as whom it is used.
//! - [`secret`]: text that must not be seen.

pub mod clouds;
pub mod secret;
