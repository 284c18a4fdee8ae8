// SPDX-License-Identifier: Apache-2.0
//! What each step does. Each looks first and does what is not done, so that each may be done twice.

use std::sync::Arc;

use windlass_plan::spec::wished_labels;
use windlass_plan::{PlannedStep, Step, StepId};
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::event::EventKind;
use windlass_types::machine::{MachineSpec, MachineStage};
use windlass_types::name::{ClusterName, NodeName};
use windlass_types::node_step::Lease;

use super::run::StepRecord;
use super::trouble::Past;
use super::{ActiveRun, Runs};
use crate::cloud_init::{AGENT_PACKAGE, FirstBoot, JoinOrder, UserData};
use crate::observe::ObserveError;
use crate::provider::{MachineKey, NewMachine, PowerAction, Provider, ProviderError};
use crate::tokens::DEFAULT_LIFE;
use crate::trust::Holder;

const MISTAKE: &str = "this is a mistake in Windlass: please report it";

/// Why a step did not end well.
#[derive(Debug)]
pub enum StepFailure {
    /// The run was stopped.
    Stopped,
    /// What failed, what to do, and the end of the machine's console.
    Said {
        /// What failed and why.
        message: String,
        /// What to do about it.
        advice: String,
        /// The console; may be empty.
        console_tail: String,
    },
}

impl StepFailure {
    /// Without a console.
    pub fn said(message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self::Said { message: message.into(), advice: advice.into(), console_tail: String::new() }
    }

    /// Something of ours failed.
    pub(crate) fn ours(what: &str, error: &dyn std::error::Error) -> Self {
        Self::said(format!("{what}: {}", ErrorChain(error)), "see the controller's log, then apply again")
    }

    /// A provider that is not there, or cannot be used.
    pub(crate) fn unobserved(error: &ObserveError) -> Self {
        let refusal = super::apply::unobserved(error);
        Self::said(refusal.message, refusal.advice)
    }

    pub(crate) fn provider(error: &ProviderError) -> Self {
        Self::said(ErrorChain(error).to_string(), error.advice())
    }

    pub(super) fn write(self, record: &mut StepRecord) {
        match self {
            Self::Stopped => {}
            Self::Said { message, advice, console_tail } => {
                record.message = message;
                record.advice = advice;
                record.console_tail = console_tail;
            }
        }
    }
}

/// How a step ended that ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// It was done.
    Done,
    /// It was so already.
    WasDone,
}

/// A step in the hands of the one who does it.
pub(super) struct Hand<'a> {
    pub(super) run: &'a Arc<ActiveRun>,
    pub(super) id: &'a StepId,
    pub(super) provider: Arc<dyn Provider>,
    pub(super) key: MachineKey,
}

impl Runs {
    /// Does a step.
    ///
    /// # Errors
    /// Why it did not end well.
    pub(super) async fn carry_out(&self, run: &Arc<ActiveRun>, planned: &PlannedStep) -> Result<StepEnd, StepFailure> {
        match &planned.step {
            Step::OnNode { node, step } => self.on_node(run, planned, node, step).await,
            Step::PrepareCloud { shared } => self.prepare(run, &planned.id, shared).await.map(|()| StepEnd::Done),
            Step::ClearCloud { shared } => self.clear(run, &planned.id, shared).await.map(|()| StepEnd::Done),
            other => self.with_machine(run, planned, other.node()).await.map(|()| StepEnd::Done),
        }
    }

    /// The cluster of a run, and who makes its machines.
    pub(super) async fn provider_of(&self, run: &ActiveRun) -> Result<(ClusterName, Arc<dyn Provider>), StepFailure> {
        let (cluster, kind) = {
            let record = run.record();
            (record.plan.cluster.clone(), record.plan.provider.clone())
        };
        let (Some(cluster), Some(kind)) = (cluster, kind) else {
            return Err(StepFailure::said("the plan names no cluster", "make a new one with `windlass plan`"));
        };
        let provider = self.with.observer.provider(&kind).await;
        Ok((cluster, provider.map_err(|error| StepFailure::unobserved(&error))?))
    }

