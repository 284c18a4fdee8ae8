// SPDX-License-Identifier: Apache-2.0
//! What the tests of the whole system share.
//!
//! - [`process`]: the programs under test as processes.
//! - [`controller`], [`agent`]: one of each, in a directory and on an address of its own.
//! - [`bastion`], [`fake_provider`]: a controller inside the test, and machines that are models.
//! - [`container`]: a Debian with a real systemd, and Windlass installed in it.
//! - [`lab`]: what virtual machines boot from and install from.
//! - [`wire`]: clients that choose everything themselves, for those who attack.
//! - [`modelled`]: a node of the test, on a model of a machine; [`dying_store`]: a disk that a controller dies at.
//! - [`session`]: an agent's session held by hand.
//! - [`python`]: programs with which Windlass is compared.
//! - [`wait`]: waiting for something to become true.
//! - [`example`]: the example configurations, with their keys in force.
//! - [`fuzz`]: every reader of input from elsewhere, as functions of bytes that must not panic.

pub mod agent;
pub mod bastion;
pub mod container;
pub mod controller;
pub mod dying_store;
pub mod example;
pub mod fake_provider;
pub mod fuzz;
pub mod lab;
pub mod modelled;
pub mod process;
pub mod python;
pub mod session;
pub mod wait;
pub mod wire;
