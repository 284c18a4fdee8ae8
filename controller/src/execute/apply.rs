// SPDX-License-Identifier: Apache-2.0
//! From a wish to a plan, and from a plan that was shown to a run.
//!
//! What was shown is what runs: at the moment of applying everything is observed and planned again, and unless the result
//! does exactly the same, nothing is begun and the differences are named.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use windlass_plan::difference::differences;
use windlass_plan::plan::SCHEMA;
use windlass_plan::{Plan, Policy, Step};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::machine::{MachineSpec, ProviderKind};
use windlass_types::name::{ClusterName, NodeName, RunId};
use windlass_types::run::RunState;

use super::record::{Inputs, RunRecord, StoredRepository};
use super::times::{Crowd, Times};
use super::{Runs, refusal};
use crate::cloud_init::{AGENT_PACKAGE, FirstBoot, JoinOrder, UserData};
use crate::observe::{ClusterRecord, ObserveError};
use crate::spec::Cluster;

/// Differences that are named; more help nobody.
const MOST_DIFFERENCES: usize = 5;

/// What a plan is asked for.
#[derive(Debug, Clone)]
pub enum Wish {
    /// A cluster as its spec says.
    Spec {
        /// The spec.
        cluster: Box<Cluster>,
        /// The files it names.
        files: BTreeMap<String, String>,
    },
    /// Nothing of a cluster, or of some of its nodes.
    Destruction {
        /// The cluster.
        cluster: ClusterName,
        /// The nodes; empty for all.
        nodes: Vec<NodeName>,
    },
}

/// A plan with what belongs to it.
#[derive(Debug)]
pub struct Proposal {
    /// The plan.
    pub plan: Plan,
    /// Why it could not be carried out now.
    pub obstacle: Option<Refusal>,
    /// How long it takes, milliseconds.
    pub expected_millis: u64,
    /// Nothing was learned yet of such machines.
    pub expected_is_guess: bool,
    /// A run under way on the cluster.
    pub run: Option<RunId>,
    inputs: Inputs,
}

/// A plan that was shown to a person.
#[derive(Debug)]
pub struct Shown {
    /// The plan.
    pub plan: Plan,
    /// Its hash, as it was shown.
    pub sha256: Sha256Digest,
    /// The cluster's name, if the person typed it.
    pub confirmation: String,
}

impl Runs {
    /// Looks at everything and says what would be done.
    ///
    /// # Errors
    /// If something cannot be looked at, or the wish cannot be understood.
    pub async fn propose(&self, wish: &Wish) -> Result<Proposal, Refusal> {
        let (plan, inputs) = match wish {
            Wish::Spec { cluster, files } => self.plan_spec(cluster, files).await?,
            Wish::Destruction { cluster, nodes } => (self.plan_destruction(cluster, nodes).await?, Inputs::default()),
        };
        let obstacle = self.obstacle(&plan, &inputs).await.err();
        let run = match &plan.cluster {
            Some(cluster) => self.with.records.under_way(cluster).await.map_err(|error| crate::join::store(&error))?,
            None => None,
        };
        let (expected_millis, expected_is_guess) = self.expected(&plan).await?;
        Ok(Proposal { plan, obstacle, expected_millis, expected_is_guess, run, inputs })
    }

