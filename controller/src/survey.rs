// SPDX-License-Identifier: Apache-2.0
//! Asks nodes how they differ from what they shall be: all at the same time, one job for all that are asked the same.
//!
//! What a node answers is read as strictly as anything from outside. A node that does not answer, answers something else or
//! cannot be asked is a fact with a reason: the planner decides what that means.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use windlass_proto::refusal::Refusal;
use windlass_types::action::Action;
use windlass_types::escape::Escaped;
use windlass_types::name::NodeName;
use windlass_types::node_step::{NodeStep, StepOrder};
use windlass_types::outcome::Ending;
use windlass_types::survey::{SCHEMA, Survey, SurveyRequest};

use crate::fleet::{Fleet, NodeView};
use crate::jobs::answers::Answer;
use crate::jobs::{Jobs, NewJob};

/// The word by which an agent says that it does steps of runs.
pub const ABILITY: &str = "step";

/// The package manager may have to fetch the lists of all its repositories from slow mirrors.
const TIMEOUT: Duration = Duration::from_secs(300);

/// What an agent's answer may need besides, on a busy network.
const ANSWER: Duration = Duration::from_secs(15);

/// The id of the order, as the node sees it.
const ID: &str = "survey";

/// What was answered, and why the others did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// The answers.
    pub surveys: BTreeMap<NodeName, Survey>,
    /// Who did not answer, and why.
    pub unsurveyed: BTreeMap<NodeName, String>,
}

/// Asks nodes.
#[derive(Debug)]
pub struct Surveyor {
    jobs: Arc<Jobs>,
    fleet: Arc<Fleet>,
}

impl Surveyor {
    /// Asks through these jobs.
    #[must_use]
    pub const fn new(jobs: Arc<Jobs>, fleet: Arc<Fleet>) -> Self {
        Self { jobs, fleet }
    }

    /// Asks each node what it is asked for, and waits until all have answered or their time is over.
    ///
    /// # Errors
    /// If a job cannot be stored.
    pub async fn ask(&self, requests: BTreeMap<NodeName, SurveyRequest>, by: &str) -> Result<Surveyed, Refusal> {
        let mut surveyed = Surveyed::default();
        let mut groups: HashMap<SurveyRequest, Vec<NodeName>> = HashMap::new();
        for (node, request) in requests {
            match self.unaskable(&node) {
                Some(why) => drop(surveyed.unsurveyed.insert(node, why)),
                None => groups.entry(request).or_default().push(node),
            }
        }
        let asked = groups.into_iter().map(|(request, nodes)| self.ask_alike(request, nodes, by));
        for answers in join_all(asked).await {
            for (node, answer) in answers? {
                match answer {
                    Ok(survey) => drop(surveyed.surveys.insert(node, survey)),
                    Err(why) => drop(surveyed.unsurveyed.insert(node, why)),
                }
            }
        }
        Ok(surveyed)
    }

    fn unaskable(&self, node: &NodeName) -> Option<String> {
        if self.jobs.is_read_only() {
            return Some(
                "the controller was restored from a backup and orders nothing before it is confirmed".to_owned(),
            );
        }
        self.fleet.view(node).as_ref().map_or_else(|| Some(unknown()), incapable)
    }

    async fn ask_alike(
        &self,
        request: SurveyRequest,
        nodes: Vec<NodeName>,
        by: &str,
    ) -> Result<Vec<(NodeName, Result<Survey, String>)>, Refusal> {
        let settings = request.settings.len();
        let order = StepOrder { run: None, id: ID.to_owned(), step: NodeStep::Survey(Box::new(request)), lease: None };
        let job = NewJob {
            request_id: uuid::Uuid::new_v4().to_string(),
            action: Action::Step(Box::new(order)),
            nodes: nodes.clone(),
            batch: 0,
            max_failures: None,
            timeout: TIMEOUT,
            created_by: by.to_owned(),
        };
        let record = self.jobs.create(job).await?;
        let mut answers = self.jobs.answers(&record.id, Some(TIMEOUT + ANSWER)).await?;
        // What a survey said is in the plan; nobody asks for it again. A job that has not ended is left to end by itself.
        self.jobs.forget(&record.id).await;
        let answer = |node: NodeName| {
            let read = answers.remove(&node).map_or_else(|| Err(silent()), |answer| read(&answer, settings));
            (node, read)
        };
        Ok(nodes.into_iter().map(answer).collect())
    }
}

