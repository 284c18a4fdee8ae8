// SPDX-License-Identifier: Apache-2.0
//! What is signed of an order. Who signs and who verifies is the programs' matter; what the signature covers is here.

use prost::Message as _;

use crate::v1;
use crate::v1::order_payload::Payload;

/// Before every payload, so that a signature fits nothing else.
const CONTEXT: &[u8] = b"windlass order v1\0";

/// What the signature of this payload covers.
#[must_use]
pub fn signed_bytes(payload: &[u8]) -> Vec<u8> {
    [CONTEXT, payload].concat()
}

/// An order in its envelope.
#[must_use]
pub fn seal(payload: Payload, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> v1::SignedOrder {
    let payload = v1::OrderPayload { payload: Some(payload) }.encode_to_vec();
    let signature = sign(&signed_bytes(&payload)).into();
    v1::SignedOrder { payload: payload.into(), signature }
}

/// What is in the envelope, verified or not; `None` if that is nothing this version knows.
#[must_use]
pub fn content(signed: &v1::SignedOrder) -> Option<Payload> {
    v1::OrderPayload::decode(signed.payload.clone()).ok()?.payload
}
