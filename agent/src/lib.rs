// SPDX-License-Identifier: Apache-2.0
//! The Windlass agent: runs on every node, dials the controller, opens no port.
//!
//! - [`cli`], [`config`]: what people write.
//! - [`join`]: how a machine becomes a node.
//!
//! Two halves, two processes:
//!
//! - [`front`]: talks to the controller and may do nothing. [`identity`]: who this node is, on disk. [`dial`]: byte stream,
//!   TLS, HTTP/2.
//! - [`executor`]: may do everything and obeys what the controller signed.
//! - [`local`]: the socket between them. [`both`]: both in one process, where there is no systemd.
//!
//! What the executor works with:
//!
//! - [`jobs`]: orders: accepted or refused, carried out once, reported until acknowledged.
//! - [`steps`]: steps of runs: looked at, done, proved.
//! - [`output`]: what programs print, kept within bounds.
//! - [`transfer`]: output and files, which the front carries.
//! - [`journal`]: what must survive the agent.
//! - [`observe`]: what is reported about the node.
//! - [`host`]: the door to the machine.
//! - [`backoff`], [`durable_file`]: waiting and writing.

pub mod backoff;
pub mod both;
pub mod cli;
pub mod config;
pub mod dial;
pub mod durable_file;
pub mod executor;
pub mod front;
pub mod host;
pub mod identity;
pub mod jobs;
pub mod join;
pub mod journal;
pub mod local;
pub mod observe;
pub mod output;
pub mod steps;
pub mod transfer;

#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod test_server;
