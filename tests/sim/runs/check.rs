// SPDX-License-Identifier: Apache-2.0
//! What must hold of runs after every step. That a node is down is seen on its model, and not taken from the controller's
//! word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use windlass_controller::server::Controller;
use windlass_types::name::{JobId, NodeName, RunId};
use windlass_types::node_step::{Lease, NodeStep, StepOrder};
use windlass_types::run::{RunState, StepState};
use windlass_types::time::UnixMillis;

use super::book::Dealings;
use super::deeds::Deeds;
use super::outcome::Seen;
use super::power::{Happened, Power};
use crate::ledger::Ledger;
use crate::node::Node;
use crate::trace;

/// How often is looked whether runs say what they wait for, and how long they may say nothing: a controller that was just
/// started asks everybody first.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const SPEECHLESS: Duration = Duration::from_secs(20);

/// When a node that does not come back is given up: after twenty-five minutes, once it is known that it is away.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(25 * 60 + 60);

/// Looks at everything that runs do.
pub(crate) struct RunChecker {
    nodes: Vec<Arc<Node>>,
    ledger: Arc<Ledger>,
    dealings: Arc<Dealings>,
    /// Nodes that are down because a run said so: the era and the lease.
    down: BTreeMap<usize, (usize, Lease)>,
    /// Since when they are.
    down_since: BTreeMap<usize, Duration>,
    /// Since when the controller runs.
    runs_since: (UnixMillis, Duration),
    /// Boots that were ended by a run.
    reboots: BTreeSet<(usize, String)>,
    /// Orders by which nodes went down.
    rebooted_by: BTreeSet<(usize, usize, JobId)>,
    /// Leases under which something was changed: the era and the number.
    acted_under: BTreeSet<(usize, u64)>,
    /// In which boot a run changed the packages of a node, last.
    changed_in: BTreeMap<(RunId, NodeName), u64>,
    deeds: Deeds,
    looked_at: Duration,
    /// Since when runs say nothing.
    speechless: BTreeMap<RunId, Duration>,
    /// Runs that ended in this step.
    pub(crate) ended: Vec<RunId>,
    /// Jobs that a restored controller had when it came.
    jobs_of_restored: Option<(usize, usize)>,
}

/// The job of a program: its number stands after that of the program, which has five digits.
pub(super) fn job_of(program: &JobId) -> Option<JobId> {
    JobId::new(program.as_str().get(5..)?).ok()
}

impl RunChecker {
    pub(crate) fn new(nodes: Vec<Arc<Node>>, ledger: Arc<Ledger>, dealings: Arc<Dealings>) -> Self {
        Self {
            nodes,
            ledger,
            dealings,
            down: BTreeMap::new(),
            down_since: BTreeMap::new(),
            runs_since: (UnixMillis::default(), Duration::ZERO),
            reboots: BTreeSet::new(),
            rebooted_by: BTreeSet::new(),
            acted_under: BTreeSet::new(),
            changed_in: BTreeMap::new(),
            deeds: Deeds::default(),
            looked_at: Duration::ZERO,
            speechless: BTreeMap::new(),
            ended: Vec::new(),
            jobs_of_restored: None,
        }
    }

    /// How many nodes rebooted because a run said so.
    pub(crate) fn reboots(&self) -> usize {
        self.reboots.len()
    }

    /// Adds to the course of events how the runs stand that have not ended.
    pub(crate) fn tell(&self, controller: &Controller) {
        for run in self.under_way() {
            let Some(Ok(view)) = controller.runs.view(&run).now_or_never() else { continue };
            trace::line(|| {
                let (record, holds) = (&view.record, &view.holds);
                let (state, paused, queued) = (record.state, &record.paused, &record.plan.queued);
                format!("run {run}: {state:?}, paused: {paused:?}, holds {holds:?}, waits for {queued:?}")
            });
            for (id, step) in &view.steps {
                trace::line(|| format!("run {run}: {id}: {:?} {} {}", step.state, step.attempt, step.message));
            }
        }
    }

    fn under_way(&self) -> Vec<RunId> {
        self.ledger.with_book(|book| {
            book.runs.values().filter(|run| !run.state.is_final()).map(|run| run.id.clone()).collect()
        })
    }

    /// Everything that can be seen at any moment.
    pub(crate) fn after_step(
        &mut self,
        now: Duration,
        happened: &[Happened],
        power: &Power,
        controller: Option<&Controller>,
    ) -> Result<(), String> {
        let mut broken = Vec::new();
        for happened in happened {
            broken.extend(self.take(happened).err());
        }
        broken.extend(self.leases_that_ended(power));
        broken.extend(self.runs_that_ended());
        broken.extend(self.ledger.with_book(|book| book.without_its_nodes()));
        broken.extend(self.too_many_down());
        broken.extend(self.down_without_a_lease());
        broken.extend(controller.and_then(|controller| self.ordered_before_confirmed(controller)));
        if now >= self.looked_at + LOOK_EVERY {
            self.looked_at = now;
            broken.extend(self.says_nothing(now, controller));
            broken.extend(self.waits_for_ever(now, controller));
        }
        if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
    }

