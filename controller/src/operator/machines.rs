// SPDX-License-Identifier: Apache-2.0
//! MachineService.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use serde_json::json;
use tonic::{Request, Response, Status};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_proto::v1;
use windlass_proto::v1::machine_service_server::MachineService;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::name::{CloudName, NodeName};

use super::{adoption, bad, claim, internal};
use crate::caller::Caller;
use crate::change::Wish;
use crate::execute::apply::unobserved;
use crate::provider::openstack::inspect::{Finding, KnownNodes};
use crate::provider::{ConsoleFrom, MachineKey, PowerAction, Provider, ProviderError};
use crate::server::Controller;

/// Most of a console's end that is read to find its last lines.
const LONGEST_TAIL_BYTES: u64 = 4 << 20;

/// Lines of a console are shorter, nearly all of them.
const LINE_BYTES: u64 = 512;

/// The calls.
#[derive(Debug)]
pub struct MachineApi(pub Arc<Controller>);

#[tonic::async_trait]
impl MachineService for MachineApi {
    type WatchConsoleStream = BoxStream<'static, Result<v1::WatchConsoleResponse, Status>>;

    async fn watch_console(
        &self,
        request: Request<v1::WatchConsoleRequest>,
    ) -> Result<Response<Self::WatchConsoleStream>, Status> {
        let message = request.into_inner();
        let (provider, key) = self.find(message.node).await?;
        let mut console =
            Console { provider, key, ready: VecDeque::new(), position: 0, follow: message.follow, is_over: false };
        console.begin(message.tail_lines).await?;
        let pieces = unfold(console, async |mut console| console.next().await.map(|piece| (piece, console)));
        Ok(Response::new(pieces.take_until(self.0.stop.clone().cancelled_owned()).boxed()))
    }

    async fn inspect_cloud(
        &self,
        request: Request<v1::InspectCloudRequest>,
    ) -> Result<Response<v1::InspectCloudResponse>, Status> {
        let name = CloudName::new(request.into_inner().cloud).map_err(|error| bad(&error))?;
        let observer = self.0.runs.observer();
        let mut known = KnownNodes::new();
        for cluster in observer.clusters().await.map_err(|error| unobserved(&error))? {
            let members = observer.members(&cluster.name).await.map_err(|error| internal(&error))?;
            known.insert(cluster.name, members.into_iter().collect());
        }
        let cloud = observer.providers.clouds.provider(&name).await;
        let cloud = cloud.map_err(|error| refused(&ProviderError::from(error)))?;
        let finding = |found: Finding| v1::CloudFinding {
            name: found.name,
            ok: found.ok,
            detail: found.detail,
            advice: found.advice,
        };
        let findings = cloud.inspect(&known).await.into_iter().map(finding).collect();
        Ok(Response::new(v1::InspectCloudResponse { findings }))
    }

    async fn adopt_machines(
        &self,
        request: Request<v1::AdoptMachinesRequest>,
    ) -> Result<Response<v1::AdoptMachinesResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(adoption::adopt(&self.0, &caller, request.into_inner()).await?))
    }

    async fn claim_cluster(
        &self,
        request: Request<v1::ClaimClusterRequest>,
    ) -> Result<Response<v1::ClaimClusterResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(claim::claim(&self.0, &caller, request.into_inner()).await?))
    }

    async fn set_machine_power(
        &self,
        request: Request<v1::SetMachinePowerRequest>,
    ) -> Result<Response<v1::SetMachinePowerResponse>, Status> {
        let caller = Caller::of(&request);
        let message = request.into_inner();
        let action = match message.action() {
            v1::PowerAction::On => PowerAction::On,
            v1::PowerAction::Off => PowerAction::Off,
            v1::PowerAction::Reset => PowerAction::Reset,
            v1::PowerAction::Unspecified => {
                return Err(Refusal::new(Reason::BadRequest, "the power action is missing").into());
            }
        };
        let arguments = json!({ "action": action.to_string(), "force": message.force });
        let object = format!("machine/{}", message.node.chars().take(64).collect::<String>());
        let wish = Wish { caller: &caller, verb: "machine power", object, arguments };
        let work = async {
            let (provider, key) = self.find(message.node).await?;
            let name = key.name.clone();
            let switch = async move { provider.power(&key, action).await.map_err(|error| refused(&error)) };
            match action {
                PowerAction::Off | PowerAction::Reset => self.0.runs.by_hand(&name, message.force, switch).await?,
                PowerAction::On => switch.await?,
            }
            let text = format!("{caller} switched the machine of {name}: {action}");
            self.0.events.emit(EventKind::MachinePower, Some(&name), None, text);
            Ok(())
        };
        self.0.changes.run(wish, work).await?;
        Ok(Response::new(v1::SetMachinePowerResponse {}))
    }
}

