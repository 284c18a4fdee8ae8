// SPDX-License-Identifier: Apache-2.0
//! What the tests of the whole system share.
//!
//! - [`example`]: the example configurations, with their keys in force.
//! - [`fuzz`]: every reader of input from elsewhere, as functions of bytes that must not panic.

pub mod example;
pub mod fuzz;
