// SPDX-License-Identifier: Apache-2.0
//! Until when a call must have begun to be answered; what it streams then may last longer.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tonic::Status;
use tower::{Layer, Service};

/// What the controller knows itself, it says sooner.
const OWN_ANSWER: Duration = Duration::from_secs(30);

/// Nodes may have to fetch the lists of all their repositories from slow mirrors before they know what is newer. Longer than
/// a survey waits for them.
pub(crate) const ANSWER_OF_NODES: Duration = Duration::from_secs(360);

/// Calls that ask nodes before they are answered.
const ASK_NODES: [&str; 5] = [
    "/windlass.v1.PlanService/PlanCluster",
    "/windlass.v1.PlanService/ApplyPlan",
    "/windlass.v1.PlanService/PlanNodes",
    "/windlass.v1.PlanService/ApplyNodes",
    "/windlass.v1.PlanService/ListPackages",
];

fn of(path: &str) -> Duration {
    if ASK_NODES.contains(&path) { ANSWER_OF_NODES } else { OWN_ANSWER }
}

/// Ends calls that are not answered in time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline;

impl<S> Layer<S> for Deadline {
    type Service = Timed<S>;

    fn layer(&self, inner: S) -> Timed<S> {
        Timed { inner }
    }
}

/// A service whose calls end.
#[derive(Debug, Clone)]
pub(crate) struct Timed<S> {
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Timed<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let limit = of(request.uri().path());
        let answer = self.inner.call(request);
        Box::pin(async move {
            tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
                let text = format!("the controller did not answer within {} s", limit.as_secs());
                Ok(Status::deadline_exceeded(text).into_http())
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use windlass_proto::policy;

    use super::*;

    #[test]
    fn who_asks_nodes_waits_for_them() {
        assert!(ASK_NODES.iter().all(|path| policy::lookup(path).is_some()), "a method has another name");
        assert!(of(ASK_NODES[2]) > of("/windlass.v1.NodeService/ListNodes"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends_and_says_so() {
        let silent = tower::service_fn(|_: http::Request<()>| {
            std::future::pending::<Result<http::Response<String>, std::convert::Infallible>>()
        });
        for (path, seconds) in [("/windlass.v1.NodeService/ListNodes", "30"), (ASK_NODES[0], "360")] {
            let request = http::Request::builder().uri(path).body(()).expect("a request");
            let answer = Deadline.layer(silent).call(request).await.expect("an answer");
            let message = answer.headers()["grpc-message"].to_str().expect("text");
            assert!(message.contains(seconds), "{message}");
            assert_eq!(answer.headers()["grpc-status"], "4");
        }
    }
}
