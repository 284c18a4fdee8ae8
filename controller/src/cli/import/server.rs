// SPDX-License-Identifier: Apache-2.0
//! `windlass import server`: servers that are there, as the machines of a spec's nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use windlass_proto::v1;
use windlass_types::escape::Escaped;
use windlass_types::name::{NodeName, VolumeName};

use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::failure::{Cause, Failure};
use crate::cli::show::{self, ResultFormat};
use crate::cli::table::{Cell, Table};
use crate::cli::terminal::{self, Tone};

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
/// If the controller cannot be reached or refuses.
pub(super) async fn run(context: &Context, arguments: ServerArgs) -> Result<Exit, Failure> {
    let ServerArgs { file, servers, volumes, yes, output } = arguments;
    let request = request(&file, &servers, &volumes)?;
    let looked = ask(context, request.clone()).await?;
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
    let adopted = ask(context, v1::AdoptMachinesRequest { shown: looked, ..request }).await?;
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
    let spec = Some(super::spec(file)?);
    Ok(v1::AdoptMachinesRequest { spec, servers: by_node.into_values().collect(), shown: Vec::new() })
}

async fn ask(context: &Context, request: v1::AdoptMachinesRequest) -> Result<Vec<v1::Adoption>, Failure> {
    let what = if request.shown.is_empty() { "look at the servers" } else { "take over the servers" };
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
            let obstacle = terminal::toned(colour, Tone::Bad, Escaped(obstacle));
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
