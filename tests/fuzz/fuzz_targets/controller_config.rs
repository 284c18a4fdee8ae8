// SPDX-License-Identifier: Apache-2.0
//! The controller's configuration.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::text::controller_config(bytes));
