// SPDX-License-Identifier: Apache-2.0
//! The controller: everything behind the binary `windlass`.
//!
//! How it starts and ends
//! - [`config`]: the daemon's file and flags, checked; [`duration`]: lengths of time in text.
//! - [`server`]: builds the parts, opens the doors, drains.
//! - [`http`], [`metrics`]: livez, readyz and what can be counted.
//!
//! Who comes in
//! - [`listener`]: the accept loop, its limits and TLS.
//! - [`gate`], [`caller`]: who calls, and whether they may; `deadline`: until when they are answered.
//! - [`trust`], [`pki`], [`tokens`], [`join`]: certificates, tokens, enrolment, revocation.
//!
//! What it does
//! - [`fleet`]: the nodes and their sessions.
//! - [`jobs`], [`orders`]: actions on many nodes, each done once.
//! - [`transfer`], [`files`]: bulk data.
//! - [`survey`]: how nodes differ from what they shall be.
//! - [`arbiter`]: who may take which node down.
//! - [`observe`], [`execute`]: what is, and carrying out what [`windlass_plan`] decides about it.
//! - [`operator`]: the operator API.
//!
//! What it is asked for
//! - [`spec`]: `cluster.yaml`, typed. [`import`]: a draft of it from what another tool has made.
//!
//! Where machines come from
//! - [`provider`]: one trait, and a module for each kind of place.
//! - [`openstack`]: a client for clouds.
//! - [`cloud_init`]: what a new machine reads at its first boot.
//!
//! How people use it
//! - [`cli`]: the command line, the only place that prints.
//! - [`client`], [`profile`]: a connection to a controller, and who one is there.
//!
//! What it keeps
//! - [`store`]: revisioned keys behind one trait.
//! - [`events`]: the one stream of what happened.
//! - [`audit`], [`change`]: who changed what, recorded before it is answered.
//! - [`backup`]: a copy of everything, and the way back.
//! - [`room`]: what is left of the disk, and what for.
//! - [`clock`]: the only place that reads the wall clock.

pub mod arbiter;
pub mod audit;
pub mod backup;
pub mod caller;
pub mod change;
pub mod cli;
pub mod client;
pub mod clock;
pub mod cloud_init;
pub mod config;
mod deadline;
pub mod duration;
pub mod events;
pub mod execute;
pub mod files;
pub mod fleet;
pub mod gate;
pub mod http;
pub mod import;
pub mod jobs;
pub mod join;
pub mod listener;
pub mod metrics;
pub mod observe;
pub mod openstack;
pub mod operator;
pub mod orders;
pub mod pki;
pub mod profile;
pub mod provider;
pub mod room;
pub mod server;
pub mod spec;
pub mod store;
pub mod survey;
pub mod tokens;
pub mod transfer;
pub mod trust;
