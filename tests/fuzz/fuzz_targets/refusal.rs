// SPDX-License-Identifier: Apache-2.0
//! The details of a refused call.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::text::refusal(bytes));