    async fn with_machine(
        &self,
        run: &Arc<ActiveRun>,
        planned: &PlannedStep,
        node: Option<&NodeName>,
    ) -> Result<(), StepFailure> {
        let (cluster, provider) = self.provider_of(run).await?;
        let node = node.ok_or_else(|| StepFailure::said("the step names no node", MISTAKE))?;
        self.require_lease(run, planned, node)?;
        let hand = Hand { run, id: &planned.id, provider, key: MachineKey::new(cluster, node.clone()) };
        match &planned.step {
            Step::CreateMachine { machine, spec_hash } => self.create(&hand, machine, *spec_hash).await,
            Step::AwaitMachine { .. } => self.until_healthy(&hand, None, false, Past::TryAgain).await,
            Step::AdoptMachine { .. } => {
                self.take_on(&hand).await?;
                self.until_healthy(&hand, None, false, Past::Counts).await
            }
            Step::StartMachine { .. } => {
                let power = hand.provider.power(&hand.key, PowerAction::On).await;
                power.map_err(|error| StepFailure::provider(&error))?;
                self.until_healthy(&hand, None, false, Past::IsOver).await
            }
            Step::AttachDisk { disk, .. } => {
                let attached = hand.provider.attach_disk(&hand.key, disk).await;
                attached.map_err(|error| StepFailure::provider(&error))
            }
            Step::LabelNode { name, set, remove } => {
                let labelled = self.with.fleet.label(name, set.clone(), remove).await;
                labelled.map(drop).map_err(|refusal| StepFailure::said(refusal.message, refusal.advice))
            }
            Step::DeleteMachine { name, .. } => self.delete(&hand, name).await,
            Step::ForgetNode { name } => self.forget(&hand, name).await,
            Step::OnNode { .. } | Step::PrepareCloud { .. } | Step::ClearCloud { .. } => {
                Err(StepFailure::said(format!("{} is nothing that is done with a machine", planned.id), MISTAKE))
            }
        }
    }

    /// Somebody may have taken a node from the run since that was granted it.
    pub(super) fn require_lease(
        &self,
        run: &ActiveRun,
        planned: &PlannedStep,
        node: &NodeName,
    ) -> Result<Option<Lease>, StepFailure> {
        let id = run.id();
        let lease = self.with.arbiter.lease(&id, node).filter(|_| planned.lease);
        if planned.lease && lease.is_none() {
            let message = format!("the run does not hold {node} any more: somebody released it");
            let advice = format!("see that the node is well, then `windlass run retry {id}`");
            return Err(StepFailure::said(message, advice));
        }
        Ok(lease)
    }

    async fn take_on(&self, hand: &Hand<'_>) -> Result<(), StepFailure> {
        let taken = self.with.observer.take_on(&hand.key.cluster, &hand.key.name).await;
        taken.map_err(|error| StepFailure::ours("remember the node", &error))
    }

    async fn create(&self, hand: &Hand<'_>, machine: &MachineSpec, spec_hash: Sha256Digest) -> Result<(), StepFailure> {
        self.take_on(hand).await?;
        let existing = self.existing(hand).await?;
        if !existing {
            // What an earlier attempt made is gone, and its stages with it.
            hand.run.progress().change(hand.id, |record| record.reached.clear());
            self.require_free(&hand.key.name)?;
            let user_data = self.user_data(hand, machine).await?;
            let new = NewMachine { spec: machine.clone(), spec_hash, user_data };
            hand.provider.create(new).await.map_err(|error| StepFailure::provider(&error))?;
        }
        self.reached(hand, MachineStage::Created).await;
        self.until_healthy(hand, Some(&wished_labels(machine)), !existing, Past::Counts).await
    }

    /// Whether the machine was made by an earlier attempt.
    async fn existing(&self, hand: &Hand<'_>) -> Result<bool, StepFailure> {
        let observed = hand.provider.observe(&hand.key.cluster).await;
        let machines = observed.map_err(|error| StepFailure::provider(&error))?;
        Ok(machines.iter().any(|machine| {
            machine.name == hand.key.name && machine.cluster.as_ref() == Some(&hand.key.cluster) && machine.complete
        }))
    }

