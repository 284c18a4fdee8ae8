// SPDX-License-Identifier: Apache-2.0
//! The client against a cloud on loopback that answers as services of several releases do.

mod calls;
mod described;
mod faults;
mod login;
