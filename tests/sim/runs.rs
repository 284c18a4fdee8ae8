// SPDX-License-Identifier: Apache-2.0
//! Runs in a simulation: nodes get packages and kernels and reboot, for several operators at once, with everything going
//! wrong meanwhile that can.
//!
//! - [`schedule`]: what happens, as data. [`reaction`]: what happens when something else does.
//! - [`operators`]: what people ask for. [`settle`]: how they bring everything to its end.
//! - [`power`]: machines that go down and come back. [`model`]: what is on them.
//! - [`book`], [`check`], [`outcome`]: what must hold.

pub(crate) mod book;
pub(crate) mod check;
pub(crate) mod model;
pub(crate) mod operators;
pub(crate) mod outcome;
pub(crate) mod power;
pub(crate) mod reaction;
pub(crate) mod schedule;
pub(crate) mod settle;

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
    /// They get another kernel.
    Kernel,
}
