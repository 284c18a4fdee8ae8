// SPDX-License-Identifier: Apache-2.0
//! Copies: a file goes up to the controller, to a node, and all the way back, whatever breaks meanwhile; and what must be
//! true of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest::{SHA256, digest};
use fastrand::Rng;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status};
use windlass_proto::v1;
use windlass_proto::v1::create_job_request::Action as Wire;
use windlass_proto::v1::job_service_client::JobServiceClient;
use windlass_proto::v1::upload_file_request::Part;
use windlass_types::action::Action;
use windlass_types::digest::Sha256Digest;
use windlass_types::name::JobId;
use windlass_types::outcome::Outcome;

use crate::ledger::{Era, Ledger};
use crate::node::Node;
use crate::operator::until_answered;

/// How much goes in one message.
const PIECE_BYTES: usize = 64 * 1024;

/// How often an operator looks whether a copy has ended, and until when.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const LOOKS: usize = 600;

/// How long a node may take for its part.
const TIMEOUT_MILLIS: u64 = 60_000;

/// A file, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CopyWish {
    /// Its number in this simulation.
    pub(crate) number: usize,
    /// To this node.
    pub(crate) node: usize,
    /// How large it is.
    pub(crate) bytes: usize,
}

impl CopyWish {
    fn content(&self) -> Vec<u8> {
        let mut content = vec![0; self.bytes];
        Rng::with_seed(u64::try_from(self.number).expect("few")).fill(&mut content);
        content
    }
}

fn sha256(content: &[u8]) -> Sha256Digest {
    Sha256Digest::from_slice(digest(&SHA256, content).as_ref()).expect("32 bytes")
}

/// Makes the copy both ways, as `windlass cp` does; what came of it, in words.
pub(crate) async fn copy(ledger: &Ledger, node: &Arc<Node>, wish: &CopyWish, era: usize) -> Result<String, Status> {
    let content = wish.content();
    let (wanted, path) = (sha256(&content), node.directory.join(format!("copy-{}", wish.number)));
    let path = path.to_str().expect("UTF-8").to_owned();
    until_answered(|channel| upload(channel, &content, wanted)).await?;
    let put = v1::PutFileAction {
        path: path.clone(),
        sha256: wanted.as_bytes().to_vec().into(),
        size_bytes: content.len() as u64,
        mode: 0o600,
    };
    let to_node = move_file(ledger, node, format!("era-{era}-put-{}", wish.number), Wire::PutFile(put)).await?;
    let Some(Outcome { ending, .. }) = to_node.as_ref().filter(|outcome| outcome.ending.is_success()) else {
        return Ok(format!("did not get there: {to_node:?}"));
    };
    let there = ending.to_string();
    let get = Wire::GetFile(v1::GetFileAction { path });
    let back = move_file(ledger, node, format!("era-{era}-get-{}", wish.number), get).await?;
    let Some(back) = back.filter(|outcome| outcome.ending.is_success()) else {
        return Ok(format!("{there} there, and not back"));
    };
    let found = back.sha256.ok_or_else(|| Status::internal("no digest"))?;
    let came = until_answered(|channel| download(channel, found)).await?;
    if found != wanted || sha256(&came) != wanted {
        ledger.broke(format!(
            "(11) copy {} came back as {found}, {} bytes; {wanted} was sent",
            wish.number,
            came.len()
        ));
    }
    Ok("there and back".to_owned())
}

/// Has a node do its part; how that ended, if it did.
async fn move_file(ledger: &Ledger, node: &Node, request: String, action: Wire) -> Result<Option<Outcome>, Status> {
    let names = vec![node.name.to_string()];
    let wish = v1::CreateJobRequest {
        request_id: request,
        selector: Some(v1::NodeSelector { names, ..v1::NodeSelector::default() }),
        action: Some(action),
        timeout_millis: TIMEOUT_MILLIS,
        ..v1::CreateJobRequest::default()
    };
    let answer = until_answered(async |channel| JobServiceClient::new(channel).create_job(wish.clone()).await).await?;
    ledger.created(&wish.request_id, &answer.id);
    let job = JobId::new(answer.id).map_err(|error| Status::internal(error.to_string()))?;
    for _ in 0..LOOKS {
        let ended = ledger.with_era(|era| era.ends.get(&(job.clone(), node.name.clone())).cloned());
        if ended.is_some() {
            return Ok(ended);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(None)
}

/// Sends what the controller does not hold yet.
async fn upload(channel: Channel, content: &[u8], sha256: Sha256Digest) -> Result<Response<()>, Status> {
    let (send, sent) = mpsc::channel(4);
    let header = v1::UploadFileHeader { sha256: sha256.as_bytes().to_vec().into(), size_bytes: content.len() as u64 };
    let part = |part| v1::UploadFileRequest { part: Some(part) };
    let broken = |_| Status::unavailable("the controller hears no more");
    send.send(part(Part::Header(header))).await.map_err(broken)?;
    let mut answers = JobServiceClient::new(channel).upload_file(ReceiverStream::new(sent)).await?.into_inner();
    let first = answers.message().await?.ok_or_else(|| Status::unavailable("no answer"))?;
    let held = usize::try_from(first.stored_bytes).expect("it is ours").min(content.len());
    if first.complete {
        return Ok(Response::new(()));
    }
    for piece in content[held..].chunks(PIECE_BYTES) {
        send.send(part(Part::Data(piece.to_vec().into()))).await.map_err(broken)?;
    }
    let last = answers.message().await?;
    let complete = last.is_some_and(|answer| answer.complete);
    if complete { Ok(Response::new(())) } else { Err(Status::unavailable("not complete")) }
}

async fn download(channel: Channel, sha256: Sha256Digest) -> Result<Response<Vec<u8>>, Status> {
    let request = v1::DownloadFileRequest { sha256: sha256.as_bytes().to_vec().into(), offset: 0 };
    let mut pieces = JobServiceClient::new(channel).download_file(request).await?.into_inner();
    let mut content = Vec::new();
    while let Some(piece) = pieces.message().await? {
        content.extend_from_slice(&piece.data);
    }
    Ok(Response::new(content))
}

/// Looks at every file that was ordered to a node.
#[derive(Debug, Default)]
pub(crate) struct Landed(BTreeMap<PathBuf, (u64, SystemTime)>);

impl Landed {
    /// A file that is there is the one that was ordered, at any moment; what has not changed since is not read again.
    pub(crate) fn wrong(&mut self, era: &Era) -> Option<String> {
        era.jobs.values().find_map(|job| {
            let Action::PutFile { path, sha256: wanted, .. } = &job.action else { return None };
            let path = PathBuf::from(path.as_str());
            let metadata = std::fs::metadata(&path).ok()?;
            let stamp = (metadata.len(), metadata.modified().ok()?);
            if self.0.insert(path.clone(), stamp) == Some(stamp) {
                return None;
            }
            let found = sha256(&std::fs::read(&path).ok()?);
            (found != *wanted).then(|| format!("(11) job {}: {} has digest {found}", job.id, path.display()))
        })
    }
}

/// Whether the file of a copy that was told as done is there.
pub(crate) fn is_there(action: &Action) -> bool {
    match action {
        Action::PutFile { path, sha256: wanted, .. } => {
            std::fs::read(path.as_str()).is_ok_and(|content| sha256(&content) == *wanted)
        }
        Action::Exec(_) | Action::GetFile { .. } | Action::Step(_) => true,
    }
}
