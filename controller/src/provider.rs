// SPDX-License-Identifier: Apache-2.0
//! Who makes machines: one trait, and one module for each kind of place where machines come from.
//!
//! A provider does what it is told about one machine and decides nothing. It finds what it has made by a tag it wrote
//! before it made anything, and touches nothing without that tag. Every call may be repeated: what was done already is
//! done, and what a crash interrupted is carried through.
//!
//! - [`qemu`]: virtual machines on this host.
//! - [`openstack`]: servers of a cloud.
//! - [`existing`]: machines that are there already.
//! - [`exec`]: the only place where the controller starts a process.

pub mod exec;
pub mod existing;
pub mod openstack;
pub mod qemu;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use windlass_types::cloud::{Need, SharedKind, SharedReport, SharedSpec};
use windlass_types::digest::Sha256Digest;
use windlass_types::event::EventKind;
use windlass_types::machine::{Accel, DiskSpec, MachineReport, MachineSpec, ProviderKind};
use windlass_types::name::{ClusterName, NodeName};
use windlass_types::outcome::ErrorClass;

use crate::cloud_init::UserData;

/// How often a console is looked at where nobody tells that it has grown.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which machine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MachineKey {
    /// The cluster it belongs to.
    pub cluster: ClusterName,
    /// Its name there.
    pub name: NodeName,
}

impl MachineKey {
    /// Names a machine.
    #[must_use]
    pub const fn new(cluster: ClusterName, name: NodeName) -> Self {
        Self { cluster, name }
    }

    /// The machine of a spec.
    #[must_use]
    pub fn of(spec: &MachineSpec) -> Self {
        Self::new(spec.cluster.clone(), spec.name.clone())
    }
}

impl fmt::Display for MachineKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {}", self.name, self.cluster)
    }
}

/// A machine to be made.
#[derive(Debug, Clone)]
pub struct NewMachine {
    /// What it shall be.
    pub spec: MachineSpec,
    /// The hash of that, kept with the machine and reported again.
    pub spec_hash: Sha256Digest,
    /// What cloud-init in it reads at its first boot.
    pub user_data: UserData,
}

/// What somebody who wants to join says and shows of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claim {
    /// From where it calls, if that is known.
    pub address: Option<IpAddr>,
    /// What it says its firmware calls it; empty if nothing.
    pub system_uuid: String,
}

/// What is to be made.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Machines.
    pub machines: Vec<MachineSpec>,
    /// What they share.
    pub shared: Vec<SharedSpec>,
}

/// Something shared was asked of a provider whose machines share nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("make or remove the {1} of cluster {0}: machines of this provider share nothing")]
pub struct SharesNothing(ClusterName, SharedKind);

/// What to do with a machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAction {
    /// Switch it on; nothing if it is on.
    On,
    /// Switch it off at once, as by pulling the plug; nothing if it is off.
    Off,
    /// Press the reset button of a machine that is on, or switch on one that is off.
    Reset,
}

impl fmt::Display for PowerAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Reset => "reset",
        })
    }
}

/// From where a console is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleFrom {
    /// This many bytes before the end; all that is kept if that is less.
    Tail(u64),
    /// The position that the last reading gave.
    Position(u64),
}

/// A piece of what a machine wrote to its console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsolePiece {
    /// What it wrote; anything at all may be in it.
    pub data: Vec<u8>,
    /// From where to read on.
    pub next: u64,
}

/// Something that happened to a machine, and that nobody here asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MachineNews {
    /// Which machine.
    pub machine: MachineKey,
    /// What kind of thing.
    pub kind: EventKind,
    /// What happened and what to do about it, in a sentence.
    pub message: String,
}

/// A provider that did not do what it was told. Reads as its own error, with what to do added.
#[derive(Debug)]
pub struct ProviderError {
    cause: Box<dyn std::error::Error + Send + Sync>,
    class: ErrorClass,
    advice: String,
}

impl fmt::Display for ProviderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)
    }
}

impl std::error::Error for ProviderError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.source()
    }
}

impl ProviderError {
    /// A failure of some provider, with what to do about it.
    pub fn new(
        cause: impl std::error::Error + Send + Sync + 'static,
        class: ErrorClass,
        advice: impl Into<String>,
    ) -> Self {
        Self { cause: Box::new(cause), class, advice: advice.into() }
    }

    /// What a program does about it.
    #[must_use]
    pub const fn class(&self) -> ErrorClass {
        self.class
    }

    /// What a person does about it; may be empty.
    #[must_use]
    pub fn advice(&self) -> &str {
        &self.advice
    }
}

/// A place where machines come from.
#[async_trait::async_trait]
pub trait Provider: fmt::Debug + Send + Sync {
    /// Which one.
    fn kind(&self) -> ProviderKind;

    /// Whether all these machines, and what is missing of what they share, could be made now, none of which is there yet;
    /// how much that takes of what is limited. Changes nothing.
    ///
    /// # Errors
    /// The first reason why not.
    async fn check(&self, wanted: &Wanted) -> Result<Vec<Need>, ProviderError>;

