// SPDX-License-Identifier: Apache-2.0
//! The controller: everything behind the binary `windlass`.
//!
//! - [`config`]: the daemon's file and flags, checked.
//! - [`clock`]: the only place that reads the wall clock.
//! - [`store`]: revisioned keys behind one trait.
//! - [`pki`]: the certificate authority.

pub mod clock;
pub mod config;
pub mod pki;
pub mod store;
