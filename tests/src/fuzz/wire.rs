// SPDX-License-Identifier: Apache-2.0
//! The wire: every request and response of the contract, decoded from arbitrary bytes.

use prost::Message;
use windlass_proto::v1;

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
    BackupRequest, BackupResponse, ConfirmEpochRequest, ConfirmEpochResponse, ConnectRequest, ConnectResponse,
    CreateJobRequest, CreateJobResponse, CreateOperatorRequest, CreateOperatorResponse, CreateTokenRequest,
    CreateTokenResponse, DeleteTokenRequest, DeleteTokenResponse, DownloadFileRequest, DownloadFileResponse,
    FetchFileRequest, FetchFileResponse, GetStatusRequest, GetStatusResponse, JoinRequest, JoinResponse,
    LabelNodeRequest, LabelNodeResponse, ListJobsRequest, ListJobsResponse, ListNodesRequest, ListNodesResponse,
    ListOperatorsRequest, ListOperatorsResponse, ListTokensRequest, ListTokensResponse, PushOutputRequest,
    PushOutputResponse, RefreshNodesRequest, RefreshNodesResponse, RemoveNodeRequest, RemoveNodeResponse,
    RemoveOperatorRequest, RemoveOperatorResponse, RenewCertificateRequest, RenewCertificateResponse, RenewRequest,
    RenewResponse, RevokeNodeRequest, RevokeNodeResponse, RotateCaRequest, RotateCaResponse, SetOperatorRoleRequest,
    SetOperatorRoleResponse, StopJobRequest, StopJobResponse, StoreFileRequest, StoreFileResponse, UploadFileRequest,
    UploadFileResponse, VerifyAuditRequest, VerifyAuditResponse, WatchEventsRequest, WatchEventsResponse,
    WatchJobRequest, WatchJobResponse,
}
