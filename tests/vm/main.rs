// SPDX-License-Identifier: Apache-2.0
//! The whole system on real virtual machines: the controller as a person starts it, the command line, QEMU, cloud-init,
//! the package from a signed repository, the agent. Emulated where there is no KVM, so nothing here depends on time.
//!
//! - [`one_machine`]: from nothing to a node and back. It runs with all other tests, last.
//!
//! `make vm-test` runs the rest too:
//!
//! - [`beside`]: packages, by Windlass and by Ansible.
//! - [`failures`]: machines that do not become nodes.
//! - [`first_boot`]: first boots through power cuts, twice, and without cloud-init.
//! - [`kernels`]: kernels that panic or have no network.
//! - [`kills`]: agent and controller, killed while packages are installed.
//! - [`overhead`]: how much of the time is Windlass's own.
//! - [`power_cuts`]: the power fails while a kernel is installed, tried and confirmed, at many moments.
//! - [`roll`]: a spec that is raised, as a new user would try it, with the controller and a machine killed on the way.
//! - [`three_nodes`]: a cluster, one of whose machines is killed, and whose host loses its power.
//! - [`upkeep`]: packages, a kernel, a reboot.

mod beside;
mod failures;
mod first_boot;
mod kernels;
mod kills;
mod one_machine;
mod overhead;
mod power_cuts;
mod roll;
mod site;
mod three_nodes;
mod upkeep;
mod write_log;
