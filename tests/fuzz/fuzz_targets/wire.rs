// SPDX-License-Identifier: Apache-2.0
//! Every message of the contract, decoded from arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| windlass_tests::fuzz::wire::decode_as_everything(bytes));
