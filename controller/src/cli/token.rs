// SPDX-License-Identifier: Apache-2.0
//! `windlass token`: join tokens.

use std::io::Write as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::time::UnixMillis;

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::get::{self, ListArgs};
use super::select::node_name;
use super::show::{self, ResultFormat, utc};
use crate::duration;

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenArgs {
    /// Make a one-time token for one node, and print how to join with it
    #[command(after_help = "Examples:\n  windlass token create node1\n  windlass token create node1 --ttl 2h -o json")]
    Create(CreateArgs),
    /// List tokens without their secrets
    List(ListArgs),
    /// Make a token useless
    Delete(DeleteArgs),
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// Name the node will have
    #[arg(value_name = "NODE", value_parser = node_name)]
    node: String,
    /// How long it can be used, such as 30m or 2h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "30m")]
    ttl: Duration,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

/// Arguments of `token delete`.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Id of the token, from `windlass token list`
    id: String,
}

#[derive(Serialize)]
struct CreatedToken {
    id: String,
    node: String,
    token: String,
    ca_pin: String,
    ca_pins: Vec<String>,
    expires_at: String,
    join_endpoint: String,
    join_command: String,
}

/// Does it.
///
/// # Errors
/// If the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: TokenArgs) -> Result<Exit, Failure> {
    match arguments {
        TokenArgs::Create(arguments) => create(context, arguments).await,
        TokenArgs::List(list) => get::print(context, &get::tokens(context).await?, list.output),
        TokenArgs::Delete(arguments) => delete(context, arguments.id).await,
    }
}

async fn create(context: &Context, arguments: CreateArgs) -> Result<Exit, Failure> {
    let what = format!("make a token for {}", arguments.node);
    let request = v1::CreateTokenRequest { node: arguments.node, ttl_seconds: arguments.ttl.as_secs() };
    let answer = context.tokens().await?.create_token(request).await;
    let token = created(answer.map_err(|status| Failure::call(&what, &status))?.into_inner(), &what)?;
    let mut out = context.terminal.out();
    match arguments.output {
        ResultFormat::Json => show::json_document(&mut out, "Token", &token)?,
        ResultFormat::Text => write_text(&mut out, &token, arguments.ttl)?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

fn created(answer: v1::CreateTokenResponse, what: &str) -> Result<CreatedToken, Failure> {
    let ca_pin = answer.ca_pins.first().cloned().ok_or_else(|| {
        Failure::new(Cause::Local, what).because("the controller sent no pin of its CA").advise("windlass check")
    })?;
    let join_command = join_command(&answer.join_endpoint, &ca_pin);
    Ok(CreatedToken {
        id: answer.id,
        node: answer.node,
        token: answer.token,
        ca_pin,
        ca_pins: answer.ca_pins,
        expires_at: utc(UnixMillis(answer.expires_unix_millis)),
        join_endpoint: answer.join_endpoint,
        join_command,
    })
}

/// The token itself is not in the command: arguments of a process can be read by every user of its machine.
fn join_command(endpoint: &str, ca_pin: &str) -> String {
    format!("windlass-agent join --controller {endpoint} --ca-pin {ca_pin} --token-file token")
}

fn write_text(out: &mut dyn std::io::Write, token: &CreatedToken, ttl: Duration) -> std::io::Result<()> {
    let node = Escaped(&token.node);
    writeln!(out, "{}", Escaped(&token.token))?;
    writeln!(out)?;
    writeln!(out, "On {node}, as root, within {}, with windlass-agent installed:", duration::Age(ttl))?;
    writeln!(out, "  {}", Escaped(&one_line(token)))
}

/// All that is to be done, on one line. `echo` is the shell's own, so the token becomes no argument of a process; who can
/// read the shell's history finds a token that is used up.
fn one_line(token: &CreatedToken) -> String {
    let CreatedToken { token, join_command, .. } = token;
    format!("(umask 077; echo {token} >token) && {join_command} && systemctl enable --now windlass-agent")
}

async fn delete(context: &Context, id: String) -> Result<Exit, Failure> {
    let answer = context.tokens().await?.delete_token(v1::DeleteTokenRequest { id: id.clone() }).await;
    answer.map_err(|status| Failure::call(format!("delete the token {id}"), &status))?;
    let mut out = context.terminal.out();
    writeln!(out, "token {} can be used no longer", Escaped(&id))?;
    out.flush()?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> v1::CreateTokenResponse {
        v1::CreateTokenResponse {
            node: "node1".into(),
            token: "very-secret".into(),
            ca_pins: vec!["sha256:aa".into(), "sha256:bb".into()],
            expires_unix_millis: 1_795_373_541_000,
            join_endpoint: "bastion:7601".into(),
            id: "t1".into(),
        }
    }

    #[test]
    fn the_json_has_what_a_script_needs_and_the_command_has_no_secret() {
        let token = created(answer(), "x").expect("a token");
        let json = serde_json::to_value(&token).expect("JSON");
        assert_eq!(json["token"], "very-secret");
        assert_eq!(json["ca_pin"], "sha256:aa");
        assert_eq!(json["expires_at"], "2026-11-22T18:52:21Z");
        let command = "windlass-agent join --controller bastion:7601 --ca-pin sha256:aa --token-file token";
        assert_eq!(json["join_command"], command);
    }

    #[test]
    fn the_text_ends_with_one_line_to_run_on_the_machine() {
        let mut out = Vec::new();
        write_text(&mut out, &created(answer(), "x").expect("a token"), Duration::from_secs(1800)).expect("written");
        let text = String::from_utf8(out).expect("text");
        assert!(text.starts_with("very-secret\n"), "{text}");
        let line = "  (umask 077; echo very-secret >token) && windlass-agent join --controller bastion:7601 \
                    --ca-pin sha256:aa --token-file token && systemctl enable --now windlass-agent\n";
        assert!(text.ends_with(line), "{text}");
        assert!(text.contains("within 30m,"), "{text}");
    }
}
