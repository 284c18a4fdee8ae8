// SPDX-License-Identifier: Apache-2.0
//! Orders that come again: late, in another order, from an earlier session or an earlier life of the controller.
//!
//! TLS and TCP deliver everything once and in order, so this stands for a controller that repeats itself. It sits between
//! the session service and HTTP/2, remembers every order that went to a node, and puts one of them into the stream again
//! when it is told to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use http_body_util::{BodyStream, StreamBody};
use hyper::body::Frame;
use prost::Message as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::service::Routes;
use windlass_controller::caller::Caller;
use windlass_proto::v1;
use windlass_proto::v1::connect_response::Message as Down;
use windlass_types::name::NodeName;

/// A gRPC message is preceded by a flag and its length.
const HEADER_BYTES: usize = 5;

/// Orders that went to nodes.
#[derive(Debug, Default)]
pub(crate) struct Replays(Mutex<BTreeMap<NodeName, Sent>>);

#[derive(Debug, Default)]
struct Sent {
    orders: Vec<Bytes>,
    /// The present session.
    session: Option<mpsc::UnboundedSender<Bytes>>,
}

impl Replays {
    fn sent(&self) -> MutexGuard<'_, BTreeMap<NodeName, Sent>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the order before the last `back` ones again, if there is one and the node has a session.
    pub(crate) fn again(&self, node: &NodeName, back: usize) {
        let sent = self.sent();
        let Some(sent) = sent.get(node) else { return };
        let order = sent.orders.len().checked_sub(back + 1).map(|index| sent.orders[index].clone());
        if let (Some(order), Some(session)) = (order, &sent.session) {
            // The session may have ended a moment ago.
            let _ended = session.send(order);
        }
    }

    /// The services, with the sessions' streams watched.
    pub(crate) fn around(self: &Arc<Self>, routes: Routes) -> Routes {
        let replays = Arc::clone(self);
        let watched =
            axum::middleware::from_fn(move |request: axum::extract::Request, next: axum::middleware::Next| {
                let replays = Arc::clone(&replays);
                async move {
                    let node = match request.extensions().get::<Caller>() {
                        Some(Caller::Node { name, .. }) if request.uri().path().ends_with("SessionService/Connect") => {
                            Some(name.clone())
                        }
                        _ => None,
                    };
                    let response = next.run(request).await;
                    match node {
                        Some(node) => replays.watched(node, response),
                        None => response,
                    }
                }
            });
        Routes::from(routes.into_axum_router().layer(watched))
    }

    fn watched(self: Arc<Self>, node: NodeName, response: axum::response::Response) -> axum::response::Response {
        let (again, injected) = mpsc::unbounded_channel();
        self.sent().entry(node.clone()).or_default().session = Some(again);
        response.map(|body| {
            let own = BodyStream::new(body).map(Some).chain(futures_util::stream::iter([None]));
            let injected = UnboundedReceiverStream::new(injected).map(|order| Some(Ok(Frame::data(order))));
            // The session is over when its own part is.
            let all =
                futures_util::stream::select(own, injected).take_while(|frame| std::future::ready(frame.is_some()));
            let all = all.filter_map(std::future::ready).inspect(move |frame| {
                if let Some(data) = frame.as_ref().ok().and_then(Frame::data_ref) {
                    self.remember(&node, data.clone());
                }
            });
            axum::body::Body::new(StreamBody::new(all))
        })
    }

    fn remember(&self, node: &NodeName, mut data: Bytes) {
        while data.len() >= HEADER_BYTES {
            let length = usize::try_from((&data[1..HEADER_BYTES]).get_u32()).expect("a message fits into memory");
            let message = data.split_to((HEADER_BYTES + length).min(data.len()));
            let decoded = v1::ConnectResponse::decode(&message[HEADER_BYTES..]);
            if matches!(decoded, Ok(v1::ConnectResponse { message: Some(Down::Order(_)) })) {
                let mut sent = self.sent();
                let orders = &mut sent.entry(node.clone()).or_default().orders;
                if !orders.contains(&message) {
                    orders.push(message);
                }
            }
        }
    }
}