    /// Begins to carry out a plan that was shown; `None` if there is nothing to do.
    ///
    /// # Errors
    /// If something else would be done now, if it destroys something and nobody said so, or if a run is under way.
    pub async fn apply(self: &Arc<Self>, wish: &Wish, shown: Shown, by: String) -> Result<Option<RunId>, Refusal> {
        if shown.plan.schema != SCHEMA || shown.plan.hash() != shown.sha256 {
            return Err(Refusal::new(Reason::BadRequest, "the plan is damaged, or of another version")
                .advise("make a new one with `windlass plan -o FILE`"));
        }
        let proposal = self.propose(wish).await?;
        if let Some(id) = proposal.run {
            return Err(refusal(&super::record::RecordError::Busy(id)));
        }
        unchanged(&shown, &proposal.plan)?;
        confirmed(&shown)?;
        if proposal.plan.steps.is_empty() {
            return Ok(None);
        }
        if let Some(obstacle) = proposal.obstacle {
            return Err(obstacle);
        }
        let now = self.with.clock.now();
        let (Some(name), Some(provider)) = (proposal.plan.cluster.clone(), proposal.plan.provider) else {
            return Err(Refusal::new(Reason::BadRequest, "the plan names no cluster"));
        };
        let cluster = ClusterRecord { name, provider, since: now };
        let record = RunRecord {
            id: RunId::new("r0").expect("an r and a digit"),
            plan: proposal.plan,
            inputs: proposal.inputs,
            created_by: by,
            created_at: now,
            first_event: self.with.events.durable(),
            stop_requested: false,
            state: RunState::Running,
            ended_at: None,
        };
        let record = self.with.records.create(record, &cluster).await.map_err(|error| refusal(&error))?;
        let id = record.id.clone();
        self.begin(record);
        Ok(Some(id))
    }

    /// How long a plan takes, milliseconds, and whether that is a guess.
    async fn expected(&self, plan: &Plan) -> Result<(u64, bool), Refusal> {
        let Some(kind) = plan.provider.filter(|kind| *kind != ProviderKind::Existing) else { return Ok((0, false)) };
        let provider = self.with.observer.provider(kind).map_err(|error| unobserved(&error))?;
        let new = plan.steps.iter().find_map(|planned| match &planned.step {
            Step::CreateMachine { machine, .. } => Some(machine),
            _ => None,
        });
        let accel = match new {
            Some(machine) => provider.accel(machine).await,
            None => None,
        };
        let known = self.with.times.known(kind, accel).await.map_err(|error| crate::join::store(&error))?;
        let is_guess = known.is_none();
        let alone = known.unwrap_or_else(|| Times::guess(accel));
        Ok((Crowd::of(plan, provider.processors()).whole(&alone), is_guess))
    }

    async fn plan_spec(&self, cluster: &Cluster, files: &BTreeMap<String, String>) -> Result<(Plan, Inputs), Refusal> {
        let home = std::env::var("HOME").ok();
        let mut spec = cluster.machines(home.as_deref()).map_err(|error| bad(&error))?;
        spec.wishes = cluster.wishes(files).map_err(|error| bad(&error))?;
        let inputs = inputs(cluster, files)?;
        let known = self.with.observer.clusters().await.map_err(|error| unobserved(&error))?;
        if let Some(other) = known.iter().find(|other| other.name == spec.name && other.provider != spec.provider) {
            let message = format!("cluster {} was made with the provider {}", spec.name, other.provider);
            return Err(Refusal::new(Reason::Unsafe, message).advise("destroy it first, or give this one another name"));
        }
        let snapshot = self.with.observer.snapshot(&spec.name, spec.provider).await;
        let snapshot = snapshot.map_err(|error| unobserved(&error))?;
        Ok((windlass_plan::plan(&snapshot, &spec, &cluster.policy(), self.with.clock.now()), inputs))
    }

    async fn plan_destruction(&self, cluster: &ClusterName, nodes: &[NodeName]) -> Result<Plan, Refusal> {
        let known = self.with.observer.clusters().await.map_err(|error| unobserved(&error))?;
        let Some(record) = known.into_iter().find(|record| record.name == *cluster) else {
            return Err(Refusal::new(Reason::NotFound, format!("no plan was ever applied for a cluster {cluster}"))
                .advise("`windlass get machines` lists what there is"));
        };
        let snapshot = self.with.observer.snapshot(cluster, record.provider).await;
        let snapshot = snapshot.map_err(|error| unobserved(&error))?;
        let policy = Policy::default();
        let plan = windlass_plan::plan_destroy(&snapshot, cluster, record.provider, nodes, &policy);
        let is_there = |name: &&NodeName| plan.steps.iter().any(|planned| planned.step.node() == *name);
        match nodes.iter().find(|name| !is_there(name)) {
            Some(missing) => Err(Refusal::new(Reason::NotFound, format!("cluster {cluster} has no node {missing}"))
                .advise("`windlass get machines` lists what there is")),
            None => Ok(plan),
        }
    }

