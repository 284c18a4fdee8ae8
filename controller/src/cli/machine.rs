// SPDX-License-Identifier: Apache-2.0
//! `windlass machine`: the machine below a node, whether or not its agent answers.

use std::io::Write as _;

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use windlass_proto::v1;

use super::completion::node_names;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::select::node_name;

/// What to do with a machine.
#[derive(Debug, Subcommand)]
pub(crate) enum MachineArgs {
    /// Switch a machine on, off, or reset it, at once: nothing in it is asked first
    #[command(after_help = "Examples:\n  windlass machine power node1 on\n  windlass machine power node1 reset --yes")]
    Power(PowerArgs),
}

/// Arguments of `machine power`.
#[derive(Debug, Args)]
pub(crate) struct PowerArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// What to do
    #[arg(value_enum)]
    action: Power,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Also if a run has the node in hand, or another node of its cluster is down
    #[arg(long)]
    force: bool,
}

/// What to do with a machine's power.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Power {
    /// Switch it on; nothing if it is on
    On,
    /// Pull the plug
    Off,
    /// Press the reset button, or switch it on
    Reset,
}

/// Does it.
///
/// # Errors
/// If it is not confirmed, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: MachineArgs) -> Result<Exit, Failure> {
    let MachineArgs::Power(PowerArgs { node, action, yes, force }) = arguments;
    let (action, verb, done) = match action {
        Power::On => (v1::PowerAction::On, "switch on", "is on"),
        Power::Off => (v1::PowerAction::Off, "switch off", "is off"),
        Power::Reset => (v1::PowerAction::Reset, "reset", "was reset"),
    };
    if action != v1::PowerAction::On {
        let question = format!("{verb} the machine of {node}? What runs there ends at once, as in a power cut.");
        context.terminal.confirm(&question, yes)?;
    }
    let request = v1::SetMachinePowerRequest { node: node.clone(), action: action.into(), force };
    let answer = context.machines().await?.set_machine_power(request).await;
    answer.map_err(|status| Failure::call(format!("{verb} the machine of {node}"), &status))?;
    let mut out = context.terminal.out();
    writeln!(out, "the machine of {node} {done}")?;
    out.flush()?;
    Ok(Exit::Done)
}
