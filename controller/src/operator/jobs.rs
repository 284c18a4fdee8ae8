// SPDX-License-Identifier: Apache-2.0
//! JobService.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use serde_json::json;
use tonic::{Request, Response, Status, Streaming};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::create_job_request::Action as Wire;
use windlass_proto::v1::job_service_server::JobService;
use windlass_types::action::{Action, Argv, NodePath, checked_mode};
use windlass_types::name::JobId;

use super::{bad, nodes};
use crate::caller::Caller;
use crate::change::Wish;
use crate::jobs::NewJob;
use crate::jobs::watch::summary;
use crate::server::Controller;
use crate::transfer::{self, digest, headless};

/// Jobs in one answer at most.
const LARGEST_PAGE: usize = 200;

/// The longest a job may take on a node.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);

/// Longest request id: a uuid is 36 characters.
const LONGEST_REQUEST_ID: usize = 64;

/// The calls.
#[derive(Debug)]
pub struct JobApi(pub Arc<Controller>);

type Answers<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl JobService for JobApi {
    type WatchJobStream = Answers<v1::WatchJobResponse>;
    type UploadFileStream = Answers<v1::UploadFileResponse>;
    type DownloadFileStream = Answers<v1::DownloadFileResponse>;

    async fn create_job(
        &self,
        request: Request<v1::CreateJobRequest>,
    ) -> Result<Response<v1::CreateJobResponse>, Status> {
        let caller = Caller::of(&request);
        let new = self.read(&caller, request.into_inner())?;
        let names: Vec<_> = new.nodes.iter().map(ToString::to_string).collect();
        let arguments = json!({
            "action": new.action.to_string(), "nodes": names, "batch": new.batch, "max_failures": new.max_failures,
        });
        let wish = Wish { caller: &caller, verb: "job create", object: "job".to_owned(), arguments };
        let record = self.0.changes.run(wish, self.0.jobs.create(new)).await?;
        let nodes = record.nodes.iter().map(ToString::to_string).collect();
        Ok(Response::new(v1::CreateJobResponse { id: record.id.to_string(), nodes }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        let message = request.into_inner();
        let before = match message.page_token.as_str() {
            "" => None,
            token => Some(job_id(token)?),
        };
        let size = match message.page_size as usize {
            0 => LARGEST_PAGE,
            size => size.min(LARGEST_PAGE),
        };
        let found = self.0.jobs.list(before.as_ref(), size + 1).await?;
        let has_more = found.len() > size;
        let jobs: Vec<_> = found.iter().take(size).map(|(record, tally)| summary(record, *tally)).collect();
        let next_page_token = jobs.last().filter(|_| has_more).map(|job| job.id.clone()).unwrap_or_default();
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token }))
    }

    async fn watch_job(&self, request: Request<v1::WatchJobRequest>) -> Result<Response<Self::WatchJobStream>, Status> {
        let watcher = self.0.jobs.watch(&job_id(&request.into_inner().id)?).await?;
        let next = async |mut watcher: crate::jobs::Watcher| watcher.next().await.map(|batch| (Ok(batch), watcher));
        let batches = unfold(watcher, next).take_until(self.0.stop.clone().cancelled_owned());
        Ok(Response::new(batches.boxed()))
    }

    async fn stop_job(&self, request: Request<v1::StopJobRequest>) -> Result<Response<v1::StopJobResponse>, Status> {
        let caller = Caller::of(&request);
        let id = job_id(&request.into_inner().id)?;
        let wish = Wish { caller: &caller, verb: "job stop", object: format!("job/{id}"), arguments: json!({}) };
        let by = caller.to_string();
        let (record, tally) = self.0.changes.run(wish, self.0.jobs.stop(&id, &by)).await?;
        Ok(Response::new(v1::StopJobResponse { job: Some(summary(&record, tally)) }))
    }

    async fn upload_file(
        &self,
        request: Request<Streaming<v1::UploadFileRequest>>,
    ) -> Result<Response<Self::UploadFileStream>, Status> {
        let caller = Caller::of(&request);
        let mut parts = request.into_inner();
        let Some(v1::UploadFileRequest { part: Some(v1::upload_file_request::Part::Header(header)) }) =
            parts.message().await?
        else {
            return Err(headless().into());
        };
        let sha256 = digest(&header.sha256)?;
        let arguments = json!({ "size_bytes": header.size_bytes });
        let wish = Wish { caller: &caller, verb: "file upload", object: format!("file/{sha256}"), arguments };
        let parts = parts.map(|part| {
            part.map(|request| match request.part {
                Some(v1::upload_file_request::Part::Data(data)) => data,
                Some(v1::upload_file_request::Part::Header(_)) | None => Bytes::new(),
            })
        });
        let begin = async { transfer::receive(&self.0.files, &self.0.jobs, sha256, header.size_bytes, parts.boxed()) };
        let answers = self.0.changes.run(wish, begin).await?.map(|answer| {
            answer.map(|received| v1::UploadFileResponse {
                stored_bytes: received.stored_bytes,
                complete: received.complete,
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn download_file(
        &self,
        request: Request<v1::DownloadFileRequest>,
    ) -> Result<Response<Self::DownloadFileStream>, Status> {
        let message = request.into_inner();
        let pieces = transfer::pieces(&self.0.files, digest(&message.sha256)?, message.offset)?;
        Ok(Response::new(pieces.map(|piece| piece.map(|data| v1::DownloadFileResponse { data })).boxed()))
    }
}

impl JobApi {
    fn read(&self, caller: &Caller, message: v1::CreateJobRequest) -> Result<NewJob, Refusal> {
        let request_id = message.request_id;
        let is_plain = request_id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        if request_id.is_empty() || request_id.len() > LONGEST_REQUEST_ID || !is_plain {
            return Err(Refusal::new(Reason::BadRequest, "request_id must be letters, digits and '-', 64 at most"));
        }
        let timeout = match message.timeout_millis {
            0 => self.0.settings.default_timeout,
            millis => Duration::from_millis(millis),
        };
        if timeout > LONGEST_TIMEOUT {
            return Err(
                Refusal::new(Reason::BadRequest, "a job takes 7 days at most").advise("give a shorter --timeout")
            );
        }
        Ok(NewJob {
            request_id,
            action: self.action(message.action)?,
            nodes: nodes::chosen(&self.0, message.selector)?,
            batch: message.batch,
            max_failures: message.max_failures,
            timeout,
            created_by: caller.to_string(),
        })
    }

    fn action(&self, wire: Option<Wire>) -> Result<Action, Refusal> {
        match wire {
            Some(Wire::Exec(exec)) => {
                if !self.0.settings.exec {
                    return Err(Refusal::new(
                        Reason::SwitchedOff,
                        "running programs is switched off on this controller",
                    )
                    .advise("set exec = true under [jobs] in the configuration and restart it"));
                }
                Ok(Action::Exec(Argv::new(exec.argv).map_err(|error| bad(&error))?))
            }
            Some(Wire::PutFile(put)) => {
                let path = NodePath::new(put.path).map_err(|error| bad(&error))?;
                let mode = checked_mode(put.mode).map_err(|error| bad(&error))?;
                let sha256 = digest(&put.sha256)?;
                if self.0.files.size(sha256) != Some(put.size_bytes) {
                    return Err(Refusal::new(Reason::NotFound, "the controller does not hold this file")
                        .advise("upload it first, as `windlass cp` does"));
                }
                Ok(Action::PutFile { path, sha256, size_bytes: put.size_bytes, mode })
            }
            Some(Wire::GetFile(get)) => {
                Ok(Action::GetFile { path: NodePath::new(get.path).map_err(|error| bad(&error))? })
            }
            None => Err(Refusal::new(Reason::BadRequest, "the job has no action")),
        }
    }
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    JobId::new(text).map_err(|error| bad(&error))
}
