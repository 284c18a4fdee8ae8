// SPDX-License-Identifier: Apache-2.0
//! How a job ended and what an agent is asked to do, decoded and converted.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::wire::job(bytes));
