// SPDX-License-Identifier: Apache-2.0
//! A run as people read it: what it is doing, what waits and for what, what failed, and what to type next.

use std::fmt;

use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::show;
use super::show::run::RunView;

/// How the controller ends what it says of a run that cannot be recorded. Such a run is shown as paused, and nobody need let
/// it go on.
const BY_ITSELF: &str = "it goes on by itself";

/// A run on one page.
pub(crate) struct Sheet<'a>(pub(crate) &'a v1::Run);

impl fmt::Display for Sheet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(run) = self;
        let view = RunView::from((*run).clone());
        let on = if run.cluster.is_empty() { "nodes".to_owned() } else { format!("cluster {}", Escaped(&run.cluster)) };
        writeln!(f, "run {} on {on}, by {}: {}", Escaped(&run.id), Escaped(&run.created_by), view.state())?;
        if !run.paused.is_empty() {
            writeln!(f, "  paused: {}", Escaped(&run.paused))?;
        }
        if !run.holds.is_empty() {
            writeln!(f, "  holds {}", Escaped(&run.holds.join(", ")))?;
        }
        writeln!(f, "  {} of {} steps done", run.done_count, run.step_count)?;
        run.steps.iter().try_for_each(|step| write_step(f, step))?;
        run.queued.iter().try_for_each(|queued| write_queued(f, run, queued))?;
        run.blocked.iter().try_for_each(|blocked| writeln!(f, "  left as it is: {}", Escaped(blocked)))?;
        next(run).map_or(Ok(()), |next| writeln!(f, "next: {next}"))
    }
}

fn write_step(f: &mut fmt::Formatter<'_>, step: &v1::RunStep) -> fmt::Result {
    let again = if step.attempt > 1 { format!(", attempt {}", step.attempt) } else { String::new() };
    writeln!(f, "  {:<10} {}{again}", show::run::step_state(step), Escaped(&step.id))?;
    if !step.message.is_empty() {
        writeln!(f, "             {}", Escaped(&step.message))?;
    }
    if step.state() == v1::StepState::Done {
        return Ok(());
    }
    if !step.advice.is_empty() {
        writeln!(f, "             do: {}", Escaped(&step.advice))?;
    }
    if !step.console_tail.is_empty() {
        writeln!(f, "             the end of its console:")?;
        step.console_tail.lines().try_for_each(|line| writeln!(f, "               {}", Escaped(line)))?;
    }
    Ok(())
}

fn write_queued(f: &mut fmt::Formatter<'_>, run: &v1::Run, queued: &v1::QueuedNode) -> fmt::Result {
    let (node, reason, id) = (Escaped(&queued.node), Escaped(&queued.reason), Escaped(&run.id));
    if run.ended_unix_millis == 0 && !queued.after.is_empty() {
        writeln!(f, "  later      {node}: planned after {}: {reason}", Escaped(&queued.after))
    } else if run.ended_unix_millis == 0 {
        writeln!(f, "  waits for  {node}: {reason}")?;
        writeln!(f, "             do: bring it back; windlass run stop {id} ends the whole run")
    } else {
        writeln!(f, "  left out   {node}: {reason}")?;
        writeln!(f, "             do: windlass run retry {id} when that is over")
    }
}

/// What to type next about a run, if there is anything.
fn next(run: &v1::Run) -> Option<String> {
    let id = Escaped(&run.id);
    match run.state() {
        v1::RunState::Running => Some(format!("windlass run attach {id}")),
        v1::RunState::Paused => resume(run),
        v1::RunState::Failed | v1::RunState::Stopped if run.holds.is_empty() => {
            Some(format!("windlass run retry {id}"))
        }
        v1::RunState::Failed | v1::RunState::Stopped => Some(retry_or_release(&run.id, &run.holds)),
        v1::RunState::Succeeded | v1::RunState::Unspecified => None,
    }
}

/// How a paused run is let go on; nothing if it goes on by itself.
pub(crate) fn resume(run: &v1::Run) -> Option<String> {
    if run.paused.ends_with(BY_ITSELF) {
        return None;
    }
    let id = Escaped(&run.id);
    let failed = run.steps.iter().any(|step| step.state() == v1::StepState::Failed);
    let retry = if failed { format!(", or windlass run retry {id}") } else { String::new() };
    Some(format!("windlass run resume {id}{retry}"))
}

/// Both ways for nodes that a run holds and that are not whole.
pub(crate) fn retry_or_release(run: &str, holds: &[String]) -> String {
    format!("windlass run retry {}, or {}", Escaped(run), release(holds))
}

/// How nodes are taken from the run that holds them, one by one.
pub(crate) fn release(holds: &[String]) -> String {
    let node = if let [node] = holds { Escaped(node) } else { Escaped("NODE") };
    format!("windlass node release {node} --reason TEXT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(state: v1::RunState, step: v1::RunStep) -> v1::Run {
        v1::Run {
            id: "r7".into(),
            state: state.into(),
            created_by: "alice".into(),
            holds: vec!["node1".into()],
            steps: vec![step],
            step_count: 1,
            ..Default::default()
        }
    }

    #[test]
    fn a_run_shows_what_waits_and_for_what() {
        let step = v1::RunStep {
            id: "boot/node2".into(),
            state: v1::StepState::Waiting.into(),
            message: "waits: node1 is down\u{1b}[2J".into(),
            advice: "windlass status".into(),
            console_tail: "Kernel panic\u{1b}[2J\n".into(),
            ..Default::default()
        };
        assert_eq!(
            Sheet(&run(v1::RunState::Running, step)).to_string(),
            "run r7 on nodes, by alice: running\n  holds node1\n  0 of 1 steps done\n  waiting    boot/node2\n             \
             waits: node1 is down\\u{1b}[2J\n             do: windlass status\n             the end of its console:\n               Kernel \
             panic\\u{1b}[2J\nnext: windlass run attach r7\n"
        );
    }

    #[test]
    fn what_to_type_next_fits_how_the_run_stands() {
        let failed = || v1::RunStep { state: v1::StepState::Failed.into(), ..Default::default() };
        let paused = |why: &str, step| v1::Run { paused: why.into(), ..run(v1::RunState::Paused, step) };
        let nobody = |state| v1::Run { holds: Vec::new(), ..run(state, failed()) };
        let both = "windlass run retry r7, or windlass node release node1 --reason TEXT";
        for (run, said) in [
            (run(v1::RunState::Failed, failed()), Some(both)),
            (nobody(v1::RunState::Stopped), Some("windlass run retry r7")),
            (paused("boot/node1 failed", failed()), Some("windlass run resume r7, or windlass run retry r7")),
            (paused("alice paused it", v1::RunStep::default()), Some("windlass run resume r7")),
            (paused("the disk is full; it goes on by itself", failed()), None),
            (nobody(v1::RunState::Succeeded), None),
        ] {
            assert_eq!(next(&run).as_deref(), said);
        }
    }
}