impl MachineApi {
    /// The machine of a node, in whichever cluster it is.
    async fn find(&self, node: String) -> Result<(Arc<dyn Provider>, MachineKey), Refusal> {
        let name = NodeName::new(node).map_err(|error| bad(&error))?;
        let observer = self.0.runs.observer();
        let mut unanswered = None;
        for cluster in observer.clusters().await.map_err(|error| unobserved(&error))? {
            match observer.machines(&cluster.name, &cluster.provider).await {
                Ok(machines) if machines.iter().any(|machine| machine.name == name) => {
                    let provider = observer.provider(&cluster.provider).await.map_err(|error| unobserved(&error))?;
                    return Ok((provider, MachineKey::new(cluster.name, name)));
                }
                Ok(_) => {}
                // It may be in another cluster, whose provider answers.
                Err(error) => unanswered = Some(unobserved(&error)),
            }
        }
        if let Some(unanswered) = unanswered {
            return Err(unanswered);
        }
        Err(Refusal::new(Reason::NotFound, format!("Windlass made no machine for {name}"))
            .advise("`windlass get machines` lists those it made; others are in the hands of who made them"))
    }
}

/// A provider that did not do what it was told, as an answer.
pub(super) fn refused(error: &ProviderError) -> Refusal {
    Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise(error.advice())
}

/// A console that somebody looks at.
struct Console {
    provider: Arc<dyn Provider>,
    key: MachineKey,
    /// Read and not sent yet.
    ready: VecDeque<Vec<u8>>,
    position: u64,
    follow: bool,
    is_over: bool,
}

impl Console {
    /// Finds where to begin.
    async fn begin(&mut self, tail_lines: u32) -> Result<(), Refusal> {
        if tail_lines == 0 {
            return Ok(());
        }
        let mut from = ConsoleFrom::Tail((u64::from(tail_lines) * LINE_BYTES).min(LONGEST_TAIL_BYTES));
        let mut tail = Vec::new();
        loop {
            let piece = self.provider.console(&self.key, from).await.map_err(|error| refused(&error))?;
            self.position = piece.next;
            if piece.data.is_empty() {
                break;
            }
            tail.extend(piece.data);
            from = ConsoleFrom::Position(piece.next);
        }
        let tail = last_lines(&tail, tail_lines as usize);
        self.ready = tail.chunks(64 << 10).map(<[u8]>::to_vec).collect();
        Ok(())
    }

    async fn next(&mut self) -> Option<Result<v1::WatchConsoleResponse, Status>> {
        if let Some(data) = self.ready.pop_front() {
            return Some(Ok(v1::WatchConsoleResponse { data: data.into() }));
        }
        while !self.is_over {
            match self.provider.console(&self.key, ConsoleFrom::Position(self.position)).await {
                Ok(piece) => {
                    self.position = piece.next;
                    if !piece.data.is_empty() {
                        return Some(Ok(v1::WatchConsoleResponse { data: piece.data.into() }));
                    }
                }
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(refused(&error).into()));
                }
            }
            if !self.follow {
                return None;
            }
            self.provider.console_grows(&self.key, self.position).await;
        }
        None
    }
}

/// The end of a text with this many lines; a last line that has not ended counts.
fn last_lines(text: &[u8], lines: usize) -> &[u8] {
    let body = text.strip_suffix(b"\n").unwrap_or(text);
    let start = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').nth(lines.saturating_sub(1));
    start.map_or(text, |(at, _)| &text[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_the_last_lines() {
        for (text, lines, expected) in [
            ("a\nb\nc\n", 1, "c\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 3, "a\nb\nc\n"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("", 1, ""),
            ("\n\n", 1, "\n"),
        ] {
            assert_eq!(last_lines(text.as_bytes(), lines), expected.as_bytes(), "{text:?} {lines}");
        }
    }
}
