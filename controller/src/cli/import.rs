// SPDX-License-Identifier: Apache-2.0
//! `windlass import`: what another tool has made, taken over without being made again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::{CloudName, ClusterName, NodeName, VolumeName};

use super::context::Context;
use super::exit::Exit;
use super::failure::{Cause, Failure};
use super::plan;
use super::show::{self, ResultFormat};
use super::table::{Cell, Table};
use super::terminal::Tone;
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
        What becomes of every resource of the state is told on stderr, with the commands to go on with."
    )]
    Terraform(TerraformArgs),
    /// Take over servers of a cloud that are there as the machines of a spec's nodes
    #[command(
        after_help = "Examples:\n  windlass import server -f cluster.yaml master1=k8s-master-1 node1=k8s-node-1\n  \
        windlass import server -f cluster.yaml node1=3f0c6e1e-... --volume node1/docker=9a1b...\n\n\
        Nothing is made, and nothing but tags and a security group is added. From then on `destroy` removes the\n\
        servers, as it does those that Windlass made."
    )]
    Server(ServerArgs),
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

/// Arguments of `import server`.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The spec with the nodes
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// A node and the id or name of its server
    #[arg(value_name = "NODE=SERVER", required = true, value_parser = server)]
    servers: Vec<(NodeName, String)>,
    /// Which volume is which, where that is not clear; may be given several times
    #[arg(long = "volume", value_name = "NODE/VOLUME=ID", value_parser = volume)]
    volumes: Vec<(NodeName, VolumeName, String)>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How the result is written
    #[arg(short, long, value_enum, default_value = "text")]
    output: ResultFormat,
}

fn server(text: &str) -> Result<(NodeName, String), String> {
    match text.split_once('=') {
        Some((node, server)) if !server.is_empty() => {
            Ok((NodeName::new(node).map_err(|error| error.to_string())?, server.to_owned()))
        }
        _ => Err("it is written NODE=SERVER".to_owned()),
    }
}

fn volume(text: &str) -> Result<(NodeName, VolumeName, String), String> {
    let parts = text.split_once('=').and_then(|(of, id)| Some((of.split_once('/')?, id)));
    let ((node, name), id) = parts.filter(|(_, id)| !id.is_empty()).ok_or("it is written NODE/VOLUME=ID")?;
    let node = NodeName::new(node).map_err(|error| error.to_string())?;
    Ok((node, VolumeName::new(name).map_err(|error| error.to_string())?, id.to_owned()))
}

