// SPDX-License-Identifier: Apache-2.0
//! Settings: one file per kind, each with a look and a way to bring it about.

pub(super) mod file;
mod locks;
mod repository;
mod selinux;
mod service;
mod swap;
mod sysctl;
mod time;
mod user;

use std::collections::BTreeSet;

use async_trait::async_trait;
use windlass_types::digest::Sha256Digest;
use windlass_types::name::on_node::UserName;
use windlass_types::setting::Setting;
use windlass_types::survey::{Found, SettingDue};

use super::{Check, Here, Kind, StepError};

/// Brings a setting about.
pub(super) struct Apply<'a> {
    pub(super) setting: &'a Setting,
    /// What was there when this was planned.
    pub(super) seen: Sha256Digest,
    /// An earlier order may have brought about a part of it.
    pub(super) begun: bool,
}

#[async_trait]
impl Kind for Apply<'_> {
    async fn check(&self, here: &Here<'_>) -> Result<Check, StepError> {
        match look(here, self.setting, &BTreeSet::new()).await? {
            Found::AsWished => Ok(Check::AlreadyDone),
            Found::Blocked { reason, advice } => Err(StepError::Blocked { reason, advice }),
            Found::Due { due } if due.seen == self.seen || self.begun || here.intended => Ok(Check::Ready),
            Found::Due { .. } => Err(StepError::blocked(
                format!("{} is neither as it was when this was planned nor as it shall be", self.setting),
                "see what changed it, then plan again",
            )),
        }
    }

    async fn apply(&self, here: &Here<'_>) -> Result<(), StepError> {
        match self.setting {
            Setting::File(file) => file::apply(here, file).await,
            Setting::Sysctl { key, value } => sysctl::apply(here, key, value).await,
            Setting::Repository(repository) => repository::apply(here, repository).await,
            Setting::PackageLocks { names } => locks::apply(here, names).await,
            Setting::SwapOff => swap::apply(here).await,
            Setting::TimeSync => time::apply(here).await,
            Setting::Selinux { mode } => selinux::apply(here, *mode).await,
            Setting::User(user) => user::apply(here, user).await,
            Setting::Service { unit, on } => service::apply(here, unit, *on).await,
        }
    }

    async fn verify(&self, here: &Here<'_>) -> Result<(), StepError> {
        match look(here, self.setting, &BTreeSet::new()).await? {
            Found::AsWished => Ok(()),
            Found::Blocked { reason, advice } => Err(StepError::Operator { reason, advice }),
            Found::Due { due } => Err(StepError::operator(
                format!("{} was set and is not so: {}", self.setting, due.changes.join("; ")),
                "something on the node sets it otherwise",
            )),
        }
    }
}

/// Looks at a setting. Users that are to come with the same plan count as there for what is to be theirs.
pub(super) async fn look(
    here: &Here<'_>,
    setting: &Setting,
    coming: &BTreeSet<UserName>,
) -> Result<Found<SettingDue>, StepError> {
    match setting {
        Setting::File(file) => file::look(here, file, coming),
        Setting::Sysctl { key, value } => sysctl::look(here, key, value).await,
        Setting::Repository(repository) => repository::look(here, repository),
        Setting::PackageLocks { names } => locks::look(here, names),
        Setting::SwapOff => swap::look(here).await,
        Setting::TimeSync => time::look(here).await,
        Setting::Selinux { mode } => selinux::look(here, *mode),
        Setting::User(user) => user::look(here, user, coming),
        Setting::Service { unit, on } => service::look(here, unit, *on).await,
    }
}

/// What is there, as `there` tells it, is to be changed.
fn due(there: &[u8], changes: Vec<String>) -> Found<SettingDue> {
    Found::Due { due: SettingDue { seen: fingerprint(there), changes } }
}

/// As wished if nothing is to be changed.
fn due_if_any(there: &str, changes: Vec<String>) -> Found<SettingDue> {
    if changes.is_empty() { Found::AsWished } else { due(there.as_bytes(), changes) }
}

fn blocked(reason: impl Into<String>, advice: impl Into<String>) -> Found<SettingDue> {
    Found::Blocked { reason: reason.into(), advice: advice.into() }
}

fn fingerprint(there: &[u8]) -> Sha256Digest {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, there);
    Sha256Digest::from_slice(digest.as_ref()).expect("SHA-256 has 32 bytes")
}
