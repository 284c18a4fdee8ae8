// SPDX-License-Identifier: Apache-2.0
//! `windlass import`: what another tool or controller has made, taken over without being made again.

mod cluster;
mod server;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::{CloudName, ClusterName, VolumeName};

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::plan;
use crate::import::draft::{self, Beside, Draft};
use crate::import::servers::{self, Servers};
use crate::import::terraform;

/// What a draft has where nothing says where the agent comes from.
const NO_REPOSITORY: &str = "https://CHANGE-ME.example.org/windlass";

/// What to take over.
#[derive(Debug, Subcommand)]
pub(crate) enum ImportArgs {
    /// Draft a cluster.yaml from the servers in a Terraform state, on stdout; changes nothing
    #[command(
        after_help = "Examples:\n  windlass import terraform terraform.tfstate --cloud cybera > cluster.yaml\n  \
        terraform state pull | windlass import terraform - --cloud cybera --name k8s1\n\n\
        What becomes of every resource of the state is told on stderr, with the commands\n\
        to go on with."
    )]
    Terraform(TerraformArgs),
    /// Take over servers of a cloud that are there as the machines of a spec's nodes
    #[command(
        after_help = "Examples:\n  windlass import server -f cluster.yaml master1=k8s-master-1 node1=k8s-node-1\n  \
        windlass import server -f cluster.yaml node1=3f0c6e1e-... \\\n    --volume node1/docker=9a1b...\n\n\
        Nothing is made, and nothing but tags and a security group is added. From then\n\
        on `destroy` removes the servers, as it does those that Windlass made."
    )]
    Server(server::ServerArgs),
    /// Take over what another controller, which is gone for good, has made of a spec's cluster
    #[command(after_help = "Example:\n  windlass import cluster -f cluster.yaml\n\n\
        Two controllers may have clusters of one name in one project of a cloud, so each\n\
        leaves alone what the other made. After this, nothing of that cluster is the\n\
        other's. The nodes' agents still trust only the other controller: where there is\n\
        a backup of it, `windlass restore` is what you want.")]
    Cluster(cluster::ClusterArgs),
}

/// Arguments of `import terraform`.
#[derive(Debug, Args)]
pub(crate) struct TerraformArgs {
    /// The state, of version 3 or 4; `-` for stdin
    #[arg(value_name = "STATE")]
    state: PathBuf,
    /// The cloud, as clouds.yaml on the controller's machine calls it
    #[arg(long, value_name = "CLOUD")]
    cloud: CloudName,
    /// The cluster's name
    #[arg(long, value_name = "CLUSTER", default_value = "k8s1")]
    name: ClusterName,
    /// Where the agent's package comes from
    #[arg(long, value_name = "URL", default_value = NO_REPOSITORY)]
    repository: String,
    /// The file with the key with which it is signed
    #[arg(long, value_name = "FILE", default_value = "RPM-GPG-KEY-windlass")]
    gpg_key: String,
}

/// Does it.
///
/// # Errors
/// If what is to be taken over cannot be read, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: ImportArgs) -> Result<Exit, Failure> {
    match arguments {
        ImportArgs::Terraform(arguments) => of_terraform(context, arguments),
        ImportArgs::Server(arguments) => server::run(context, arguments).await,
        ImportArgs::Cluster(arguments) => cluster::run(context, arguments).await,
    }
}

/// A spec with its files, as it is sent.
fn spec(file: &Path) -> Result<v1::ClusterSpec, Failure> {
    match plan::from_spec(file)?.wish {
        Some(v1::plan_cluster_request::Wish::Spec(spec)) => Ok(spec),
        Some(v1::plan_cluster_request::Wish::Destruction(_)) | None => Ok(v1::ClusterSpec::default()),
    }
}

fn of_terraform(context: &Context, arguments: TerraformArgs) -> Result<Exit, Failure> {
    let TerraformArgs { state, cloud, name: cluster, repository, gpg_key } = arguments;
    let unusable = || Failure::new(Cause::Misconfigured, format!("use the state {}", state.display()));
    let text = read(&state)?;
    let resources = terraform::read(&text).map_err(|error| {
        unusable().because_of(&error).advise("`terraform state pull` prints the one that Terraform works with")
    })?;
    let found = servers::find(&resources);
    let beside = Beside { cluster, cloud, repository, gpg_key };
    let draft = draft::draft(&found.servers, &beside).map_err(|error| unusable().because_of(&error))?;
    let mut out = context.terminal.out();
    out.write_all(draft.text.as_bytes())?;
    out.flush()?;
    tell(context, &found, &draft);
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |error| Failure::new(Cause::Local, format!("read {}", path.display())).because_of(&error);
    if path == Path::new("-") {
        return std::io::read_to_string(std::io::stdin()).map_err(failed);
    }
    if std::fs::metadata(path).map_err(failed)?.len() > terraform::LARGEST_STATE_BYTES {
        return Err(Failure::new(Cause::Local, format!("read {}", path.display())).because("it is larger than 64 MiB"));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// What becomes of what, and how to go on: for a person, so not on stdout.
fn tell(context: &Context, found: &Servers, draft: &Draft) {
    let say = |text: String| context.terminal.say(text);
    say("What becomes of each resource of the state:".to_owned());
    for fate in &found.fates {
        say(format!("  {}\n    {}", Escaped(&fate.address), Escaped(draft.fate(fate))));
    }
    if !draft.notes.is_empty() {
        say("Look at these:".to_owned());
        draft.notes.iter().for_each(|note| say(format!("  {}", Escaped(note))));
    }
    say(format!("When the spec is right, take the servers over:\n  {}", import_command(draft)));
    say(format!(
        "and, before Terraform is used again, take them out of its configuration and its\nstate, or it makes or removes \
         servers:\n  {}",
        forget_command(draft)
    ));
}

fn import_command(draft: &Draft) -> String {
    let servers = draft.nodes.iter().map(|adopted| format!("{}={}", adopted.node, word(&adopted.server)));
    let volumes = draft.nodes.iter().flat_map(|adopted| {
        let of = |(name, id): (&VolumeName, &String)| format!("--volume {}/{name}={}", adopted.node, word(id));
        adopted.volumes.iter().map(of).collect::<Vec<_>>()
    });
    let words: Vec<_> = servers.chain(volumes).collect();
    format!("windlass import server -f cluster.yaml \\\n    {}", words.join(" \\\n    "))
}

fn forget_command(draft: &Draft) -> String {
    let words: Vec<_> = draft.goes_over.iter().map(|address| word(address)).collect();
    format!("terraform state rm \\\n    {}", words.join(" \\\n    "))
}

/// A word of a shell that means this text, whoever wrote it into the state.
fn word(text: &str) -> String {
    format!("'{}'", Escaped(text).to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_state_says_is_one_word_of_the_commands_that_are_shown() {
        assert_eq!(word("a.b[0]"), "'a.b[0]'");
        assert_eq!(word("x'; reboot"), r"'x'\''; reboot'");
    }
}
