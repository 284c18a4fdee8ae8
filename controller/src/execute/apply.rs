// SPDX-License-Identifier: Apache-2.0
//! From a wish to a plan, and from a plan that was shown to a run.
//!
//! What was shown is what runs: at the moment of applying everything is observed and planned again, and unless the result
//! does exactly the same, nothing is begun and the differences are named.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use windlass_plan::difference::differences;
use windlass_plan::plan::SCHEMA;
use windlass_plan::{NodeWish, Plan, Policy, Snapshot};
use windlass_proto::refusal::{Reason, Refusal};
use windlass_types::cloud::Need;
use windlass_types::digest::Sha256Digest;
use windlass_types::error_chain::ErrorChain;
use windlass_types::machine::ProviderKind;
use windlass_types::name::{ClusterName, NodeName, RunId};
use windlass_types::time::UnixMillis;

use super::members::counted;
use super::record::{Busy, Inputs, RecordError, RunRecord, StoredRepository};
use super::{Runs, refusal};
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
    /// Something of nodes that are there, whatever cluster they belong to.
    Nodes {
        /// What shall become of each.
        wishes: BTreeMap<NodeName, NodeWish>,
        /// Under which rules.
        policy: Box<Policy>,
    },
    /// Nothing of a cluster, or of some of its nodes.
    Destruction {
        /// The cluster.
        cluster: ClusterName,
        /// The nodes; empty for all.
        nodes: Vec<NodeName>,
        /// Who made its machines, for a controller that does not know the cluster any more.
        provider: Option<ProviderKind>,
    },
}

/// A plan with what belongs to it.
#[derive(Debug)]
pub struct Proposal {
    /// The plan.
    pub plan: Plan,
    /// Why it could not be carried out now.
    pub obstacle: Option<Refusal>,
    /// What it takes of what is limited.
    pub needs: Vec<Need>,
    /// How long it takes, milliseconds.
    pub expected_millis: u64,
    /// Nothing was learned yet of such machines.
    pub expected_is_guess: bool,
    /// A run under way on it.
    pub busy: Option<Busy>,
    inputs: Inputs,
    members: Vec<NodeName>,
}

/// How young what nodes know of their repositories has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metadata {
    /// As it was when the plan was shown: the same question shall have the same answer. Nodes that had no answer then are
    /// asked as they were then.
    AsShown {
        /// Those.
        unanswered: BTreeSet<NodeName>,
    },
    /// Fetched anew.
    Fresh,
}

impl Metadata {
    pub(super) fn is_fetched_by(&self, node: &NodeName) -> bool {
        match self {
            Self::Fresh => true,
            Self::AsShown { unanswered } => unanswered.contains(node),
        }
    }
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
    /// Looks at everything, asks the nodes, and says what would be done.
    ///
    /// # Errors
    /// If something cannot be looked at, or the wish cannot be understood.
    pub async fn propose(&self, wish: &Wish, metadata: &Metadata, by: &str) -> Result<Proposal, Refusal> {
        let (plan, inputs, members) = match wish {
            Wish::Spec { cluster, files } => self.plan_spec(cluster, files, metadata, by).await?,
            Wish::Nodes { wishes, policy } => self.plan_wishes(wishes, policy, metadata, by).await?,
            Wish::Destruction { cluster, nodes, provider } => {
                let (plan, members) = self.plan_destruction(cluster, nodes, provider.as_ref()).await?;
                (plan, Inputs::default(), members)
            }
        };
        let (needs, obstacle) = match self.possible(&plan, &inputs).await {
            Ok(needs) => (needs, None),
            Err(obstacle) => (Vec::new(), Some(obstacle)),
        };
        let busy = self.with.records.under_way(&plan).await.map_err(|error| refusal(&error))?;
        let (expected_millis, expected_is_guess) = self.expected(&plan).await?;
        Ok(Proposal { plan, obstacle, needs, expected_millis, expected_is_guess, busy, inputs, members })
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
        let proposal = self.propose(wish, &Metadata::AsShown { unanswered: shown.plan.unanswered() }, &by).await?;
        if let Some(busy) = proposal.busy {
            return Err(refusal(&RecordError::Busy(busy)));
        }
        unchanged(&shown, &proposal.plan)?;
        confirmed(&shown)?;
        let now = self.with.clock.now();
        let cluster = self.kept_of_cluster(wish, &proposal, now).await?;
        if proposal.plan.steps.is_empty() {
            // Rules and hooks are kept also where nothing is to be done.
            if let (Wish::Spec { .. }, Some(cluster)) = (wish, &cluster) {
                self.with.observer.keep(cluster).await.map_err(|error| crate::join::store(&error))?;
            }
            return Ok(None);
        }
        if let Some(obstacle) = proposal.obstacle {
            return Err(obstacle);
        }
        let members = counted(&proposal.plan, proposal.members);
        let (inputs, first_event) = (proposal.inputs, self.with.events.durable());
        let record = RunRecord { inputs, members, ..RunRecord::new(proposal.plan, by, now, first_event) };
        let record = self.with.records.create(record, cluster.as_ref()).await.map_err(|error| refusal(&error))?;
        let id = record.id.clone();
        self.begin(record);
        Ok(Some(id))
    }

