// SPDX-License-Identifier: Apache-2.0
//! The controller's side of bulk data, kept in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::v1;
use windlass_proto::v1::transfer_service_server::TransferService;

use super::Answers;

/// Keeps what is pushed to it.
#[derive(Clone, Default)]
pub(super) struct Stored(pub(super) Arc<Mutex<Outputs>>, pub(super) Arc<Mutex<Vec<u8>>>);

/// By job and stream.
pub(super) type Outputs = HashMap<(String, i32), Vec<u8>>;

#[tonic::async_trait]
impl TransferService for Stored {
    type PushOutputStream = Answers<v1::PushOutputResponse>;
    type FetchFileStream = Answers<v1::FetchFileResponse>;
    type StoreFileStream = Answers<v1::StoreFileResponse>;

    async fn push_output(
        &self,
        request: Request<Streaming<v1::PushOutputRequest>>,
    ) -> Result<Response<Self::PushOutputStream>, Status> {
        let (answer, answers) = mpsc::channel(16);
        let (stored, mut pieces) = (Arc::clone(&self.0), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(piece)) = pieces.message().await {
                let stored_bytes = {
                    let mut stored = stored.lock().expect("stored");
                    let kept = stored.entry((piece.job.clone(), piece.stream)).or_default();
                    if piece.offset == kept.len() as u64 {
                        kept.extend_from_slice(&piece.data);
                    }
                    kept.len() as u64
                };
                let (job, stream) = (piece.job, piece.stream);
                if answer.send(Ok(v1::PushOutputResponse { job, stream, stored_bytes })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn fetch_file(
        &self,
        request: Request<v1::FetchFileRequest>,
    ) -> Result<Response<Self::FetchFileStream>, Status> {
        let (piece, pieces) = mpsc::channel(2);
        let content = self.1.lock().expect("content").clone();
        let offset = usize::try_from(request.into_inner().offset).expect("fits");
        tokio::spawn(async move {
            // Every stream breaks off once, half-way, unless it is a resumed one.
            let end = if offset == 0 { content.len() / 2 } else { content.len() };
            for data in content[offset..end].chunks(60_000) {
                let data = bytes::Bytes::copy_from_slice(data);
                if piece.send(Ok(v1::FetchFileResponse { data })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(pieces)))
    }

    async fn store_file(
        &self,
        request: Request<Streaming<v1::StoreFileRequest>>,
    ) -> Result<Response<Self::StoreFileStream>, Status> {
        use v1::store_file_request::Part;
        let (answer, answers) = mpsc::channel(2);
        let (content, mut parts) = (Arc::clone(&self.1), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(part)) = parts.message().await {
                match part.part.expect("a part") {
                    Part::Header(_) => {
                        let stored_bytes = content.lock().expect("content").len() as u64;
                        answer.send(Ok(v1::StoreFileResponse { stored_bytes, complete: false })).await.expect("heard");
                    }
                    Part::Data(data) => content.lock().expect("content").extend_from_slice(&data),
                }
            }
            let stored_bytes = content.lock().expect("content").len() as u64;
            // The agent may have gone.
            let _ = answer.send(Ok(v1::StoreFileResponse { stored_bytes, complete: true })).await;
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }
}