    /// How the processor of this machine would be made; `None` where that is not known.
    async fn accel(&self, machine: &MachineSpec) -> Option<Accel> {
        let _makes_none = machine;
        None
    }

    /// Processors that all its machines share; `None` where each has its own.
    fn processors(&self) -> Option<NonZeroUsize> {
        None
    }

    /// Everything with the tag of this cluster.
    ///
    /// # Errors
    /// If the provider cannot tell. Never an empty list instead.
    async fn observe(&self, cluster: &ClusterName) -> Result<Vec<MachineReport>, ProviderError>;

    /// What the machines of this cluster share, as far as it has the cluster's tag.
    ///
    /// # Errors
    /// If the provider cannot tell. Never an empty list instead.
    async fn shared(&self, cluster: &ClusterName) -> Result<Vec<SharedReport>, ProviderError> {
        let _shares_nothing = cluster;
        Ok(Vec::new())
    }

    /// Makes something that machines share, finishes it, or changes it in place.
    ///
    /// # Errors
    /// If it cannot be done. What exists of it has the tag.
    async fn prepare(&self, cluster: &ClusterName, wanted: &SharedSpec) -> Result<(), ProviderError> {
        Err(ProviderError::new(SharesNothing(cluster.clone(), wanted.kind()), ErrorClass::Bug, "please report it"))
    }

    /// Removes something that machines shared. What is not there is removed already.
    ///
    /// # Errors
    /// If it has not the cluster's tag, or cannot be removed, as while something is still in it.
    async fn clear(&self, cluster: &ClusterName, shared: &SharedReport) -> Result<(), ProviderError> {
        Err(ProviderError::new(SharesNothing(cluster.clone(), shared.is.kind()), ErrorClass::Bug, "please report it"))
    }

    /// Makes a machine and switches it on. One that is complete already is left as it is; one whose making was
    /// interrupted is made anew with the user-data given now.
    ///
    /// # Errors
    /// If it cannot be made. What exists of it has the tag and is reported as not complete.
    async fn create(&self, machine: NewMachine) -> Result<MachineReport, ProviderError>;

    /// Removes a machine with everything that was made for it. One that is not there is removed already.
    ///
    /// # Errors
    /// If it is not this provider's, or cannot be removed.
    async fn delete(&self, machine: &MachineKey) -> Result<(), ProviderError>;

    /// Switches a machine on or off, or resets it.
    ///
    /// # Errors
    /// If there is no such machine, or it does not obey.
    async fn power(&self, machine: &MachineKey, action: PowerAction) -> Result<(), ProviderError>;

    /// Nodes of this cluster whose machines are off although nobody switched them off through Windlass. None where that
    /// cannot be known.
    ///
    /// # Errors
    /// If the provider cannot tell.
    async fn without_power(&self, cluster: &ClusterName) -> Result<Vec<NodeName>, ProviderError> {
        let _is_not_told = cluster;
        Ok(Vec::new())
    }

    /// Gives a machine one more empty disk. One with this serial that is there already is left as it is.
    ///
    /// # Errors
    /// If there is no such machine, or it cannot be attached.
    async fn attach_disk(&self, machine: &MachineKey, disk: &DiskSpec) -> Result<(), ProviderError>;

    /// Removes secrets from what the machine can read of its user-data. To be called once its agent has joined.
    ///
    /// # Errors
    /// If there is no such machine, or it cannot be done.
    async fn seal(&self, machine: &MachineKey) -> Result<(), ProviderError>;

    /// Whether whoever presents the machine's token may be that machine, as far as the provider knows.
    ///
    /// # Errors
    /// Of class operator, if it is not. Any other, if it cannot be asked.
    async fn vouch(&self, machine: &MachineKey, claim: &Claim) -> Result<(), ProviderError> {
        let _knows_nothing_better = (machine, claim);
        Ok(())
    }

    /// Why a machine that says nothing on its console may be silent, where the provider can see it.
    ///
    /// # Errors
    /// If there is no such machine, or it cannot be asked.
    async fn diagnose(&self, machine: &MachineKey) -> Result<Option<String>, ProviderError> {
        let _cannot_see = machine;
        Ok(None)
    }

    /// Reads what a machine wrote to its console; nothing, if nothing has come since.
    ///
    /// # Errors
    /// If there is no such machine, or it has no console.
    async fn console(&self, machine: &MachineKey, from: ConsoleFrom) -> Result<ConsolePiece, ProviderError>;

    /// Waits until a console may have something after this position. Where that cannot be told, until it is time to look.
    /// Giving up the wait loses nothing.
    async fn console_grows(&self, machine: &MachineKey, position: u64) {
        let _is_not_told = (machine, position);
        tokio::time::sleep(LOOK_EVERY).await;
    }

    /// The next thing that happens to a machine and that nobody here asked for; what happened while the controller was
    /// away comes first. Waits for ever where machines can only be asked.
    async fn news(&self) -> MachineNews {
        std::future::pending().await
    }
}
