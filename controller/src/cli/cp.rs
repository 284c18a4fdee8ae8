// SPDX-License-Identifier: Apache-2.0
//! `windlass cp`: files to nodes and from nodes. The content goes through the controller's cache by digest, so a broken
//! copy goes on where it ended and no byte is taken on trust.

mod download;
mod place;
mod upload;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use windlass_proto::v1;
use windlass_proto::v1::create_job_request::Action;
use windlass_types::escape::Escaped;

use super::context::Context;
use super::exec::{self, PaceArgs, Silent};
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::follow::{self, Followed};
use super::select::{self, FilterArgs};
use super::show::{ResultFormat, size};
use place::Place;

/// Arguments of `cp`.
#[derive(Debug, Args)]
pub(crate) struct CpArgs {
    /// A local file, NODE:/PATH, or :/PATH with -l, --fact or --all
    #[arg(value_hint = ValueHint::AnyPath)]
    source: String,
    /// NODE:/PATH, :/PATH with -l, --fact or --all, or a local file or directory
    #[arg(value_hint = ValueHint::AnyPath)]
    destination: String,
    /// All nodes that are not revoked
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    pace: PaceArgs,
}

/// Copies.
///
/// # Errors
/// If the places make no sense, a local file cannot be used, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: CpArgs) -> Result<Exit, Failure> {
    let parse = |text: &str| Place::parse(text).map_err(|why| Failure::new(Cause::Usage, "copy").because(why));
    if arguments.source == "-" || arguments.destination == "-" {
        return Err(Failure::new(Cause::Usage, "copy")
            .because("only files are copied, so - does not mean the standard input or output")
            .advise("name a file; ./- is a file of that name"));
    }
    match (parse(&arguments.source)?, parse(&arguments.destination)?) {
        (Place::Local(from), Place::Remote { node, path }) => {
            let selector = selector(&arguments, node)?;
            to_nodes(context, &from, selector, path, &arguments.pace).await
        }
        (Place::Remote { .. }, Place::Local(_)) if arguments.pace.detach => {
            Err(Failure::new(Cause::Usage, "copy from nodes")
                .because("with --detach nobody would wait here for the files")
                .advise("leave out --detach"))
        }
        (Place::Remote { node, path }, Place::Local(to)) => {
            let selector = selector(&arguments, node)?;
            from_nodes(context, selector, path, &to, &arguments.pace).await
        }
        (Place::Local(_), Place::Local(_)) => Err(Failure::new(Cause::Usage, "copy")
            .because("neither side names a node")
            .advise("write a node's side as NODE:/PATH, or as :/PATH with -l, --fact or --all")),
        (Place::Remote { .. }, Place::Remote { .. }) => Err(Failure::new(Cause::Usage, "copy")
            .because("both sides name nodes")
            .advise("copy to this machine first, then from here to the other node")),
    }
}

fn selector(arguments: &CpArgs, node: Option<String>) -> Result<v1::NodeSelector, Failure> {
    if node.is_some() && arguments.all {
        return Err(Failure::new(Cause::Usage, "copy")
            .because("a node is named and --all is given")
            .advise("write :/PATH for all nodes, or leave out --all"));
    }
    let nodes: Vec<_> = node.into_iter().collect();
    select::selector(arguments.all, &nodes, &arguments.filter)
}

async fn to_nodes(
    context: &Context,
    from: &Path,
    selector: v1::NodeSelector,
    path: String,
    pace: &PaceArgs,
) -> Result<Exit, Failure> {
    let file = upload::Source::open(from)?;
    upload::run(context, &file).await?;
    let action = Action::PutFile(v1::PutFileAction {
        path,
        sha256: file.sha256.as_bytes().to_vec().into(),
        size_bytes: file.size_bytes,
        mode: file.mode,
    });
    let job = exec::create(context, selector, action, pace, "copy to nodes").await?;
    if pace.detach {
        return exec::detached(context, &job, pace.output);
    }
    if pace.output == ResultFormat::Json {
        return exec::show_to_its_end(context, &job.id, pace.output).await;
    }
    let followed = follow::follow(context, &job.id, &mut Silent).await?;
    let changed = followed.outcomes.values().filter(|outcome| outcome.ending.is_success() && outcome.changed).count();
    let placed = followed.outcomes.values().filter(|outcome| outcome.ending.is_success()).count();
    context.terminal.say(format_args!(
        "{} on {placed} {}, {} had it already",
        size(file.size_bytes),
        if placed == 1 { "node" } else { "nodes" },
        placed - changed
    ));
    Ok(exec::conclude(context, &job.id, &followed))
}

