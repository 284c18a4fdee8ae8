// SPDX-License-Identifier: Apache-2.0
//! The command line: the tree of commands, and the way from arguments to an exit code.
//!
//! One file per verb. Only this module and its children print: results to stdout, messages to stderr ([`terminal`]).
//! A verb returns an [`exit::Exit`] or a [`failure::Failure`]; both end in one documented number.

mod apply;
mod audit;
mod backup;
mod ca;
mod check;
mod collected;
pub mod completion;
mod connection;
mod console;
mod context;
mod cp;
mod events;
mod exec;
mod exit;
mod export;
mod failure;
mod folded;
mod follow;
mod get;
#[cfg(test)]
mod goldens;
mod import;
mod lines;
mod machine;
mod node;
mod nodes_wish;
mod operator;
mod packages;
mod plan;
mod progress;
mod reference;
mod restore;
mod run;
mod run_bars;
mod run_sheet;
mod run_summary;
mod run_watch;
mod saved_plan;
mod schema;
mod select;
mod serve;
mod show;
mod status;
mod stop;
mod suggest;
mod support;
mod support_redaction;
mod table;
mod terminal;
mod token;
mod upkeep;
mod usage;
mod verdict;
mod version;
mod yaml;

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use connection::{ConnectionArgs, Typed};
use context::Context;
pub use exit::Exit;
use failure::{Cause, Failure};
use terminal::Terminal;

/// Runs a fleet of nodes from one place
#[derive(Debug, Parser)]
#[command(name = "windlass", version, propagate_version = false, arg_required_else_help = true)]
#[command(max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Start with: windlass serve, then windlass token create NODE,\nthen windlass get nodes.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print without colours
    #[arg(long, global = true, help_heading = "Output")]
    no_color: bool,
    /// Never ask; commands that need a confirmation then need --yes
    #[arg(long, global = true, help_heading = "Output")]
    no_input: bool,
    #[command(subcommand)]
    command: Command,
}

