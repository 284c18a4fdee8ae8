// SPDX-License-Identifier: Apache-2.0
//! Servers of an OpenStack cloud, with their ports, addresses and volumes, and what the machines of a cluster share there.
//!
//! Nothing of a machine is kept here: everything is found again by the tag it was made with, also by a controller that has
//! lost its state. The parts of a machine are made before its server, which has all of them from its first moment; what
//! was made and not answered is looked for before it is made again. Nothing without a tag of ours is ever touched.
//!
//! - `tag`: by what things are found. `seen`: what there is, and how it is reported. `claim`: whether another controller
//!   made it, and how it becomes this one's.
//! - `resolve`: what names mean. `room`: whether there is room.
//! - `adopting`: servers that are there already. `making`, `removing`, `power`: what is done with machines. `shared`, `rules`: with what they share.
//! - `witness`: whether a caller is the machine that was made.
//! - `patience`: how a cloud is waited for. `screen`: a console of which only the end is kept.
//! - [`clouds`]: which clouds there are. [`inspect`]: what a person is told of one.

mod adopting;
mod claim;
pub mod clouds;
mod error;
#[cfg(test)]
mod fixtures;
pub mod inspect;
mod making;
mod patience;
mod power;
mod removing;
mod resolve;
mod room;
mod rules;
mod screen;
mod seen;
mod shared;
mod tag;
mod witness;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use windlass_types::cloud::{Need, SharedReport, SharedSpec};
use windlass_types::escape::Escaped;
use windlass_types::machine::{DiskSpec, MachineReport, ProviderKind};
use windlass_types::name::{CloudName, ClusterName};

use self::error::Doing as _;
use self::patience::{Patience, Stands};
use self::screen::Screen;
use self::seen::{Parts, Seen};
use self::tag::Tag;
use super::{Claim, ConsoleFrom, ConsolePiece, MachineKey, NewMachine, PowerAction, Provider, ProviderError, Wanted};
use crate::openstack::Cloud;
use crate::openstack::compute::Server;
use crate::openstack::error::CloudError;
use crate::openstack::network::Part;
use crate::openstack::refusal::Kind;
use crate::openstack::volume::VolumeStatus;

pub use adopting::{Adoption, Claimed};
pub use claim::Marked;
pub use error::OpenstackError;

/// How often a console is asked for: a cloud sends all of it each time.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// How long something is looked for whose making was not answered.
const APPEARS_WITHIN: Duration = Duration::from_secs(60);

/// Machines of one cloud.
pub struct OpenstackProvider {
    name: CloudName,
    /// The uuid of this controller, which is on all that it makes.
    uid: String,
    cloud: Arc<dyn Cloud>,
    patience: Patience,
    screens: Mutex<HashMap<MachineKey, Screen>>,
    /// One change of a machine at a time.
    turns: Mutex<HashMap<MachineKey, Arc<tokio::sync::Mutex<()>>>>,
}

impl fmt::Debug for OpenstackProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenstackProvider").field("name", &self.name).finish_non_exhaustive()
    }
}

impl OpenstackProvider {
    /// Machines of a cloud, which has this name here, for the controller with this uuid.
    #[must_use]
    pub fn new(name: CloudName, uid: String, cloud: Arc<dyn Cloud>) -> Self {
        let (screens, turns) = Default::default();
        Self { name, uid, cloud, patience: Patience::default(), screens, turns }
    }

    /// With what a part of a machine is made.
    fn tag(&self, key: &MachineKey) -> Tag {
        Tag::of(key).by(&self.uid)
    }

    /// With what is made what machines share.
    fn shared_tag(&self, cluster: &ClusterName) -> Tag {
        Tag::shared(cluster.clone()).by(&self.uid)
    }

    /// What there is of a cluster's machines, if no other controller made any of it.
    async fn seen(&self, cluster: &ClusterName) -> Result<Seen, OpenstackError> {
        let seen = Seen::of(&*self.cloud, cluster).await?;
        self.none_is_foreign(cluster, seen.marked())?;
        Ok(seen)
    }

    async fn parts(&self, key: &MachineKey) -> Result<Parts, OpenstackError> {
        Ok(self.seen(&key.cluster).await?.parts(&key.name))
    }

