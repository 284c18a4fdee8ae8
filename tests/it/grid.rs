// SPDX-License-Identifier: Apache-2.0
//! The grid: every kind of step of a roll of twelve steps over three nodes, with the controller, the front or the executor
//! killed at every point of it; every step done twice; every step failing on every node; and what can be undone, undone. Each
//! case is a roll of its own, with the real command line, controller and agents on models that count what happens to them, and
//! ends as one that nobody disturbs.
//!
//! - [`roll`]: the roll, and how it ends.
//! - [`controller_killed`]: the controller is a runtime inside the test, with a store in memory. The test chooses the write
//!   after which nothing goes on, and ends the runtime. SIGKILL of the real process with its database: [`crate::kill9_run`].
//! - [`agent_killed`]: each half of an agent is a process, and ends by SIGKILL. Both go on by themselves.
//! - [`twice`], [`failing`], [`undone`]: what is done again, what fails and is tried again, and the way back.
//!
//! The node is another one in each turn of a roll: an agent is killed on each of the three, a controller in the turn of each.

mod agent_killed;
mod controller_killed;
mod failing;
pub(super) mod roll;
mod twice;
mod undone;