    fn take(&mut self, happened: &Happened) -> Result<(), String> {
        match happened {
            Happened::Acts { node, program, what, boot } => self.acts(*node, program, what, *boot),
            Happened::Did { node, deed } => {
                let name = &self.nodes[*node].name;
                let ended = self.deeds.ended(*node, name, deed, &self.ledger);
                ended.map_err(|why| format!("(15) {name} {why}"))
            }
            Happened::GoesDown { node, program, boot } => self.goes_down(*node, program, boot),
            // What becomes of it is nobody's doing any more.
            Happened::LostPower { node } | Happened::ComesUp { node } => {
                self.down.remove(node);
                Ok(())
            }
        }
    }

    fn acts(&mut self, node: usize, program: &JobId, what: &str, boot: u64) -> Result<(), String> {
        let (era, order) = self.ordered(node, program, what)?;
        let begun = self.deeds.begins((node, boot), (program, what), (era, &order), &self.ledger);
        begun.map_err(|why| format!("(15) {} {why}", self.nodes[node].name))?;
        self.acted_under.extend(order.lease.as_ref().map(|lease| (era, lease.number)));
        if let (NodeStep::ChangePackages(_), Some(run)) = (&order.step, order.run) {
            self.changed_in.insert((run, self.nodes[node].name.clone()), boot);
        }
        Ok(())
    }

    fn goes_down(&mut self, node: usize, program: &JobId, boot: &str) -> Result<(), String> {
        let (era, order) = self.ordered(node, program, "reboot")?;
        let name = &self.nodes[node].name;
        let NodeStep::Boot { boot_id, once } = &order.step else {
            return Err(format!("(15) {name} reboots for the step {}", order.id));
        };
        // After a power cut a kernel is still to be tried, from the boot that came of it. No order does so twice.
        let is_right = boot_id.as_str() == boot || once.is_some();
        let job = job_of(program).expect("it was ordered");
        if !is_right || !self.reboots.insert((node, boot.to_owned())) || !self.rebooted_by.insert((node, era, job)) {
            return Err(format!("(15) {name} was to leave boot {boot_id} and leaves {boot}"));
        }
        let lease = order.lease.ok_or_else(|| format!("(14) {name} reboots without a lease"))?;
        self.down.insert(node, (era, lease));
        Ok(())
    }

    /// A machine whose power somebody cut.
    pub(crate) fn lost_power(&mut self, node: usize) {
        self.down.remove(&node);
    }

    /// The order for which a program was started. Its lease is in the store, unless what was planned disrupts nothing.
    fn ordered(&self, node: usize, program: &JobId, what: &str) -> Result<(usize, StepOrder), String> {
        let name = &self.nodes[node].name;
        let ordered = job_of(program).and_then(|job| self.ledger.order_of(&job));
        let (era, order) = ordered.ok_or_else(|| format!("(14) {name}: nobody ordered `{what}`"))?;
        let is_good = self.ledger.with_era_at(era, |era| {
            let record = order.run.as_ref().and_then(|run| era.book.runs.get(run));
            let planned = record.and_then(|record| record.plan.steps.iter().find(|step| step.id.as_str() == order.id));
            match (&order.lease, planned) {
                (Some(lease), Some(_)) => {
                    let held = era.book.leases.get(name) == Some(lease) || era.book.broken.contains(&lease.number);
                    held && lease.node == *name && Some(&lease.run) == order.run.as_ref()
                }
                (None, Some(planned)) => !planned.lease,
                (_, None) => false,
            }
        });
        let lease = &order.lease;
        if is_good {
            Ok((era, order))
        } else {
            Err(format!("(14) {name} does `{what}` under {lease:?}, which is not in the store"))
        }
    }

    fn leases_that_ended(&self, power: &Power) -> Vec<String> {
        let over = self.ledger.with_book(|book| book.over());
        let mut broken = Vec::new();
        for lease in over {
            if self.dealings.has_released(&lease.node) {
                self.ledger.with_book(|book| book.broken.insert(lease.number));
                continue;
            }
            // Whoever saw that nothing can be done has told its node, and changed nothing.
            let has_acted = self.acted_under.contains(&(self.ledger.era(), lease.number));
            if self.ledger.with_book(|book| book.is_half_done(&lease.run, &lease.node, has_acted)) {
                broken.push(format!("(14) {lease:?} ended, and the node is not whole"));
            }
            let index = self.nodes.iter().position(|node| node.name == lease.node);
            // What was done after a backup, the controller that was made of it does not know.
            let is_known = |index| self.down.get(&index).is_some_and(|(era, _)| *era == self.ledger.era());
            if index.is_some_and(|index| power.is_down(index) && is_known(index)) {
                broken.push(format!("(14) {lease:?} ended, and the node is down"));
            }
        }
        broken
    }

