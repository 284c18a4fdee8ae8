// SPDX-License-Identifier: Apache-2.0
//! `windlass check`: whether this machine can work with the controller, and whether the controller is well.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use windlass_proto::v1;
use windlass_types::error_chain::ErrorChain;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;

use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::show::{self, ResultFormat};
use super::terminal::{Tone, toned};
use super::version::VERSION;
use crate::client::Target;
use crate::clock::{Clock as _, SystemClock};
use crate::spec::Cluster;

/// The controller's default limit for nodes.
const LARGEST_CLOCK_OFFSET_SECONDS: u64 = 10;

/// Arguments of `check`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct CheckArgs {
    #[command(subcommand)]
    what: Option<CheckWhat>,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
    /// Check this cluster.yaml instead, without a controller
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// What else there is to check.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckWhat {
    /// See as whom the controller uses a cloud, what there is to choose from, how much is left, and what is left over
    #[command(after_help = "Examples:\n  windlass check cloud cybera\n  windlass check cloud envvars\n\n\
        The name is the one in clouds.yaml on the controller's machine; envvars is what\n\
        the OS_* variables say that the controller was started with.")]
    Cloud {
        /// The cloud's name
        cloud: String,
        /// How the result is written
        #[arg(short, long, value_enum, default_value = "text")]
        output: ResultFormat,
    },
}

/// One named check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// Its name.
    pub(crate) name: String,
    /// Whether it is well.
    pub(crate) ok: bool,
    /// What was found.
    pub(crate) detail: String,
    /// What to do if it is not well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) advice: String,
}

impl Check {
    fn well(name: &str, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), ok: true, detail: detail.into(), advice: String::new() }
    }

    fn bad(name: &str, failure: &Failure) -> Self {
        let detail = format!("{}: {}", failure.what, failure.why);
        Self { name: name.to_owned(), ok: false, detail, advice: failure.advice.clone() }
    }
}

#[derive(Serialize)]
struct CheckResult {
    ok: bool,
    items: Vec<Check>,
}

/// Checks and prints every result.
///
/// # Errors
/// If stdout does not take it. A check that is not well is an exit code.
pub(crate) async fn run(context: &Context, arguments: CheckArgs) -> Result<Exit, Failure> {
    let CheckArgs { what, mut output, file } = arguments;
    let (checks, exit) = match (what, &file) {
        (Some(CheckWhat::Cloud { cloud, output: other }), _) => {
            output = other;
            of_cloud(context, cloud).await?
        }
        (None, Some(path)) => of_spec(path),
        (None, None) => all(context).await,
    };
    let result = CheckResult { ok: exit == Exit::Done, items: checks };
    let mut out = context.terminal.out();
    match output {
        ResultFormat::Json => show::json_document(&mut out, "CheckResult", &result)?,
        ResultFormat::Text => write_checks(&mut out, &result.items, context.terminal.colours_stdout())?,
    }
    out.flush()?;
    Ok(exit)
}

async fn of_cloud(context: &Context, cloud: String) -> Result<(Vec<Check>, Exit), Failure> {
    let asked = context.machines().await?.inspect_cloud(v1::InspectCloudRequest { cloud }).await;
    let findings = asked.map_err(|status| Failure::call("look at the cloud", &status))?.into_inner().findings;
    let check = |found: v1::CloudFinding| {
        let v1::CloudFinding { name, ok, detail, advice } = found;
        Check { name, ok, detail, advice }
    };
    let checks: Vec<_> = findings.into_iter().map(check).collect();
    let exit = if checks.iter().all(|check| check.ok) { Exit::Done } else { Exit::Failed };
    Ok((checks, exit))
}

fn of_spec(path: &Path) -> (Vec<Check>, Exit) {
    match Cluster::read(path) {
        Ok(cluster) => {
            let detail = format!("cluster {}, nodes: {}", cluster.name, cluster.body.nodes.value.len());
            (vec![Check::well("spec", detail)], Exit::Done)
        }
        Err(error) => {
            let advice = "mend the file and check it again".to_owned();
            let detail = ErrorChain(&error).to_string();
            (vec![Check { name: "spec".to_owned(), ok: false, detail, advice }], Exit::Misconfigured)
        }
    }
}