    fn require_free(&self, name: &NodeName) -> Result<(), StepFailure> {
        self.with.fleet.require_free(name).map_err(|refusal| StepFailure::said(refusal.message, refusal.advice))
    }

    /// User-data with a new token; tokens that were made for this node before are worth nothing any more.
    async fn user_data(&self, hand: &Hand<'_>, machine: &MachineSpec) -> Result<UserData, StepFailure> {
        let failed = |error: &dyn std::error::Error| StepFailure::ours("make a join token", error);
        let (by, inputs) = {
            let record = hand.run.record();
            (format!("run {}", record.id), record.inputs.clone())
        };
        let forgotten = self.with.tokens.revoke_unused(&machine.name).await;
        forgotten.map_err(|error| failed(&error))?;
        let made = self.with.tokens.create(machine.name.clone(), DEFAULT_LIFE, by.clone()).await;
        let (token, _) = made.map_err(|error| failed(&error))?;
        let message = format!("{by} made a join token for {}", machine.name);
        self.tell(hand.run, EventKind::TokenCreated, hand.id, message);
        let boot = FirstBoot {
            name: machine.name.clone(),
            repositories: inputs.repositories.into_iter().map(Into::into).collect(),
            package: AGENT_PACKAGE.to_owned(),
            join: JoinOrder {
                controller: self.with.join_endpoint.clone(),
                pins: self.with.trust.authority().pins(),
                token: token.reveal(),
            },
            ssh_keys: inputs.ssh_keys,
        };
        UserData::new(&boot).map_err(|error| StepFailure::said(error.to_string(), "mend the spec and apply again"))
    }

    /// First the trust goes, then the machine, then what is known of it: whatever is left of it at any moment can do
    /// nothing.
    async fn delete(&self, hand: &Hand<'_>, name: &NodeName) -> Result<(), StepFailure> {
        self.revoke(name).await?;
        hand.provider.delete(&hand.key).await.map_err(|error| StepFailure::provider(&error))?;
        self.tell(hand.run, EventKind::MachineDeleted, hand.id, format!("the machine of {name} is deleted"));
        self.forget(hand, name).await
    }

    async fn revoke(&self, name: &NodeName) -> Result<(), StepFailure> {
        let _turn = self.with.fleet.turn(name).await;
        if self.with.fleet.record(name).is_err() {
            let forgotten = self.with.tokens.revoke_unused(name).await;
            return forgotten.map_err(|error| StepFailure::ours("end the tokens", &error));
        }
        let failed = |error: &dyn std::error::Error| StepFailure::ours("revoke the node", error);
        let revoked = self.with.fleet.revoked(name, "its machine is being deleted");
        let (record, transaction) = revoked.map_err(|refusal| StepFailure::said(refusal.message, refusal.advice))?;
        let closed = self.with.trust.revoke(&Holder::Node(name.clone()), transaction).await;
        closed.map_err(|error| failed(&error))?;
        self.with.fleet.admit(record);
        Ok(())
    }

    async fn forget(&self, hand: &Hand<'_>, name: &NodeName) -> Result<(), StepFailure> {
        let failed = |error: &dyn std::error::Error| StepFailure::ours("forget the node", error);
        let turn = self.with.fleet.turn(name).await;
        self.with.arbiter.forget(name, Some(&hand.run.id())).await.map_err(|error| failed(&error))?;
        let removal = self.with.tokens.forget_unused(name, self.with.fleet.removal(name)).await;
        let removal = removal.map_err(|error| failed(&error))?;
        let revoked = self.with.trust.revoke(&Holder::Node(name.clone()), removal).await;
        revoked.map_err(|error| failed(&error))?;
        let was_there = self.with.fleet.record(name).is_ok();
        self.with.fleet.forget(name);
        drop(turn);
        self.with.jobs.lost(name).await;
        if was_there {
            self.tell(hand.run, EventKind::NodeRemoved, hand.id, format!("{name} is forgotten"));
        }
        let gone = self.with.observer.let_go(&hand.key.cluster, name).await;
        gone.map_err(|error| failed(&error))
    }
}