/// Does it.
///
/// # Errors
/// If what is to be taken over cannot be read, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: ImportArgs) -> Result<Exit, Failure> {
    match arguments {
        ImportArgs::Terraform(arguments) => of_terraform(context, arguments),
        ImportArgs::Server(arguments) => servers(context, arguments).await,
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

async fn servers(context: &Context, arguments: ServerArgs) -> Result<Exit, Failure> {
    let ServerArgs { file, servers, volumes, yes, output } = arguments;
    let request = request(&file, &servers, &volumes)?;
    let looked = ask(context, v1::AdoptMachinesRequest { dry_run: true, ..request.clone() }).await?;
    let obstacles: Vec<_> = looked.iter().flat_map(|one| &one.obstacles).collect();
    if !obstacles.is_empty() || output == ResultFormat::Text {
        show_all(context, &looked)?;
    }
    if !obstacles.is_empty() {
        return Err(Failure::new(Cause::Usage, "nothing was taken over")
            .because(format!("{} of what the spec and the servers say do not go together", obstacles.len()))
            .advise("mend the spec or name another server"));
    }
    context.terminal.confirm("take over these servers, as what `destroy` removes from then on?", yes)?;
    let adopted = ask(context, request).await?;
    if output == ResultFormat::Json {
        let mut out = context.terminal.out();
        show::json_document(&mut out, "AdoptionResult", &views(&adopted))?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    context.terminal.say(format_args!(
        "taken over. On each that has no agent yet, install windlass-agent and run what this prints:\n  windlass token \
         create NODE\nthen: windlass apply -f {}",
        file.display()
    ));
    Ok(Exit::Done)
}

fn request(
    file: &Path,
    servers: &[(NodeName, String)],
    volumes: &[(NodeName, VolumeName, String)],
) -> Result<v1::AdoptMachinesRequest, Failure> {
    let named: BTreeSet<_> = servers.iter().map(|(node, _)| node).collect();
    if let Some((node, ..)) = volumes.iter().find(|(node, ..)| !named.contains(node)) {
        return Err(Failure::new(Cause::Usage, format!("take over a volume of {node}"))
            .because("its server is not named")
            .advise(format!("add {node}=SERVER")));
    }
    let mut by_node: BTreeMap<&NodeName, v1::AdoptedServer> = BTreeMap::new();
    for (node, server) in servers {
        let adopted = v1::AdoptedServer { node: node.to_string(), server: server.clone(), ..Default::default() };
        if by_node.insert(node, adopted).is_some() {
            return Err(
                Failure::new(Cause::Usage, format!("take over a server for {node}")).because("it is named twice")
            );
        }
    }
    for (node, name, id) in volumes {
        by_node.entry(node).or_default().volumes.insert(name.to_string(), id.clone());
    }
    let spec = match plan::from_spec(file)?.wish {
        Some(v1::plan_cluster_request::Wish::Spec(spec)) => Some(spec),
        Some(v1::plan_cluster_request::Wish::Destruction(_)) | None => None,
    };
    Ok(v1::AdoptMachinesRequest { spec, servers: by_node.into_values().collect(), dry_run: false })
}

async fn ask(context: &Context, request: v1::AdoptMachinesRequest) -> Result<Vec<v1::Adoption>, Failure> {
    let what = if request.dry_run { "look at the servers" } else { "take over the servers" };
    let answer = context.machines().await?.adopt_machines(request).await;
    Ok(answer.map_err(|status| Failure::call(what, &status))?.into_inner().adoptions)
}

fn show_all(context: &Context, adoptions: &[v1::Adoption]) -> Result<(), Failure> {
    let mut out = context.terminal.out();
    let colour = context.terminal.colours_stdout();
    let mut table = Table::new(vec!["NODE", "WHAT", "ID", "NAME"]);
    for one in adoptions {
        for part in &one.parts {
            table.row(vec![Cell::new(&one.node), Cell::new(&part.kind), Cell::new(&part.id), Cell::new(&part.name)]);
        }
    }
    table.write(&mut out, colour, "")?;
    for one in adoptions {
        for remark in &one.remarks {
            writeln!(out, "{}: {}", Escaped(&one.node), Escaped(remark))?;
        }
        for obstacle in &one.obstacles {
            let obstacle = super::terminal::toned(colour, Tone::Bad, Escaped(obstacle));
            writeln!(out, "{}: cannot be taken over: {obstacle}", Escaped(&one.node))?;
        }
    }
    out.flush()?;
    Ok(())
}

#[derive(serde::Serialize)]
struct AdoptionView<'a> {
    node: &'a str,
    parts: Vec<PartView<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    remarks: &'a [String],
}

#[derive(serde::Serialize)]
struct PartView<'a> {
    kind: &'a str,
    id: &'a str,
    name: &'a str,
}

#[derive(serde::Serialize)]
struct AdoptionResult<'a> {
    items: Vec<AdoptionView<'a>>,
}

fn views(adoptions: &[v1::Adoption]) -> AdoptionResult<'_> {
    fn part(part: &v1::MachinePart) -> PartView<'_> {
        PartView { kind: &part.kind, id: &part.id, name: &part.name }
    }
    let items = adoptions.iter().map(|one| AdoptionView {
        node: &one.node,
        parts: one.parts.iter().map(part).collect(),
        remarks: &one.remarks,
    });
    AdoptionResult { items: items.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_volumes_are_read_and_what_is_half_written_is_refused() {
        let node = NodeName::new("node1").expect("a name");
        assert_eq!(server("node1=k8s=1"), Ok((node.clone(), "k8s=1".into())));
        let docker = VolumeName::new("docker").expect("a name");
        assert_eq!(volume("node1/docker=9a1b"), Ok((node, docker, "9a1b".into())));
        for text in ["node1", "node1=", "=x", "No de=x"] {
            assert!(server(text).is_err(), "{text}");
        }
        for text in ["node1=x", "node1/docker", "node1/docker=", "/=x"] {
            assert!(volume(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_state_says_is_one_word_of_the_commands_that_are_shown() {
        assert_eq!(word("a.b[0]"), "'a.b[0]'");
        assert_eq!(word("x'; reboot"), r"'x'\''; reboot'");
    }

    #[test]
    fn a_volume_of_a_node_that_is_not_named_and_a_node_twice_are_refused_before_anything_is_read() {
        let node = |name| NodeName::new(name).expect("a name");
        let docker = VolumeName::new("docker").expect("a name");
        let nowhere = Path::new("/nowhere/cluster.yaml");
        let stray = request(nowhere, &[(node("node1"), "a".into())], &[(node("node2"), docker, "v".into())]);
        assert!(stray.expect_err("not named").advice.contains("node2=SERVER"));
        let twice = request(nowhere, &[(node("node1"), "a".into()), (node("node1"), "b".into())], &[]);
        assert!(twice.expect_err("twice").why.contains("twice"));
    }
}
