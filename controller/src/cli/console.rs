// SPDX-License-Identifier: Apache-2.0
//! `windlass console`: what a machine wrote to its serial console, also before it has an agent and after it lost it.
//!
//! A pipe gets the bytes. On a terminal colours are left out and all else that could move the cursor is written out,
//! unless the person asks for the bytes as they are.

use std::io::{self, Write};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use windlass_proto::v1;
use windlass_types::escape::Escaped;

use super::completion::node_names;
use super::context::Context;
use super::exit::Exit;
use super::failure::Failure;
use super::select::node_name;

/// A line longer than this is cut into lines: a machine that never ends its line must not fill our memory.
const LONGEST_LINE_BYTES: usize = 64 * 1024;

/// Arguments of `console`.
#[derive(Debug, Args)]
pub(crate) struct ConsoleArgs {
    /// The node
    #[arg(value_name = "NODE", value_parser = node_name, add = ArgValueCompleter::new(node_names))]
    node: String,
    /// Go on as the machine writes
    #[arg(short, long)]
    follow: bool,
    /// Only this many of the newest lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    tail: Option<u32>,
    /// Send the bytes to a terminal as they are, escape sequences too
    #[arg(long)]
    raw: bool,
}

/// Prints a console; with `-f` until Ctrl-C.
///
/// # Errors
/// If there is no such machine, or the controller cannot be reached or refuses.
pub(crate) async fn run(context: &Context, arguments: ConsoleArgs) -> Result<Exit, Failure> {
    let request = v1::WatchConsoleRequest {
        node: arguments.node.clone(),
        tail_lines: arguments.tail.unwrap_or(0),
        follow: arguments.follow,
    };
    let failed = |status| Failure::call(format!("read the console of {}", arguments.node), &status);
    let mut stream = context.machines().await?.watch_console(request).await.map_err(failed)?.into_inner();
    let escapes = context.terminal.stdout_is_terminal && !arguments.raw;
    let mut printer = Printer { out: context.terminal.out(), escapes, begun: Vec::new() };
    loop {
        let piece = tokio::select! {
            piece = stream.message() => piece.map_err(failed)?,
            _ = tokio::signal::ctrl_c() => None,
        };
        let Some(piece) = piece else { break };
        printer.print(&piece.data)?;
    }
    printer.finish()?;
    Ok(Exit::Done)
}

struct Printer<W: Write> {
    out: W,
    escapes: bool,
    /// A line that has not ended.
    begun: Vec<u8>,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, data: &[u8]) -> io::Result<()> {
        if !self.escapes {
            self.out.write_all(data)?;
            return self.out.flush();
        }
        for byte in data {
            if *byte == b'\n' || self.begun.len() >= LONGEST_LINE_BYTES {
                self.line()?;
            }
            if *byte != b'\n' {
                self.begun.push(*byte);
            }
        }
        self.out.flush()
    }

    fn line(&mut self) -> io::Result<()> {
        let line = std::mem::take(&mut self.begun);
        writeln!(self.out, "{}", plain(&String::from_utf8_lossy(&line)))
    }

    fn finish(&mut self) -> io::Result<()> {
        if !self.begun.is_empty() {
            self.line()?;
        }
        self.out.flush()
    }
}

/// A line of a console without what ends or colours it; everything else that is not text is written out.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line.trim_matches('\r');
    while let Some((before, after)) = rest.split_once('\u{1b}') {
        plain += &tabbed(before);
        rest = match colour(after) {
            Some(length) => &after[length..],
            None => {
                plain += &Escaped("\u{1b}").to_string();
                after
            }
        };
    }
    plain + &tabbed(rest)
}

/// How long the rest of a sequence is that sets colours: `[`, digits and semicolons, `m`.
fn colour(after: &str) -> Option<usize> {
    let end = after.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == '['))?;
    (after.starts_with('[') && !after[1..end].contains('[') && after[end..].starts_with('m')).then_some(end + 1)
}

fn tabbed(text: &str) -> String {
    text.split('\t').map(|part| Escaped(part).to_string()).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(escapes: bool, pieces: &[&[u8]]) -> String {
        let mut printer = Printer { out: Vec::new(), escapes, begun: Vec::new() };
        for piece in pieces {
            printer.print(piece).expect("a vector takes everything");
        }
        printer.finish().expect("a vector takes everything");
        String::from_utf8_lossy(&printer.out).into_owned()
    }

    #[test]
    fn colours_are_left_out_and_what_could_do_harm_is_written_out() {
        let boot = b"[\x1b[0;32m  OK  \x1b[0m] Started\tsshd\r\n\x1b[2J\x1b]0;owned\x07x\x1b[[m";
        let found = printed(true, &[boot]);
        assert_eq!(found, "[  OK  ] Started\tsshd\n\\u{1b}[2J\\u{1b}]0;owned\\u{7}x\\u{1b}[[m\n");
    }

    #[test]
    fn a_pipe_gets_the_bytes() {
        assert_eq!(printed(false, &[b"\x1b[0;32mOK", b"\r\n"]), "\x1b[0;32mOK\r\n");
    }

    #[test]
    fn characters_and_sequences_may_come_in_pieces() {
        assert_eq!(
            printed(
                true,
                &[
                    "gr\u{f6}\u{df}e".as_bytes().split_at(3).0,
                    "gr\u{f6}\u{df}e".as_bytes().split_at(3).1,
                    b"\x1b",
                    b"[1m!\n"
                ]
            ),
            "gr\u{f6}\u{df}e!\n"
        );
    }

    #[test]
    fn an_endless_line_does_not_fill_the_memory() {
        let mut printer = Printer { out: Vec::new(), escapes: true, begun: Vec::new() };
        printer.print(&vec![b'x'; 3 * LONGEST_LINE_BYTES]).expect("a vector takes everything");
        assert!(printer.begun.len() <= LONGEST_LINE_BYTES && printer.out.len() > LONGEST_LINE_BYTES);
    }
}
