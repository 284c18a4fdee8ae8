// SPDX-License-Identifier: Apache-2.0
//! The wire: every request and response of the contract, decoded from arbitrary bytes, and their conversion.

use std::time::Duration;

use prost::Message;
use windlass_proto::convert::facts::to_wire;
use windlass_proto::convert::order::ordered_action;
use windlass_proto::v1;
use windlass_types::facts::Fact;
use windlass_types::outcome::Outcome;

/// What is decoded is encoded and decoded again, and must be the same.
fn decode<M: Message + Default + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(message.encode_to_vec().as_slice());
        assert_eq!(again, Ok(message));
    }
}

macro_rules! messages {
    ($($message:ident,)*) => {
        /// Every message that a method takes or gives; `tests/it/fuzz_short.rs` sees that none is missing.
        pub const MESSAGES: &[&str] = &[$(stringify!($message),)*];

        /// Decodes the bytes as each of [`MESSAGES`].
        pub fn decode_as_everything(bytes: &[u8]) {
            $(decode::<v1::$message>(bytes);)*
        }
    };
}

messages! {
    AdoptMachinesRequest, AdoptMachinesResponse, ApplyNodesRequest, ApplyNodesResponse, ApplyPlanRequest, ApplyPlanResponse, BackupRequest, BackupResponse,
    ClaimClusterRequest, ClaimClusterResponse, ConfirmEpochRequest, ConfirmEpochResponse, ConnectRequest, ConnectResponse, CreateJobRequest, CreateJobResponse,
    CreateOperatorRequest, CreateOperatorResponse, CreateTokenRequest, CreateTokenResponse, DeleteTokenRequest,
    DeleteTokenResponse, DownloadFileRequest, DownloadFileResponse, FetchFileRequest, FetchFileResponse,
    GetStatusRequest, GetStatusResponse, InspectCloudRequest, InspectCloudResponse, JoinRequest, JoinResponse, LabelNodeRequest, LabelNodeResponse,
    ListHoldsRequest, ListHoldsResponse, ListJobsRequest, ListJobsResponse, ListMachinesRequest, ListMachinesResponse,
    ListNodesRequest, ListNodesResponse, ListOperatorsRequest, ListOperatorsResponse, ListPackagesRequest,
    ListPackagesResponse, ListRunsRequest, ListRunsResponse, ListTokensRequest, ListTokensResponse, PauseRunRequest, PauseRunResponse, PlanClusterRequest, PlanClusterResponse,
    PlanNodesRequest, PlanNodesResponse, PushOutputRequest, PushOutputResponse, QuarantineNodeRequest,
    QuarantineNodeResponse, RefreshNodesRequest, RefreshNodesResponse, ReleaseNodeRequest, ReleaseNodeResponse,
    RemoveNodeRequest, RemoveNodeResponse, RemoveOperatorRequest, RemoveOperatorResponse, RenewCertificateRequest,
    RenewCertificateResponse, RenewOperatorRequest, RenewOperatorResponse, RenewRequest, RenewResponse,
    ResumeRunRequest, ResumeRunResponse, RetryRunRequest, RetryRunResponse, RevokeNodeRequest, RevokeNodeResponse,
    RotateCaRequest, RotateCaResponse, SetMachinePowerRequest, SetMachinePowerResponse, SetOperatorRoleRequest,
    SetOperatorRoleResponse, StopJobRequest, StopJobResponse, StopRunRequest, StopRunResponse, StoreFileRequest,
    StoreFileResponse, UploadFileRequest, UploadFileResponse, VerifyAuditRequest, VerifyAuditResponse,
    WatchConsoleRequest, WatchConsoleResponse, WatchEventsRequest, WatchEventsResponse, WatchJobRequest,
    WatchJobResponse, WatchRunRequest, WatchRunResponse,
}

/// One fact as a controller takes it. What it accepts it can send on unchanged.
pub fn fact(bytes: &[u8]) {
    let Ok(message) = v1::Fact::decode(bytes) else { return };
    let age = Duration::from_millis(message.age_millis);
    if let Ok(fact) = Fact::try_from(message) {
        let again = Fact::try_from(to_wire(fact.clone(), age)).map_err(|error| error.to_string());
        assert_eq!(again, Ok(fact));
    }
}

/// How a job ended, as a controller takes it, and what an agent is asked to do. What is accepted can be sent on unchanged.
pub fn job(bytes: &[u8]) {
    if let Ok(Ok(outcome)) = v1::JobOutcome::decode(bytes).map(|message| Outcome::try_from(&message)) {
        let again = Outcome::try_from(&v1::JobOutcome::from(&outcome)).map_err(|error| error.to_string());
        assert_eq!(again, Ok(outcome));
    }
    if let Ok(Ok(action)) = v1::Order::decode(bytes).map(|order| ordered_action(order.action)) {
        let again = ordered_action(Some((&action).into())).map_err(|error| error.to_string());
        assert_eq!(again, Ok(action));
    }
}
