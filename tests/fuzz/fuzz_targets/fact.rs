// SPDX-License-Identifier: Apache-2.0
//! One fact, decoded and converted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::wire::fact(bytes));
