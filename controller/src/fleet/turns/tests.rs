// SPDX-License-Identifier: Apache-2.0
//! Two who change one node at the same moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;
use tonic::Request;
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::join_service_server::JoinService as _;
use windlass_proto::v1::node_service_server::NodeService as _;
use windlass_types::name::{LabelKey, LabelValue, NodeName};

use crate::caller::Caller;
use crate::fleet::NodeRecord;
use crate::join::JoinApi;
use crate::operator::nodes::NodeApi;
use crate::pki::{Serial, serial_of};
use crate::server::Controller;
use crate::server::testing::controller;
use crate::store::memory::MemoryStore;
use crate::store::{Change, Committed, Entry, Store, StoreError, Transaction, Watch};
use crate::tokens::DEFAULT_LIFE;
use crate::trust::NotTrusted;

/// On which side of its flush a transaction takes long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Before,
    After,
}

/// A store that takes long over one transaction: the next that writes below a prefix.
#[derive(Debug)]
struct Slow {
    disk: Arc<MemoryStore>,
    next: Mutex<Option<(&'static str, Side)>>,
    reached: Notify,
    goes_on: Notify,
}

impl Slow {
    fn new() -> Arc<Self> {
        let (disk, next, reached, goes_on) = (MemoryStore::new(), Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { disk, next, reached, goes_on })
    }

    fn take_long_over(&self, prefix: &'static str, side: Side) {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = Some((prefix, side));
    }

    fn side(&self, transaction: &Transaction) -> Option<Side> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (prefix, side) = (*next)?;
        let writes = |change: &Change| matches!(change, Change::Put(key, _) if key.starts_with(prefix));
        transaction.changes.iter().any(writes).then(|| {
            *next = None;
            side
        })
    }

    async fn rest(&self) {
        self.reached.notify_one();
        self.goes_on.notified().await;
    }
}

#[async_trait]
impl Store for Slow {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.disk.get(key).await
    }

    async fn range(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        self.disk.range(prefix, after, limit).await
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let side = self.side(&transaction);
        if side == Some(Side::Before) {
            self.rest().await;
        }
        let committed = self.disk.commit(transaction).await;
        if side == Some(Side::After) {
            self.rest().await;
        }
        committed
    }

    fn watch(&self, prefix: &str) -> Watch {
        self.disk.watch(prefix)
    }
}

fn name() -> NodeName {
    NodeName::new("node1").expect("a name")
}

fn address() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 4000))
}

fn csr() -> Vec<u8> {
    crate::profile::new_key().expect("randomness").1
}

fn asked_by<T>(caller: Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller);
    request
}

fn root<T>(message: T) -> Request<T> {
    asked_by(Caller::Local { uid: 0, gid: 0, user: "root".to_owned(), pid: None, role: None }, message)
}

async fn join(controller: &Arc<Controller>) -> Serial {
    let (token, _) = controller.tokens.create(name(), DEFAULT_LIFE, "root".to_owned()).await.expect("a token");
    let message = v1::JoinRequest { token: token.reveal(), csr_der: csr().into(), ..v1::JoinRequest::default() };
    let api = JoinApi::new(Arc::clone(&controller.enrolment));
    let joined = api.join(asked_by(Caller::Stranger { address: address() }, message)).await;
    let issued = joined.expect("it joins").into_inner().issued.expect("a certificate");
    serial_of(&issued.certificate_der).expect("a serial number")
}

/// Renews, and while that is being stored, `meanwhile` is done.
async fn renewed_while(
    (store, side): (&Slow, Side),
    (controller, used): (&Arc<Controller>, Serial),
    meanwhile: impl Future<Output = ()>,
) -> Result<Serial, Refusal> {
    store.take_long_over("certificates/", side);
    let enrolment = Arc::clone(&controller.enrolment);
    let renewing = tokio::spawn(async move { enrolment.renew(&name(), used, &csr()).await });
    store.reached.notified().await;
    tokio::join!(meanwhile, async { store.goes_on.notify_one() });
    let issued = renewing.await.expect("no panic")?;
    Ok(serial_of(&issued.certificate_der).expect("a serial number"))
}

async fn stored(store: &Slow) -> Option<NodeRecord> {
    let entry = store.get("nodes/node1").await.expect("readable")?;
    Some(serde_json::from_slice(&entry.value).expect("a record"))
}

