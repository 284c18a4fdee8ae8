// SPDX-License-Identifier: Apache-2.0
//! What the tools and files of a node say.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::text::node(bytes));
