// SPDX-License-Identifier: Apache-2.0
//! `windlass operator`: who may call from elsewhere, and in which role.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::OperatorName;
use windlass_types::role::OperatorRole;
use windlass_types::time::UnixMillis;

use super::connection::unwritten_profile;
use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::get::{self, ListArgs};
use super::show::local;
use crate::duration;
use crate::profile::{self, Profile};

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub(crate) enum OperatorArgs {
    /// Make a key and a certificate, and write them into a profile file
    #[command(after_help = "Examples:\n  windlass operator create alice --role operator --out alice.toml\n  \
        windlass --profile alice.toml get nodes")]
    Create(CreateArgs),
    /// List operators
    List(ListArgs),
    /// Change an operator's role, effective with the next request
    Role(RoleArgs),
    /// End the trust in an operator, effective at once
    Remove(RemoveArgs),
}

/// Arguments of `operator create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name of the operator
    #[arg(value_parser = operator_name)]
    name: String,
    /// viewer, operator or admin
    #[arg(long, value_parser = role)]
    role: OperatorRole,
    /// Profile file to make; it will hold the private key
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long they have access, such as 8h, 825d at most; if absent, for as long as they use it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    ttl: Option<Duration>,
}

/// Arguments of `operator role`.
#[derive(Debug, Args)]
pub(crate) struct RoleArgs {
    /// Name of the operator
    #[arg(value_parser = operator_name)]
    name: String,
    /// viewer, operator or admin
    #[arg(value_parser = role)]
    role: OperatorRole,
}

/// Arguments of `operator remove`.
#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    /// Name of the operator
    #[arg(value_parser = operator_name)]
    name: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

fn operator_name(text: &str) -> Result<String, String> {
    OperatorName::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn role(text: &str) -> Result<OperatorRole, String> {
    text.parse().map_err(|error: windlass_types::role::UnknownRole| error.to_string())
}

/// Does it.
///
/// # Errors
/// If it is not confirmed, the controller cannot be reached or refuses, or the profile cannot be written.
pub(crate) async fn run(context: &Context, arguments: OperatorArgs) -> Result<Exit, Failure> {
    match arguments {
        OperatorArgs::Create(arguments) => create(context, arguments).await,
        OperatorArgs::List(list) => get::print(context, &get::operators(context).await?, list.output),
        OperatorArgs::Role(arguments) => set_role(context, arguments).await,
        OperatorArgs::Remove(arguments) => remove(context, arguments).await,
    }
}

async fn create(context: &Context, arguments: CreateArgs) -> Result<Exit, Failure> {
    // The file first: a certificate that cannot be kept must not be made.
    let file = profile::reserve(&arguments.out).map_err(|error| unwritten_profile(&error))?;
    match request_profile(context, &arguments).await {
        Ok((profile, until)) => {
            profile.save(file, &arguments.out).map_err(|error| unwritten_profile(&error))?;
            let mut out = context.terminal.out();
            let path = arguments.out.display().to_string();
            writeln!(out, "{} is {} until {}", arguments.name, arguments.role, local(until))?;
            writeln!(out, "give them this file and delete it here: {}", Escaped(&path))?;
            writeln!(out, "to try it: windlass --profile {} get nodes", Escaped(&path))?;
            out.flush()?;
            Ok(Exit::Done)
        }
        Err(failure) => {
            remove_empty(&arguments.out);
            Err(failure)
        }
    }
}

/// Takes back the file that was reserved. Should that fail, an empty file stays, which is refused with its name next time.
fn remove_empty(path: &Path) {
    let _ = std::fs::remove_file(path);
}

async fn request_profile(context: &Context, arguments: &CreateArgs) -> Result<(Profile, UnixMillis), Failure> {
    let what = format!("make the operator {}", arguments.name);
    // The key never leaves this machine; the controller sees the request for it.
    let (key, csr) = profile::new_key().map_err(|error| Failure::new(Cause::Local, what.clone()).because_of(&error))?;
    let request = v1::CreateOperatorRequest {
        name: arguments.name.clone(),
        role: arguments.role.to_string(),
        csr_der: csr.into(),
        ttl_seconds: arguments.ttl.map_or(0, |ttl| ttl.as_secs()),
    };
    let answer = context.admin().await?.create_operator(request).await;
    let answer = answer.map_err(|status| Failure::call(&what, &status))?.into_inner();
    let until = UnixMillis(answer.operator.map_or(0, |operator| operator.not_after_unix_millis));
    let profile = Profile {
        controller: answer.endpoint,
        ca_pem: answer.ca_der.iter().map(|der| profile::certificate_pem(der)).collect(),
        certificate_pem: profile::certificate_pem(&answer.certificate_der),
        key_pem: key.serialize_pem(),
    };
    Ok((profile, until))
}

async fn set_role(context: &Context, arguments: RoleArgs) -> Result<Exit, Failure> {
    let request = v1::SetOperatorRoleRequest { name: arguments.name.clone(), role: arguments.role.to_string() };
    let answer = context.admin().await?.set_operator_role(request).await;
    answer.map_err(|status| Failure::call(format!("change the role of {}", arguments.name), &status))?;
    let mut out = context.terminal.out();
    writeln!(out, "{} is {} from now on", arguments.name, arguments.role)?;
    out.flush()?;
    Ok(Exit::Done)
}

async fn remove(context: &Context, arguments: RemoveArgs) -> Result<Exit, Failure> {
    let name = arguments.name;
    context.terminal.confirm(&format!("remove the operator {name}? Their certificate ends at once."), arguments.yes)?;
    let answer = context.admin().await?.remove_operator(v1::RemoveOperatorRequest { name: name.clone() }).await;
    let closed = answer
        .map_err(|status| Failure::call(format!("remove the operator {name}"), &status))?
        .into_inner()
        .closed_connections;
    let mut out = context.terminal.out();
    writeln!(out, "{name} is trusted no longer; open connections closed: {closed}")?;
    out.flush()?;
    Ok(Exit::Done)
}