#[tokio::test]
async fn a_node_that_is_revoked_while_it_renews_stays_revoked() {
    for side in [Side::Before, Side::After] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Slow::new();
        let controller = controller(store.clone(), directory.path()).await;
        let used = join(&controller).await;
        let api = NodeApi(Arc::clone(&controller));
        let revoke = async {
            let message = v1::RevokeNodeRequest { node: name().to_string(), ..v1::RevokeNodeRequest::default() };
            api.revoke_node(root(message)).await.expect("revoked");
        };
        let renewed = renewed_while((&store, side), (&controller, used), revoke).await.expect("it came first");
        for serial in [used, renewed] {
            assert_eq!(controller.trust.identify(serial), Err(NotTrusted::Revoked), "{side:?}");
        }
        assert!(controller.fleet.record(&name()).expect("known").revoked.is_some(), "{side:?}");
        assert!(stored(&store).await.expect("stored").revoked.is_some(), "{side:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_removed_while_it_renews_stays_removed() {
    for side in [Side::Before, Side::After] {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Slow::new();
        let controller = controller(store.clone(), directory.path()).await;
        let used = join(&controller).await;
        let api = NodeApi(Arc::clone(&controller));
        let remove = async {
            api.remove_node(root(v1::RemoveNodeRequest { node: name().to_string() })).await.expect("removed");
        };
        let renewed = renewed_while((&store, side), (&controller, used), remove).await.expect("it came first");
        assert_eq!(controller.trust.identify(renewed), Err(NotTrusted::Revoked), "{side:?}");
        assert!(controller.fleet.record(&name()).is_err(), "{side:?}");
        assert_eq!(stored(&store).await, None, "{side:?}");
    }
}

#[tokio::test]
async fn a_removed_node_renews_nothing_once_another_has_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let controller = controller(Slow::new(), directory.path()).await;
    let old = join(&controller).await;
    let remove = v1::RemoveNodeRequest { node: name().to_string() };
    NodeApi(Arc::clone(&controller)).remove_node(root(remove)).await.expect("removed");
    let new = join(&controller).await;
    let refused = controller.enrolment.renew(&name(), old, &csr()).await.expect_err("it is another node's name");
    assert_eq!(refused.reason, Reason::NotTrusted);
    assert_eq!(controller.fleet.record(&name()).expect("known").serial, new);
}

#[tokio::test]
async fn of_two_who_label_a_node_at_once_none_loses_a_label() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Slow::new();
    let controller = controller(store.clone(), directory.path()).await;
    join(&controller).await;
    let set =
        |key: &str| BTreeMap::from([(LabelKey::new(key).expect("a key"), LabelValue::new("yes").expect("a value"))]);
    store.take_long_over("nodes/", Side::Before);
    let fleet = Arc::clone(&controller.fleet);
    let first = set("first");
    let labelling = tokio::spawn(async move { fleet.label(&name(), first, &[]).await });
    store.reached.notified().await;
    let second = async { controller.fleet.label(&name(), set("second"), &[]).await };
    let (second, ()) = tokio::join!(second, async { store.goes_on.notify_one() });
    labelling.await.expect("no panic").expect("labelled");
    second.expect("labelled");
    for record in [controller.fleet.record(&name()).expect("known"), stored(&store).await.expect("stored")] {
        assert_eq!(record.labels.len(), 2, "{record:?}");
    }
}

fn hello(boot_id: &str) -> v1::Hello {
    v1::Hello { boot_id: boot_id.to_owned(), ..v1::Hello::default() }
}

#[tokio::test]
async fn a_change_does_not_bring_back_the_boot_before() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Slow::new();
    let controller = controller(store.clone(), directory.path()).await;
    let used = join(&controller).await;
    controller.fleet.begin_session(&name(), used, address(), &hello("first")).expect("a session");
    let reboot = async {
        controller.fleet.begin_session(&name(), used, address(), &hello("second")).expect("a session");
    };
    renewed_while((&store, Side::Before), (&controller, used), reboot).await.expect("renewed");
    assert_eq!(controller.fleet.record(&name()).expect("known").boot_id.as_deref(), Some("second"));
}

#[tokio::test]
async fn a_revoked_node_opens_no_session() {
    let directory = tempfile::tempdir().expect("a directory");
    let controller = controller(Slow::new(), directory.path()).await;
    let used = join(&controller).await;
    let message = v1::RevokeNodeRequest { node: name().to_string(), ..v1::RevokeNodeRequest::default() };
    NodeApi(Arc::clone(&controller)).revoke_node(root(message)).await.expect("revoked");
    let refused = controller.fleet.begin_session(&name(), used, address(), &hello("first")).expect_err("revoked");
    assert_eq!(refused.reason, Reason::NotTrusted);
}
