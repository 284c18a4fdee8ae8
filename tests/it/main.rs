// SPDX-License-Identifier: Apache-2.0
//! What holds for the whole: one test binary, so that it is linked once.
//!
//! - [`architecture`]: the borders between the crates and the habits of the source, read from the tree itself.
//! - [`attack_disclosure`]: injected words, hostile words from nodes, secrets, and who may read them.
//! - [`attack_floods`]: what one peer may cost the controller and the others.
//! - [`attack_identity`]: another node's words; stolen, revoked and expired certificates; leavers.
//! - [`attack_joining`]: tokens that are stolen, guessed, old or raced for; false controllers.
//! - [`attack_sweep`]: every method of the contract by every kind of caller.
//! - [`bad_input`]: mistakes of people and machines, and what they are told.
//! - [`cloud_init`]: what new machines read, by cloud-init's own judgement, and the script they run.
//! - [`contract_style`]: the shape of the wire contract, read from its descriptor.
//! - [`copies`]: files both ways, through crashes.
//! - [`drift`]: what differs from a spec, and plans and runs that do not fit the world any more.
//! - [`example_config`]: the example configurations and the manual's table against the programs.
//! - [`fleet`]: nodes of tests of runs.
//! - [`fuzz_short`]: readers of input from elsewhere, fed with what they do not expect.
//! - [`grid`]: a roll with every kind of step, killed, repeated and failing at every point.
//! - [`hooks`]: what is done before and after nodes go down, whoever takes them down.
//! - [`illness`]: nodes that come back and are not well.
//! - [`jobs_survive`]: jobs outlive the command line, the controller and the agent.
//! - [`kill9`]: power cuts at many instants of joining, renewing and running jobs.
//! - [`kill9_renewal`]: the agent killed at each point of a renewal.
//! - [`kill9_run`]: the controller's process killed again and again while it carries out a roll.
//! - [`late_nodes`]: nodes that are away when a run is planned.
//! - [`lost_answers`]: connections that end before there is an answer.
//! - [`machines`]: a cluster's machines planned, made, followed and destroyed, through crashes.
//! - [`machines_refused`]: what this machine lacks for machines on it.
//! - [`manual`]: links between the pages of the manual.
//! - [`out_of_reach`]: nodes that are away at their turn, orders that are given up, and a state that cannot be written.
//! - [`power`]: machines that lose their power while a run has something to do on them.
//! - [`removals`]: nodes that leave a cluster go one after the other, when they may go down.
//! - [`renewal`]: certificates that end or whose CA is replaced.
//! - [`restore`]: a backup, and a controller that comes back from it.
//! - [`rolls`]: rolling reboots and updates, and a controller killed at every write.
//! - [`secrets`]: what a spec calls a secret comes to the node and to nobody's eyes.
//! - [`steering`]: runs that are paused, resumed, stopped and tried again, and waiting until all is well.
//! - [`systemd`]: both programs as installed, under a real systemd in a container.
//! - [`token_timing`]: whether the time of a refusal tells anything about a token's secret.
//! - [`traps`]: buffers that large transfers leave, and the budget for small messages.
//! - [`units`]: the systemd units and how tight their sandbox is, read by systemd's own tool.

mod architecture;
mod attack_disclosure;
mod attack_floods;
mod attack_identity;
mod attack_joining;
mod attack_sweep;
mod bad_input;
mod cloud_init;
mod contract_style;
mod copies;
mod drift;
mod example_config;
mod fleet;
mod fuzz_short;
mod grid;
mod hooks;
mod illness;
mod jobs_survive;
mod kill9;
mod kill9_renewal;
mod kill9_run;
mod late_nodes;
mod lost_answers;
mod machines;
mod machines_refused;
mod manual;
mod out_of_reach;
mod power;
mod removals;
mod renewal;
mod restore;
mod rolls;
mod secrets;
mod steering;
mod systemd;
mod token_timing;
mod traps;
mod units;
