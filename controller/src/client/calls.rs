// SPDX-License-Identifier: Apache-2.0
//! Calls over a connection. One that only asks is asked once more, over a new connection, if the connection ended before
//! there was an answer.
//!
//! A controller that ends closes what it has accepted, also a connection on which it has not read anything yet. Whoever
//! called in that moment cannot know how far the call came, so nothing that changes anything is sent twice from here.
//! Where systemd holds the socket the new connection waits there for the next controller.

use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::transport::Channel;
use tower::{Service, ServiceExt as _};
use windlass_proto::policy::{self, Caller};
use windlass_types::role::OperatorRole;

use super::{Target, dial};

type Request = http::Request<Body>;
type Response = http::Response<Body>;
type Failed = Box<dyn Error + Send + Sync>;

/// Sends calls to a controller.
#[derive(Debug, Clone)]
pub struct Calls {
    channel: Arc<Mutex<Channel>>,
    target: Arc<Target>,
}

impl Calls {
    pub(super) fn new(channel: Channel, target: Target) -> Self {
        Self { channel: Arc::new(Mutex::new(channel)), target: Arc::new(target) }
    }

    async fn send(&self, request: Request) -> Result<Response, Failed> {
        let channel = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(channel.oneshot(request).await?)
    }

    async fn send_twice(&self, request: Request) -> Result<Response, Failed> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let whole = || Request::from_parts(head.clone(), Body::new(Full::new(body.clone())));
        let failed = match self.send(whole()).await {
            Ok(response) => return Ok(response),
            Err(failed) => failed,
        };
        tracing::debug!(error = %failed, "the connection ended before the answer");
        let Ok((channel, _)) = dial(&self.target).await else { return Err(failed) };
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = channel;
        self.send(whole()).await
    }
}

impl Service<Request> for Calls {
    type Response = Response;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Response, Failed>>;

    /// A connection that has ended is found out with the call, which may begin another.
    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let calls = self.clone();
        Box::pin(async move {
            if only_asks(request.uri().path()) { calls.send_twice(request).await } else { calls.send(request).await }
        })
    }
}

/// Whether a call changes nothing and says so: what those who may only read may call, whose request is one message.
fn only_asks(path: &str) -> bool {
    policy::lookup(path).is_some_and(|row| !row.change && row.caller == Caller::Operator(OperatorRole::Viewer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_anything_is_not_asked_twice() {
        for path in ["/windlass.v1.NodeService/ListNodes", "/windlass.v1.RunService/WatchRun"] {
            assert!(only_asks(path), "{path}");
        }
        for path in [
            "/windlass.v1.PlanService/ApplyNodes",
            "/windlass.v1.TokenService/CreateToken",
            "/windlass.v1.AdminService/ConfirmEpoch",
            "/windlass.v1.AdminService/RenewOperator",
            "/windlass.v1.NodeService/Unknown",
        ] {
            assert!(!only_asks(path), "{path}");
        }
    }
}
