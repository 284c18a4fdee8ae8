// SPDX-License-Identifier: Apache-2.0
//! The agent's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::text::agent_config(bytes));
