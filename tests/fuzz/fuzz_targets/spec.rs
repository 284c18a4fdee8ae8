// SPDX-License-Identifier: Apache-2.0
//! `cluster.yaml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::text::spec(bytes));