fn unknown() -> String {
    "no node of this name has joined".to_owned()
}

fn silent() -> String {
    format!("it did not answer within {} s", TIMEOUT.as_secs())
}

/// Why a node cannot be asked; `None` if it can.
#[must_use]
pub fn incapable(view: &NodeView) -> Option<String> {
    if view.record.revoked.is_some() {
        return Some("its certificates are revoked".to_owned());
    }
    let Some(session) = &view.session else { return Some("it is not connected".to_owned()) };
    if session.abilities.iter().any(|ability| ability == ABILITY) {
        return None;
    }
    let version = Escaped(&session.agent_version);
    let name = &view.record.name;
    Some(format!(
        "its agent {version} cannot do this: it is too old, or systemd there is (before 236) or does not answer it, or \
         agent.toml has jobs = \"process-group\"; its journal says so: windlass exec {name} -- journalctl -u \
         windlass-executor. To update it: windlass exec {name} -- dnf -y update windlass-agent (yum where there is no dnf)"
    ))
}

/// What a node answered.
fn read(answer: &Answer, settings: usize) -> Result<Survey, String> {
    if let Ending::Failed { message, .. } = &answer.outcome.ending {
        return Err(Escaped(message).to_string());
    }
    if !answer.outcome.ending.is_success() {
        return Err(answer.outcome.ending.to_string());
    }
    let survey: Survey =
        serde_json::from_slice(&answer.stdout).map_err(|error| format!("its answer cannot be read: {error}"))?;
    if survey.schema != SCHEMA {
        let schema = survey.schema;
        return Err(format!("its agent answers in form {schema} and this controller reads form {SCHEMA}: update both"));
    }
    if survey.settings.len() != settings {
        let answered = survey.settings.len();
        return Err(format!("it was asked about {settings} settings and answered about {answered}"));
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use windlass_types::outcome::{ErrorClass, Outcome};

    use super::*;

    fn answer(ending: Ending, stdout: &str) -> Answer {
        Answer { outcome: Outcome::bare(ending), stdout: stdout.as_bytes().to_vec() }
    }

    fn survey(schema: u32) -> String {
        format!(
            r#"{{"schema":{schema},"boot_id":"0-1","kernels":{{"running":"6.1","default":null,"once":null,"installed":[]}},
            "reboot_reasons":[],"outdated_services":[],"interrupted":null,"settings":[{{"state":"as-wished"}}],
            "packages":null,"kernel":null}}"#
        )
    }

    #[test]
    fn an_answer_is_taken_only_in_the_form_that_was_asked_for() {
        let well = Ending::Exited { code: 0 };
        assert!(read(&answer(well.clone(), &survey(1)), 1).is_ok());
        assert!(read(&answer(well.clone(), &survey(1)), 2).expect_err("too few").contains("2 settings"));
        assert!(read(&answer(well.clone(), &survey(9)), 1).expect_err("another form").contains("form 9"));
        assert!(read(&answer(well, "Loaded plugins: fastestmirror\n"), 0).expect_err("no JSON").contains("read"));
    }

    #[test]
    fn a_node_that_could_not_answer_says_why_on_one_line() {
        let failed = Ending::Failed { message: "rpm database\nis locked".into(), class: ErrorClass::Transient };
        let why = read(&answer(failed, ""), 0).expect_err("failed");
        assert!(why.starts_with("rpm database") && !why.contains('\n'), "{why}");
        assert_eq!(read(&answer(Ending::Unreachable, ""), 0).expect_err("away"), "not connected");
    }
}