/// The verbs.
#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller in the foreground
    #[command(
        after_help = "Examples:\n  windlass serve\n  windlass serve --state-dir ./state --socket ./windlass.sock \\\n    \
        --listen 127.0.0.1:7600 --join-listen 127.0.0.1:7601"
    )]
    Serve(serve::ServeArgs),
    /// Show what would be done so that a cluster becomes as its spec says
    #[command(
        after_help = "Examples:\n  windlass plan -f cluster.yaml\n  windlass plan -f cluster.yaml -o plan.json    \
        then: windlass apply plan.json\n  windlass plan -f cluster.yaml --detailed-exitcode\n\n\
        The last ends with 2 if there is something to do."
    )]
    Plan(plan::PlanArgs),
    /// Show how nodes and machines differ from their spec; changes nothing
    #[command(after_help = "Examples:\n  windlass diff -f cluster.yaml\n  windlass diff -f cluster.yaml \
        --detailed-exitcode\n\nThe last ends with 2 if something differs.")]
    Diff(plan::DiffArgs),
    /// Make a cluster as its spec says, and show how it comes along
    #[command(
        after_help = "Examples:\n  windlass apply -f cluster.yaml\n  windlass apply plan.json\n  windlass apply -f \
        cluster.yaml --yes -o json\n\n\
        With a saved plan exactly this is done, or nothing if the world changed.\n\
        Ctrl-C leaves the run running: windlass run attach RUN, windlass run stop RUN.\n\
        A run that applies a spec there already is followed to its end first, unless\n\
        --detach is given."
    )]
    Apply(apply::ApplyArgs),
    /// Destroy a cluster's machines, or some of them, with all their data
    #[command(
        after_help = "Examples:\n  windlass destroy -f cluster.yaml\n  windlass destroy --cluster k8s1 --node node2\n  \
        windlass destroy -f cluster.yaml --confirm k8s1"
    )]
    Destroy(apply::DestroyArgs),
    /// Update what is installed on nodes, node by node
    #[command(subcommand)]
    Update(nodes_wish::UpdateArgs),
    /// List packages of nodes, what is newer and what was done; undo that
    #[command(subcommand)]
    Packages(packages::PackagesArgs),
    /// Upgrade nodes, node by node
    #[command(subcommand)]
    Upgrade(nodes_wish::UpgradeArgs),
    /// Reboot nodes, the next one when the last one is healthy again
    #[command(after_help = "Examples:\n  windlass reboot node1\n  windlass reboot --rolling --all --if-needed\n  \
        windlass reboot --rolling -l role/worker=yes --max-unavailable 2")]
    Reboot(nodes_wish::RebootArgs),
    /// List, follow and steer runs: plans that are being carried out
    #[command(subcommand)]
    Run(run::RunArgs),
    /// Show whether everything is well, which run has which node, and what waits for what
    #[command(after_help = "Examples:\n  windlass status\n  windlass status --wait --timeout 1h")]
    Status(status::StatusArgs),
    /// Print the JSON Schema of cluster.yaml, for editors
    Schema(schema::SchemaArgs),
    /// Make, list and delete join tokens
    #[command(subcommand)]
    Token(token::TokenArgs),
    /// Show nodes, machines, tokens, jobs, events or operators
    #[command(subcommand)]
    Get(get::GetArgs),
    /// Run a program on nodes
    #[command(after_help = "Examples:\n  windlass exec --all -- uptime\n  windlass exec node1 node2 -- df -h /\n  \
        windlass exec -l role/worker=yes --batch 10 --max-failures 2 \\\n    --timeout 5m -- dnf -y update\n  \
        windlass exec --all --detach -- systemctl restart docker\n\n\
        No shell reads the arguments; for a pipe or a variable: -- sh -c 'COMMAND'.\n\
        Ctrl-C leaves the job running: windlass attach JOB, windlass stop JOB.")]
    Exec(exec::ExecArgs),
    /// Show a job from its beginning and follow it
    Attach(exec::AttachArgs),
    /// End a job
    Stop(stop::StopArgs),
    /// Copy a file to nodes or from nodes
    #[command(after_help = "Examples:\n  windlass cp motd node1:/etc/motd\n  windlass cp --all motd :/etc/motd\n  \
        windlass cp node1:/var/log/messages .\n  windlass cp -l role/worker=yes :/var/log/messages logs\n\n\
        The last makes a file logs/NODE for each node.")]
    Cp(cp::CpArgs),
    /// Show what happened, and with -f what happens
    #[command(after_help = "Examples:\n  windlass events -f\n  windlass events --since 0 --node node1\n  \
        windlass events -f -o json | jq .type")]
    Events(events::EventsArgs),
    /// Show what a machine wrote to its serial console
    #[command(after_help = "Examples:\n  windlass console node1 --tail 50\n  windlass console node1 -f")]
    Console(console::ConsoleArgs),
    /// Switch machines on and off
    #[command(subcommand)]
    Machine(machine::MachineArgs),
    /// Label, quarantine, release, revoke or remove a node
    #[command(subcommand)]
    Node(node::NodeArgs),
    /// Decide who may call from elsewhere
    #[command(subcommand)]
    Operator(operator::OperatorArgs),
    /// Show or rotate the certificate authority
    #[command(subcommand)]
    Ca(ca::CaArgs),
    /// Verify the audit log
    #[command(subcommand)]
    Audit(audit::AuditArgs),
    /// Write a consistent copy of all state, keys included
    Backup(backup::BackupArgs),
    /// Put a backup into an empty state directory, and later confirm it
    #[command(after_help = "Examples:\n  windlass restore windlass.backup        while no controller runs\n  \
        systemctl start windlass-controller     it starts read-only\n  windlass restore --confirm")]
    Restore(restore::RestoreArgs),
    /// Check this machine and the controller
    Check(check::CheckArgs),
    /// Write the fleet in the words of tools that a site still has
    #[command(subcommand)]
    Export(export::ExportArgs),
    /// Take over what another tool has made, without making it again
    #[command(subcommand)]
    Import(import::ImportArgs),
    /// Write one file for whoever helps: how everything is, without secrets
    Support(support::SupportArgs),
    /// Print the completion script of a shell
    #[command(after_help = "Examples:\n  windlass completion bash > /etc/bash_completion.d/windlass\n  \
        source <(windlass completion zsh)\n  windlass completion fish > ~/.config/fish/completions/windlass.fish")]
    Completion(completion::CompletionArgs),
    /// Print the version
    Version(version::VersionArgs),
    /// Write man pages
    #[command(hide = true)]
    Man(reference::ManArgs),
    /// Write the reference of all commands
    #[command(hide = true)]
    Reference(reference::ReferenceArgs),
}

/// How many threads a command works with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// The one it has.
    One,
    /// One per processor.
    Many,
}

/// A command line that was understood.
#[derive(Debug)]
pub struct Invocation {
    arguments: Arguments,
    typed: Typed,
}