    fn turn(&self, key: &MachineKey) -> Arc<tokio::sync::Mutex<()>> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(turns.entry(key.clone()).or_default())
    }

    /// What came of making something. Where that was not answered, it is looked for, and may need a while to be seen.
    async fn made<T, F>(
        &self,
        what: impl Fn() -> String,
        make: impl Future<Output = Result<T, CloudError>>,
        find: impl Fn() -> F,
    ) -> Result<T, OpenstackError>
    where
        F: Future<Output = Result<Option<T>, OpenstackError>>,
    {
        let source = match make.await {
            Ok(made) => return Ok(made),
            Err(error) if error.may_be_done() => error,
            refused => return refused.doing(what),
        };
        tracing::warn!(what = what(), error = %source, "a cloud did not answer; what it may have made is looked for");
        let ask = || async { Ok(find().await?.map_or_else(|| Stands::NotYet("not there".to_owned()), Stands::Done)) };
        let patience = Patience { limit: self.patience.limit.min(APPEARS_WITHIN), ..self.patience };
        match patience.until(&what, ask).await {
            Err(OpenstackError::TooLong { .. }) => Err(OpenstackError::Lost { what: what(), source: Box::new(source) }),
            found => found,
        }
    }

    /// Writes tags; a cloud that knows none has the description.
    async fn write_tags(&self, part: Part, id: &str, tags: &[String]) -> Result<(), OpenstackError> {
        match self.cloud.set_tags(part, id, tags).await {
            Err(error) if error.is_not_found() => Ok(()),
            written => written.doing(|| format!("write the tags of the {part} {id}")),
        }
    }
}

/// Clouds count disks in GiB.
const fn gibibytes(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 30)
}

/// Whether something else is in the way at the moment.
fn is_conflict(error: &CloudError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.kind == Kind::Conflict)
}

/// How a server stands, for people.
fn standing(server: &Server) -> String {
    let status = Escaped(&format!("{:?}", server.status)).to_string().to_ascii_uppercase();
    server.task.as_ref().map_or(status.clone(), |task| format!("{status} ({})", Escaped(task)))
}

/// How a volume stands, for people.
fn word(status: &VolumeStatus) -> String {
    match status {
        VolumeStatus::Other(word) => Escaped(word).to_string(),
        known => format!("{known:?}").to_ascii_lowercase(),
    }
}

#[async_trait]
impl Provider for OpenstackProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Openstack(self.name.clone())
    }

    async fn check(&self, wanted: &Wanted) -> Result<Vec<Need>, ProviderError> {
        Ok(self.has_room(wanted).await?)
    }

    async fn observe(&self, cluster: &ClusterName) -> Result<Vec<MachineReport>, ProviderError> {
        Ok(self.seen(cluster).await?.reports(cluster))
    }

    async fn shared(&self, cluster: &ClusterName) -> Result<Vec<SharedReport>, ProviderError> {
        Ok(self.report_shared(cluster).await?)
    }

    async fn prepare(&self, cluster: &ClusterName, wanted: &SharedSpec) -> Result<(), ProviderError> {
        Ok(self.make_shared(cluster, wanted).await?)
    }

    async fn clear(&self, cluster: &ClusterName, shared: &SharedReport) -> Result<(), ProviderError> {
        Ok(self.remove_shared(cluster, shared).await?)
    }

    async fn create(&self, machine: NewMachine) -> Result<MachineReport, ProviderError> {
        let turn = self.turn(&MachineKey::of(&machine.spec));
        let _turn = turn.lock().await;
        Ok(self.make(&machine).await?)
    }

    async fn delete(&self, machine: &MachineKey) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        self.remove(machine).await?;
        self.screens.lock().unwrap_or_else(PoisonError::into_inner).remove(machine);
        Ok(())
    }

    async fn power(&self, machine: &MachineKey, action: PowerAction) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        Ok(self.switch(machine, action).await?)
    }

    async fn attach_disk(&self, machine: &MachineKey, disk: &DiskSpec) -> Result<(), ProviderError> {
        let turn = self.turn(machine);
        let _turn = turn.lock().await;
        Ok(self.attach(machine, disk).await?)
    }

    /// A cloud never takes user-data back. The only secret in it is a token that has been used, and is worth nothing.
    async fn seal(&self, _machine: &MachineKey) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn vouch(&self, machine: &MachineKey, claim: &Claim) -> Result<(), ProviderError> {
        Ok(self.is_that_machine(machine, claim).await?)
    }

    async fn diagnose(&self, machine: &MachineKey) -> Result<Option<String>, ProviderError> {
        let (server, _) = self.living(machine).await?;
        Ok(seen::note(&server))
    }

    async fn console(&self, machine: &MachineKey, from: ConsoleFrom) -> Result<ConsolePiece, ProviderError> {
        let (server, _) = self.living(machine).await?;
        let told = match self.cloud.server_console(&server.id, None).await {
            // It was never on, or is being moved: it has said nothing.
            Err(error) if is_conflict(&error) || error.is_not_found() => String::new(),
            told => told.doing(|| format!("read the console of {machine}"))?,
        };
        let mut screens = self.screens.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = screens.entry(machine.clone()).or_default();
        screen.told(&told);
        Ok(screen.piece(from))
    }

    async fn console_grows(&self, machine: &MachineKey, position: u64) {
        let _is_not_told = (machine, position);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests;
