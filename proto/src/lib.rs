// SPDX-License-Identifier: Apache-2.0
//! The wire contract: generated messages and services, the generated policy table, and conversions.
//!
//! - [`v1`]: everything in package `windlass.v1`, generated from `proto/windlass/v1`.
//! - [`policy`]: who may call what, generated from the method options of the same files.
//! - [`convert`]: wire to [`windlass_types`] and back; the only validation of wire input.
//! - [`refusal`]: how a call is refused: code, stable reason, cause, advice.
//! - [`signed`]: what is signed of an order.
//! - [`codec`]: the gRPC codec with small buffers that every generated service uses.
//! - [`DESCRIPTOR`]: the compiled descriptor set, for reflection and for tests that sweep every method.

pub mod codec;
pub mod convert;
pub mod policy;
pub mod refusal;
pub mod signed;

/// Package `windlass.v1`.
#[expect(missing_docs, clippy::allow_attributes, reason = "generated; the documentation is in the .proto files")]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/windlass.v1.rs"));
}

/// The compiled `FileDescriptorSet` of package `windlass.v1` and its imports.
pub const DESCRIPTOR: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
