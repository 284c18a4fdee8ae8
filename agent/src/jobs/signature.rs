// SPDX-License-Identifier: Apache-2.0
//! Whether an order is the controller's own. Nothing is read from one before that is settled, but whose job it claims to
//! be, so that the refusal can be reported.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use windlass_proto::signed::{content, signed_bytes};
use windlass_proto::v1;
use windlass_proto::v1::order_payload::Payload;

/// An order that is not obeyed because nobody vouches for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsigned {
    /// This node joined before orders were signed.
    #[error("this node knows no order key: it joined an older controller; remove it there and join again")]
    NoKey,
    /// Nothing in it, or something that this version does not know.
    #[error("an order of a kind that this version does not know")]
    Unknown,
    /// Not genuine.
    #[error(
        "the order is not signed with the order key this node joined with: it was forged or changed on its way, or the \
         controller lost its state and has another key; in that case join again"
    )]
    Forged {
        /// The job it claims to be of.
        job: String,
    },
}

/// The key orders must be signed with.
#[derive(Debug, Clone)]
pub struct OrderKey(Vec<u8>);

impl OrderKey {
    /// Ed25519, 32 bytes; empty if the node knows none.
    #[must_use]
    pub const fn new(public: Vec<u8>) -> Self {
        Self(public)
    }

    /// What is ordered.
    ///
    /// # Errors
    /// If it is not signed with this key, or is nothing this version knows.
    pub fn open(&self, signed: &v1::SignedOrder) -> Result<Payload, Unsigned> {
        if self.0.is_empty() {
            return Err(Unsigned::NoKey);
        }
        let key = UnparsedPublicKey::new(&ED25519, &self.0);
        let is_genuine = key.verify(&signed_bytes(&signed.payload), &signed.signature).is_ok();
        match content(signed) {
            Some(payload) if is_genuine => Ok(payload),
            None if is_genuine => Err(Unsigned::Unknown),
            claimed => Err(Unsigned::Forged { job: claimed.map_or_else(String::new, job_of) }),
        }
    }
}

fn job_of(payload: Payload) -> String {
    match payload {
        Payload::Order(order) => order.job,
        Payload::Stop(stop) => stop.job,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_pki::TestOrders;

    fn stop(job: &str) -> Payload {
        Payload::Stop(v1::StopOrder { job: job.into(), node: "node1".into(), ..v1::StopOrder::default() })
    }

    #[test]
    fn only_what_the_controller_signed_is_opened() {
        let orders = TestOrders::new();
        let key = OrderKey::new(orders.public());
        let genuine = orders.sign(stop("1"));
        assert_eq!(key.open(&genuine), Ok(stop("1")));

        let mut changed = genuine.clone();
        changed.payload = orders.sign(stop("2")).payload;
        assert_eq!(key.open(&changed), Err(Unsigned::Forged { job: "2".into() }));
        let foreign = TestOrders::new().sign(stop("1"));
        assert_eq!(key.open(&foreign), Err(Unsigned::Forged { job: "1".into() }));
        let bare = v1::SignedOrder { signature: bytes::Bytes::new(), ..genuine.clone() };
        assert!(key.open(&bare).is_err());
        assert_eq!(OrderKey::new(Vec::new()).open(&genuine), Err(Unsigned::NoKey));
    }
}
