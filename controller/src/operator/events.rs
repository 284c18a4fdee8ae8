// SPDX-License-Identifier: Apache-2.0
//! EventService.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use tonic::{Request, Response, Status};
use windlass_proto::refusal::Refusal;
use windlass_proto::v1;
use windlass_proto::v1::event_service_server::EventService;
use windlass_types::event::Event;
use windlass_types::name::NodeName;

use super::bad;
use crate::events::{EventLog, Follower};
use crate::server::Controller;

/// Events read from the store at once.
const BATCH: usize = 500;

/// The calls.
#[derive(Debug)]
pub struct EventApi(pub Arc<Controller>);

#[tonic::async_trait]
impl EventService for EventApi {
    type WatchEventsStream = BoxStream<'static, Result<v1::WatchEventsResponse, Status>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let message = request.into_inner();
        let node = match message.node.as_str() {
            "" => None,
            name => Some(NodeName::new(name).map_err(|error| bad(&error))?),
        };
        let mut ready = VecDeque::new();
        let mut after = message.after;
        if message.after == 0 && message.newest > 0 {
            let newest = self.0.events.newest(message.newest as usize).await;
            let newest = newest.map_err(|error| crate::join::store(&error))?;
            after = newest.last().map_or(after, |event| event.cursor);
            ready.push_back(newest);
        }
        let source = match message.follow {
            true => Source::Follow(self.0.events.follow(after)),
            false if message.newest > 0 => Source::End,
            false => Source::Stored { events: Arc::clone(&self.0.events), after },
        };
        let state = Batches { node, ready, source };
        let batches = unfold(state, async |mut state| state.next().await.map(|batch| (batch, state)));
        Ok(Response::new(batches.take_until(self.0.stop.clone().cancelled_owned()).boxed()))
    }
}

/// Where events come from.
enum Source {
    Follow(Follower),
    Stored { events: Arc<EventLog>, after: u64 },
    End,
}

struct Batches {
    node: Option<NodeName>,
    ready: VecDeque<Vec<Event>>,
    source: Source,
}

impl Batches {
    async fn next(&mut self) -> Option<Result<v1::WatchEventsResponse, Status>> {
        loop {
            let batch = match self.ready.pop_front() {
                Some(batch) => batch,
                None => match self.source.next().await? {
                    Ok(batch) => batch,
                    Err(refusal) => {
                        self.source = Source::End;
                        return Some(Err(refusal.into()));
                    }
                },
            };
            let wanted = |event: &Event| self.node.is_none() || event.node == self.node;
            let events: Vec<_> = batch.into_iter().filter(wanted).map(on_wire).collect();
            if !events.is_empty() {
                return Some(Ok(v1::WatchEventsResponse { events }));
            }
        }
    }
}

impl Source {
    async fn next(&mut self) -> Option<Result<Vec<Event>, Refusal>> {
        let batch = match self {
            Self::End => return None,
            Self::Follow(follower) => follower.next().await,
            Self::Stored { events, after } => events.read(*after, BATCH).await.map(|batch| {
                *after = batch.last().map_or(*after, |event| event.cursor);
                Some(batch).filter(|batch| !batch.is_empty())
            }),
        };
        batch.map_err(|error| crate::join::store(&error)).transpose()
    }
}

pub(super) fn on_wire(event: Event) -> v1::Event {
    v1::Event {
        cursor: event.cursor,
        unix_millis: event.at.0,
        kind: event.kind.to_string(),
        severity: v1::Severity::from(event.kind.severity()).into(),
        node: event.node.map(String::from).unwrap_or_default(),
        job: event.job.map(String::from).unwrap_or_default(),
        message: event.message,
        run: event.run.map(String::from).unwrap_or_default(),
    }
}
