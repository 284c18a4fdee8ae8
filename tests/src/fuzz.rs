// SPDX-License-Identifier: Apache-2.0
//! Every reader of input from elsewhere, as a function of bytes that must not panic, whatever the bytes are.
//!
//! `tests/it/fuzz_short.rs` feeds each a fixed number of inputs on every run; `tests/fuzz` feeds them for as long as one
//! likes (`make fuzz`).

pub mod seeds;
pub mod text;
pub mod wire;

/// A reader.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, also that of the program in `tests/fuzz`.
    pub name: &'static str,
    /// Reads.
    pub read: fn(&[u8]),
    /// Inputs that are well formed, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every reader.
pub const TARGETS: &[Target] = &[
    Target { name: "wire", read: wire::decode_as_everything, seeds: seeds::messages },
    Target { name: "fact", read: wire::fact, seeds: seeds::facts },
    Target { name: "job", read: wire::job, seeds: seeds::messages },
    Target { name: "node", read: text::node, seeds: seeds::fixtures },
    Target { name: "controller_config", read: text::controller_config, seeds: seeds::controller_config },
    Target { name: "agent_config", read: text::agent_config, seeds: seeds::agent_config },
    Target { name: "spec", read: text::spec, seeds: seeds::specs },
    Target { name: "refusal", read: text::refusal, seeds: seeds::refusals },
];
