// SPDX-License-Identifier: Apache-2.0
//! `windlass plan`: what would be done so that a cluster becomes as its spec says.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use windlass_plan::{Plan, Step};
use windlass_proto::v1;
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::node_step::NodeStep;
use windlass_types::setting::Setting;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::saved_plan;
use super::show::{self, ResultFormat};
use crate::spec::{self, Cluster};

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The spec
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// End with 2 if there is something to do
    #[arg(long)]
    detailed_exitcode: bool,
    /// Save the plan in a file, for `windlass apply PLANFILE`; or `json`: print it for programs. May be given twice
    #[arg(short, long, value_name = "PLANFILE|json", value_parser = output)]
    output: Vec<Output>,
}

/// Where a plan goes. A file called json is ./json.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Output {
    Format(ResultFormat),
    File(PathBuf),
}

fn output(text: &str) -> Result<Output, String> {
    match text {
        "" => Err("a file's name is not empty".to_owned()),
        "text" => Ok(Output::Format(ResultFormat::Text)),
        "json" => Ok(Output::Format(ResultFormat::Json)),
        file => Ok(Output::File(file.into())),
    }
}

impl PlanArgs {
    fn format(&self) -> ResultFormat {
        let format = self.output.iter().rev().find_map(|output| match output {
            Output::Format(format) => Some(*format),
            Output::File(_) => None,
        });
        format.unwrap_or(ResultFormat::Text)
    }

    fn planfile(&self) -> Option<&Path> {
        self.output.iter().find_map(|output| match output {
            Output::File(path) => Some(path.as_path()),
            Output::Format(_) => None,
        })
    }
}

/// Arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The spec
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// End with 2 if something differs
    #[arg(long)]
    detailed_exitcode: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// A plan as it came from the controller.
#[derive(Debug)]
pub(crate) struct Proposed {
    /// What it was asked for.
    pub(crate) request: v1::PlanClusterRequest,
    /// The plan.
    pub(crate) plan: Plan,
    /// The controller's answer.
    pub(crate) answer: v1::PlanClusterResponse,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PlanResult<'a> {
    sha256: String,
    changes: usize,
    destroys: Vec<String>,
    expected_seconds: u64,
    expected_is_guess: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    obstacle: &'a str,
    plan: Plan,
}

/// Shows what would be done.
///
/// # Errors
/// If the spec cannot be used, or the controller not be reached.
pub(crate) async fn run(context: &Context, arguments: PlanArgs) -> Result<Exit, Failure> {
    let proposed = propose(context, from_spec(&arguments.file)?).await?;
    if let Some(path) = arguments.planfile() {
        saved_plan::write(path, &proposed)?;
    }
    let mut out = context.terminal.out();
    match arguments.format() {
        ResultFormat::Text => write!(out, "{}", shown(&proposed))?,
        ResultFormat::Json => {
            let v1::PlanClusterResponse { expected_millis, expected_is_guess, obstacle, .. } = &proposed.answer;
            json(&mut out, &proposed.plan, (*expected_millis, *expected_is_guess), obstacle)?;
        }
    }
    out.flush()?;
    hint(context, &arguments, &proposed);
    Ok(told(&proposed.plan, arguments.detailed_exitcode))
}

/// How a command ends that only shows a plan.
pub(super) fn told(plan: &Plan, in_detail: bool) -> Exit {
    if in_detail && !plan.is_empty() { Exit::ChangesPresent } else { Exit::Done }
}

/// Writes a plan for programs.
///
/// # Errors
/// If `out` does not take it.
pub(crate) fn json(
    out: &mut dyn std::io::Write,
    plan: &Plan,
    (expected_millis, expected_is_guess): (u64, bool),
    obstacle: &str,
) -> std::io::Result<()> {
    let result = PlanResult {
        sha256: plan.hash().to_string(),
        changes: plan.steps.len(),
        destroys: plan.destroyed().into_iter().map(ToString::to_string).collect(),
        expected_seconds: expected_millis / 1000,
        expected_is_guess,
        obstacle,
        plan: without_secrets(plan),
    };
    show::json_document(out, "PlanResult", &result)
}

/// As it may be shown. Its hash is that of the plan itself, which nobody makes from what is shown.
fn without_secrets(plan: &Plan) -> Plan {
    let mut plan = plan.clone();
    for planned in &mut plan.steps {
        if let Step::OnNode { step, .. } = &mut planned.step
            && let NodeStep::ApplySetting { setting, .. } = &mut **step
            && let Setting::File(file) = &mut **setting
            && file.secret
        {
            "(secret)".clone_into(&mut file.content);
        }
    }
    plan
}

/// Shows what differs from the spec: the plan that nobody is asked to apply.
///
/// # Errors
/// If the spec cannot be used, or the controller not be reached.
pub(crate) async fn diff(context: &Context, arguments: DiffArgs) -> Result<Exit, Failure> {
    let DiffArgs { file, detailed_exitcode, output } = arguments;
    run(context, PlanArgs { file, detailed_exitcode, output: vec![Output::Format(output)] }).await
}