async fn from_nodes(
    context: &Context,
    selector: v1::NodeSelector,
    path: String,
    to: &Path,
    pace: &PaceArgs,
) -> Result<Exit, Failure> {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let many = selector.names.len() != 1;
    let job =
        exec::create(context, selector, Action::GetFile(v1::GetFileAction { path }), pace, "copy from nodes").await?;
    if pace.detach {
        return exec::detached(context, &job, pace.output);
    }
    let followed = follow::follow(context, &job.id, &mut Silent).await?;
    if followed.job.is_some() {
        fetch_all(context, &followed, to, &name, many).await?;
    }
    Ok(exec::conclude(context, &job.id, &followed))
}

async fn fetch_all(context: &Context, followed: &Followed, to: &Path, name: &str, many: bool) -> Result<(), Failure> {
    for (node, outcome) in &followed.outcomes {
        let Some(sha256) = outcome.sha256.filter(|_| outcome.ending.is_success()) else { continue };
        let target = target(to, node, name, many)?;
        let bytes = download::run(context, sha256, &target).await?;
        let shown = target.display().to_string();
        context.terminal.say(format_args!("{}: {} in {}", Escaped(node), size(bytes), Escaped(&shown)));
    }
    Ok(())
}

/// Where the file of a node goes: `DST/NODE` for several nodes, else `DST`, or `DST/NAME` if that is a directory.
fn target(to: &Path, node: &str, name: &str, many: bool) -> Result<PathBuf, Failure> {
    if !many {
        return Ok(if to.is_dir() { to.join(name) } else { to.to_owned() });
    }
    // The name comes from the controller and becomes part of a path, so it is checked like any other.
    let node = select::node_name(node).map_err(|why| Failure::new(Cause::Local, "copy from nodes").because(why))?;
    std::fs::create_dir_all(to).map_err(|error| {
        Failure::new(Cause::Local, format!("make the directory {}", to.display())).because_of(&error)
    })?;
    Ok(to.join(node))
}

/// Permission bits of a local file, as they will be on the nodes.
fn mode_of(metadata: &std::fs::Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(line: &str) -> Result<Exit, Failure> {
        use clap::Parser as _;
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            copy: CpArgs,
        }
        let Line { copy } = Line::try_parse_from(line.split(' ')).expect("understood");
        let terminal = crate::cli::terminal::Terminal::new(true, true);
        let context = Context::new(terminal, Default::default(), Default::default());
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(run(&context, copy))
    }

    #[test]
    fn what_would_not_do_what_it_seems_to_is_refused() {
        for (line, why) in [
            ("cp node1:/etc/motd -", "standard"),
            ("cp - node1:/etc/motd", "standard"),
            ("cp --detach node1:/etc/motd motd", "--detach"),
        ] {
            let failure = copy(line).expect_err(line);
            assert_eq!(failure.cause, Cause::Usage, "{line}");
            assert!(failure.why.contains(why), "{failure}");
        }
    }

    #[test]
    fn files_of_many_nodes_get_the_names_of_their_nodes() {
        let directory = tempfile::tempdir().expect("a directory");
        let to = directory.path().join("logs");
        assert_eq!(target(&to, "node1", "messages", false).expect("a path"), to);
        assert_eq!(target(&to, "node1", "messages", true).expect("a path"), to.join("node1"));
        assert_eq!(target(&to, "node1", "messages", false).expect("now a directory"), to.join("messages"));
        assert!(target(&to, "../etc/passwd", "x", true).is_err());
    }
}
