// SPDX-License-Identifier: Apache-2.0
//! Follows a run to its end, across lost connections: bars where a person looks, a line for each event elsewhere, JSON
//! lines on request. Ctrl-C leaves the run running.

use std::io::Write as _;
use std::time::Duration;

use clap::ValueEnum;
use tokio::time::Instant;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::context::{Context, run_client};
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::folded::folded;
use super::follow::may_pass;
use super::run_bars::Bars;
use super::run_sheet::release;
use super::show::event::EventView;
use super::show::run::RunView;
use super::show::{self, Listed as _};
use super::{get, plan, run_summary};

/// A controller that restarts is back within seconds; after this long somebody should know.
const LONGEST_LOSS: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(500);

/// How progress and result are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RunFormat {
    /// Bars on a terminal, a line for each event elsewhere
    Text,
    /// A line of JSON for each event, and the run at the end
    Json,
}

/// Who shows it.
enum Display {
    Bars(Bars),
    Lines,
    Json,
}

/// Follows a run from its beginning and gives the exit code of it all.
///
/// # Errors
/// If it cannot be followed or printed.
pub(crate) async fn watch(context: &Context, id: &str, format: RunFormat) -> Result<Exit, Failure> {
    let terminal = context.terminal;
    let mut display = match format {
        RunFormat::Json => Display::Json,
        RunFormat::Text if terminal.stderr_is_terminal && terminal.animates => {
            Display::Bars(Bars::new(terminal.colour))
        }
        RunFormat::Text => Display::Lines,
    };
    let run = tokio::select! {
        run = to_its_end(context, id, &mut display) => Some(run?),
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Display::Bars(bars) = &mut display {
        bars.finish();
        // The last bar does not end its line.
        terminal.say("");
    }
    let Some(run) = run else {
        let id = Escaped(id);
        terminal.say(format_args!("\nrun {id} continues: windlass run attach {id}; to end it: windlass run stop {id}"));
        return Ok(Exit::Detached);
    };
    conclude(context, run, format).await
}

/// Prints a run's id for scripts.
///
/// # Errors
/// If stdout does not take it.
pub(crate) fn print_id(context: &Context, id: &str) -> Result<(), Failure> {
    let mut out = context.terminal.out();
    writeln!(out, "{}", Escaped(id))?;
    Ok(out.flush()?)
}

async fn to_its_end(context: &Context, id: &str, display: &mut Display) -> Result<v1::Run, Failure> {
    let mut client = context.runs().await?;
    let mut after = 0;
    let mut give_up = Instant::now() + LONGEST_LOSS;
    loop {
        let before = after;
        let failure = match follow(context, &mut client, id, display, &mut after).await {
            Ok(run) => return Ok(run),
            Err(failure) => failure,
        };
        if after > before {
            give_up = Instant::now() + LONGEST_LOSS;
        }
        if !may_pass(failure.cause) {
            return Err(failure);
        }
        if Instant::now() > give_up {
            return Err(failure.advise(format!("the run continues with the controller: windlass run attach {id}")));
        }
        tokio::time::sleep(PAUSE).await;
        if let Ok(channel) = context.connect().await {
            client = run_client(channel);
        }
    }
}

async fn follow(
    context: &Context,
    client: &mut v1::run_service_client::RunServiceClient<crate::client::Calls>,
    id: &str,
    display: &mut Display,
    after: &mut u64,
) -> Result<v1::Run, Failure> {
    let failed = |status| Failure::call(format!("follow run {id}"), &status);
    let request = v1::WatchRunRequest { id: id.to_owned(), after: *after };
    let mut stream = client.watch_run(request).await.map_err(failed)?.into_inner();
    while let Some(message) = stream.message().await.map_err(failed)? {
        *after = message.events.last().map_or(*after, |event| event.cursor);
        show(context, display, &message)?;
        if let Some(run) =
            message.run.filter(|run| !matches!(run.state(), v1::RunState::Running | v1::RunState::Paused))
        {
            return Ok(run);
        }
    }
    Err(Failure::new(Cause::Unreachable, format!("follow run {id}")).because("the controller ended the connection"))
}

fn show(context: &Context, display: &mut Display, message: &v1::WatchRunResponse) -> Result<(), Failure> {
    match display {
        Display::Bars(bars) => {
            if let Some(run) = &message.run {
                bars.show(run, message.now_unix_millis);
            }
        }
        Display::Lines => {
            for event in &message.events {
                context.terminal.say(line(event));
            }
        }
        Display::Json => {
            let mut out = context.terminal.out();
            for event in &message.events {
                show::json_line(&mut out, EventView::KIND, &EventView::from(event.clone()))?;
            }
            out.flush()?;
        }
    }
    Ok(())
}

fn line(event: &v1::Event) -> String {
    let at = show::local(windlass_types::time::UnixMillis(event.unix_millis));
    format!("{at}  {}", Escaped(&event.message))
}

/// Says how it ended and what to do next, and gives the exit code.
async fn conclude(context: &Context, run: v1::Run, format: RunFormat) -> Result<Exit, Failure> {
    let exit = exit_of(&run);
    if format == RunFormat::Json {
        let mut out = context.terminal.out();
        show::json_line(&mut out, RunView::KIND, &RunView::from(run))?;
        out.flush()?;
        return Ok(exit);
    }
    let report = report(&run);
    context.terminal.say(if context.terminal.stderr_is_terminal { folded(&report) } else { report });
    if let Some(table) = run_summary::table(&run) {
        context.terminal.say(table);
    }
    let makes = |step: &v1::RunStep| !matches!(step.verb.as_str(), "delete" | "forget" | "clear");
    if run.steps.iter().any(makes) {
        // A list that cannot be had now does not change how the run ended.
        if let Ok(nodes) = get::list_nodes(context, None).await
            && !nodes.is_empty()
        {
            get::print(context, &nodes, show::Format::Table)?;
        }
        if exit == Exit::Done && run.cluster.is_empty() {
            context.terminal.say("\nnext: windlass status");
        } else if exit == Exit::Done {
            context.terminal.say("\nnext: windlass exec --all -- uptime");
            context.terminal.say("      windlass get machines");
            context.terminal.say("      windlass events -f");
        }
    }
    Ok(exit)
}

/// How a run ended, for people: what failed with why, what to do, and the end of the console.
fn report(run: &v1::Run) -> String {
    let seconds = u64::try_from(run.ended_unix_millis - run.created_unix_millis).unwrap_or(0) / 1000;
    let done = run.steps.iter().filter(|step| step.state() == v1::StepState::Done).count();
    let state = match run.state() {
        v1::RunState::Succeeded => "succeeded",
        v1::RunState::Stopped => "was stopped",
        v1::RunState::Failed | v1::RunState::Running | v1::RunState::Paused | v1::RunState::Unspecified => {
            "failed in part"
        }
    };
    let mut text = format!(
        "run {} {state} after {}: {done} of {} steps done\n",
        Escaped(&run.id),
        plan::duration(seconds),
        run.steps.len()
    );
    text.push_str(&not_done(run));
    for queued in &run.queued {
        let (node, reason, id) = (Escaped(&queued.node), Escaped(&queued.reason), Escaped(&run.id));
        text.push_str(&format!("{node} is left out, {reason}: windlass run retry {id} when that is over\n"));
    }
    for blocked in &run.blocked {
        text.push_str(&format!("left as it is: {}\n", Escaped(blocked)));
    }
    text.push_str(&ways_on(run));
    text
}

/// Steps that failed, with the end of their console, and those that were not begun.
fn not_done(run: &v1::Run) -> String {
    let mut text = String::new();
    for step in run.steps.iter().filter(|step| step.state() == v1::StepState::Failed) {
        text.push_str(&format!("\n{} failed: {}\n", Escaped(&step.id), Escaped(&step.message)));
        if !step.console_tail.is_empty() {
            text.push_str("  the end of its console:\n");
            step.console_tail.lines().for_each(|line| text.push_str(&format!("    {}\n", Escaped(line))));
        }
        if !step.advice.is_empty() {
            text.push_str(&format!("  do: {}\n", Escaped(&step.advice)));
        }
    }
    for step in run.steps.iter().filter(|step| step.state() == v1::StepState::Skipped) {
        let why = match step.message.as_str() {
            "" => Escaped("a step it waits for failed, or the rules of the run say so"),
            message => Escaped(message),
        };
        text.push_str(&format!("{} was not begun: {why}\n", Escaped(&step.id)));
    }
    text
}

/// How a run that did not end well is taken up again, and how what it holds is taken from it.
fn ways_on(run: &v1::Run) -> String {
    let (id, holds) = (Escaped(&run.id), run.holds.join(", "));
    let mut text = String::new();
    if !run.holds.is_empty() {
        text.push_str(&format!("it still holds {}, and no other run gets that\n", Escaped(&holds)));
    }
    if run.state() == v1::RunState::Failed {
        text.push_str(&format!("when that is mended: windlass run retry {id}\n"));
    } else if !run.holds.is_empty() {
        text.push_str(&format!("to bring it to its end: windlass run retry {id}\n"));
    }
    if !run.holds.is_empty() {
        text.push_str(&format!("to give it up: {}\n", release(&run.holds)));
    }
    text
}

fn exit_of(run: &v1::Run) -> Exit {
    let is_done = |step: &v1::RunStep| step.state() == v1::StepState::Done;
    match run.state() {
        v1::RunState::Succeeded if run.blocked.is_empty() && run.queued.is_empty() => Exit::Done,
        v1::RunState::Succeeded => Exit::NodesFailed,
        _ if run.steps.iter().any(is_done) => Exit::NodesFailed,
        v1::RunState::Failed
        | v1::RunState::Stopped
        | v1::RunState::Running
        | v1::RunState::Paused
        | v1::RunState::Unspecified => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: v1::RunState, steps: &[v1::StepState]) -> v1::Run {
        let step = |(nth, state): (usize, &v1::StepState)| v1::RunStep {
            id: format!("create/node{nth}"),
            state: (*state).into(),
            message: "wrong-signature: GPG check FAILED\u{1b}[2J".into(),
            advice: "see the key".into(),
            console_tail: "one\ntwo\u{1b}[2J\n".into(),
            ..Default::default()
        };
        let steps = steps.iter().enumerate().map(step).collect();
        v1::Run { id: "r7".into(), state: state.into(), steps, ended_unix_millis: 61_000, ..Default::default() }
    }

    #[test]
    fn a_failed_node_is_shown_with_its_console_and_what_to_do() {
        let text = report(&run(v1::RunState::Failed, &[v1::StepState::Done, v1::StepState::Failed]));
        assert_eq!(
            text,
            "run r7 failed in part after 61 s: 1 of 2 steps done\n\n\
             create/node1 failed: wrong-signature: GPG check FAILED\\u{1b}[2J\n  the end of its console:\n    one\n    \
             two\\u{1b}[2J\n  do: see the key\nwhen that is mended: windlass run retry r7\n"
        );
    }

    #[test]
    fn a_node_that_it_still_holds_is_brought_to_its_end_or_given_up() {
        let held = |state| v1::Run { holds: vec!["node1".into()], ..run(state, &[]) };
        let release = "to give it up: windlass node release node1 --reason TEXT\n";
        for (state, retry) in
            [(v1::RunState::Failed, "when that is mended"), (v1::RunState::Stopped, "to bring it to its end")]
        {
            let text = report(&held(state));
            let said =
                format!("it still holds node1, and no other run gets that\n{retry}: windlass run retry r7\n{release}");
            assert!(text.ends_with(&said), "{text}");
        }
    }

    #[test]
    fn the_exit_code_tells_all_some_and_none_apart() {
        use v1::StepState::{Done, Failed, Stopped};
        for (state, steps, code) in [
            (v1::RunState::Succeeded, &[Done, Done][..], 0),
            (v1::RunState::Failed, &[Done, Failed], 3),
            (v1::RunState::Failed, &[Failed, Failed], 1),
            (v1::RunState::Stopped, &[Stopped], 1),
        ] {
            assert_eq!(exit_of(&run(state, steps)).code(), code, "{state:?} {steps:?}");
        }
        let mut queued = run(v1::RunState::Stopped, &[Done]);
        queued.queued.push(v1::QueuedNode {
            node: "node2".into(),
            reason: "it is not connected".into(),
            ..Default::default()
        });
        assert_eq!(exit_of(&queued).code(), 3);
        assert!(report(&queued).ends_with("it is not connected: windlass run retry r7 when that is over\n"));
        let mut blocked = run(v1::RunState::Succeeded, &[Done]);
        blocked.blocked.push("node2: …".into());
        assert_eq!(exit_of(&blocked).code(), 3);
    }
}
