// SPDX-License-Identifier: Apache-2.0
//! The controller: everything behind the binary `windlass`.
//!
//! - [`config`]: the daemon's file and flags, checked.
//! - [`clock`]: the only place that reads the wall clock.
//! - [`store`]: revisioned keys behind one trait.
//! - [`events`]: the one stream of what happened, with its durable cursor.
//! - [`audit`]: the chained log of who changed what.
//! - [`backup`]: all state in one file, and back.
//! - [`pki`]: the certificate authority.

pub mod audit;
pub mod backup;
pub mod clock;
pub mod config;
pub mod events;
pub mod pki;
pub mod store;