    fn runs_that_ended(&mut self) -> Vec<String> {
        let ended = self.ledger.with_book(|book| book.ended());
        self.ended.clone_from(&ended);
        let check = |run: &RunId| {
            let (changed_in, deeds) = (&self.changed_in, &self.deeds);
            let orders = self.nodes.iter().map(|node| (node.name.clone(), self.ledger.orders_to(&node.name))).collect();
            let seen = Seen { nodes: &self.nodes, changed_in, deeds, orders };
            self.ledger.with_book(|book| seen.told_truly(book, run))
        };
        ended.iter().filter_map(check).collect()
    }

    fn too_many_down(&self) -> Option<String> {
        let eras: BTreeSet<_> = self.down.values().map(|(era, _)| *era).collect();
        eras.into_iter().find_map(|era| {
            let broken = self.ledger.with_era_at(era, |era| era.book.broken.clone());
            let of_era = self.down.values().filter(|(of, lease)| *of == era && !broken.contains(&lease.number));
            let leases: Vec<_> = of_era.map(|(_, lease)| lease).collect();
            let last = leases.iter().max_by_key(|lease| lease.number)?;
            let (most, members) = self.ledger.with_era_at(era, |era| {
                let record = era.book.runs.get(&last.run);
                record.map_or((0, Vec::new()), |run| (run.plan.policy.max_unavailable, run.members.clone()))
            });
            // Nodes of other clusters do not count, and of a node that is in none nobody knows who needs it.
            let counted: Vec<_> =
                leases.into_iter().filter(|lease| members.is_empty() || members.contains(&lease.node)).collect();
            (counted.len() > most as usize).then(|| format!("(13) {most} may be down, and these are: {counted:?}"))
        })
    }

    fn down_without_a_lease(&self) -> Option<String> {
        self.down.iter().find_map(|(node, (era, lease))| {
            let name = &self.nodes[*node].name;
            let is_good = self.ledger.with_era_at(*era, |era| {
                era.book.leases.get(name) == Some(lease) || era.book.broken.contains(&lease.number)
            });
            (!is_good).then(|| format!("(14) {name} is down, and {lease:?} is lost"))
        })
    }

    fn ordered_before_confirmed(&mut self, controller: &Controller) -> Option<String> {
        let (era, jobs) = (self.ledger.era(), self.ledger.with_era(|era| era.jobs.len()));
        if !controller.epoch.is_read_only() {
            self.jobs_of_restored = None;
            return None;
        }
        let (of, before) = *self.jobs_of_restored.get_or_insert((era, jobs));
        (of == era && jobs > before).then(|| "(18) a restored controller ordered something unconfirmed".to_owned())
    }

    /// A node that does not come back is given up, and its run says so.
    fn waits_for_ever(&mut self, now: Duration, controller: Option<&Controller>) -> Option<String> {
        let started_at = controller.map(|controller| controller.started_at).unwrap_or_default();
        if started_at != self.runs_since.0 {
            self.runs_since = (started_at, now);
        }
        self.down_since.retain(|node, _| self.down.contains_key(node));
        for node in self.down.keys() {
            self.down_since.entry(*node).or_insert(now);
        }
        let is_late = |since: &Duration| now - (*since).max(self.runs_since.1) > GIVEN_UP_WITHIN;
        let (node, since) = self.down_since.iter().find(|(_, since)| is_late(since))?;
        let (name, (era, lease)) = (&self.nodes[*node].name, &self.down[node]);
        let step = format!("boot/{name}");
        let waits = *era == self.ledger.era() && {
            let record = self.ledger.with_book(|book| book.step(&lease.run, &step));
            // One that is tried again waits anew.
            record.state == StepState::Running && record.attempt == 1
        };
        waits.then(|| format!("(16) {name} is down since {since:?}, and {step} still waits for it"))
    }

    /// A run that has not ended does something, or says what it waits for.
    fn says_nothing(&mut self, now: Duration, controller: Option<&Controller>) -> Vec<String> {
        let runs = self.under_way();
        let is_read_only = controller.is_none_or(|controller| controller.epoch.is_read_only());
        let silent: Vec<_> = runs.into_iter().filter(|run| !is_read_only && is_silent(controller, run)).collect();
        self.speechless.retain(|run, _| silent.contains(run));
        let mut broken = Vec::new();
        for run in silent {
            let since = *self.speechless.entry(run.clone()).or_insert(now);
            if now - since > SPEECHLESS {
                if let Some(controller) = controller {
                    self.tell(controller);
                }
                broken.push(format!("(16) run {run} stands since {since:?} and does not say why"));
            }
        }
        broken
    }
}

fn is_silent(controller: Option<&Controller>, run: &RunId) -> bool {
    let view = controller.and_then(|controller| controller.runs.view(run).now_or_never());
    let Some(Ok(view)) = view else { return false };
    let works = view.steps.values().any(|step| step.state == StepState::Running);
    let waits = view.steps.values().any(|step| step.state == StepState::Waiting && !step.message.is_empty());
    let is_paused = view.record.state == RunState::Paused && view.record.paused.is_some_and(|why| !why.is_empty());
    // Nodes that are away and are to be planned for when they are back.
    let awaits = view.record.plan.queued.iter().any(|queued| !queued.reason.is_empty());
    !view.record.state.is_final() && !works && !waits && !is_paused && !awaits
}