async fn all(context: &Context) -> (Vec<Check>, Exit) {
    let mut checks = Vec::new();
    let failed = |mut checks: Vec<Check>, name: &str, failure: &Failure| {
        checks.push(Check::bad(name, failure));
        (checks, failure.exit())
    };
    match context.target() {
        Ok(Target::Socket(path)) => checks.push(Check::well("target", format!("socket {}", path.display()))),
        Ok(Target::Remote { profile, .. }) => {
            checks
                .push(Check::well("target", format!("profile for {}, readable by its owner only", profile.controller)));
        }
        Err(failure) => return failed(checks, "target", &failure),
    }
    let mut admin = match context.admin().await {
        Ok(admin) => admin,
        Err(failure) => return failed(checks, "connection", &failure),
    };
    let status = match admin.get_status(v1::GetStatusRequest {}).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return failed(checks, "connection", &Failure::call("ask the controller", &status)),
    };
    checks.push(Check::well("connection", format!("you are {}, {}", status.caller, status.caller_role)));
    checks.push(clock_check(SystemClock.now().offset_millis(UnixMillis(status.unix_millis))));
    checks.extend(of_controller(&status));
    let exit = if checks.iter().all(|check| check.ok) { Exit::Done } else { Exit::Failed };
    (checks, exit)
}

/// What the controller says about itself.
pub(crate) fn of_controller(status: &v1::GetStatusResponse) -> Vec<Check> {
    let mut checks = vec![version_check(&status.version)];
    checks.extend(status.checks.iter().map(|check| Check {
        name: check.name.clone(),
        ok: check.ok,
        detail: check.detail.clone(),
        advice: if check.ok { String::new() } else { check.advice.clone() },
    }));
    checks
}

/// Certificates are good for a few minutes of difference; times in lists mislead long before.
fn clock_check(offset_millis: i64) -> Check {
    let seconds = offset_millis.unsigned_abs() / 1000;
    let ok = seconds <= LARGEST_CLOCK_OFFSET_SECONDS;
    let way = if offset_millis < 0 { "behind" } else { "ahead of" };
    let detail =
        if seconds == 0 { "the same here and there".to_owned() } else { format!("{seconds} s {way} the controller's") };
    let advice = if ok { String::new() } else { "set this machine's clock, or the controller's".to_owned() };
    Check { name: "clock".to_owned(), ok, detail, advice }
}

fn version_check(controller: &str) -> Check {
    let detail = format!("controller {controller}, this program {VERSION}");
    let ok = controller == VERSION;
    let advice = if ok { String::new() } else { "install the same version on both".to_owned() };
    Check { name: "version".to_owned(), ok, detail, advice }
}

fn write_checks(out: &mut dyn Write, checks: &[Check], colour: bool) -> io::Result<()> {
    let width = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    for check in checks {
        let (tone, word) = if check.ok { (Tone::Good, "ok  ") } else { (Tone::Bad, "FAIL") };
        let name = Escaped(&check.name).to_string();
        writeln!(out, "{}  {name:width$}  {}", toned(colour, tone, word), Escaped(&check.detail))?;
        if !check.advice.is_empty() {
            writeln!(out, "      do: {}", Escaped(&check.advice))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let status = v1::GetStatusResponse {
            version: VERSION.into(),
            checks: vec![
                v1::StatusCheck {
                    name: "database".into(),
                    ok: true,
                    detail: "writable\u{1b}[2J".into(),
                    advice: "nothing".into(),
                },
                v1::StatusCheck {
                    name: "epoch".into(),
                    ok: false,
                    detail: "read-only".into(),
                    advice: "windlass restore --confirm".into(),
                },
            ],
            ..Default::default()
        };
        let mut out = Vec::new();
        write_checks(&mut out, &of_controller(&status), false).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(
            text.contains("FAIL  epoch     read-only\n") && text.contains("do: ") && text.contains("restore --confirm"),
            "{text}"
        );
        assert!(text.contains("ok    database  writable\\u{1b}[2J\n") && !text.contains("do: nothing"), "{text}");
    }

    #[test]
    fn a_clock_that_is_off_says_which_way() {
        assert!(clock_check(-900).ok);
        let off = clock_check(-86_400_000);
        assert!(!off.ok && off.detail == "86400 s behind the controller's", "{off:?}");
    }

    #[test]
    fn different_versions_are_noticed() {
        assert!(version_check(VERSION).ok);
        assert!(!version_check("99.0.0").ok);
    }
}
