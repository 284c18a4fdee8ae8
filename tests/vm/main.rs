// SPDX-License-Identifier: Apache-2.0
//! The whole system on real virtual machines: the controller as a person starts it, the command line, QEMU, cloud-init,
//! the package from a signed repository, the agent. Emulated where there is no KVM, so nothing here depends on time.
//!
//! - [`one_machine`]: from nothing to a node and back. It runs with all other tests, last.
//!
//! `make vm-test` runs the rest too.

mod one_machine;
mod site;
