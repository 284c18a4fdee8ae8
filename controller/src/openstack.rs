// SPDX-License-Identifier: Apache-2.0
//! A client for OpenStack: what is needed of its services to make machines, and no more.
//!
//! Which cloud
//! - [`clouds`]: the files and variables that say where it is and as whom it is used.
//! - [`secret`]: text that must not be seen.
//!
//! What it is asked for: [`Cloud`], which is all of
//! - [`access`]: as whom it is used.
//! - [`compute`]: servers, flavors, groups, attached volumes.
//! - [`image`]: images. [`volume`]: volumes.
//! - [`network`]: networks, subnets, routers, ports, security groups, floating IPs.
//! - [`quota`]: how much of everything there may be.
//!
//! How it is asked
//! - [`client`]: with a token, at the right address, and again where that is safe.
//! - [`service`], [`catalogue`]: the services, and where they are; [`microversion`]: in which version compute is spoken to.
//! - [`identity`]: tokens; [`tls`]: how connections are secured.
//! - [`error`], [`refusal`]: what can go wrong, and what services say when they refuse.

pub mod access;
mod again;
mod call;
pub mod catalogue;
pub mod client;
pub mod clouds;
pub mod compute;
pub mod error;
mod http;
pub mod identity;
pub mod image;
mod lenient;
pub mod microversion;
pub mod network;
mod pages;
pub mod quota;
pub mod refusal;
pub mod secret;
pub mod service;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod volume;

/// Everything that is asked of a cloud. One that is real is a [`client::Client`]; tests have others.
pub trait Cloud:
    access::Access + compute::Compute + image::Images + network::Networking + volume::Volumes + quota::Quotas + Send + Sync
{
}

impl<T> Cloud for T where
    T: access::Access
        + compute::Compute
        + image::Images
        + network::Networking
        + volume::Volumes
        + quota::Quotas
        + Send
        + Sync
{
}