impl Invocation {
    /// How many threads its command works with.
    #[must_use]
    pub const fn threads(&self) -> Threads {
        match self.arguments.command {
            Command::Serve(_) => Threads::Many,
            _ => Threads::One,
        }
    }
}

/// Reads the command line. Help and mistakes are printed here.
///
/// # Errors
/// The exit code, if there is nothing to run.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Exit> {
    let arguments: Vec<_> = arguments.into_iter().collect();
    let mut command = Arguments::command();
    if arguments.len() < 2 {
        // Whoever types nothing gets the help; clap would count what is in the environment as typed.
        command = command.mut_args(|argument| argument.env(Resettable::Reset));
    }
    let understood = command.try_get_matches_from(arguments.clone()).and_then(|matches| {
        Ok(Invocation { arguments: Arguments::from_arg_matches(&matches)?, typed: typed(&matches) })
    });
    understood.map_err(|error| usage::report(&error, &arguments))
}

fn typed(matches: &ArgMatches) -> Typed {
    let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    Typed { socket: is_typed("socket"), profile: is_typed("profile") }
}

/// Runs a command; its failure is printed here.
pub async fn run(invocation: Invocation) -> Exit {
    let Arguments { connection, no_color, no_input, command } = invocation.arguments;
    let context = Context::new(Terminal::new(no_color, no_input), connection, invocation.typed);
    match dispatch(&context, command).await {
        Ok(exit) => exit,
        Err(failure) => {
            context.terminal.report(&failure);
            failure.exit()
        }
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve(arguments) => serve::run(context, arguments).await,
        Command::Plan(arguments) => plan::run(context, arguments).await,
        Command::Diff(arguments) => plan::diff(context, arguments).await,
        Command::Apply(arguments) => apply::run(context, arguments).await,
        Command::Update(arguments) => nodes_wish::update(context, arguments).await,
        Command::Packages(arguments) => packages::run(context, arguments).await,
        Command::Upgrade(arguments) => nodes_wish::upgrade(context, arguments).await,
        Command::Reboot(arguments) => nodes_wish::reboot(context, arguments).await,
        Command::Run(arguments) => run::run(context, arguments).await,
        Command::Status(arguments) => status::run(context, arguments).await,
        Command::Destroy(arguments) => apply::destroy(context, arguments).await,
        Command::Schema(arguments) => schema::run(context, &arguments),
        Command::Token(arguments) => token::run(context, arguments).await,
        Command::Get(arguments) => get::run(context, arguments).await,
        Command::Exec(arguments) => exec::run(context, arguments).await,
        Command::Attach(arguments) => exec::attach(context, arguments).await,
        Command::Stop(arguments) => stop::run(context, arguments).await,
        Command::Events(arguments) => events::run(context, arguments).await,
        Command::Console(arguments) => console::run(context, arguments).await,
        Command::Machine(arguments) => machine::run(context, arguments).await,
        Command::Node(arguments) => node::run(context, arguments).await,
        Command::Operator(arguments) => operator::run(context, arguments).await,
        Command::Ca(arguments) => ca::run(context, arguments).await,
        Command::Audit(arguments) => audit::run(context, arguments).await,
        Command::Check(arguments) => check::run(context, arguments).await,
        Command::Completion(arguments) => completion::run(context, &arguments),
        Command::Version(arguments) => version::run(context, &arguments),
        Command::Backup(arguments) => backup::run(context, arguments).await,
        Command::Restore(arguments) => restore::run(context, arguments).await,
        Command::Cp(arguments) => cp::run(context, arguments).await,
        Command::Export(arguments) => export::run(context, arguments).await,
        Command::Import(arguments) => import::run(context, arguments).await,
        Command::Support(arguments) => support::run(context, arguments).await,
        Command::Man(arguments) => reference::man(context, &arguments),
        Command::Reference(arguments) => reference::reference(context, &arguments),
    }
}

