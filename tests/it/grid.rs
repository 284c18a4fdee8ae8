// SPDX-License-Identifier: Apache-2.0
//! The grid: every kind of step of a roll of twelve steps over three nodes, with the controller, the front or the executor
//! killed at every point of it; every step done twice; every step failing on every node; and what can be undone, undone. Each case is a roll
//! of its own, with the real command line, controller and agents on models that count what happens to them, and ends as one
//! that nobody disturbs.
//!
//! - [`roll`]: the roll, and how it ends.
//! - [`controller_killed`], [`agent_killed`]: kill -9, then it goes on by itself.
//! - [`twice`], [`failing`], [`undone`]: what is done again, what fails and is tried again, and the way back.
//!
//! The node is another one in each turn of a roll: an agent is killed on each of the three, a controller in the turn of each.

mod agent_killed;
mod controller_killed;
mod failing;
mod roll;
mod twice;
mod undone;
