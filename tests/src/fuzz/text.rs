// SPDX-License-Identifier: Apache-2.0
//! Configuration files and refusals: what people and peers write.

use prost::bytes::Bytes;
use tonic::{Code, Status};
use windlass_controller::config::{File, Overrides, Settings};
use windlass_proto::refusal::Refusal;
use windlass_types::error_chain::ErrorChain;

/// The controller's configuration. What is refused is refused with words.
pub fn controller_config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match File::parse(text).map(|file| Settings::new(file, Overrides::default())) {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => assert!(!ErrorChain(&error).to_string().is_empty()),
        Err(error) => assert!(!ErrorChain(&error).to_string().is_empty()),
    }
}

/// The details of a refused call.
pub fn refusal(bytes: &[u8]) {
    let message = String::from_utf8_lossy(bytes);
    let status = Status::with_details(Code::Internal, message.clone(), Bytes::copy_from_slice(bytes));
    assert_eq!(Refusal::from_status(&status).message, message);
}
