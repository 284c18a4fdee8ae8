// SPDX-License-Identifier: Apache-2.0
//! Machines that are there already: somebody else made them, switches them, and looks at their console.
//!
//! Nothing is made here, so nothing of this provider exists, and nothing can be removed by mistake. A machine is taken on
//! by its agent: `windlass token create NODE` prints the one line to run on it, and from then on the fleet knows it.

use async_trait::async_trait;
use windlass_types::cloud::Need;
use windlass_types::machine::{DiskSpec, MachineReport, ProviderKind};
use windlass_types::name::ClusterName;
use windlass_types::outcome::ErrorClass;

use super::{ConsoleFrom, ConsolePiece, MachineKey, NewMachine, PowerAction, Provider, ProviderError, Wanted};

/// What cannot be done with a machine that somebody else made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {machine}: the provider `existing` only takes on machines that are there")]
pub struct NotOurs {
    what: &'static str,
    machine: MachineKey,
}

/// Machines that are there already.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExistingProvider;

fn refused(what: &'static str, machine: &MachineKey, advice: String) -> ProviderError {
    ProviderError::new(NotOurs { what, machine: machine.clone() }, ErrorClass::Operator, advice)
}

#[async_trait]
impl Provider for ExistingProvider {
    fn kind(&self) -> ProviderKind {
        ProviderKind::Existing
    }

    async fn check(&self, _wanted: &Wanted) -> Result<Vec<Need>, ProviderError> {
        Ok(Vec::new())
    }

    /// Nothing is of our making; which of the machines have joined, the fleet knows.
    async fn observe(&self, _cluster: &ClusterName) -> Result<Vec<MachineReport>, ProviderError> {
        Ok(Vec::new())
    }

    async fn create(&self, machine: NewMachine) -> Result<MachineReport, ProviderError> {
        let key = MachineKey::of(&machine.spec);
        let advice = format!("`windlass token create {}` prints the line to run on it", key.name);
        Err(refused("make", &key, advice))
    }

    async fn delete(&self, _machine: &MachineKey) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn power(&self, machine: &MachineKey, _action: PowerAction) -> Result<(), ProviderError> {
        Err(refused("switch", machine, "use what manages this machine".to_owned()))
    }

    async fn attach_disk(&self, machine: &MachineKey, _disk: &DiskSpec) -> Result<(), ProviderError> {
        Err(refused("attach a disk to", machine, "use what manages this machine".to_owned()))
    }

    async fn seal(&self, _machine: &MachineKey) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn console(&self, machine: &MachineKey, _from: ConsoleFrom) -> Result<ConsolePiece, ProviderError> {
        Err(refused("read the console of", machine, "use what manages this machine".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windlass_types::name::NodeName;

    fn key() -> MachineKey {
        MachineKey::new(ClusterName::new("k8s1").expect("a name"), NodeName::new("node1").expect("a name"))
    }

    #[tokio::test]
    async fn nothing_is_of_its_making_and_so_nothing_is_removed() {
        assert!(ExistingProvider.observe(&key().cluster).await.expect("it can tell").is_empty());
        assert!(ExistingProvider.delete(&key()).await.is_ok() && ExistingProvider.seal(&key()).await.is_ok());
    }

    #[tokio::test]
    async fn what_it_cannot_do_says_who_can() {
        let error = ExistingProvider.power(&key(), PowerAction::Reset).await.expect_err("refused");
        let text = error.to_string();
        assert!(text.starts_with("switch node1 of cluster k8s1: ") && error.advice().contains("manages"), "{text}");
        assert_eq!(error.class(), ErrorClass::Operator);
        assert!(ExistingProvider.console(&key(), ConsoleFrom::Tail(1)).await.is_err());
    }
}