    /// What is kept of the cluster that a plan is about: of a spec what it says. What a destruction takes is forgotten when it
    /// is gone.
    async fn kept_of_cluster(
        &self,
        wish: &Wish,
        proposal: &Proposal,
        now: UnixMillis,
    ) -> Result<Option<ClusterRecord>, Refusal> {
        let Proposal { plan, members, .. } = proposal;
        let Some((name, provider)) = plan.cluster.clone().zip(plan.provider.clone()) else { return Ok(None) };
        let known = self.with.observer.clusters().await.map_err(|error| unobserved(&error))?;
        let known = known.into_iter().find(|record| record.name == name);
        let (nodes, hooks) = Default::default();
        let record = known.unwrap_or(ClusterRecord { name, provider, since: now, nodes, hooks });
        Ok(Some(match wish {
            Wish::Spec { cluster, .. } => ClusterRecord { nodes: members.clone(), hooks: cluster.hooks(), ..record },
            Wish::Nodes { .. } | Wish::Destruction { .. } => record,
        }))
    }

    async fn plan_spec(
        &self,
        cluster: &Cluster,
        files: &BTreeMap<String, String>,
        metadata: &Metadata,
        by: &str,
    ) -> Result<(Plan, Inputs, Vec<NodeName>), Refusal> {
        let home = std::env::var("HOME").ok();
        let mut spec = cluster.machines(home.as_deref()).map_err(|error| bad(&error))?;
        spec.wishes = cluster.wishes(files).map_err(|error| bad(&error))?;
        let inputs = Inputs { wishes: spec.wishes.clone(), ..inputs(cluster, files)? };
        let known = self.with.observer.clusters().await.map_err(|error| unobserved(&error))?;
        one_provider(&known, &spec.name, &spec.provider)?;
        let snapshot = self.with.observer.snapshot(&spec.name, &spec.provider).await;
        let mut snapshot = snapshot.map_err(|error| unobserved(&error))?;
        self.survey(&mut snapshot, &spec.wishes, metadata, by).await?;
        let members = spec.machines.iter().map(|machine| machine.name.clone()).collect();
        Ok((windlass_plan::plan(&snapshot, &spec, &cluster.policy(), self.with.clock.now()), inputs, members))
    }

    async fn plan_wishes(
        &self,
        wishes: &BTreeMap<NodeName, NodeWish>,
        policy: &Policy,
        metadata: &Metadata,
        by: &str,
    ) -> Result<(Plan, Inputs, Vec<NodeName>), Refusal> {
        let members = self.neighbours(wishes.keys()).await?;
        let mut snapshot = Snapshot { members: members.clone(), ..self.with.observer.nodes() };
        self.survey(&mut snapshot, wishes, metadata, by).await?;
        let plan = windlass_plan::plan_nodes(&snapshot, wishes, policy, self.with.clock.now());
        Ok((plan, Inputs { wishes: wishes.clone(), ..Inputs::default() }, members))
    }

    async fn plan_destruction(
        &self,
        cluster: &ClusterName,
        nodes: &[NodeName],
        provider: Option<&ProviderKind>,
    ) -> Result<(Plan, Vec<NodeName>), Refusal> {
        let known = self.with.observer.clusters().await.map_err(|error| unobserved(&error))?;
        let known = known.into_iter().find(|record| record.name == *cluster).map(|record| record.provider);
        let Some(provider) = known.or_else(|| provider.cloned()) else {
            return Err(Refusal::new(Reason::NotFound, format!("no plan was ever applied for a cluster {cluster}"))
                .advise(
                    "`windlass get machines` lists what there is; with its spec, `destroy -f` finds it by its tags",
                ));
        };
        let snapshot = self.with.observer.snapshot(cluster, &provider).await;
        let mut snapshot = snapshot.map_err(|error| unobserved(&error))?;
        self.with.arbiter.known().write(&mut snapshot);
        let policy = Policy::default();
        let plan = windlass_plan::plan_destroy(&snapshot, cluster, &provider, nodes, &policy);
        let named: BTreeSet<_> = plan.named().collect();
        match nodes.iter().find(|name| !named.contains(name)) {
            Some(missing) => Err(Refusal::new(Reason::NotFound, format!("cluster {cluster} has no node {missing}"))
                .advise("`windlass get machines` lists what there is")),
            None => {
                let companies = self.with.observer.companies().await.map_err(|error| unobserved(&error))?;
                let members =
                    companies.into_iter().filter(|(_, other)| other == cluster).map(|(node, _)| node).collect();
                Ok((plan, members))
            }
        }
    }
}

/// A cluster stays with the provider that made its machines.
///
/// # Errors
/// Names the other provider.
pub(crate) fn one_provider(known: &[ClusterRecord], name: &ClusterName, kind: &ProviderKind) -> Result<(), Refusal> {
    let other = known.iter().find(|other| other.name == *name && other.provider != *kind);
    other.map_or(Ok(()), |other| {
        let message = format!("cluster {name} was made with the provider {}", other.provider);
        Err(Refusal::new(Reason::Unsafe, message).advise("destroy it first, or give this one another name"))
    })
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
    let ssh_keys = cluster.body.ssh.authorized_keys.clone();
    Ok(Inputs { repositories, ssh_keys, wishes: BTreeMap::new() })
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
    let cluster = shown.plan.cluster.as_ref().map_or("", ClusterName::as_str);
    if lost.is_empty() || !cluster.is_empty() && shown.confirmation == cluster {
        return Ok(());
    }
    let message = format!("this destroys {}, and the cluster's name was not typed", lost.join(", "));
    Err(Refusal::new(Reason::Unsafe, message).advise(format!("add --confirm {cluster}")))
}

pub(super) fn bad(error: &dyn std::error::Error) -> Refusal {
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
