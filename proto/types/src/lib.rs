// SPDX-License-Identifier: Apache-2.0
//! The words of Windlass and what they mean. No I/O, no async, no wire format.
//!
//! - [`name`]: node, operator and label names, checked at construction.
//! - [`role`]: what an operator may do.
//! - [`time`]: moments as milliseconds since the Unix epoch.
//! - [`pin`]: the digest of a CA's public key.
//! - [`digest`]: SHA-256 of a file's content.
//! - [`facts`]: what an agent observes about its node.
//! - [`condition`]: what the controller concludes about a node.
//! - [`selector`]: which nodes an operator means.
//! - [`action`]: what a node can be asked to do.
//! - [`machine`]: a machine as it is wished for and as its provider reports it.
//! - [`cloud`]: what machines of a cloud have besides, and what they share.
//! - [`package`]: packages of a node and what becomes of them.
//! - [`setting`]: what a small part of a node shall be: a file, a user, a sysctl.
//! - [`survey`]: how a node differs from what it shall be.
//! - [`node_step`]: one step of a run on one node, as it is ordered.
//! - [`outcome`]: how that ended, and what to do about a failure.
//! - [`job`]: an action on many nodes.
//! - [`run`]: a plan that is being carried out.
//! - [`event`]: what happened, for whoever watches.
//! - [`escape`]: text from elsewhere, made safe for a terminal.
//! - [`error_chain`]: an error with all its causes on one line.

mod hex;

pub mod action;
pub mod cloud;
pub mod condition;
pub mod digest;
pub mod error_chain;
pub mod escape;
pub mod event;
pub mod fact_path;
pub mod facts;
pub mod job;
pub mod machine;
pub mod name;
pub mod node_step;
pub mod outcome;
pub mod package;
pub mod pin;
pub mod role;
pub mod run;
pub mod selector;
pub mod setting;
pub mod survey;
pub mod time;
