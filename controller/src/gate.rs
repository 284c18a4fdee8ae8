// SPDX-License-Identifier: Apache-2.0
//! The gate before every service: works out the caller, looks up the method's row in the policy table, and refuses.
//!
//! It runs for every request, so a revocation, an expiry or a lowered role holds from the next request on, also on a
//! connection that is long open. A method without a row is refused whoever calls it.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::future::{BoxFuture, Either};
use nix::unistd::{Uid, User};
use tonic::Status;
use tower::{Layer, Service};
use windlass_proto::policy;
use windlass_proto::refusal::{Reason, Refusal};

use crate::caller::{Caller, local_role};
use crate::config::SocketAccess;
use crate::listener::{Origin, Peer};
use crate::trust::{Identity, NotTrusted, Trust};

/// Decides about requests.
#[derive(Debug, Clone)]
pub struct Gate {
    trust: Arc<Trust>,
    access: Arc<SocketAccess>,
    read_only: Arc<AtomicBool>,
}

impl Gate {
    /// `read_only` is shared with whoever confirms a new epoch.
    #[must_use]
    pub fn new(trust: Arc<Trust>, access: SocketAccess, read_only: Arc<AtomicBool>) -> Self {
        Self { trust, access: Arc::new(access), read_only }
    }

    /// Who calls, if they may call this method.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub fn admit(&self, path: &str, peer: &Peer) -> Result<Caller, Refusal> {
        let caller = self.caller(peer).map_err(|why| untrusted(&why))?;
        let Some(row) = policy::lookup(path) else {
            return Err(Refusal::new(Reason::NotPermitted, "this method may be called by nobody"));
        };
        if !caller.satisfies(row.caller) {
            return Err(not_permitted(&caller, path));
        }
        if row.change && self.read_only.load(Ordering::Acquire) {
            return Err(Refusal::new(Reason::ReadOnly, "the controller was restored from a backup and is read-only")
                .advise("see that no other controller runs, then `windlass restore --confirm`"));
        }
        Ok(caller)
    }

    fn caller(&self, peer: &Peer) -> Result<Caller, NotTrusted> {
        match peer.origin {
            Origin::Stranger { address } => Ok(Caller::Stranger { address }),
            Origin::Certificate { serial, address } => Ok(match self.trust.identify(serial)? {
                Identity::Node(name) => Caller::Node { name, serial, address },
                Identity::Operator(name, role) => Caller::Operator { name, role, serial, address },
            }),
            Origin::Local { uid, gid, pid } => {
                let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
                let user = user.map_or_else(|| uid.to_string(), |user| user.name);
                Ok(Caller::Local { uid, gid, user, pid, role: local_role(&self.access, uid, gid) })
            }
        }
    }
}

fn untrusted(why: &NotTrusted) -> Refusal {
    let advice = match why {
        NotTrusted::Expired => "a node renews by itself; an operator asks an admin for a new profile",
        NotTrusted::Revoked | NotTrusted::Unknown => {
            "an admin decides who is trusted: `windlass token create` for a \
                                                      node, `windlass operator create` for a person"
        }
    };
    Refusal::new(Reason::NotTrusted, why.to_string()).advise(advice)
}

fn not_permitted(caller: &Caller, path: &str) -> Refusal {
    let method = path.rsplit('/').next().unwrap_or(path);
    let message = format!("{caller} has the role {} and may not call {method}", caller.role_name());
    let advice = match caller {
        Caller::Local { .. } => "run it as root, or have an admin add you under [socket_access] in the configuration",
        Caller::Operator { .. } => "ask an admin for `windlass operator role`",
        Caller::Stranger { .. } => {
            "this is the port where machines join; operators and agents use another one, 7600 unless it was changed: \
             correct `controller` in the profile"
        }
        Caller::Node { .. } => "",
    };
    Refusal::new(Reason::NotPermitted, message).advise(advice)
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// A change is carried through also when its caller hangs up: what is stored and what is held in memory must not part.
async fn to_its_end<E: Send + 'static, R: Default + Send + 'static>(
    work: impl Future<Output = Result<http::Response<R>, E>> + Send + 'static,
) -> Result<http::Response<R>, E> {
    let ended = tokio::spawn(work).await;
    ended.unwrap_or_else(|_| {
        let refusal =
            Refusal::new(Reason::Other, "the change was not carried through").advise("see the controller's log");
        Ok(Status::from(refusal).into_http())
    })
}

/// A service behind the gate.
#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S, B, R> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>, Response = http::Response<R>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: Default + Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<
        Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>,
        Ready<Result<S::Response, S::Error>>,
    >;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let path = request.uri().path();
        let admitted = match request.extensions().get::<Peer>() {
            Some(peer) => self.gate.admit(path, peer),
            None => Err(Refusal::new(Reason::NotTrusted, "the connection has no identity")),
        };
        crate::metrics::request(policy::lookup(path).map_or("unknown", |row| row.path), admitted.is_ok());
        match admitted {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                let changes = policy::lookup(request.uri().path()).is_some_and(|row| row.change);
                let work = self.inner.call(request);
                Either::Left(if changes { Either::Right(Box::pin(to_its_end(work))) } else { Either::Left(work) })
            }
            Err(refusal) => Either::Right(ready(Ok(Status::from(refusal).into_http()))),
        }
    }
}
