// SPDX-License-Identifier: Apache-2.0
//! Machines that go down and come back. A boot takes as long as the seed says; some take for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use windlass_agent::host::systemctl;
use windlass_types::name::JobId;

use crate::machine::Deed;
use crate::node::Node;

/// How long most boots take, slow ones, and very slow ones; milliseconds.
const BOOTS: [Range<u64>; 3] = [1_000..8_000, 8_000..35_000, 35_000..80_000];

/// How long a boot takes at most once all is healed.
const HEALED_BOOT_MILLIS: u64 = 8_000;

/// Something that happened to a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happened {
    /// A tool that changes something was started, in this boot.
    Acts { node: usize, program: JobId, what: String, boot: u64 },
    /// Such a tool has ended.
    Did { node: usize, deed: Deed },
    /// It reboots because a program told it to; it was in this boot.
    GoesDown { node: usize, program: JobId, boot: String },
    /// It lost power.
    LostPower { node: usize },
    /// It is back in its next boot.
    ComesUp { node: usize },
}

impl Happened {
    /// To whom.
    pub(crate) const fn node(&self) -> usize {
        match self {
            Self::Acts { node, .. }
            | Self::Did { node, .. }
            | Self::GoesDown { node, .. }
            | Self::LostPower { node }
            | Self::ComesUp { node } => *node,
        }
    }
}

/// The power of all machines.
pub(crate) struct Power {
    nodes: Vec<Arc<Node>>,
    rng: Rng,
    boots: Vec<u64>,
    /// Machines that are down, and when they are back; `None` for those that somebody has to switch on.
    down: BTreeMap<usize, Option<Duration>>,
    up_since: Vec<Duration>,
    hangs: BTreeSet<usize>,
    is_healed: bool,
}

impl Power {
    pub(crate) fn new(nodes: Vec<Arc<Node>>, seed: u64) -> Self {
        let boots = nodes.iter().map(|node| node.machine.boot()).collect();
        let (rng, up_since) = (Rng::with_seed(seed), vec![Duration::ZERO; nodes.len()]);
        Self { nodes, rng, boots, up_since, down: BTreeMap::new(), hangs: BTreeSet::new(), is_healed: false }
    }

    /// Whether nothing runs on a machine.
    pub(crate) fn is_down(&self, node: usize) -> bool {
        self.down.contains_key(&node)
    }

    /// Since when a machine is up, if it is.
    pub(crate) fn is_up_since(&self, node: usize) -> Option<Duration> {
        (!self.is_down(node)).then(|| self.up_since[node])
    }

    /// The next boot of a machine does not come up.
    pub(crate) fn hang(&mut self, node: usize) {
        self.hangs.insert(node);
    }

    /// Takes the power from a machine until it is switched on.
    pub(crate) fn cut(&mut self, node: usize) {
        self.nodes[node].machine.lose_power();
        self.nodes[node].machine.host.lose_power();
        self.boots[node] = self.nodes[node].machine.boot();
        self.down.insert(node, None);
    }

    /// Switches a machine on whose power was cut; says whether its agent may start now.
    pub(crate) fn switch_on(&mut self, node: usize) -> bool {
        if self.down.get(&node) == Some(&None) {
            self.down.remove(&node);
        }
        !self.is_down(node)
    }

    /// What is down comes up soon, and so it stays.
    pub(crate) fn heal(&mut self, now: Duration) {
        self.is_healed = true;
        for until in self.down.values_mut() {
            let soon = now + Duration::from_millis(self.rng.u64(0..HEALED_BOOT_MILLIS));
            *until = Some(until.map_or(soon, |until| until.min(soon)));
        }
    }

    /// What happened to the machines by now.
    pub(crate) fn look(&mut self, now: Duration) -> Vec<Happened> {
        let mut happened = Vec::new();
        for node in 0..self.nodes.len() {
            let machine = self.nodes[node].machine.clone();
            machine.work(now);
            let acts = machine.acts().into_iter();
            happened.extend(acts.map(|act| Happened::Acts {
                node,
                program: act.program,
                what: act.what,
                boot: act.boot,
            }));
            happened.extend(machine.deeds().into_iter().map(|deed| Happened::Did { node, deed }));
            if self.down.get(&node).is_some_and(|until| until.is_some_and(|until| until <= now)) {
                self.down.remove(&node);
                self.up_since[node] = now;
                happened.push(Happened::ComesUp { node });
            } else if let Some(program) = machine.goes_down(now) {
                let boot = format!("00000000-0000-4000-8000-{:012}", machine.boot());
                machine.host.run(&systemctl::reboot().argv);
                happened.push(Happened::GoesDown { node, program, boot });
                self.booting(node, now);
            } else if machine.boot() != self.boots[node] {
                happened.push(Happened::LostPower { node });
                self.booting(node, now);
            }
        }
        happened
    }

    fn booting(&mut self, node: usize, now: Duration) {
        let machine = &self.nodes[node].machine;
        machine.lose_power();
        self.boots[node] = machine.boot();
        let range = match (self.is_healed, self.rng.u8(0..10)) {
            (true, _) => 0..HEALED_BOOT_MILLIS,
            (false, 0..=6) => BOOTS[0].clone(),
            (false, 7 | 8) => BOOTS[1].clone(),
            (false, _) => BOOTS[2].clone(),
        };
        let takes = Duration::from_millis(self.rng.u64(range));
        let hangs = self.hangs.remove(&node) && !self.is_healed;
        self.down.insert(node, Some(if hangs { Duration::MAX } else { now + takes }));
    }
}
