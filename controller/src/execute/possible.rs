// SPDX-License-Identifier: Apache-2.0
//! Whether a plan could be carried out now: that new machines reach the controller and can be told what to do, and that
//! their provider can make them.

use std::net::IpAddr;

use windlass_plan::{Plan, Step};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::cloud::{Need, SharedSpec};
use windlass_types::error_chain::ErrorChain;
use windlass_types::machine::MachineSpec;

use super::Runs;
use super::apply::{bad, unobserved};
use super::record::Inputs;
use crate::cloud_init::{AGENT_PACKAGE, FirstBoot, JoinOrder, UserData};
use crate::provider::Wanted;

impl Runs {
    /// Whether a plan could be carried out now, and what it takes of what is limited.
    pub(super) async fn possible(&self, plan: &Plan, inputs: &Inputs) -> Result<Vec<Need>, Refusal> {
        let new: Vec<MachineSpec> = plan
            .steps
            .iter()
            .filter_map(|planned| match &planned.step {
                Step::CreateMachine { machine, .. } => Some(MachineSpec::clone(machine)),
                _ => None,
            })
            .collect();
        let (Some(cluster), Some(kind)) = (&plan.cluster, &plan.provider) else { return Ok(Vec::new()) };
        if let Some(first) = new.first() {
            self.can_be_reached()?;
            self.can_be_told(first, inputs)?;
        }
        let shared: Vec<SharedSpec> = plan
            .steps
            .iter()
            .flat_map(|planned| match &planned.step {
                Step::PrepareCloud { shared } => shared.clone(),
                _ => Vec::new(),
            })
            .collect();
        if new.is_empty() && shared.is_empty() {
            return Ok(Vec::new());
        }
        let provider = self.with.observer.provider(kind).await.map_err(|error| unobserved(&error))?;
        // What exists in part is made anew from the beginning, and would be counted twice.
        let observed = self.with.observer.machines(cluster, kind).await;
        let observed = observed.map_err(|error| unobserved(&error))?;
        let machines = new.into_iter().filter(|new| !observed.iter().any(|machine| machine.name == new.name)).collect();
        let checked = provider.check(&Wanted { machines, shared }).await;
        checked.map_err(|error| Refusal::new(Reason::Unsafe, ErrorChain(&error).to_string()).advise(error.advice()))
    }

    /// A machine of its own reaches this controller only at an address that is not this host's loopback.
    fn can_be_reached(&self) -> Result<(), Refusal> {
        for endpoint in [&self.with.join_endpoint, &self.with.agent_endpoint] {
            let host = endpoint.rsplit_once(':').map_or(endpoint.as_str(), |(host, _)| host);
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
            if address.is_some_and(|address| address.is_loopback() || address.is_unspecified()) || host == "localhost" {
                let message = format!("new machines cannot reach the controller at {endpoint}");
                return Err(Refusal::new(Reason::Unsafe, message).advise(
                    "set advertise = [\"10.0.2.2\"] in its configuration, which is this host for machines on it",
                ));
            }
        }
        Ok(())
    }

    /// Whether user-data can be made, tried with a token of the right form.
    fn can_be_told(&self, machine: &MachineSpec, inputs: &Inputs) -> Result<(), Refusal> {
        let boot = FirstBoot {
            name: machine.name.clone(),
            repositories: inputs.repositories.iter().cloned().map(Into::into).collect(),
            package: AGENT_PACKAGE.to_owned(),
            join: JoinOrder {
                controller: self.with.join_endpoint.clone(),
                pins: self.with.trust.authority().pins(),
                token: format!("{}.{}", "0".repeat(12), "0".repeat(64)),
            },
            ssh_keys: inputs.ssh_keys.clone(),
        };
        UserData::new(&boot).map(drop).map_err(|error| bad(&error))
    }
}
