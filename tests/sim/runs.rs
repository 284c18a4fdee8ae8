// SPDX-License-Identifier: Apache-2.0
//! Runs in a simulation: nodes get settings, packages and kernels and reboot, between hooks or without, for several operators
//! at once, with everything going wrong meanwhile that can.
//!
//! - [`schedule`]: what happens, as data. [`reaction`]: what happens when something else does.
//! - [`operators`]: what people do. [`wishes`]: what they ask for. [`settle`]: how they bring everything to its end.
//! - [`power`]: machines that go down and come back. [`model`]: what is on them.
//! - [`book`], [`check`], [`deeds`], [`files`], [`outcome`]: what must hold.

pub(crate) mod book;
pub(crate) mod check;
pub(crate) mod deeds;
pub(crate) mod files;
pub(crate) mod model;
pub(crate) mod operators;
pub(crate) mod outcome;
pub(crate) mod power;
pub(crate) mod reaction;
pub(crate) mod schedule;
pub(crate) mod settle;
pub(crate) mod wishes;

use windlass_types::name::RunId;

/// What an operator wants of runs. Each has a desk: of two, so that they ask at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunStep {
    /// A run begins.
    Begin(RunWish),
    /// A run is told something.
    Tell {
        /// The number of its wish.
        run: usize,
        /// What.
        what: Tell,
        /// By whom.
        desk: usize,
    },
    /// A run is told something by its id.
    TellLate {
        /// The run.
        run: RunId,
        /// What.
        what: Tell,
    },
    /// A node is left alone.
    Quarantine(usize),
    /// A node is taken back, from whoever holds it.
    Release(usize),
    /// The repositories have a newer version of everything.
    NewPackages(u32),
    /// The next boot of a node does not come up before all is healed.
    HangsAtBoot(usize),
    /// The power fails in the middle of a node's next transaction.
    FailsInTransaction(usize),
    /// The new kernel panics on a node until all is healed.
    BreakKernel(usize),
}

/// What a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Begin no further node.
    Pause,
    /// Go on.
    Resume,
    /// End.
    Stop,
    /// Try again.
    Retry,
}

/// A run that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunWish {
    /// Its number in this simulation.
    pub(crate) number: usize,
    /// Who wants it.
    pub(crate) desk: usize,
    /// What becomes of the nodes.
    pub(crate) what: What,
    /// Which, as far as they have joined.
    pub(crate) nodes: Vec<usize>,
    /// Under which rules.
    pub(crate) rules: Rules,
}

/// The rules of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// How many may be down.
    pub(crate) max_unavailable: u32,
    /// As on the command line.
    pub(crate) on_failure: &'static str,
    /// As on the command line.
    pub(crate) unreachable: &'static str,
}

/// What becomes of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// They reboot.
    Reboot,
    /// They reboot, if they need it.
    RebootIfNeeded,
    /// They get their packages.
    Packages,
    /// They get their packages, and reboot if they need it.
    PackagesAndReboot,
    /// What the package manager of one of them did last is undone.
    Undo,
    /// They get another kernel.
    Kernel,
    /// All of them become as the spec of their cluster says.
    Spec(SpecWish),
}

/// What a spec says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SpecWish {
    /// Of a parameter, and in a file: no other spec says the same.
    pub(crate) value: u32,
    /// Something is run before a node goes down and after it is back, also by later runs.
    pub(crate) has_hooks: bool,
    /// Packages and kernel are to be current.
    pub(crate) is_whole: bool,
}