/// Says that the program could not even begin.
pub fn report_start_failure(error: &std::io::Error) -> Exit {
    let failure =
        Failure::new(Cause::Local, "start").because_of(error).advise("is this machine out of memory or files?");
    Terminal::new(false, true).report(&failure);
    failure.exit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn understood(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_tree_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn documented_commands_are_understood() {
        for line in [
            "windlass serve --config f --state-dir d --listen 127.0.0.1:1 --join-listen [::]:2 --socket s",
            "windlass token create node1 --ttl 30m -o json",
            "windlass get nodes -l role=worker --fact os.id=centos --refresh -o wide",
            "windlass get node node1 -o yaml",
            "windlass get tokens -o name",
            "windlass get jobs -o json",
            "windlass get events -o table",
            "windlass exec -l a=b --all --batch 5 --max-failures 1 --timeout 90s --detach -o json -- ls -l",
            "windlass exec node1 node2 -- w",
            "windlass plan -f c.yaml -o p.json -o json --detailed-exitcode",
            "windlass apply -f c.yaml --yes -o json",
            "windlass apply p.json --confirm k8s1 --detach",
            "windlass destroy -f c.yaml --confirm k8s1",
            "windlass destroy --cluster k8s1 --node node1 --node node2",
            "windlass schema",
            "windlass get machines --cluster k8s1 -o wide",
            "windlass diff -f c.yaml --detailed-exitcode -o json",
            "windlass update packages --all --security --exclude docker-ce --reboot-if-needed --yes",
            "windlass update packages node1 --only curl --only openssl --dry-run",
            "windlass upgrade kernel -l a=b --channel elrepo-lt --version 5.4.1-1.el7 --keep 2",
            "windlass reboot --rolling --all --if-needed --max-unavailable 2 --on-failure continue:3 --unreachable skip",
            "windlass reboot node1 --window daily --detach",
            "windlass run list -o json",
            "windlass run show r7 -o yaml",
            "windlass run attach r7 -o json",
            "windlass run pause r7",
            "windlass run resume r7",
            "windlass run stop r7",
            "windlass run retry r7 --detach",
            "windlass status --wait --timeout 1h -o json",
            "windlass node quarantine node1 --reason smoke",
            "windlass node release node1 --reason mended",
            "windlass attach 42",
            "windlass stop 42",
            "windlass events -f --since 17 --node node1 -o json",
            "windlass console node1 -f --tail 50 --raw",
            "windlass machine power node1 reset --yes",
            "windlass node label node1 a=b c-",
            "windlass node revoke node1 --reason stolen --yes",
            "windlass node remove node1 --yes",
            "windlass operator create alice --role viewer --out f.toml",
            "windlass operator role alice admin",
            "windlass ca rotate --no-dry-run --leave-behind",
            "windlass ca rotate --detailed-exitcode",
            "windlass audit verify",
            "windlass cp a node1:/b --timeout 5m",
            "windlass cp --all :/b d -o json",
            "windlass backup f",
            "windlass restore f --state-dir d",
            "windlass restore --confirm",
            "windlass support --out f",
            "windlass check",
            "windlass completion zsh",
            "windlass version -o json",
            "windlass --socket /s get nodes",
            "windlass get nodes --profile /p --no-color --no-input",
        ] {
            assert!(understood(line).is_ok(), "{line}: {}", understood(line).expect_err("refused"));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "windlass exec --all",
            "windlass apply",
            "windlass apply p.json -f c.yaml",
            "windlass destroy",
            "windlass destroy --cluster k8s1 --yes",
            "windlass restore",
            "windlass restore f --confirm",
            "windlass exec --all ls",
            "windlass exec --all node1 -- ls",
            "windlass token create Node1",
            "windlass token create node1 --ttl 30",
            "windlass exec --all --batch 0 -- ls",
            "windlass operator create alice --role root --out f",
            "windlass ca rotate --yes --detailed-exitcode",
            "windlass run attach 42",
            "windlass update packages --all --security --only curl",
            "windlass reboot --all --unreachable hope",
            "windlass node quarantine node1",
        ] {
            assert!(understood(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_flag_after_the_verb_counts_as_typed() {
        let matches = Arguments::command().try_get_matches_from(["windlass", "get", "nodes", "--socket", "/s"]);
        assert_eq!(typed(&matches.expect("understood")), Typed { socket: true, profile: false });
    }

    #[test]
    fn help_of_the_main_verbs_has_examples() {
        let mut tree = Arguments::command();
        tree.build();
        for path in [&["exec"][..], &["events"], &["get", "nodes"], &["token", "create"], &["operator", "create"]] {
            let command = path.iter().fold(&tree, |command, name| command.find_subcommand(name).expect("a command"));
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Examples:"), "{path:?}: {help}");
        }
    }

    #[test]
    fn help_fits_eighty_columns_and_chooses_by_labels_that_clusters_have() {
        fn look(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in help.lines() {
                assert!(line.chars().count() <= 80 && !line.contains("-l role="), "{}: {line}", command.get_name());
            }
            command.get_subcommands().for_each(look);
        }
        let mut tree = Arguments::command();
        tree.build();
        look(&tree);
    }
}
