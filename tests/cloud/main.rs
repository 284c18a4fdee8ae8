// SPDX-License-Identifier: Apache-2.0
//! What only a real OpenStack shows: the lab's, which `make cloud` starts. `make cloud-test` runs these.
//!
//! - [`bastion`]: a controller that uses it.
//! - [`fake`]: with servers that are only said to run, but networks, volumes and quotas that are real. Seconds each.
//! - [`faults`]: the same, with everything that can go wrong in between. Minutes each.
//! - [`life`]: what is made, looked at and removed in both.
//! - [`import`]: servers that somebody made by hand.
//! - [`guest`]: with servers that run, emulated. Minutes each.
//! - [`proxy`]: what is between the cloud and whoever asks, and loses answers.
//! - [`site`]: the cloud, and what there is in it.

mod bastion;
mod fake;
mod faults;
mod guest;
mod import;
mod life;
mod proxy;
mod site;
