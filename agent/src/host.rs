// SPDX-License-Identifier: Apache-2.0
//! The door to the machine the agent runs on. Nothing else in the agent starts a process or reads the clock.
//!
//! - [`clock`]: the wall clock.
//! - [`exec`]: the only place that starts processes.

pub mod clock;
pub mod exec;
