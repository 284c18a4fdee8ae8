// SPDX-License-Identifier: Apache-2.0
//! `windlass events`: what happened, and with `-f` what happens.

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use tokio::time::Instant;
use windlass_proto::v1;

use super::completion::node_names;
use super::context::{Context, event_client};
use super::exit::Exit;
use super::failure::Failure;
use super::follow::may_pass;
use super::select::node_name;
use super::show::event::EventView;
use super::show::{self, Listed as _, ResultFormat};

/// A controller that restarts is back within seconds; after this long somebody should know.
const LONGEST_LOSS: Duration = Duration::from_secs(60);

const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Which events.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// Only events after this cursor; 0 begins with the oldest kept
    #[arg(long, value_name = "CURSOR")]
    since: Option<u64>,
    /// Without --since: only this many of the newest
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "since",
        value_parser = clap::value_parser!(u32).range(1..))]
    newest: u32,
    /// Only events about this node
    #[arg(long, value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: Option<String>,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on as things happen
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    range: RangeArgs,
    /// How events are written; json is one document per line
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// Prints events; with `-f` until Ctrl-C.
///
/// # Errors
/// If the controller cannot be reached, refuses, or is gone for a minute.
pub(crate) async fn run(context: &Context, arguments: EventsArgs) -> Result<Exit, Failure> {
    let mut request = request(&arguments.range, arguments.follow);
    let mut give_up = Instant::now() + LONGEST_LOSS;
    let mut pause = FIRST_PAUSE;
    let mut client = Some(context.events().await?);
    loop {
        let cursor = request.after;
        let failure = match client.take() {
            Some(mut client) => tokio::select! {
                result = print(context, &mut client, &mut request, arguments.output) => match result {
                    Ok(()) if !arguments.follow => return Ok(Exit::Done),
                    Ok(()) => None,
                    Err(failure) => Some(failure),
                },
                _ = tokio::signal::ctrl_c() => return Ok(Exit::Done),
            },
            None => None,
        };
        if request.after > cursor {
            (give_up, pause) = (Instant::now() + LONGEST_LOSS, FIRST_PAUSE);
        }
        if let Some(failure) = failure.filter(|f| !arguments.follow || !may_pass(f.cause) || Instant::now() > give_up) {
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
        client = match context.connect().await {
            Ok(channel) => Some(event_client(channel)),
            Err(failure) if Instant::now() > give_up => return Err(failure),
            Err(_) => None,
        };
    }
}

fn request(range: &RangeArgs, follow: bool) -> v1::WatchEventsRequest {
    v1::WatchEventsRequest {
        after: range.since.unwrap_or(0),
        newest: if range.since.is_some() { 0 } else { range.newest },
        follow,
        node: range.node.clone().unwrap_or_default(),
    }
}

type Client = v1::event_service_client::EventServiceClient<crate::client::Calls>;

/// Prints what comes and moves the request's cursor along, so that a new watch goes on where this one ended.
async fn print(
    context: &Context,
    client: &mut Client,
    request: &mut v1::WatchEventsRequest,
    format: ResultFormat,
) -> Result<(), Failure> {
    let failed = |status| Failure::call("watch the events", &status);
    let mut stream = client.watch_events(request.clone()).await.map_err(failed)?.into_inner();
    let mut out = context.terminal.out();
    let colour = context.terminal.colours_stdout();
    while let Some(batch) = stream.message().await.map_err(failed)? {
        for event in batch.events {
            request.after = request.after.max(event.cursor);
            request.newest = 0;
            let event = EventView::from(event);
            match format {
                ResultFormat::Text => writeln!(out, "{}", event.line(colour))?,
                ResultFormat::Json => show::json_line(&mut out, EventView::KIND, &event)?,
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// The events of a range, all at once.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn collect(context: &Context, range: &RangeArgs) -> Result<Vec<EventView>, Failure> {
    watch(context, request(range, false)).await
}

/// The newest events.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn newest(context: &Context, newest: u32) -> Result<Vec<EventView>, Failure> {
    watch(context, v1::WatchEventsRequest { newest, ..Default::default() }).await
}

async fn watch(context: &Context, request: v1::WatchEventsRequest) -> Result<Vec<EventView>, Failure> {
    let failed = |status| Failure::call("read the events", &status);
    let mut stream = context.events().await?.watch_events(request).await.map_err(failed)?.into_inner();
    let mut events = Vec::new();
    while let Some(batch) = stream.message().await.map_err(failed)? {
        events.extend(batch.events.into_iter().map(EventView::from));
    }
    Ok(events)
}
