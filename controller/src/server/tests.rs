// SPDX-License-Identifier: Apache-2.0
//! What the services take.

use tonic::Code;
use windlass_proto::v1;
use windlass_proto::v1::plan_service_client::PlanServiceClient;

use super::*;
use crate::caller::Caller;
use crate::store::memory::MemoryStore;

/// An answer to a plan of this size that is sent back.
async fn sent_back(bytes: usize) -> tonic::Status {
    let directory = tempfile::tempdir().expect("a directory");
    let controller = testing::controller(MemoryStore::new(), directory.path()).await;
    let message = v1::ApplyNodesRequest { plan: "x".repeat(bytes), ..v1::ApplyNodesRequest::default() };
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(Caller::Local { uid: 0, gid: 0, user: "root".to_owned(), pid: None, role: None });
    PlanServiceClient::new(controller.routes()).apply_nodes(request).await.expect_err("it is no plan")
}

#[tokio::test]
async fn a_plan_for_a_thousand_nodes_can_be_sent_back() {
    let status = sent_back(20 << 20).await;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert!(status.message().contains("the plan cannot be read"), "{status:?}");
    assert_eq!(sent_back(LARGEST_PLAN + 1).await.code(), Code::OutOfRange);
}
