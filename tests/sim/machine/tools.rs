// SPDX-License-Identifier: Apache-2.0
//! Tools of the operating system on a simulated machine: each does to the model of the node what it does, when it ends. A
//! reboot goes down some time after it was asked for, as services take to stop; until then all goes on.

use std::sync::Arc;
use std::time::Duration;

use windlass_agent::host::fake::Scripted;
use windlass_agent::host::systemctl;
use windlass_types::action::Argv;
use windlass_types::name::JobId;

use super::{Machine, Program, State, now};

/// The longest that services take to stop before a reboot.
const MOST_STOPPING_MILLIS: u64 = 4_000;

/// The longest a tool takes that changes something, and one that looks.
const MOST_CHANGING_MILLIS: u64 = 3_000;
const MOST_LOOKING_MILLIS: u64 = 60;

/// A tool that changes something was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Act {
    /// The number of its program, which ends with that of the job.
    pub(crate) program: JobId,
    /// The tool and its arguments.
    pub(crate) what: String,
    /// The boot in which it was started.
    pub(crate) boot: u64,
}

/// A tool that changes something has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deed {
    /// The number of its program, which ends with that of the job.
    pub(crate) program: JobId,
    /// The tool and its arguments.
    pub(crate) what: String,
    /// The boot in which it was done.
    pub(crate) boot: u64,
    /// What it did, as the model counts it.
    pub(crate) effects: Vec<String>,
    /// It says that all is well, and everything is as it was before.
    pub(crate) was_in_vain: bool,
}

/// Whether a tool changes something.
fn changes(argv: &Argv) -> bool {
    let words: Vec<_> = argv.as_slice().iter().map(String::as_str).collect();
    let has = |word: &str| words.contains(&word);
    match argv.program().rsplit('/').next().unwrap_or_default() {
        "dnf" => has("-y") && !has("--downloadonly") && !has("makecache"),
        "rpm" => has("-e"),
        "systemctl" => !has("show"),
        "test" | "grep" | "cat" | "lsinitrd" | "grub2-probe" => false,
        _ => true,
    }
}

/// Starts a tool, in this boot of its machine.
pub(super) fn begin(state: &mut State, boot: u64, job: &JobId, argv: &Argv) {
    let is_change = changes(argv);
    if is_change {
        state.acts.push(Act { program: job.clone(), what: argv.to_string(), boot });
    }
    let most = if is_change { MOST_CHANGING_MILLIS } else { MOST_LOOKING_MILLIS };
    let program = Program {
        what: String::new(),
        ends_at: now() + Duration::from_millis(state.rng.u64(0..most)),
        code: 0,
        prints: 0,
        killed: None,
        printed: false,
        changed: Arc::default(),
        tool: Some(argv.clone()),
        says: Vec::new(),
    };
    state.running.insert(job.clone(), program);
}

impl Machine {
    /// Tools that changed something, since the last time.
    pub(crate) fn acts(&self) -> Vec<Act> {
        std::mem::take(&mut self.state().acts)
    }

    /// What they did that have ended, since the last time.
    pub(crate) fn deeds(&self) -> Vec<Deed> {
        std::mem::take(&mut self.state().deeds)
    }

    /// The boot it is in.
    pub(crate) fn boot(&self) -> u64 {
        let mut boots = 0;
        self.host.change(|node| boots = node.boots);
        boots
    }

    /// Tools whose time has come do their work.
    pub(crate) fn work(&self, now: Duration) {
        let mut state = self.state();
        let passed = now.saturating_sub(std::mem::replace(&mut state.clock, now));
        self.host.advance(passed);
        let is_due = |program: &Program| program.ends_at <= now && program.killed.is_none();
        let due = state.running.iter().filter(|(_, program)| is_due(program));
        let due: Vec<_> = due.filter_map(|(id, program)| Some((id.clone(), program.tool.clone()?))).collect();
        for (id, argv) in due {
            let mut says = Vec::new();
            let mut code = 0;
            if argv == systemctl::reboot().argv {
                let stopping = Duration::from_millis(state.rng.u64(0..MOST_STOPPING_MILLIS));
                state.goes_down.get_or_insert((now + stopping, id.clone()));
            } else {
                let (scripted, deed) = self.run(&id, &argv);
                (says, code) = (scripted.stdout.into_bytes(), scripted.exit_code);
                state.deeds.extend(deed);
            }
            if let Some(program) = state.running.get_mut(&id) {
                (program.tool, program.says, program.code) = (None, says, code);
                program.changed.notify_waiters();
            }
        }
    }

    /// Runs a tool on the model of the node; what it did, if it is one that changes something.
    fn run(&self, program: &JobId, argv: &Argv) -> (Scripted, Option<Deed>) {
        if !changes(argv) {
            return (self.host.run(argv), None);
        }
        let (node, before) = (self.host.node(), self.host.effects());
        let scripted = self.host.run(argv);
        let times = |effect: &String| before.get(effect).copied().unwrap_or_default();
        let mut effects = Vec::new();
        for (effect, after) in self.host.effects() {
            effects.extend((times(&effect)..after).map(|_| effect.clone()));
        }
        let deed = Deed {
            program: program.clone(),
            what: argv.to_string(),
            boot: node.boots,
            effects,
            was_in_vain: scripted.exit_code == 0 && node == self.host.node(),
        };
        (scripted, Some(deed))
    }

    /// What told the machine to reboot, if its services have stopped by now.
    pub(crate) fn goes_down(&self, now: Duration) -> Option<JobId> {
        let mut state = self.state();
        state.goes_down.take_if(|(at, _)| *at <= now).map(|(_, program)| program)
    }
}