fn hint(context: &Context, arguments: &PlanArgs, proposed: &Proposed) {
    if proposed.plan.steps.is_empty() || arguments.format() != ResultFormat::Text {
        return;
    }
    match arguments.planfile() {
        Some(path) => context.terminal.say(format_args!("to do exactly this: windlass apply {}", path.display())),
        None => context.terminal.say(format_args!("to do this: windlass apply -f {}", arguments.file.display())),
    }
}

fn need_line(need: &v1::Need) -> String {
    let (of, needed) = (Escaped(&need.of), need.needed);
    need.left.map_or_else(|| format!("{of} {needed}, not limited"), |left| format!("{of} {needed} of {left}"))
}

/// How long a plan takes, as a line; empty where that is no time at all.
pub(super) fn expected(millis: u64, is_guess: bool) -> String {
    let guess = if is_guess { ", in part a guess: not all of it was done before" } else { "" };
    match millis / 1000 {
        0 => String::new(),
        seconds => format!("Expected to take about {}{guess}.\n", duration(seconds)),
    }
}

/// What a person reads of a plan.
pub(crate) fn shown(proposed: &Proposed) -> String {
    let mut text = proposed.plan.to_string();
    let answer = &proposed.answer;
    text.push_str(&expected(answer.expected_millis, answer.expected_is_guess));
    if !answer.needs.is_empty() {
        text.push_str("Needs, of what is left:\n");
        text.extend(answer.needs.iter().map(|need| format!("  {}\n", need_line(need))));
    }
    if !answer.obstacle.is_empty() {
        text.push_str(&format!("\nCannot be applied now: {}\n", Escaped(&answer.obstacle)));
        if !answer.obstacle_advice.is_empty() {
            text.push_str(&format!("  do: {}\n", Escaped(&answer.obstacle_advice)));
        }
    }
    if !answer.run.is_empty() {
        let run = Escaped(&answer.run);
        text.push_str(&format!("\nRun {run} is under way on this cluster: windlass run attach {run}\n"));
    }
    text
}

/// Seconds as people say them.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        91..=5400 => format!("{} min", (seconds + 30) / 60),
        more => format!("{} h {} min", more / 3600, more % 3600 / 60),
    }
}

/// Reads a spec and the files it names.
///
/// # Errors
/// If one of them cannot be read or understood.
pub(crate) fn from_spec(path: &Path) -> Result<v1::PlanClusterRequest, Failure> {
    let text = spec::text(path).map_err(|error| misunderstood(path, &error))?;
    let cluster = Cluster::parse(&text).map_err(|error| misunderstood(path, &error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files = BTreeMap::new();
    for named in cluster.files() {
        let file = resolved(folder, named.name);
        let content = std::fs::read_to_string(&file).map_err(|error| {
            Failure::new(Cause::Misconfigured, format!("read {}, {}", file.display(), named.what))
                .because_of(&error)
                .advise("the spec names a file beside it, or one whose path begins with / or ~/")
        })?;
        files.insert(named.name.to_owned(), content);
    }
    let spec = v1::ClusterSpec { text, files };
    Ok(v1::PlanClusterRequest { wish: Some(v1::plan_cluster_request::Wish::Spec(spec)) })
}

fn misunderstood(path: &Path, error: &crate::spec::SpecError) -> Failure {
    Failure::new(Cause::Misconfigured, path.display().to_string())
        .because(ErrorChain(error).to_string())
        .advise("docs/spec.md explains every key; `windlass schema` is for your editor")
}

fn resolved(folder: &Path, name: &str) -> PathBuf {
    match (name.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        (Some(_), None) | (None, _) => folder.join(name),
    }
}

/// Asks the controller for a plan.
///
/// # Errors
/// If it cannot be reached or refuses.
pub(crate) async fn propose(context: &Context, request: v1::PlanClusterRequest) -> Result<Proposed, Failure> {
    context.terminal.announce("asking the nodes, which may take minutes; nothing is changed by it");
    let answer = context.plans().await?.plan_cluster(request.clone()).await;
    let answer = answer.map_err(|status| Failure::call("make a plan", &status))?.into_inner();
    let plan: Plan = serde_json::from_str(&answer.plan).map_err(|error| {
        Failure::new(Cause::Local, "read the controller's plan")
            .because_of(&error)
            .advise("install the same version of Windlass on both machines")
    })?;
    Ok(Proposed { request, plan, answer })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_as_people_say_them() {
        for (seconds, said) in [(42, "42 s"), (95, "2 min"), (600, "10 min"), (7260, "2 h 1 min")] {
            assert_eq!(duration(seconds), said);
        }
    }

    #[test]
    fn a_file_and_a_format_are_told_apart() {
        assert_eq!(output("json"), Ok(Output::Format(ResultFormat::Json)));
        assert_eq!(output("./json"), Ok(Output::File("./json".into())));
        assert!(output("").is_err());
    }
}