    /// Why a plan could not be carried out now.
    async fn obstacle(&self, plan: &Plan, inputs: &Inputs) -> Result<(), Refusal> {
        let new: Vec<MachineSpec> = plan
            .steps
            .iter()
            .filter_map(|planned| match &planned.step {
                Step::CreateMachine { machine, .. } => Some(MachineSpec::clone(machine)),
                _ => None,
            })
            .collect();
        let (Some(first), Some(cluster), Some(kind)) = (new.first(), &plan.cluster, plan.provider) else {
            return Ok(());
        };
        self.can_be_reached()?;
        self.can_be_told(first, inputs)?;
        let provider = self.with.observer.provider(kind).map_err(|error| unobserved(&error))?;
        // What exists in part is made anew from the beginning, and would be counted twice.
        let observed = self.with.observer.machines(cluster, kind).await;
        let observed = observed.map_err(|error| unobserved(&error))?;
        let fresh: Vec<_> =
            new.into_iter().filter(|new| !observed.iter().any(|machine| machine.name == new.name)).collect();
        let checked = provider.check(&fresh).await;
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

/// The files a spec names, in their place.
fn inputs(cluster: &Cluster, files: &BTreeMap<String, String>) -> Result<Inputs, Refusal> {
    let repositories =
        cluster.body.packages.repositories.iter().map(|repository| &repository.value).map(|repository| {
            let key = files.get(&repository.gpg_key).cloned().ok_or_else(|| {
                let message =
                    format!("the key {:?} of the repository {} was not sent", repository.gpg_key, repository.name);
                Refusal::new(Reason::BadRequest, message)
            })?;
            Ok(StoredRepository {
                name: repository.name.clone(),
                url: repository.url.clone(),
                key,
                signed_metadata: repository.signed_metadata,
            })
        });
    let repositories = repositories.collect::<Result<_, Refusal>>()?;
    Ok(Inputs { repositories, ssh_keys: cluster.body.ssh.authorized_keys.clone() })
}

fn unchanged(shown: &Shown, now: &Plan) -> Result<(), Refusal> {
    let mut found = differences(&shown.plan, now);
    if found.is_empty() {
        return Ok(());
    }
    let more = found.len().saturating_sub(MOST_DIFFERENCES);
    found.truncate(MOST_DIFFERENCES);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    let message = format!("the world is not as it was when this plan was made: {}", found.join("; "));
    Err(Refusal::new(Reason::WorldChanged, message).advise("look at a new plan, and apply that"))
}

fn confirmed(shown: &Shown) -> Result<(), Refusal> {
    let lost: Vec<_> = shown.plan.destroyed().into_iter().map(ToString::to_string).collect();
    if lost.is_empty() || shown.plan.cluster.as_ref().is_some_and(|cluster| shown.confirmation == cluster.as_str()) {
        return Ok(());
    }
    let message = format!("this destroys {}, and the cluster's name was not typed", lost.join(", "));
    Err(Refusal::new(Reason::Unsafe, message)
        .advise(format!("add --confirm {}", shown.plan.cluster.as_ref().map_or("", ClusterName::as_str))))
}

fn bad(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Reason::BadRequest, ErrorChain(error).to_string())
}

/// Something that cannot be looked at, as an answer.
pub(crate) fn unobserved(error: &ObserveError) -> Refusal {
    match error {
        ObserveError::Store(error) => crate::join::store(error),
        ObserveError::Provider { source, .. } => {
            Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise(source.advice())
        }
        ObserveError::NoProvider(_) => Refusal::new(Reason::SwitchedOff, error.to_string())
            .advise("`windlass check` on the controller's machine says what is missing"),
        ObserveError::Record { .. } | ObserveError::Tokens(_) => {
            Refusal::new(Reason::Other, ErrorChain(error).to_string()).advise("see the controller's log")
        }
    }
}
